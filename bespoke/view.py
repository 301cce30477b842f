"""A picture made ready for measuring: its 24x24 cells, and the ground behind the figure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bespoke import colours
from bespoke.regions import CELLS, region

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 64
"""Side of the picture that the ground's colours are looked for in."""

POINTS = 5
"""Points along each side of a cell's inner half; their median is the cell's colour."""

GRAIN = 36.0
"""Mean difference of a pixel from its surroundings from which on they are not averaged.

Gaussian noise of 40 levels has 32 and leaves a colour that can be named; even noise, which has
none, has 64 and would average to grey.
"""

REACH = 12.0
"""CIEDE2000 from a ground colour's middle within which a sample is counted to it."""

TAIL = 25.0
"""CIEDE2000 up to which a sample left over is counted to the nearest ground colour."""

LEAST_MODE = 0.04
MOST_MODES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Mode:
    """One of the ground's colours: sRGB 0 to 255, CIELAB, and its share of the ground.

    `core` is the share that lies close together; the rest of `share` is noise around it.
    """

    rgb: NDArray[np.float64]
    lab: NDArray[np.float64]
    core: float
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """`pixels` is uint8 of shape (height, width, 3), both at least 1."""

    pixels: NDArray[np.uint8]

    @property
    def cell_size(self) -> float:
        """Pixels along a cell's shorter side."""
        return float(min(self.pixels.shape[:2]) / CELLS)

    @cached_property
    def cells(self) -> NDArray[np.float64]:
        """sRGB of the cells, shape (24, 24, 3)."""
        rows, columns = (_inner_points(side) for side in self.pixels.shape[:2])
        points = self.pixels[np.ix_(rows, columns)]
        points = points.reshape(CELLS, POINTS, CELLS, POINTS, 3).swapaxes(1, 2)
        middle = np.median(points.reshape(CELLS, CELLS, POINTS * POINTS, 3), axis=2)
        return np.asarray(middle, dtype=np.float64)

    @cached_property
    def lab(self) -> NDArray[np.float64]:
        """CIELAB of the cells, shape (24, 24, 3)."""
        return colours.lab(self.cells)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """The ground's colours, the largest share first."""
        sampled, weight = self._samples
        # Sorted as one number, four levels together: noise has thousands of colours.
        packed = (sampled >> 2).astype(np.int64) @ (1 << 16, 1 << 8, 1)
        _, place, count = np.unique(packed, return_inverse=True, return_counts=True)
        sums = [np.bincount(place, weights=sampled[:, channel]) for channel in range(3)]
        points = np.stack(sums, axis=1) / count[:, None]
        mass = np.bincount(place, weights=weight) / weight.sum()
        lab = colours.lab(points)
        free = np.ones(len(points), dtype=bool)
        found: list[tuple[NDArray[np.float64], NDArray[np.bool_]]] = []
        while len(found) < MOST_MODES and mass[free].sum() > LEAST_MODE:
            members = _densest(lab, mass * free) & free
            if mass[members].sum() < LEAST_MODE:
                break
            free &= ~members
            found.append((np.average(lab[members], axis=0, weights=mass[members]), members))
        if not found:
            return ()
        middles = np.array([middle for middle, _ in found])
        if free.any():
            apart = colours.difference(lab[free][:, None], middles)
            nearest = np.where(apart.min(axis=1) <= TAIL, apart.argmin(axis=1), -1)
        modes = []
        for number, (middle, members) in enumerate(found):
            tail = float(mass[free][nearest == number].sum()) if free.any() else 0.0
            core = float(mass[members].sum())
            rgb = np.average(points[members], axis=0, weights=mass[members])
            modes.append(Mode(rgb=rgb, lab=middle, core=core, share=core + tail))
        return tuple(sorted(modes, key=lambda mode: -mode.share))

    @cached_property
    def _samples(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Colours (n, 3) of where the ground is likely, and how likely as weights (n)."""
        height, width = self.pixels.shape[:2]
        factor = max(1, min(height, width) // SAMPLES)
        raw = self.pixels[factor // 2 :: factor, factor // 2 :: factor]
        rows, columns = (cells_along(side)[factor // 2 :: factor] for side in (height, width))
        likely = region("background")[np.ix_(rows, columns)]
        # As canvas.Canvas.border: in the lower half hair and clothes reach the edge.
        used = (likely > 0.5) & (rows < CELLS // 2)[:, None]
        if not used.any():
            return raw.reshape(-1, 3), np.ones(raw.size // 3)
        chosen, weight = raw[used], _odds(likely[used])
        if factor == 1:
            return chosen, weight
        smooth = np.asarray(Image.fromarray(self.pixels).reduce(factor))
        smooth = smooth[: raw.shape[0], : raw.shape[1]][used]
        grain = np.abs(chosen.astype(np.int16) - smooth).mean(axis=1)
        return (chosen if np.median(grain) > GRAIN else smooth), weight

    @cached_property
    def ground(self) -> NDArray[np.bool_]:
        """The cells of the ground's colours that hang together with the border's upper part."""
        seen = [mode.lab for mode in self.modes if mode.core >= 0.1]
        if not seen:
            return np.zeros((CELLS, CELLS), dtype=bool)
        allowed = (colours.difference(self.lab[:, :, None], np.array(seen)) <= REACH).any(axis=2)
        reached = np.zeros_like(allowed)
        reached[0], reached[: CELLS // 2, 0], reached[: CELLS // 2, -1] = True, True, True
        reached &= allowed
        while True:
            grown = reached.copy()
            grown[1:] |= reached[:-1]
            grown[:-1] |= reached[1:]
            grown[:, 1:] |= reached[:, :-1]
            grown[:, :-1] |= reached[:, 1:]
            grown &= allowed
            if (grown == reached).all():
                return reached
            reached = grown


def cells_along(side: int) -> NDArray[np.intp]:
    """The cell of each pixel along a side, by its centre: so were the 203 enlarged."""
    return np.asarray((2 * np.arange(side) + 1) * CELLS // (2 * side), dtype=np.intp)


def _odds(likely: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log odds, with the table's coarseness as the doubt that is left."""
    share = (likely * 9 + 0.5) / 10
    return np.asarray(np.log(share / (1 - share)))


def _inner_points(side: int) -> NDArray[np.intp]:
    """Where along a side the points of each cell's inner half lie."""
    within = 0.25 + (np.arange(POINTS) + 0.5) / (2 * POINTS)
    places = (np.arange(CELLS)[:, None] + within).ravel() * side / CELLS
    return np.minimum(places.astype(np.intp), side - 1)


def _densest(lab: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.bool_]:
    """What lies within REACH of where most of `mass` lies: the fullest box, moved to its middle."""
    boxes = np.rint(lab / 8).astype(np.int64) @ (1 << 16, 1 << 8, 1)
    _, place = np.unique(boxes, return_inverse=True)
    members = place == np.bincount(place, weights=mass).argmax()
    for _ in range(3):
        middle = np.average(lab[members], axis=0, weights=np.maximum(mass[members], 1e-12))
        members = colours.difference(lab, middle) <= REACH
    return np.asarray(members)
