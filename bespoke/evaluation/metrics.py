"""A picture and what was asked of it, to numbers: pure functions, each in one table.

`VERSION` goes with every measurement: two are compared only where it is the same. Where in a
portrait each feature lies was learnt from the 203 originals: regions.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset.images import nearest_neighbour
from bespoke.evaluation import figure, likeness
from bespoke.evaluation.asked import SAME, Asked
from bespoke.evaluation.figure import shown, unmeasured, verdict
from bespoke.evaluation.view import CELLS, PictureGrid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from bespoke.evaluation.likeness import Likeness

VERSION = 3

# What float16 that overflows, or weights that diverged, end as.
BLACK = "the picture is black, as where the model gives NaN"

# Shares of the ground that the asked colour must have: PART as one of several ("stripes"), else
# MOST. Along the border the very hex needs but EXACT of what the largest other colour has: where an
# original is half and half its caption names one.
PART, MOST, EXACT = 0.25, 0.5, 0.7

# The verdict is sure where this share of the ground gives it, by this much (CIEDE2000).
AGREEING, CLEAR = 0.75, 3.0


def measure(
    picture: NDArray[np.uint8], wanted: Asked, like: Likeness | None = None
) -> dict[str, Any]:
    """Every metric of `picture`, uint8 of shape (height, width, 3) and any size, as JSON.

    It is compared with the pictures that `like` was learnt from, or with the 203. What could not be
    measured has the verdict "unmeasured" and a `reason`, never a number.
    """
    if picture.any():
        grid = PictureGrid(pixels=picture)
        numbers = {"background": background(grid, wanted), **figure.read(grid, wanted)}
        numbers |= {"cells": cells(grid), "grid": on_grid(grid)}
        numbers["likeness"] = (like or likeness.shipped()).parts(grid.lab)
    else:
        numbers = {name: unmeasured(BLACK) for name in ("background", "cells", "grid", "face")}
        numbers["background"]["asked"] = wanted.background.as_json()
        numbers["features"] = {kind: unmeasured(BLACK) for kind in wanted.features}
        numbers |= {"unasked": {}, "likeness": {}}
    return {"version": VERSION, **numbers}


def background(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """The ground's colour compared with the asked one: verdict, colour, name, delta_e, confidence.

    It is right for 195 of the 196 originals whose background's hex is their border's, and wrong for
    32,361 of the 32,588 pairs of an original and another's hex, 20 or more from its own.
    """
    every, ground = grid.ground_colours, wanted.background
    asked = {"asked": ground.as_json()}
    if not every:
        return asked | unmeasured("no colour stands out where the ground should be")
    if not ground:
        seen = shown(every[0].rgb, None)
        return asked | seen | unmeasured("the prompt asks no background colour")
    labs, shares, borders = (
        np.array([getattr(own, key) for own in every]) for key in ("lab", "share", "border")
    )
    margins, apart = ground.margin(labs), ground.distance(labs)
    met = margins >= 0
    exact = apart <= SAME if ground.codes else np.zeros_like(met)
    share, most = shares[met].sum(), shares[~met].max(initial=0)
    match = bool(met.any()) and (
        (ground.several and share >= PART)
        or (share >= MOST and share > most)
        or borders[exact].sum() >= max(PART, EXACT * borders[~met].max(initial=0))
    )
    # The largest that is right, or else wrong.
    largest = int(np.argmax(met == match))
    agreeing = float(shares[met == match].sum())
    sure = agreeing >= AGREEING and abs(margins[largest]) >= CLEAR
    words = f"{agreeing:.0%} of it, {abs(margins[largest]):.0f} ΔE from the bound"
    return {
        "verdict": verdict(match),
        **asked,
        **shown(every[largest].rgb, apart[largest]),
        "confidence": f"{'sure' if sure else 'close'}: {words}",
    }


# Levels from which on a step between pixels is seen, and the share of such steps that must lie on
# the grid: the 203 have all there, generated pictures 0.78 or more, what is off it 0.4 at most.
VISIBLE, ON_GRID = 6, 0.55


def cells(grid: PictureGrid) -> dict[str, Any]:
    """Mean distance of the pixels from their own cell's colour, of 255."""
    if grid.cell_size < 2:
        return unmeasured("a cell is not two pixels wide")
    rows, columns = (nearest_neighbour(side, CELLS)[0] for side in grid.pixels.shape[:2])
    own = np.rint(grid.cells).astype(np.uint8).take(columns, 1).take(rows, 0)
    return {"value": round(float(_unlike(grid.pixels, own).mean()), 3)}


def on_grid(grid: PictureGrid) -> dict[str, Any]:
    """Whether the picture is art of 24x24 cells, and what it is instead.

    `value` is the share of the steps from pixel to pixel that lies where two cells meet, `sharp`
    the share that lies on lines of the picture's own; a pixel off still counts, and steps of less
    than VISIBLE do not.
    """
    if grid.cell_size < 2:
        return unmeasured("a cell is not two pixels wide")
    profiles = [_steps(pixels) for pixels in (grid.pixels, grid.pixels.swapaxes(0, 1))]
    total = sum(float(profile.sum()) for profile in profiles)
    if not total:
        return unmeasured("it is one colour all over")
    value = sharp = 0.0
    gaps: list[int] = []
    for profile in profiles:
        cells = np.rint(np.arange(1, CELLS) * (len(profile) + 1) / CELLS).astype(np.intp) - 1
        lines = _lines(profile)
        value += float(profile[_beside(cells, len(profile))].sum()) / total
        sharp += float(profile[_beside(lines, len(profile))].sum()) / total
        gaps += np.diff(lines).tolist()
    shares = {"value": round(value, 3), "sharp": round(sharp, 3)}
    if value >= ON_GRID:
        return {"verdict": "match", **shares}
    return {"verdict": "mismatch", **shares, "reason": _instead(grid, sharp, gaps)}


def _steps(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """By column, what can be seen of its step to the next one, in every third row."""
    lines = np.ascontiguousarray(pixels[::3])
    steps = _unlike(lines[:, 1:], lines[:, :-1]).max(axis=2)
    return np.asarray(np.where(steps >= VISIBLE, steps, 0).sum(axis=0, dtype=np.int64))


def _lines(profile: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where the steps stand out from those of three pixels on either side."""
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(profile, 3), 7).max(axis=1)
    strong = profile > max(0.02 * profile.max(initial=0), 1.5 * profile.mean())
    return np.flatnonzero((profile == nearby) & strong)


def _beside(lines: NDArray[np.intp], length: int) -> NDArray[np.bool_]:
    """The places of `lines`, and one on either side."""
    places = np.zeros(length + 2, dtype=bool)
    for slack in range(3):
        places[lines + slack] = True
    return places[1:-1]


def _instead(grid: PictureGrid, sharp: float, gaps: list[int]) -> str:
    """What a picture is that is not on the grid."""
    if sharp < ON_GRID or not gaps:
        steps = _unlike(grid.pixels[:, 1:], grid.pixels[:, :-1]).max(axis=2)
        return "noise" if (steps >= VISIBLE).mean() > 0.5 else "smooth: it has no hard edges"
    usual = int(np.convolve(np.bincount(gaps), (1, 1, 1), "same").argmax())
    near = [gap for gap in gaps if abs(gap - usual) <= 1]
    if len(near) < 0.3 * len(gaps):
        return "its edges lie on no even grid"
    side = f"cells are about {np.mean(near):.0f} px"
    return f"{side}, grid {CELLS} expected {grid.cell_size:.1f}"


def _unlike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The absolute difference, in bytes: a fifth of the time of wider numbers."""
    return np.maximum(first, second) - np.minimum(first, second)


# What each asked part weighs in the adherence (an accessory ACCESSORY), and what is lost of the
# whole by what no one asked. Round numbers by how much a rater minds each; fitted to no labels.
WEIGHTS = {"background": 5.0, "hair": 2.5, "eyes": 2.5, "skin": 2.0, "clothing": 1.0, "lips": 1.0}
ACCESSORY = 1.5
LOST = {
    "background over the face": 0.4,
    "coloured skin": 0.3,
    "background over the hair": 0.2,
    "glasses": 0.2,
    "hat": 0.2,
}

# From here on a face's lightness is like no mix of the collection's faces: noise has 0.78 and more,
# originals that were left out of the learning 0.6 at most.
NO_FACE = 0.79


def adherence(measured: Mapping[str, Any]) -> float | None:
    """From 0 to 10, how much of what was asked is there, and nothing that was not.

    It is None without a face, or where nothing was asked that could be told; a background that was
    asked and could not be measured counts as missed.
    """
    if _faceless(measured):
        return None
    parts = {
        name: part["verdict"] == "match"
        for name, part in _asked(measured).items()
        if name == "background" or part.get("verdict") in ("match", "mismatch")
    }
    if not parts:
        return None
    weights = {name: WEIGHTS.get(name, ACCESSORY) for name in parts}
    value = 10 * sum(weights[name] * met for name, met in parts.items()) / sum(weights.values())
    for name, part in measured.get("unasked", {}).items():
        value *= 1 - LOST[name] * (part["verdict"] == "seen")
    return float(value)


def _faceless(measured: Mapping[str, Any]) -> bool:
    residual = measured.get("likeness", {}).get("face", {}).get("value", 0.0)
    return residual >= NO_FACE or measured.get("face", {}).get("verdict") == "mismatch"


def adherence_remarks(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What is missing of what was asked and what is too much, in plain words, the worst first."""
    if _faceless(measured):
        return ("no face",)
    remarks = [
        (WEIGHTS.get(name, ACCESSORY), _remark(name, part))
        for name, part in _asked(measured).items()
        if part.get("verdict") == "mismatch"
    ]
    ground = " ".join(measured.get("background", {}).get("asked", {}).get("words", ())[:1])
    remarks += [
        (10 * LOST[name], name.replace("background over", f"{ground or 'background'} over"))
        for name, part in measured.get("unasked", {}).items()
        if part["verdict"] == "seen"
    ]
    return tuple(words for _, words in sorted(remarks, key=lambda each: -each[0]))


def _asked(measured: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By name all that was asked, as it was measured."""
    background = measured.get("background", {})
    ground = {"background": background} if any(background.get("asked", {}).values()) else {}
    return {**ground, **measured.get("features", {})}


def _remark(name: str, part: Mapping[str, Any]) -> str:
    asked = " ".join([*part["asked"]["words"], *part["asked"]["hex"]])
    if "probability" in part:
        return f"no {name}" if part["reason"] == "not seen" else f"{name} not {asked}"
    return f"{name} {part['name']}, {asked} asked"
