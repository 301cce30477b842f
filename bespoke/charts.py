"""Lines over epochs and steps as SVG that a page can hold: no script, no style, no address in it.

pygal computes axes, ticks and paths; the page's own style sheet colours the classes given here, so
that a chart is light and dark with the page.
"""

from __future__ import annotations

import itertools
import operator
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bespoke import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from xml.etree.ElementTree import Element

    from bespoke.evaluate import EpochResult
    from bespoke.store import RunRecord

SCORES = ("visual_quality", "style_match", "prompt_adherence")
TABLE_ROWS = 24
"""A table of more steps than this is thinned: it is there to be read out."""

RESTART = 9


@dataclass(frozen=True, kw_only=True)
class Line:
    """`colour` is the style sheet's number; a dashed line is something to compare with."""

    name: str
    points: tuple[tuple[float, float], ...]
    colour: int
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """`svg` is a whole element; `rows` are the same numbers, an x first and then one a line."""

    title: str
    svg: str
    lines: tuple[Line, ...]
    rows: tuple[tuple[str, ...], ...]
    x: str


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
    drawn = [line for line in lines if line.points]
    last = int(max(x for line in drawn for x, _ in line.points))
    ticks = list(range(1, last + 1, -(-last // 12)))
    heights = [top * n // 5 for n in range(6)]
    return _chart(title, "epoch", y, drawn, x_labels=ticks, y_labels=heights)


def _by_step(title: str, y: str, run: RunRecord, names: Sequence[str]) -> Chart | None:
    drawn = [
        Line(name=name, points=tuple((float(x), float(v)) for x, v in run.curves[name]), colour=n)
        for n, name in enumerate(names)
        if run.curves.get(name)
    ]
    if not drawn:
        return None
    heights = [v for line in drawn for _, v in line.points]
    last = max(x for line in drawn for x, _ in line.points)
    found = (restarts(curve) for key, curve in run.curves.items() if key.startswith("lr/"))
    for step in next((steps for steps in found if steps), []):
        ends = ((float(step), min(heights)), (float(step), max(heights)))
        drawn.append(Line(name=f"restart, {step}", points=ends, colour=RESTART, dashed=True))
    # Round steps, six at most.
    tick = next(n for n in (b * 10**e for e in range(12) for b in (1, 2, 5)) if last <= 6 * n)
    ticks = list(range(0, int(last) + 1, tick))
    return _chart(title, "optimizer step", y, drawn, x_labels=ticks, show_dots=False)


def _chart(title: str, x: str, y: str, lines: Sequence[Line], **options: Any) -> Chart:
    import pygal
    from pygal.etree import etree
    from pygal.style import Style

    # It would take lxml where that is installed, whose comments have no attributes to ask for; and
    # it leaves a finder for maps of which Python 3.11 warns at every later import.
    etree.to_etree()
    sys.meta_path[:] = [each for each in sys.meta_path if type(each).__module__ != pygal.__name__]
    plain = "{:g}".format
    chart = pygal.XY(
        width=480, height=270, margin=4, x_title=x, y_title=y, js=[], css=[], dots_size=3,
        style=Style(label_font_size=13, major_label_font_size=13, title_font_size=13),
        show_legend=False, max_scale=6, value_formatter=plain, x_value_formatter=plain, **options,
    )  # fmt: skip
    for line in lines:
        chart.add(line.name, list(line.points), **({"show_dots": False} if line.dashed else {}))
    root: Element = chart.render_tree()
    root.set("class", x.split()[-1])
    svg = _bare(root, title, f"{y} by {x}", lines)
    return Chart(title=title, svg=svg, lines=tuple(lines), rows=_rows(lines), x=x)


def _rows(lines: Sequence[Line]) -> tuple[tuple[str, ...], ...]:
    values = [dict(line.points) for line in lines if line.colour != RESTART]
    xs = sorted({x for each in values for x in each})
    return tuple(
        (f"{x:.0f}", *(f"{each[x]:.4g}" if x in each else "–" for each in values))
        for x in xs[:: -(-len(xs) // TABLE_ROWS)]
    )


def _bare(root: Element, title: str, description: str, lines: Sequence[Line]) -> str:
    """pygal's drawing without its script, styles, comments, tooltips and random name."""
    from pygal.etree import etree

    for parent in list(root.iter()):
        for child in [child for child in parent if _is_extra(child)]:
            parent.remove(child)
    for node in root.iter():
        words = node.get("class", "").split()
        if words[:1] == ["series"]:
            line = lines[int(words[1].removeprefix("serie-"))]
            node.set("class", f"line-{line.colour}{' dashed' if line.dashed else ''}")
        for key in {"d", "x", "y", "cx", "cy", "transform"}.intersection(node.keys()):
            node.set(key, re.sub(r"(\d\.\d)\d+", r"\1", node.get(key, "")))
    name = "chart-" + title.split()[0].lower()
    told = {"id": name, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    root.attrib.update(told)
    for number, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = etree.Element(tag, {"id": f"{name}-{tag}"})
        child.text = text
        root.insert(number, child)
    return str(etree.tostring(root, encoding="unicode"))


def _is_extra(node: Element) -> bool:
    overlay = node.get("class", "").endswith(("text-overlay", "tooltip-overlay"))
    # A comment's tag is a function.
    return overlay or callable(node.tag) or node.tag in ("defs", "title", "desc")
