"""Lines over epochs and steps, as the page's template draws them: points and ticks.

The page's style sheet colours the lines by their number, so that a chart is light and dark with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.evaluation import gate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.record.run_record import RunRecord

SCORES = ("mean", "visual_quality", "style_match", "prompt_adherence")
# Points of a line: more than these are not seen.
POINTS = 500
# The plot's edges within a drawing of 480 by 270: left, right, top, bottom.
LEFT, RIGHT, TOP, BOTTOM = 62, 472, 8, 220
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """`x` and `y` are the axes' titles, `across` and `up` their ends; `lines` have names."""

    title: str
    x: str
    y: str
    lines: dict[str, Points]
    across: tuple[float, float]
    up: tuple[float, float]

    def places(self, name: str) -> list[tuple[float, float]]:
        """Where a line's points are drawn."""
        return [(self.at_x(x), self.at_y(y)) for x, y in self.lines[name]]

    def at_x(self, x: float) -> float:
        low, high = self.across
        return round(LEFT + (x - low) / (high - low or 1) * (RIGHT - LEFT), 1)

    def at_y(self, y: float) -> float:
        low, high = self.up
        return round(BOTTOM - (y - low) / (high - low or 1) * (BOTTOM - TOP), 1)


def of(run: RunRecord) -> list[Chart]:
    """Scores and backgrounds by epoch, and the loss by step."""
    results = gate.numbered(run.epochs)
    scores = {
        key.replace("_", " "): tuple(
            (float(number), float(value))
            for number, each in results
            if (value := getattr(each.scores, key)) is not None
        )
        for key in SCORES
    }
    shares = tuple(
        (float(number), 100 * each.backgrounds()["match"] / len(each.pictures))
        for number, each in results
        if each.pictures
    )
    points = run.curves.get("loss", ())
    loss = tuple((float(x), float(y)) for x, y in points[:: -(-len(points) // POINTS) or 1])
    heights = [y for _, y in loss] or [0.0]
    drawn = (
        _chart("Scores", "epoch", "score, 0 to 10", scores, (0, 10)),
        _chart("Backgrounds as asked", "epoch", "% of the pictures", {"": shares}, (0, 100)),
        _chart("Loss", "optimizer step", "loss", {"": loss}, (min(heights), max(heights))),
    )
    return [chart for chart in drawn if chart.lines]


def _chart(title: str, x: str, y: str, lines: dict[str, Points], up: tuple[float, float]) -> Chart:
    lines = {name: points for name, points in lines.items() if points}
    ends = [at for points in lines.values() for at, _ in points]
    across = (min(ends), max(ends)) if ends else (0.0, 0.0)
    return Chart(title=title, x=x, y=y, lines=lines, across=across, up=up)


def ticks(ends: Sequence[float], most: int = 6) -> list[float]:
    """Round numbers between two ends, `most` at most."""
    low, high = ends
    apart = (high - low or 1) / most
    power = math.floor(math.log10(apart))
    step = next(b * 10.0**power for b in (1, 2, 5, 10) if b * 10.0**power >= apart * 0.999)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
