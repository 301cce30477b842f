"""What a run's page draws: the pictures of its contact sheet, and its charts."""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, NamedTuple

from bespoke import files
from bespoke.dataset import images
from bespoke.evaluation import gate
from bespoke.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult

CELLS = 24
# Pixels of a picture that is not made of cells: six to each, so that their edges stay in step.
SIDE = 6 * CELLS
# Points of a line: more than these are not seen.
POINTS = 500


# A page is written after every epoch: the pictures of earlier ones are not decoded again.
@functools.lru_cache(maxsize=2048)
def thumbnail(path: Path, sha256: str) -> str:
    """The picture at `path` as a data: address, "" if it is not the one with this hash.

    True cells become a lossless 24x24 PNG. Anything else is shrunk as it is to a WebP, blur and
    noise included: a snapped copy would look sharper than what the model drew.
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


class Chart(NamedTuple):
    """`lines` are points by name; `across` and `up` are what stands at the axes `x` and `y`, from
    one edge of the plot to the other."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float | None]]]
    across: Sequence[float]
    up: Sequence[float]


def charts(epochs: Sequence[EpochResult], losses: Sequence[tuple[int, float]]) -> list[Chart]:
    """Scores by epoch, and the loss by step; those of which anything is known."""
    drawn = []
    if results := gate.numbered(epochs):
        keys = ("mean", "visual_quality", "style_match", "prompt_adherence")
        scores = {key: [(n, getattr(each.scores, key)) for n, each in results] for key in keys}
        numbers = [number for number, _ in results]
        drawn.append(Chart("Scores", "epoch", "score, 0 to 10", scores, numbers, range(0, 11, 2)))
    if losses:
        heights, ends = [value for _, value in losses], (losses[0][0], losses[-1][0])
        points, up = losses[:: len(losses) // POINTS + 1], (min(heights), max(heights))
        drawn.append(Chart("Loss", "optimizer step", "loss", {"loss": points}, ends, up))
    return drawn
