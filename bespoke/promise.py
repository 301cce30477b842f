"""What an experiment promises of a folder of pictures and captions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.options_values import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What an experiment declares of one folder of data; None, 0 and () promise nothing.

    `size` is the side of the square pictures in pixels, `cells` the side of the art in cells,
    `names` the feature words that every caption must hold.
    """

    pictures: int | None = None
    pictures_min: int | None = None
    pictures_max: int | None = None
    size: int | None = None
    cells: int | None = None
    hex_codes_min: int = 0
    names: tuple[str, ...] = ()
    caption_version: str = ""
    caption_extension: str = ".txt"

    @property
    def fewest(self) -> int:
        """The smallest number of pictures that keeps the promise."""
        return self.pictures or self.pictures_min or 1

    @classmethod
    def from_toml(cls, mapping: Mapping[str, object], origin: str) -> Promise:
        """Read a promise from a parsed TOML table; `origin` names its file and table.

        Raises:
            ConfigError: an unknown key (the nearest known one is named), a value of the wrong type
                or out of range, or bounds that no number of pictures can keep.
        """
        values: dict[str, object] = {}
        for key, value in mapping.items():
            if key not in _KEYS:
                near = nearest(key, _KEYS)[:1]
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_KEYS)}"
                raise ConfigError(f"{origin}: unknown key {key!r}; {hint}")
            values[key] = _read(f"{origin}: {key}", key, value)
        promise = cls(**values)  # type: ignore[arg-type]  # each value went through its reader
        least, most = promise.pictures_min or 0, promise.pictures_max
        if most is not None and least > most:
            raise ConfigError(f"{origin}: pictures_min {least} is above pictures_max {most}")
        return promise


# Numbers that may be declared, and the least of each.
_LEAST = {
    **dict.fromkeys(("pictures", "pictures_min", "pictures_max", "size", "cells"), 1),
    "hex_codes_min": 0,
}
_KEYS = (*_LEAST, "names", "caption_version", "caption_extension")


def _read(where: str, key: str, value: object) -> object:
    if key in _LEAST:
        # bool is an int in Python, and `pictures = true` is a slip.
        if not isinstance(value, int) or isinstance(value, bool) or value < _LEAST[key]:
            needed = f"a whole number from {_LEAST[key]} on"
            raise ConfigError(f"{where} must be {needed}, not {value!r}")
        return value
    if key == "names":
        words = value if isinstance(value, (list, tuple)) else [None]
        if not all(isinstance(word, str) and word.strip() for word in words):
            raise ConfigError(f'{where} must be a list of words such as ["lips"], not {value!r}')
        return tuple(words)
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be text in quotes, not {value!r}")
    ending = re.fullmatch(r"\.[^./\\]+", value) and value not in PICTURE_EXTENSIONS
    if key == "caption_extension" and not ending:
        raise ConfigError(f'{where} must be a caption file\'s ending such as ".txt", not {value!r}')
    return value
