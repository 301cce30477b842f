"""A page's pictures: each as it was drawn, and the collection's original that is nearest to it."""

from __future__ import annotations

import base64
import functools
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageOps

from bespoke import files
from bespoke.dataset import colors
from bespoke.evaluation.view import CELLS
from bespoke.experiment.trainer_options import TRAINED_EXTENSIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The longest side of a picture on the page, in pixels: what the model draws.
SIDE = 512
# Of a picture, in bytes, so that a page of 90 has 10 MB. One that takes more without loss, as
# Stable Diffusion's do (160 kB), is a JPEG of full colour: 55 kB, 47 dB from what was drawn.
LARGEST = 80_000


class Picture(NamedTuple):
    """A picture as a data: address, and its mean colour in each of 24x24 cells, shape (1728,)."""

    name: str
    uri: Markup
    lab: NDArray[np.float32]


# A page is written after every epoch: the pictures of earlier ones are not decoded again.
@functools.lru_cache(maxsize=2048)
def drawn(path: Path, sha256: str | None, side: int = SIDE) -> Picture | None:
    """The picture at `path`; None if it cannot be read, or is not the one with this hash.

    Where it is made smaller, pixels are left out, never mixed or snapped to cells.
    """
    try:
        if sha256 is not None and files.sha256(path) != sha256:
            return None
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
    cells = np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX))
    if max(image.size) > side:
        image = ImageOps.contain(image, (side, side), Image.Resampling.NEAREST)
    return Picture(path.stem, _address(image), colors.lab(cells).astype(np.float32).ravel())


@functools.lru_cache(maxsize=4)
def originals(folders: tuple[str, ...]) -> tuple[Picture, ...]:
    """The pictures in these folders, a pixel a cell; none of a folder that is gone."""
    every = (path for folder in folders for path in sorted(Path(folder).glob("*")))
    paths = [path for path in every if path.suffix in TRAINED_EXTENSIONS]
    with ThreadPoolExecutor() as pool:
        return tuple(filter(None, pool.map(lambda path: drawn(path, None, CELLS), paths)))


def nearest(picture: Picture, every: tuple[Picture, ...]) -> tuple[Picture, float]:
    """The original that is nearest, of one or more, and how far its cells are (CIELAB)."""
    apart = np.linalg.norm(np.stack([each.lab for each in every]) - picture.lab, axis=1)
    # The root of the mean square, of a cell and not of its three coordinates.
    return every[int(apart.argmin())], float(apart.min() / CELLS)


def _address(image: Image.Image) -> Markup:
    buffer, kind = io.BytesIO(), "webp"
    image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    for quality in (95, 85):  # the second for what is noise
        if buffer.tell() > LARGEST:
            buffer, kind = io.BytesIO(), "jpeg"
            image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Markup(f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}")  # noqa: S704
