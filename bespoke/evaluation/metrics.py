"""A picture and what was asked of it, to numbers: pure functions, each in one table.

`VERSION` goes with every measurement: two are compared only where it is the same. Where in a
portrait each feature lies was learnt from the 203 originals: regions.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.evaluation import figure, likeness
from bespoke.evaluation.asked import SAME, Asked, Wanted, read_prompt
from bespoke.evaluation.figure import shown, unmeasured, verdict
from bespoke.evaluation.view import CELLS, PictureGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bespoke.evaluation.likeness import Likeness

__all__ = ["Asked", "Wanted", "background", "measure", "on_grid", "read_prompt"]

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
        numbers |= {"grid": on_grid(grid), "likeness": (like or likeness.read()).parts(grid.lab)}
    else:
        numbers = {name: unmeasured(BLACK) for name in ("background", "grid", "face")}
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


def on_grid(grid: PictureGrid) -> dict[str, Any]:
    """Whether the picture is art of 24x24 cells, and what it is instead.

    `value` is the share of the steps from pixel to pixel that lies where two cells meet, `sharp`
    the share on lines of the picture's own. A pixel off still counts; what is not VISIBLE does not.
    """
    if grid.cell_size < 2:
        return unmeasured("a cell is not two pixels wide")
    sums, gaps = np.zeros(3), [0]
    for pixels in (grid.pixels, grid.pixels.swapaxes(0, 1)):
        one, other = pixels[::3, 1:], pixels[::3, :-1]
        steps = (np.maximum(one, other) - np.minimum(one, other)).max(axis=2)
        profile = np.where(steps >= VISIBLE, steps, 0).sum(axis=0, dtype=np.int64)
        around = np.lib.stride_tricks.sliding_window_view(np.pad(profile, 3), 7)
        strong = profile > max(0.02 * profile.max(), 1.5 * profile.mean())
        lines = np.flatnonzero((profile == around.max(axis=1)) & strong)
        meeting = np.rint(np.arange(1, CELLS) * pixels.shape[1] / CELLS).astype(np.intp) - 1
        beside = around[:, 2:5].sum(axis=1)
        sums += beside[meeting].sum(), beside[lines].sum(), profile.sum()
        gaps += np.diff(lines).tolist()
    if not sums[2]:
        return unmeasured("it is one colour all over")
    value, sharp = (round(min(1.0, float(part / sums[2])), 3) for part in sums[:2])
    if value >= ON_GRID:
        return {"verdict": "match", "value": value, "sharp": sharp}
    usual = int(np.convolve(np.bincount(gaps), (1, 1, 1), "same").argmax())
    near = [gap for gap in gaps if abs(gap - usual) <= 1]
    reason = f"cells are about {np.mean(near):.0f} px, grid {CELLS} expected {grid.cell_size:.1f}"
    if sharp < ON_GRID:
        reason = "smooth or noisy: it has no hard edges"
    elif len(near) < 0.3 * len(gaps):
        reason = "its edges lie on no even grid"
    return {"verdict": "mismatch", "value": value, "sharp": sharp, "reason": reason}
