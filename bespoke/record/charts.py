"""Lines over epochs and steps, as the page's template draws them: points, ticks and a table.

The page's style sheet colours the lines by their number, so that a chart is light and dark with it.
"""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bespoke.evaluation import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

SCORES = ("visual_quality", "style_match", "prompt_adherence")
TABLE_ROWS = 24
"""A table of more steps than this is thinned: it is there to be read out."""

RESTART = 9
# The plot's edges within a drawing of 480 by 270: left, right, top, bottom.
LEFT, RIGHT, TOP, BOTTOM = 62, 472, 8, 220


@dataclass(frozen=True, kw_only=True)
class Line:
    """`colour` is the style sheet's number; a dashed line is something to compare with."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """`x` and `y` are the axes' titles, `across` and `up` their ends; lines have `dots` or not."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    across: tuple[float, float]
    up: tuple[float, float]
    dots: bool

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The same numbers: an x first, then one a line."""
        values = [dict(line.points) for line in self.lines if line.colour != RESTART]
        xs = sorted({x for each in values for x in each})
        return [
            (f"{x:.0f}", *(f"{each[x]:.4g}" if x in each else "–" for each in values))
            for x in xs[:: -(-len(xs) // TABLE_ROWS)]
        ]

    def places(self, line: Line) -> list[tuple[float, float]]:
        """Where the line's points are drawn."""
        return [(self.at_x(x), self.at_y(y)) for x, y in line.points]

    def at_x(self, x: float) -> float:
        low, high = self.across
        return round(LEFT + (x - low) / (high - low or 1) * (RIGHT - LEFT), 1)

    def at_y(self, y: float) -> float:
        low, high = self.up
        return round(BOTTOM - (y - low) / (high - low or 1) * (BOTTOM - TOP), 1)


def of(run: RunRecord, baselines: Sequence[RunRecord]) -> list[Chart]:
    """Scores and backgrounds by epoch beside the baselines', loss and learning rate by step."""
    scores = [_line("mean of the three", run, lambda each: each.scores.mean, 0)]
    scores += [
        _line(key.replace("_", " "), run, operator.attrgetter(f"scores.{key}"), number)
        for number, key in enumerate(SCORES, start=1)
    ]
    shares = [_line("this run", run, _share, 0)]
    for colour, other in enumerate(baselines, start=4):
        scores.append(_reached(run, other, colour))
        shares.append(_line(other.name, other, _share, colour, dashed=True))
    rates = tuple(key for key in run.curves if key.startswith("lr/"))
    drawn = (
        _by_epoch("Scores", "score, 0 to 10", scores, top=10),
        _by_epoch("Backgrounds as asked", "% of the pictures", shares, top=100),
        _by_step("Loss", "loss", run, ("loss",)),
        _by_step("Learning rate", "learning rate", run, rates),
    )
    return [chart for chart in drawn if chart is not None]


def restarts(curve: Sequence[tuple[int, float]]) -> list[int]:
    """The steps at which a learning rate jumps up again after it fell.

    Warm-up rises too, but from the start; a jump regains half of the peak or more at once.
    """
    peak = max((value for _, value in curve), default=0.0)
    found, fell = [], False
    for (_, before), (step, value) in itertools.pairwise(curve):
        if fell and value - before >= peak / 2:
            found.append(step)
            fell = False
        fell = fell or value < before
    return found


def _share(result: EpochResult) -> float | None:
    count = len(result.pictures)
    return 100 * result.backgrounds()["match"] / count if count else None


def _line(
    name: str,
    run: RunRecord,
    value: Callable[[EpochResult], float | None],
    colour: int,
    *,
    dashed: bool = False,
) -> Line:
    pairs = [(number, value(each)) for number, each in gate.numbered(run.epochs)]
    points = tuple((float(number), float(y)) for number, y in pairs if y is not None)
    return Line(name=name, points=points, colour=colour, dashed=dashed)


def _reached(run: RunRecord, other: RunRecord, colour: int) -> Line:
    """A baseline's own line; where one epoch alone is known, the height that it reached."""
    line = _line(other.name, other, lambda each: each.scores.mean, colour, dashed=True)
    height, epoch = other.best_score, other.best_epoch
    if height is None or len(line.points) > 1:
        return line
    last = max((number for number, _ in gate.numbered(run.epochs)), default=1)
    points = tuple((float(end), float(height)) for end in sorted({1, last}))
    return replace(
        line, name=line.name + ("" if epoch is None else f", epoch {epoch}"), points=points
    )


def _by_epoch(title: str, y: str, lines: Sequence[Line], *, top: int) -> Chart | None:
    if not lines[0].points:
        return None
    drawn = tuple(line for line in lines if line.points)
    last = max(x for line in drawn for x, _ in line.points)
    across, up = (1.0, last), (0.0, float(top))
    return Chart(title=title, x="epoch", y=y, lines=drawn, across=across, up=up, dots=True)


def _by_step(title: str, y: str, run: RunRecord, names: Sequence[str]) -> Chart | None:
    drawn = [
        Line(name=name, points=tuple((float(x), float(v)) for x, v in run.curves[name]), colour=n)
        for n, name in enumerate(names)
        if run.curves.get(name)
    ]
    if not drawn:
        return None
    heights = [v for line in drawn for _, v in line.points]
    up, last = (min(heights), max(heights)), max(x for line in drawn for x, _ in line.points)
    found = (restarts(curve) for key, curve in run.curves.items() if key.startswith("lr/"))
    for step in next((steps for steps in found if steps), []):
        ends = ((float(step), up[0]), (float(step), up[1]))
        drawn.append(Line(name=f"restart, {step}", points=ends, colour=RESTART, dashed=True))
    return Chart(
        title=title,
        x="optimizer step",
        y=y,
        lines=tuple(drawn),
        across=(0, last),
        up=up,
        dots=False,
    )


def ticks(ends: tuple[float, float], most: int = 6) -> list[float]:
    """Round numbers between two ends, `most` at most."""
    low, high = ends
    apart = (high - low or 1) / most
    power = math.floor(math.log10(apart))
    step = next(b * 10.0**power for b in (1, 2, 5, 10) if b * 10.0**power >= apart * 0.999)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
