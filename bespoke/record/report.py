"""A run's page and the page over all runs: one file each, read with no server and no network.

Whatever a run holds is text from outside: escaped, and what cannot be seen stands as its number.
The pages' own policy forbids every request, and every script but theirs, which works on what is
there and without which all is shown.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import itertools
import math
import os
import re
import shlex
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import __version__, files
from bespoke.console import duration
from bespoke.dataset.loading import COLLECTION
from bespoke.errors import ConfigError
from bespoke.evaluation import gate, scoring
from bespoke.experiment import config
from bespoke.record import pictures
from bespoke.record.run_record import flat, shown
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jinja2 import Environment

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

FOLDER = "reports"
# How often the page of a run that goes on opens itself again, in seconds.
AGAIN_S = 30
TEMPLATES = Path(__file__).parent / "templates"
# The forms of an expectation that the epochs can answer; "no oscillation between epochs" is one.
_BY_EPOCH = re.compile(r"(?:(\w+) background|(\d\.?\d?) or more of 10) by epoch (?:\d+ to )?(\d+)")
_LATER = re.compile(r"best epoch later than (\d+)")


def publish(runs: Sequence[RunRecord], folder: Path, name: str | None = None) -> list[Path]:
    """Write the page of one run, or of all, and the index; returns their paths.

    A run that has no page yet is given one, since the index leads to it.
    """
    pages = []
    for run in runs:
        if name in (None, run.name) or not (folder / page_name(run.name)).exists():
            steps: list[str] = []
            # A run without a score has none, and what is drawn says nothing of what to train.
            with contextlib.suppress(ConfigError):
                steps = [] if run.facts.get("rehearsal") else next_steps(run, runs)
            pages.append(write(run, folder, next_steps=steps))
    return [*pages, _write(folder / "index.html", "index.html", runs=runs)]


def write(run: RunRecord, folder: Path, *, next_steps: Sequence[str] = ()) -> Path:
    """Write the run's page into `folder` and return its path.

    Paths of pictures that are not absolute are taken from the workspace, in which `folder` lies.
    """
    written_by = (f"experiments/{run.experiment}.toml", "--set")
    return _write(
        folder / page_name(run.name),
        "run.html",
        run=run,
        epochs=_folded(run.epochs),
        expected=[(text, met(text, run)) for text in run.expected],
        originals=pictures.originals(tuple(run.facts.get("collections", ()))),
        columns={(p.prompt, p.seed): p.text for each in run.epochs for p in each.pictures},
        losses=run.curves.get("loss", ()),
        differences={k: row for k, row in run.settings.items() if row.get("from") in written_by},
        next_steps=next_steps,
        workspace=folder.parent,
        folder=folder,
    )


def _folded(results: Sequence[EpochResult]) -> list[tuple[EpochResult, list[EpochResult]]]:
    """The epochs in order, each with those after it that drew the same pictures and score alike."""
    ordered = sorted(results, key=lambda each: math.inf if each.epoch is None else each.epoch)
    alike = itertools.groupby(
        ordered,
        # What was drawn before training is no epoch's.
        lambda each: (each.scores, [p.sha256 for p in each.pictures]) if each.epoch else id(each),
    )
    return [(first, same) for first, *same in (list(group) for _, group in alike)]


def page_name(name: str) -> str:
    """The file of a run's page: its name where that is a plain one, else made plain and unique."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80]
    if plain != name or plain.lower() in ("", "index"):
        plain = f"{plain or 'run'}-{hashlib.sha256(shown(name).encode()).hexdigest()[:8]}"
    return f"{plain}.html"


def _write(path: Path, template: str, **context: object) -> Path:
    written = now().strftime("%Y-%m-%d %H:%M UTC")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = (
        _environment()
        .get_template(template)
        .render(written=written, version=__version__, gate=gate, again=AGAIN_S, **context)
    )
    files.write_whole(path, page)
    return path


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else shown(value, kept="\n"),
        trim_blocks=True,
    )
    own = (duration, flat, headline, link, page_name, pictures.drawn, pictures.nearest, verdict)
    for each in (*own, scoring.remarks, shlex.quote):
        environment.globals[each.__name__] = each
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"script": Markup(script), "script_hash": digest}  # noqa: S704 - our own
    safe = re.compile("#[0-9a-fA-F]{6}").fullmatch
    environment.globals["color"] = lambda value: value if safe(str(value)) else ""
    return environment


def link(file: Path, folder: Path) -> str:
    """The address of a file from a page in `folder`."""
    return urllib.parse.quote(os.fsencode(os.path.relpath(file, folder)))


def verdict(result: EpochResult) -> str | None:
    """What the scores are worth: a mean is worth nothing where most backgrounds are wrong."""
    return result.verdict if result.background_right else "background wrong"


def headline(run: RunRecord) -> tuple[str, str]:
    """How that is to be felt (good, fair, bad or open), and how it went, in one plain sentence."""
    if stop := next((each for each in run.decisions if each.outcome == "STOP"), None):
        return "bad", f"The hypothesis failed at epoch {stop.epoch}."
    top = run.best_score
    best = "" if top is None else f"Best: epoch {run.best_epoch} ({top} of 10)."
    if run.status != "completed":
        status = run.status.replace("_", " ").capitalize()
        return "bad" if run.status == "failed" else "open", f"{status}. {best}".strip()
    tones = {None: "open", "best": "good", "good": "good", "acceptable": "fair"}
    word = verdict(run.best) if run.best else None
    return tones.get(word, "bad"), best or "Nothing was scored."


def met(expected: str, run: RunRecord) -> bool | None:
    """Whether the run did as expected; None while that is open, and where no number tells."""
    epochs = dict(gate.numbered(run.epochs))
    over = run.status == "completed" and bool(epochs)
    if form := _BY_EPOCH.fullmatch(expected):
        word, score, last = form[1], float(form[2] or 0), int(form[3])
        early = [each for number, each in epochs.items() if number <= last]
        good = (_right(e, word) if word else (e.scores.mean or 0) >= score for e in early)
        return any(good) or (False if max(epochs, default=0) >= last else None)
    if over and (form := _LATER.fullmatch(expected)):
        return (run.best_epoch or 0) > int(form[1])
    first = gate.first_right(run.epochs)
    if first is None or expected != "no oscillation between epochs":
        return None
    lost = any(n > first and not each.background_right for n, each in epochs.items())
    return False if lost else over or None


def _right(result: EpochResult, word: str) -> bool:
    """Whether most backgrounds match: of those that were asked in this colour, if any were."""
    asked = ((each, each.ground.get("asked", {}).get("words", ())) for each in result.pictures)
    own = [each for each, words in asked if word in words] or result.pictures
    return 2 * sum(each.background == "match" for each in own) > len(own)


def next_steps(run: RunRecord, runs: Sequence[RunRecord]) -> list[str]:
    """What the run's experiment says comes next, a line each; ConfigError where nothing does."""
    if run.best_score is None:
        raise ConfigError(f"{shown(run.name)}: no epoch has all three scores, so nothing follows")
    so_far = " so far" if run.status == "in_progress" else ""
    first = f"{shown(run.name)}: best score{so_far} {run.best_score:.1f} at epoch {run.best_epoch}"
    experiment = config.load(run.experiment, repository=files.REPOSITORY)
    rung = experiment.next_step(run.best_score)
    if rung is None:
        return [first, f"experiments/{experiment.name}.toml has no [[next]] for this score"]
    commands = [line for name in rung.experiments for line in _step(name, runs)]
    return [first, rung.reason, *(f"- {text}" for text in rung.advice), *commands]


def _step(name: str, runs: Sequence[RunRecord]) -> Iterator[str]:
    experiment = config.load(name, repository=files.REPOSITORY)
    words = ["python", "-m", "bespoke.run", "--experiment", name]
    for subset in experiment.by_folder():
        words += [] if subset == COLLECTION else ["--data", f"{subset}=DIR"]
    yield from ("", shlex.join(words))
    if experiment.hypothesis:
        yield f"    {experiment.hypothesis}"
    for run in (each for each in runs if each.experiment == name):
        yield f"    already run: {shown(run.name)}, {run.state()}"
