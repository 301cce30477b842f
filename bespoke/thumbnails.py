"""A picture as text within a page: small enough to mail, and no better than the picture is."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke import pictures
from bespoke.findings import Finding

if TYPE_CHECKING:
    from pathlib import Path

CELLS = 24
SIDE = 6 * CELLS
"""Pixels of a picture that is not made of cells: six to each, so that their edges stay in step."""


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """`uri` is a data: address, "" where there is no picture, and `fault` then says why.

    `cells` says that the picture is its 24x24 cells and nothing else, to be enlarged unsmoothed.
    """

    uri: str = ""
    cells: bool = False
    fault: str = ""


def thumbnail(path: Path, sha256: str) -> Thumbnail:
    """The picture at `path`, if it is the one with this hash.

    True cells become a lossless 24x24 PNG. Anything else is shrunk as it is, blur and noise
    included: a snapped copy would look sharper than what the model drew.
    """
    try:
        raw = path.read_bytes()
    except OSError:
        return Thumbnail(fault="not on this disk")
    if hashlib.sha256(raw).hexdigest() != sha256:
        return Thumbnail(fault="another picture lies here now")
    return _made(path, sha256)


@functools.lru_cache(maxsize=2048)
def _made(path: Path, _sha256: str) -> Thumbnail:
    """A page is written after every epoch: the pictures of earlier ones are not decoded again."""
    read = pictures.read(path.parent, path.name, CELLS)
    if isinstance(read, Finding):
        return Thumbnail(fault="cannot be read")
    from PIL import Image, ImageOps

    buffer = io.BytesIO()
    if read.art is not None:
        Image.fromarray(read.art).save(buffer, "PNG", optimize=True)
    else:
        with Image.open(path) as image:
            small = ImageOps.contain(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BOX)
        small.save(buffer, "WEBP", quality=80)
    kind = "png" if read.art is not None else "webp"
    text = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(uri=f"data:image/{kind};base64,{text}", cells=read.art is not None)
