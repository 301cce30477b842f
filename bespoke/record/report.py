"""A run's page and the page over all runs: one file each, read with no server and no network.

Whatever a run holds is text from outside. The templates escape all of it, and characters that
would reorder or hide what follows are shown by their number. The pages' own policy forbids every
script and every request, should something slip through all the same.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import __version__, files
from bespoke.console import duration
from bespoke.dataset import images
from bespoke.errors import ConfigError
from bespoke.evaluation import gate
from bespoke.files import workspace, write_whole
from bespoke.findings import Finding
from bespoke.record import charts, commands, outcome, run_record, store
from bespoke.trainer.job import now

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2 import Environment

    from bespoke.evaluation.epoch_result import EpochResult, PictureResult
    from bespoke.record.run_record import RunRecord
    from bespoke.record.store import Record

FOLDER = "reports"
CELLS = 24
# Pixels of a picture that is not made of cells: six to each, so that their edges stay in step.
SIDE = 6 * CELLS
_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture of the contact sheet.

    `uri` is a data: address, "" where the picture is gone or another. `cells` says that it is its
    24x24 cells and nothing else. `asked` and `got` are `#rrggbb`, or "" where not known.
    """

    result: PictureResult
    uri: str
    cells: bool
    asked: str
    got: str
    name: str
    delta_e: float | None

    @property
    def description(self) -> str:
        """What a person who does not see the picture is told of it."""
        parts = [f"background {self.name} {self.got}".strip()]
        parts += [f"asked {self.asked}"] if self.asked else []
        parts += [] if self.delta_e is None else [f"delta E {self.delta_e:.0f}"]
        return f"{', '.join(parts)}: {self.result.background}"


def write(run: RunRecord, folder: Path, *, next_steps: Sequence[str] = ()) -> Path:
    """Write the run's page into `folder` and return its path.

    Paths of pictures that are not absolute are taken from the workspace, in which `folder` lies.

    Raises:
        OSError: where `folder` cannot be made or written.
    """
    rows = [
        (each, {(p.prompt, p.seed): _cell(p, each, folder.parent) for p in each.pictures})
        for each in sorted(run.epochs, key=lambda each: each.epoch or 1 << 30)
    ]
    return _write(
        folder / page_name(run.name),
        "run.html",
        run=run,
        best=run.best,
        heroes=next((cells for result, cells in rows if result is run.best), {}),
        rows=rows,
        columns={(p.prompt, p.seed): p.text for each in run.epochs for p in each.pictures},
        charts=charts.of(run),
        differences=_differences(run),
        facts=[(" ".join(keys), value) for *keys, value in outcome.leaves(run.facts)],
        next_steps=next_steps,
    )


def write_index(runs: Sequence[RunRecord], folder: Path) -> Path:
    """Write `index.html` over all runs: by experiment, newest first, then seed.

    Raises:
        OSError: where `folder` cannot be made or written.
    """
    groups: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.started, reverse=True):
        groups.setdefault(run.experiment or "No experiment", []).append(run)
    for group_runs in groups.values():
        group_runs.sort(key=lambda run: str(run.seed))
    return _write(folder / "index.html", "index.html", groups=groups, count=len(runs))


def show(chosen: argparse.Namespace) -> None:
    """`bespoke report [RUN]`: pages from the record, for all runs or one, and the index; with
    `--json`, all that the record holds of them instead.

    Raises:
        ConfigError: a run that the record does not know; a record that cannot be read.
    """
    place = workspace(chosen.workspace)
    with store.opened(place) as kept:
        one = kept.run(chosen.run).name if chosen.run else None
        if chosen.json:
            runs = [run for run in kept.runs() if one in (None, run.name)]
            documents = [json.loads(run_record.dumps(run)) for run in runs]
            print(json.dumps(documents[0] if one else documents, indent=2))
            return
        for page in publish(kept, place / FOLDER, one):
            print(page)


def publish(kept: Record, folder: Path, name: str | None = None) -> Iterator[Path]:
    """Write the page of one run, or of all, and then the index; yields each as it is written.

    A run that has no page yet is given one, since the index leads to it.

    Raises:
        ConfigError: a record that cannot be read.
        OSError: where `folder` cannot be made or written.
    """
    known = kept.runs()
    for run in known:
        if name not in (None, run.name) and (folder / page_name(run.name)).exists():
            continue
        steps: list[str] = []
        # What is drawn says nothing of what to train.
        if not run.facts.get("rehearsal"):
            with contextlib.suppress(ConfigError):
                steps = [step for step in commands.steps(run, known) if step]
        yield write(run, folder, next_steps=steps)
    yield write_index(known, folder)


def page_name(name: str) -> str:
    """The file of a run's page: its name where that is a plain one, else made plain and unique."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:80]
    if plain != name or plain.lower() in ("", "index"):
        plain = f"{plain or 'run'}-{hashlib.sha256(_shown(name).encode()).hexdigest()[:8]}"
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
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        outcome=outcome,
        gate=gate,
        duration=duration,
        ticks=charts.ticks,
        page_name=page_name,
        version=__version__,
    )
    return environment


def _shown(value: object) -> Any:
    """`value` as text in which a character that cannot be seen is written as its number."""
    if hasattr(value, "__html__"):
        return value
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", str(value))


def _cell(picture: PictureResult, result: EpochResult, workspace: Path) -> Cell:
    measured = picture.measured.get("background", {})
    delta_e = measured.get("delta_e")
    asked = measured.get("asked") or {}
    uri = thumbnail(workspace / result.folder / picture.file, picture.sha256)
    return Cell(
        result=picture,
        uri=uri,
        cells=uri.startswith("data:image/png"),
        asked=_color(next(iter(asked.get("hex", ())), "")),
        got=_color(measured.get("colour")),
        name=str(measured.get("name") or ""),
        delta_e=None if delta_e is None else float(delta_e),
    )


def _color(value: object) -> str:
    """A color fit to stand in a style, or ""."""
    text = str(value)
    return text.lower() if _HEX.fullmatch(text) else ""


# A page is written after every epoch: the pictures of earlier ones are not decoded again.
@functools.lru_cache(maxsize=2048)
def thumbnail(path: Path, sha256: str) -> str:
    """The picture at `path` as a data: address, "" if it is not the one with this hash.

    True cells become a lossless 24x24 PNG. Anything else is shrunk as it is, blur and noise
    included: a snapped copy would look sharper than what the model drew.
    """
    from PIL import Image, ImageOps

    if not path.is_file() or files.sha256(path) != sha256:
        return ""
    read = images.read(path.parent, path.name, CELLS)
    if isinstance(read, Finding):
        return ""
    buffer, kind = io.BytesIO(), "webp" if read.art is None else "png"
    if read.art is not None:
        Image.fromarray(read.art).save(buffer, "PNG", optimize=True)
    else:
        with Image.open(path) as image:
            small = ImageOps.contain(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX)
        small.save(buffer, "WEBP", quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _differences(run: RunRecord) -> list[tuple[str, Mapping[str, Any]]]:
    """Each option that this experiment or its command line wrote, and its row of the receipt."""
    own = (f"experiments/{run.experiment}.toml", "--set")
    return [(key, row) for key, row in run.settings.items() if row.get("from") in own]
