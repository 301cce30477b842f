"""What an experiment declares of a folder of pictures and captions."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bespoke.experiment.validation import CLOSED, Text, not_blank

TRAINED_EXTENSIONS = frozenset(
    extension
    for lower in (".png", ".jpg", ".jpeg", ".webp", ".bmp")
    for extension in (lower, lower.upper())
)
"""What the trainer's glob takes with the locked packages (train_util.py:104 at v0.10.1).

It takes .avif and .jxl only beside plug-ins that the locked set does not hold.
"""

PICTURE_EXTENSIONS = frozenset(
    (*TRAINED_EXTENSIONS, ".gif", ".tif", ".tiff", ".avif", ".jxl", ".heic", ".tga")
)


def _ending(text: str) -> str:
    if not re.fullmatch(r"\.[^./\\]{1,20}", text) or text in PICTURE_EXTENSIONS:
        raise ValueError('write the ending of caption files, such as ".txt"')
    return text


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
    names: tuple[Annotated[Text, AfterValidator(not_blank)], ...] = ()
    caption_version: Text = ""
    caption_extension: Annotated[Text, AfterValidator(_ending)] = ".txt"

    @property
    def fewest(self) -> int:
        """The smallest number of pictures that is enough."""
        return self.pictures or self.pictures_min or 1

    @model_validator(mode="after")
    def _bounds_agree(self) -> DatasetSpec:
        least, most = self.pictures_min or 0, self.pictures_max
        if most is not None and least > most:
            raise ValueError(f"pictures_min {least} is above pictures_max {most}")
        return self
