"""What an experiment promises of a folder of pictures and captions."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
            if key not in _READERS:
                raise ConfigError(f"{origin}: unknown key {key!r}{_nearest(key)}")
            values[key] = _READERS[key](f"{origin}: {key}", value)
        promise = cls(**values)  # type: ignore[arg-type]  # each value went through its reader
        least, most = promise.pictures_min or 0, promise.pictures_max
        if most is not None and least > most:
            raise ConfigError(f"{origin}: pictures_min {least} is above pictures_max {most}")
        return promise


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, _READERS, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_READERS)}"


def _whole_number(least: int) -> Callable[[str, object], int]:
    def read(where: str, value: object) -> int:
        # bool is an int in Python, and `pictures = true` is a slip.
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{where} must be a whole number from {least} on, not {value!r}")
        return value

    return read


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be text in quotes, not {value!r}")
    return value


def _extension(where: str, value: object) -> str:
    text = _text(where, value)
    if not re.fullmatch(r"\.[^./\\]+", text) or text in PICTURE_EXTENSIONS:
        raise ConfigError(f'{where} must be a caption file\'s ending such as ".txt", not {text!r}')
    return text


def _words(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(word, str) and word.strip() for word in value
    ):
        raise ConfigError(f'{where} must be a list of words such as ["lips"], not {value!r}')
    return tuple(value)


_READERS: Mapping[str, Callable[[str, object], object]] = {
    "pictures": _whole_number(1),
    "pictures_min": _whole_number(1),
    "pictures_max": _whole_number(1),
    "size": _whole_number(1),
    "cells": _whole_number(1),
    "hex_codes_min": _whole_number(0),
    "names": _words,
    "caption_version": _text,
    "caption_extension": _extension,
}
