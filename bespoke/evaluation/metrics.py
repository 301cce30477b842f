"""A picture and what was asked of it, to numbers.

`VERSION` goes with every measurement: two are compared only where it is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.evaluation import figure, likeness
from bespoke.evaluation.figure import SAME, read_prompt, shown, unmeasured, verdict
from bespoke.evaluation.view import CELLS, PictureGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bespoke.evaluation.figure import Wanted
    from bespoke.evaluation.likeness import Likeness

VERSION = 4

# The share of the ground that the asked colours must have; or along the border, where it is the
# very hex, PART, and EXACT of what the largest other colour has.
MOST, PART, EXACT = 0.5, 0.25, 0.7

# The verdict is sure where this share of the ground gives it, by this much (CIEDE2000).
AGREEING, CLEAR = 0.75, 3.0


def measure(
    picture: NDArray[np.uint8], prompt: str, like: Likeness | None = None
) -> dict[str, Any]:
    """Every metric of `picture`, uint8 of shape (height, width, 3) and any size, as JSON.

    It is compared with what `prompt` asks, and with the pictures that `like` was learnt from, or
    with the 203. What could not be measured has the verdict "unmeasured" and a `reason`.
    """
    wanted = read_prompt(prompt)
    if not picture.any():
        black = unmeasured("the picture is black, as where the model gives NaN")
        ground = {"asked": wanted.background.as_json(), **black}
        return {"version": VERSION, "background": ground, "features": {}}
    grid = PictureGrid(pixels=picture)
    unlike = (like or likeness.read()).unlike(grid.lab)
    return {
        "version": VERSION,
        "background": background(grid, wanted.background),
        **figure.read(grid, wanted, unlike["face"]),
        "grid": on_grid(grid),
        "unlike": unlike,
    }


def background(grid: PictureGrid, wanted: Wanted) -> dict[str, Any]:
    """The ground's colour against the asked: verdict, colour, name, delta_e, whether `sure`."""
    every, asked = grid.ground_colours, {"asked": wanted.as_json()}
    if not every:
        return asked | unmeasured("no colour stands out where the ground should be")
    colours, labs, shares, borders = (np.array(column) for column in zip(*every, strict=True))
    if not wanted:
        return asked | shown(colours[0]) | unmeasured("the prompt asks no background colour")
    margins = wanted.margin(labs)
    met = margins >= 0
    exact = wanted.distance(labs) <= SAME if wanted.codes else np.zeros_like(met)
    share, most = shares[met].sum(), shares[~met].max(initial=0)
    match = bool(met.any()) and (
        (share >= MOST and share > most)
        or borders[exact].sum() >= max(PART, EXACT * borders[~met].max(initial=0))
    )
    # The largest that is right, or else wrong.
    largest = int(np.argmax(met == match))
    sure = shares[met == match].sum() >= AGREEING and abs(margins[largest]) >= CLEAR
    colour = shown(colours[largest], wanted)
    return {"verdict": verdict(match), **asked, **colour, "sure": bool(sure)}


# Levels from which on a step between pixels is seen, and the share of such steps that must lie on
# the grid: the 203 have all there, generated pictures 0.78 or more, what is off it 0.4 at most.
VISIBLE, ON_GRID = 6, 0.55


def on_grid(grid: PictureGrid) -> dict[str, Any]:
    """Whether the picture is art of 24x24 cells, and what it is instead: `value` is the share of
    the steps that lies where two cells meet, a pixel off or not, `sharp` that on any lines.
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
    if sharp < ON_GRID or len(near) < 0.3 * len(gaps):
        reason = "smooth, noisy or uneven: it has no hard edges on an even grid"
    return {"verdict": "mismatch", "value": value, "sharp": sharp, "reason": reason}
