"""A run's page and the page over all runs: one file each, read with no server and no network.

Whatever a run holds is text from outside. The templates escape all of it, and characters that
would reorder or hide what follows are shown by their number. The pages' own policy forbids every
script and every request, should something slip through all the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bespoke import __version__
from bespoke.console import duration
from bespoke.dataset.loading import COLLECTION
from bespoke.errors import ConfigError
from bespoke.evaluation import gate
from bespoke.experiment import config
from bespoke.experiment.effective_options import effective
from bespoke.experiment.experiment_file import reached
from bespoke.files import REPOSITORY, write_whole
from bespoke.record import figures
from bespoke.record.run_record import flat, shown
from bespoke.request import Request
from bespoke.trainer.journal import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jinja2 import Environment

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

FOLDER = "reports"
Tone = Literal["good", "fair", "bad", "open"]
COLOR = re.compile(r"#[0-9a-fA-F]{6}")


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
    return [*pages, write_index(runs, folder)]


def write(run: RunRecord, folder: Path, *, next_steps: Sequence[str] = ()) -> Path:
    """Write the run's page into `folder` and return its path.

    Paths of pictures that are not absolute are taken from the workspace, in which `folder` lies.
    """
    written_by = (f"experiments/{run.experiment}.toml", "--set")
    return _write(
        folder / page_name(run.name),
        "run.html",
        run=run,
        epochs=sorted(run.epochs, key=lambda each: each.epoch or 1 << 30),
        columns={(p.prompt, p.seed): p.text for each in run.epochs for p in each.pictures},
        charts=figures.charts(run.epochs, run.curves.get("loss", ())),
        differences={k: row for k, row in run.settings.items() if row.get("from") in written_by},
        next_steps=next_steps,
        workspace=folder.parent,
    )


def write_index(runs: Sequence[RunRecord], folder: Path) -> Path:
    """Write `index.html` over all runs: by experiment, newest first, then seed."""
    newest = sorted(runs, key=lambda run: run.started, reverse=True)
    groups = {
        name: sorted((r for r in newest if r.experiment == name), key=lambda run: str(run.seed))
        for name in dict.fromkeys(run.experiment for run in newest)
    }
    return _write(folder / "index.html", "index.html", groups=groups, count=len(runs))


def page_name(name: str) -> str:
    """The file of a run's page: its name where that is a plain one, else made plain and unique."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80]
    if plain != name or plain.lower() in ("", "index"):
        plain = f"{plain or 'run'}-{hashlib.sha256(shown(name).encode()).hexdigest()[:8]}"
    return f"{plain}.html"


def _write(path: Path, template: str, **context: object) -> Path:
    written = now().strftime("%Y-%m-%d %H:%M UTC")
    page = _environment().get_template(template).render(written=written, **context)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return path


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else shown(value, kept="\n"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        color=lambda value: value if COLOR.fullmatch(str(value)) else "",
        duration=duration,
        flat=flat,
        gate=gate,
        headline=headline,
        page_name=page_name,
        thumbnail=figures.thumbnail,
        verdict=verdict,
        version=__version__,
    )
    return environment


def verdict(result: EpochResult | None) -> str | None:
    """What the scores are worth: a mean is worth nothing where most backgrounds are wrong."""
    if result is None or result.background_right:
        return result and result.verdict
    return "background wrong"


def headline(run: RunRecord) -> tuple[Tone, str]:
    """How it went, in one plain sentence, and how that is to be felt."""
    if stop := next((each for each in run.decisions if each.outcome == "STOP"), None):
        return "bad", f"The hypothesis failed at epoch {stop.epoch}."
    equals = gate.equals(run.epochs)
    ties = f", and {gate.listed(equals)} equal" if equals else ""
    best = (
        ""
        if run.best_score is None
        else f"Best: epoch {run.best_epoch} ({run.best_score} of 10{ties})."
    )
    states: dict[str, tuple[Tone, str]] = {
        "failed": ("bad", f"The run failed. {best}"),
        "cancelled": ("fair", f"The run was interrupted. {best}"),
        "in_progress": ("open", f"Still training: {len(run.epochs)} epochs tested. {best}"),
    }
    tones: dict[str | None, Tone] = {"best": "good", "good": "good", "acceptable": "fair"}
    ended = (tones.get(verdict(run.best), "bad"), best) if best else ("open", "Nothing was scored.")
    tone, text = states.get(run.status, ended)
    return tone, text.strip()


def next_steps(run: RunRecord, runs: Sequence[RunRecord]) -> list[str]:
    """What the run's experiment says comes next, a line each: the reason, advice, commands.

    Raises:
        ConfigError: where there is no score to go by, or no such experiment any more.
    """
    if run.best_score is None:
        raise ConfigError(f"{shown(run.name)}: no epoch has all three scores, so nothing follows")
    so_far = " so far" if run.status == "in_progress" else ""
    first = f"{shown(run.name)}: best score{so_far} {run.best_score:.1f} at epoch {run.best_epoch}"
    experiment = config.load(run.experiment, repository=REPOSITORY)
    rung = reached(experiment.next_steps, run.best_score)
    if rung is None:
        return [first, f"experiments/{experiment.name}.toml has no [[next]] for this score"]
    commands = [line for name in rung.experiments for line in _step(name, runs)]
    return [first, rung.reason, *(f"- {text}" for text in rung.advice), *commands]


def _step(name: str, runs: Sequence[RunRecord]) -> Iterator[str]:
    experiment = config.load(name, repository=REPOSITORY)
    subsets = (str(options["image_dir"]) for options in effective(experiment))
    data = tuple(f"{subset}=DIR" for subset in subsets if subset != COLLECTION)
    request = Request(experiments=(name,), data=data)
    yield from ("", shlex.join(["python", "-m", "bespoke.run", *request.arguments()]))
    if experiment.hypothesis:
        yield f"    {experiment.hypothesis}"
    for run in (each for each in runs if each.experiment == name):
        yield f"    already run: {shown(run.name)}, {run.state()}"
