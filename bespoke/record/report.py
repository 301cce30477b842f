"""A run's page and the page over all runs: one file each, read with no server and no network.

Whatever a run holds is text from outside: escaped, and what cannot be seen stands as its number.
The pages' own policy forbids every script and every request.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import __version__, files
from bespoke.console import duration
from bespoke.dataset.loading import COLLECTION
from bespoke.errors import ConfigError
from bespoke.evaluation import gate
from bespoke.experiment import config
from bespoke.record.run_record import flat, shown
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jinja2 import Environment

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

FOLDER = "reports"
# The longest side of a picture on the page, in pixels: six to each of 24 cells.
SIDE = 144


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
        epochs=sorted(run.epochs, key=lambda each: each.epoch or 1 << 30),
        columns={(p.prompt, p.seed): p.text for each in run.epochs for p in each.pictures},
        losses=run.curves.get("loss", ()),
        differences={k: row for k, row in run.settings.items() if row.get("from") in written_by},
        next_steps=next_steps,
        workspace=folder.parent,
    )


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
        .render(written=written, version=__version__, gate=gate, **context)
    )
    files.write_whole(path, page)
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
    )
    for each in (duration, flat, headline, page_name, thumbnail, verdict):
        environment.globals[each.__name__] = each
    safe = re.compile("#[0-9a-fA-F]{6}").fullmatch
    environment.globals["color"] = lambda value: value if safe(str(value)) else ""
    return environment


# A page is written after every epoch: the pictures of earlier ones are not decoded again.
@functools.lru_cache(maxsize=2048)
def thumbnail(path: Path, sha256: str) -> str:
    """The picture at `path` as a data: address, "" if it is not the one with this hash.

    Pixels are left out, never mixed or snapped to cells: it looks as sharp as what the model drew.
    """
    from PIL import Image, ImageOps

    buffer = io.BytesIO()
    try:
        if files.sha256(path) != sha256:
            return ""
        with Image.open(path) as image:
            small = ImageOps.contain(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.NEAREST)
        small.save(buffer, "WEBP", lossless=True)
    except (OSError, SyntaxError, ValueError):
        return ""
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
    for subset in experiment.by_folder().keys() - {COLLECTION}:
        words += ["--data", f"{subset}=DIR"]
    yield from ("", shlex.join(words))
    if experiment.hypothesis:
        yield f"    {experiment.hypothesis}"
    for run in (each for each in runs if each.experiment == name):
        yield f"    already run: {shown(run.name)}, {run.state()}"
