"""A picture made ready for measuring: its 24x24 cells, and the ground behind the figure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.images import border_of, connected

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The side of the collection's art.
CELLS = 24

# By feature, how likely each cell is its: 0 to 1 in steps of a ninth, shape (24, 24). Learnt from
# the 203 by benchmarks/regions.py; it holds no picture.
REGIONS = Path(__file__).with_name("regions.json")
LIKELIHOOD: dict[str, NDArray[np.float64]] = {
    kind: np.array([[int(digit) for digit in row] for row in rows]) / 9
    for kind, rows in json.loads(REGIONS.read_text(encoding="utf-8"))["regions"].items()
}

# Points along each side of a cell's inner half; their median is the cell's colour.
POINTS = 5

# ITU-R BT.601; and the median step of it from pixel to pixel from which on a picture is noise:
# noise of 50 levels on grey has 30 to 33, uniform noise 39 to 54.
LUMA, GRAIN = np.array((0.299, 0.587, 0.114), dtype=np.float32), 34.0

# CIEDE2000 within which a cell is counted to a colour, and the least share of the ground of one.
REACH, LEAST_SHARE = 12.0, 0.04

EDGE = border_of(CELLS, CELLS)

# The ground is looked for in the upper half, where it is likelier than not.
_PLACES = (LIKELIHOOD["background"] > 0.5) & (np.arange(CELLS)[:, None] < CELLS // 2)
_MASS = LIKELIHOOD["background"][_PLACES] / LIKELIHOOD["background"][_PLACES].sum()


class GroundColour(NamedTuple):
    """One of the ground's colours: sRGB 0 to 255, CIELAB, its shares of the ground and of EDGE."""

    rgb: NDArray[np.float64]
    lab: NDArray[np.float64]
    share: np.float64
    border: np.float64


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureGrid:
    """A picture brought to the collection's grid: `pixels` is uint8 of shape (height, width, 3)."""

    pixels: NDArray[np.uint8]

    @property
    def cell_size(self) -> float:
        """Pixels along a cell's shorter side."""
        return float(min(self.pixels.shape[:2]) / CELLS)

    @cached_property
    def cells(self) -> NDArray[np.float64]:
        """sRGB of the cells, shape (24, 24, 3)."""
        within = 0.25 + (np.arange(POINTS) + 0.5) / (2 * POINTS)
        places = (np.arange(CELLS)[:, None] + within).ravel() / CELLS
        rows, columns = ((places * side).astype(np.intp) for side in self.pixels.shape[:2])
        points = self.pixels[np.ix_(rows, columns)].reshape(CELLS, POINTS, CELLS, POINTS, 3)
        return np.asarray(np.median(points, axis=(1, 3)), dtype=np.float64)

    @cached_property
    def lab(self) -> NDArray[np.float64]:
        """CIELAB of the cells, shape (24, 24, 3)."""
        return colors.lab(self.cells)

    @cached_property
    def ground_colours(self) -> tuple[GroundColour, ...]:
        """The ground's colours, the largest share first; none where the picture is noise."""
        # The ground is above the head.
        steps = np.abs(np.diff(self.pixels[: max(1, len(self.pixels) // 4)] @ LUMA, axis=1))
        if self.cell_size >= 2 and np.median(steps) > GRAIN:
            return ()
        points, cells = self.lab[_PLACES], self.cells[_PLACES]
        left, edge = np.ones(len(_MASS), dtype=bool), EDGE[_PLACES] / EDGE.sum()
        near = colors.difference(points[:, None], points) <= REACH
        every = []
        while True:
            members = near[((near @ (_MASS * left)) * left).argmax()] & left
            if _MASS[members].sum() < LEAST_SHARE:
                break
            left &= ~members
            rgb = np.median(cells[members], axis=0)
            share, border = _MASS[members].sum(), edge[members].sum()
            every.append(GroundColour(rgb, colors.lab(rgb), share, border))
        return tuple(every)

    @cached_property
    def ground(self) -> NDArray[np.bool_]:
        """The cells of the ground's colours that hang together with the border's upper part.

        A colour that next to nowhere touches the border is the hair's, however large its share.
        """
        allowed = np.zeros((CELLS, CELLS), dtype=bool)
        for own in self.ground_colours:
            if own.share >= 0.1 and own.border >= 0.05:
                allowed |= colors.difference(self.lab, own.lab) <= REACH
        return connected(allowed, EDGE)
