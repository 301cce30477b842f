"""One picture file, decoded once: what it is, and the art in it."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.errors import DatasetError
from bespoke.findings import Finding, error

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# numpy and PIL are imported inside the functions that decode: `bespoke --help` reaches this module.

LARGEST_DECODED = 4096 * 4096
"""Pixels; a larger picture is refused undecoded, as eight of them at once would fill the memory."""

CELLS_OFF_TOLERATED = 0.0005
"""Share of pixels that may differ from their cell's centre.

Three times the worst of the 203 pictures of record (0.0145%, 38 pixels of 512x512). The smallest
mark that resampling can leave, bilinear around one changed cell, is 0.2% or more.
"""

EIGHT_BIT_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA"))

_OPENED_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What one decoding told of a picture; the pixels themselves are not kept.

    `size` is (width, height). `transparent` is the share of pixels that are not opaque.
    `cells_off` is the share of pixels that differ from their cell's centre; `cells` is the art
    itself, uint8 of shape (cells, cells, 3), in the colours that the trainer sees (alpha dropped).
    Both are None where no cells are declared or the picture is smaller than its cells.
    """

    file: str
    size: tuple[int, int]
    mode: str
    format: str
    transparent: float
    cells_off: float | None
    cells: NDArray[np.uint8] | None

    @property
    def art(self) -> NDArray[np.uint8] | None:
        """`cells` where the picture is made of them, so that they say what is in it; else None."""
        off = self.cells_off
        return self.cells if off is not None and off <= CELLS_OFF_TOLERATED else None


def read(folder: Path, name: str, cells: int | None) -> Picture | Finding:
    """Decode one file, or find why it cannot be; `cells` is the side of the art."""
    try:
        image, rgba = _decoded(folder / name)
    except DatasetError as damage:
        return error("picture_unreadable", name, str(damage))
    transparent = float((rgba[..., 3] != 255).mean()) if image.has_transparency_data else 0.0
    off, art = _cells(rgba, cells) if cells and cells <= min(image.size) else (None, None)
    return Picture(
        file=name, size=image.size, mode=image.mode, format=image.format or "",
        transparent=transparent, cells_off=off, cells=art,
    )  # fmt: skip


def pixels(path: Path) -> NDArray[np.uint8]:
    """The picture as the trainer sees it, alpha dropped: uint8 of shape (height, width, 3).

    Raises:
        DatasetError: where it cannot be read; the message names the file.
    """
    import numpy as np

    try:
        return np.ascontiguousarray(_decoded(path)[1][..., :3])
    except DatasetError as damage:
        raise DatasetError(f"{path}: {damage}") from damage


def _decoded(path: Path) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The picture as it was saved, and as RGBA: uint8 of shape (height, width, 4)."""
    import numpy as np
    from PIL import Image

    raw = b""
    try:
        raw = path.read_bytes()
        # Named formats keep Pillow's plug-ins from loading in several threads at once.
        with Image.open(io.BytesIO(raw), formats=_OPENED_FORMATS) as image:
            if image.width * image.height > LARGEST_DECODED:
                raise DatasetError(f"{image.width}x{image.height} pixels are too many to decode")
            image.load()
            # Other than 8-bit modes lose what the trainer's own conversion to RGB loses.
            plain = image if image.mode in EIGHT_BIT_MODES else image.convert("RGB")
            return image, np.asarray(plain.convert("RGBA"))
    except DatasetError:
        raise
    except Exception as failure:
        # What a decoder raises at a damaged file is open.
        raise DatasetError(_damage(raw, failure)) from failure


def _damage(raw: bytes, failure: Exception) -> str:
    # The system's own errors carry a number; PIL's, for damaged files, carry none.
    if isinstance(failure, OSError) and failure.errno:
        return f"cannot be read: {failure.strerror}"
    if not raw:
        return "is empty (0 bytes)"
    if type(failure).__name__ == "UnidentifiedImageError":
        return f"is not a picture; it begins with {raw[:8]!r}"
    return f"does not decode: {' '.join(str(failure).split())}"


def _cells(rgba: NDArray[np.uint8], count: int) -> tuple[float, NDArray[np.uint8]]:
    """The share of pixels unlike their cell's centre, and the cells, with alpha disregarded."""
    import numpy as np

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


@functools.lru_cache(maxsize=64)
def nearest_neighbour(side: int, count: int) -> tuple[NDArray[np.intp], ...]:
    """How `count` cells make `side` pixels: the cell of each pixel, the middle pixel of each cell,
    and the pixels whose centre lies right between two cells, where enlargers differ by rounding.

    A pixel's centre decides, as in Pillow's and OpenCV's nearest-neighbour enlargement; the 203
    match to the pixel at 24 cells in 512 pixels, which are 21 or 22 wide.
    """
    import numpy as np

    doubled = (2 * np.arange(side) + 1) * count
    centres = (2 * np.arange(count) + 1) * side // (2 * count)
    return doubled // (2 * side), centres, np.flatnonzero(doubled % (2 * side) == 0)
