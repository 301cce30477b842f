"""Where each colour lies in a picture's art: the border, the ground behind the figure, the rest.

A set of cells is one whole number with a bit for each cell, row by row, with one bit between the
rows that no cell has: a shift by one cell cannot run from one row into the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

GROUND_SHARE = 0.1
"""Share of the border from which on a colour counts as the ground's: stripes, halves, bricks."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """`cells` says for each colour, as `#rrggbb`, which cells have it; `height` x `width` cells."""

    cells: Mapping[str, int]
    height: int
    width: int

    @cached_property
    def _edge(self) -> int:
        """The border's cells: the top row and the sides of the upper half.

        Lower down, clothes and hair reach the edge of a portrait.
        """
        edge, ends = (1 << self.width) - 1, 1 | 1 << (self.width - 1)
        for y in range(self.height // 2):
            edge |= ends << y * (self.width + 1)
        return edge

    @cached_property
    def border(self) -> dict[str, int]:
        """Number of border cells by colour, most first."""
        counts = {colour: (cells & self._edge).bit_count() for colour, cells in self.cells.items()}
        return dict(sorted(((c, n) for c, n in counts.items() if n), key=lambda item: -item[1]))

    @cached_property
    def ground(self) -> int:
        """The cells of the border's colours that hang together with the border."""
        total = sum(self.border.values())
        colours = [c for c, n in self.border.items() if n >= total * GROUND_SHARE]
        allowed = 0
        for colour in colours or list(self.border)[:1]:
            allowed |= self.cells[colour]
        step = self.width + 1
        reached = allowed & self._edge
        while True:
            grown = allowed & (
                reached | reached << 1 | reached >> 1 | reached << step | reached >> step
            )
            if grown == reached:
                return reached
            reached = grown

    def outside_ground(self, colour: str) -> int:
        """Number of cells of `colour` that are not in the ground."""
        return (self.cells.get(colour, 0) & ~self.ground).bit_count()


def canvas_of(art: NDArray[np.uint8]) -> Canvas:
    """`art` is uint8 of shape (height, width, 3)."""
    height, width = art.shape[:2]
    cells: dict[bytes, int] = {}
    raw, place = art.tobytes(), 0
    for number in range(height * width):
        colour = raw[3 * number : 3 * number + 3]
        cells[colour] = cells.get(colour, 0) | 1 << place
        place += 2 if (number + 1) % width == 0 else 1
    named = {f"#{colour.hex()}": mask for colour, mask in cells.items()}
    return Canvas(cells=named, height=height, width=width)
