"""One picture file, decoded once: what it is, the art in it, and where which colour is."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from bespoke.errors import DatasetError
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LARGEST_DECODED = 4096 * 4096
"""Pixels; a larger picture is refused undecoded, as eight of them at once would fill the memory."""

CELLS_OFF_TOLERATED = 0.0005
"""Share of pixels that may differ from their cell's centre: three times the worst of the 203 of
record. The smallest mark of resampling, bilinear around one changed cell, is 0.2% or more."""

# Share of the border from which on a colour counts as the ground's: stripes, halves, bricks.
GROUND_SHARE = 0.1

_OPENED_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """`size` is (width, height); `transparent` the share of pixels that are not opaque.

    `cells_off` is the share of pixels that differ from their cell's centre, where cells are looked
    for. `art` holds the cells of a picture that is made of them, alpha dropped: uint8 of shape
    (cells, cells, 3).
    """

    size: tuple[int, int]
    transparent: float
    cells_off: float | None
    art: NDArray[np.uint8] | None


def read(folder: Path, name: str, cells: int | None) -> Picture | Finding:
    """Decode one file, or say why it cannot be; `cells` is the side of the art."""
    try:
        rgba = _decoded(folder / name)
    except DatasetError as damage:
        return finding("error", "picture_unreadable", name, str(damage))
    height, width = rgba.shape[:2]
    transparent = float((rgba[..., 3] != 255).mean())
    off, art = _cells(rgba, cells) if cells and cells <= min(width, height) else (None, None)
    return Picture(
        size=(width, height), transparent=transparent, cells_off=off,
        art=art if off is not None and off <= CELLS_OFF_TOLERATED else None,
    )  # fmt: skip


def pixels(path: Path) -> NDArray[np.uint8]:
    """The picture as the trainer sees it, alpha dropped: uint8 of shape (height, width, 3).

    Where it cannot be read, a DatasetError names the file.
    """
    try:
        return np.ascontiguousarray(_decoded(path)[..., :3])
    except DatasetError as damage:
        raise DatasetError(f"{path}: {damage}") from damage


def _decoded(path: Path) -> NDArray[np.uint8]:
    """The picture as RGBA: uint8 of shape (height, width, 4)."""
    try:
        # Named formats keep Pillow's plug-ins from loading in several threads at once; from memory,
        # its messages name no file.
        with Image.open(io.BytesIO(path.read_bytes()), formats=_OPENED_FORMATS) as image:
            if image.width * image.height > LARGEST_DECODED:
                raise ValueError(f"{image.width}x{image.height} pixels are too many to decode")
            opaque = image if image.has_transparency_data else image.convert("RGB")
            return np.asarray(opaque.convert("RGBA"))
    except UnidentifiedImageError:
        raise DatasetError("is not a complete picture in a known format") from None
    except Exception as failure:
        # What a decoder raises at a damaged file is open.
        cause = getattr(failure, "strerror", None) or " ".join(str(failure).split())
        raise DatasetError(f"cannot be read: {cause}") from failure


def _cells(rgba: NDArray[np.uint8], count: int) -> tuple[float, NDArray[np.uint8]]:
    """The share of pixels unlike their cell's centre, and the cells, with alpha disregarded."""
    # Four bytes compared as one number: a third of the time of three channels.
    packed = np.ascontiguousarray(rgba).view("<u4")[..., 0] & np.uint32(0xFFFFFF)
    rows, columns = (nearest_neighbour(side, count) for side in packed.shape)
    art = packed[np.ix_(rows[1], columns[1])]
    # Columns first: the rows are then copied whole.
    unlike = art.take(columns[0], 1).take(rows[0], 0) != packed
    unlike[rows[2]] = False
    unlike[:, columns[2]] = False
    off = np.count_nonzero(unlike) / packed.size
    return off, np.ascontiguousarray(art[..., None].view(np.uint8)[..., :3])


def nearest_neighbour(side: int, count: int) -> tuple[NDArray[np.intp], ...]:
    """How `count` cells make `side` pixels: the cell of each pixel, the middle pixel of each cell,
    and the pixels whose centre lies right between two cells, where enlargers differ by rounding.

    A pixel's centre decides, as in Pillow's and OpenCV's enlargement: 21 or 22 of 512 for 24 cells.
    """
    doubled = (2 * np.arange(side) + 1) * count
    centres = (2 * np.arange(count) + 1) * side // (2 * count)
    return doubled // (2 * side), centres, np.flatnonzero(doubled % (2 * side) == 0)


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
