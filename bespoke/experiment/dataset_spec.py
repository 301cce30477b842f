"""What an experiment declares of a folder of pictures and captions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from bespoke.experiment.validation import CLOSED, Text, matching

TRAINED_EXTENSIONS = frozenset(
    extension
    for lower in (".png", ".jpg", ".jpeg", ".webp", ".bmp")
    for extension in (lower, lower.upper())
)
"""What the trainer's glob takes with the locked packages (train_util.py:104 at v0.10.1)."""
PICTURE_EXTENSIONS = frozenset(
    (*TRAINED_EXTENSIONS, ".gif", ".tif", ".tiff", ".avif", ".jxl", ".heic", ".tga")
)


Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(strict=True, ge=1, le=65_536)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class DatasetSpec:
    """What one folder of data must hold; None, 0 and () ask for nothing.

    `size` is the side of the square pictures in pixels, `cells` the side of the art in cells,
    `names` the feature words that every caption must hold.
    """

    pictures: Count | None = None
    pictures_min: Count | None = None
    pictures_max: Count | None = None
    size: Pixels | None = None
    cells: Pixels | None = None
    hex_codes_min: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    names: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    caption_version: Text = ""
    caption_extension: Annotated[
        Text, matching(r"\.[^./\\]{1,20}", 'be an ending such as ".txt"')
    ] = ".txt"

    @property
    def fewest(self) -> int:
        """The smallest number of pictures that is enough."""
        return self.pictures or self.pictures_min or 1
