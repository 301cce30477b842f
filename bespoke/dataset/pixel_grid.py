"""A picture's cells: the border, the ground behind the figure, and which cells have a colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Share of the border from which on a colour counts as the ground's: stripes, halves, bricks.
GROUND_SHARE = 0.1


def border_of(height: int, width: int) -> NDArray[np.bool_]:
    """The border's cells: the top row and the sides of the upper half.

    Lower down, clothes and hair reach the edge of a portrait.
    """
    border = np.zeros((height, width), dtype=bool)
    border[0] = border[: height // 2, 0] = border[: height // 2, -1] = True
    return border


def connected(allowed: NDArray[np.bool_], start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The `allowed` cells that hang together, by their sides, with an allowed one of `start`."""
    reached = allowed & start
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= allowed
        if np.array_equal(grown, reached):
            return reached
        reached = grown


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelGrid:
    """`cells` is uint8 of shape (height, width, 3): sRGB. Colours are named as `#rrggbb`."""

    cells: NDArray[np.uint8]

    @cached_property
    def packed(self) -> NDArray[np.uint32]:
        """Each cell as 0xRRGGBB, shape (height, width)."""
        places = np.array([0x10000, 0x100, 1], dtype=np.uint32)
        return self.cells.astype(np.uint32) @ places

    @cached_property
    def colours(self) -> dict[str, int]:
        """Number of cells by colour."""
        return _counts(self.packed)

    @cached_property
    def border(self) -> dict[str, int]:
        """Number of border cells by colour, most first."""
        return _counts(self.packed[border_of(*self.packed.shape)])

    @cached_property
    def behind(self) -> tuple[str, ...]:
        """The ground's colours, most first: those of a good share of the border, one at least."""
        least = min(sum(self.border.values()) * GROUND_SHARE, max(self.border.values()))
        return tuple(code for code, cells in self.border.items() if cells >= least)

    @cached_property
    def ground(self) -> NDArray[np.bool_]:
        """The cells of the ground's colours that hang together with the border."""
        codes = [int(code[1:], 16) for code in self.behind]
        return connected(np.isin(self.packed, codes), border_of(*self.packed.shape))

    @cached_property
    def figure(self) -> dict[str, int]:
        """Number of cells that are not in the ground by colour."""
        return _counts(self.packed[~self.ground])


def _counts(packed: NDArray[np.uint32]) -> dict[str, int]:
    """Cells by colour, most first; of equally many the one that comes first."""
    codes, first, counts = np.unique(packed, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    return {f"#{codes[n]:06x}": int(counts[n]) for n in order}
