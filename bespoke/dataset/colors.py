"""Colours as people see and name them: CIELAB, CIEDE2000, and a table of colour words."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

Rgb = tuple[int, int, int]

_TABLES = json.loads(Path(__file__).with_name("colors.json").read_text(encoding="utf-8"))

WORDS: dict[str, list[str]] = _TABLES["words"]
"""sRGB of what a word is used for; several where one word covers several colours."""

SPELLINGS: dict[str, str] = _TABLES["spellings"]
"""Words of WORDS by other spellings of them, the captions' own slips among these."""

FAMILIES: dict[str, str] = _TABLES["families"]
"""The basic colour terms (Berlin and Kay's eleven) that may be said of what each word names.

The first is the term that the word is a shade of; where it lies between terms it stands itself.
"""

LIGHTER = ("light", "lighter", "pale", "pastel", "soft")
DARKER = ("dark", "darker", "deep")

_NAMES = "|".join(sorted((*WORDS, *SPELLINGS), key=len, reverse=True))
_NAMED = re.compile(_NAMES)
# Two words run together ("pinkpurple", "bluegreen") are read, a word inside another is not.
_PHRASE = re.compile(
    rf"(?<![a-z])(?:({'|'.join((*LIGHTER, *DARKER))})[ /-]*)?((?:{_NAMES})+)(?![a-z])"
)

FAR = 25.0
"""CIEDE2000 from which on a hex is no longer what its word says. The 83 of the 203's backgrounds
that are one colour, given by word and by its right hex, lie at 5 at the median and 20 at most."""

CALLED = 20.0
"""CIEDE2000 to a word's nearest shade up to which a colour may be called by it."""

_TO_XYZ = np.array([
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
])  # fmt: skip


def rgb_of(code: str) -> Rgb:
    """`#rrggbb` as three numbers."""
    number = int(code.lstrip("#"), 16)
    return number >> 16, number >> 8 & 255, number & 255


def hex_of(rgb: Iterable[int]) -> str:
    """Three numbers as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def lab(rgb: ArrayLike) -> NDArray[np.float64]:
    """CIELAB (D65, 2 degrees) of sRGB values 0 to 255 in the last axis; IEC 61966-2-1."""
    value = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    ratio = linear @ (_TO_XYZ / _TO_XYZ.sum(axis=1, keepdims=True)).T
    cube = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = cube[..., 0], cube[..., 1], cube[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def difference(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """CIEDE2000 of CIELAB values in the last axis (Sharma, Wu and Dalal 2005, equations 2 to 22).

    The shapes broadcast. About 2 is just noticed, 10 is another shade, 50 another colour.
    """
    l1, a1, b1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    l2, a2, b2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(chroma7 / (chroma7 + 25.0**7))
    c1, c2 = np.hypot(a1 * stretch, b1), np.hypot(a2 * stretch, b2)
    h1 = np.degrees(np.arctan2(b1, a1 * stretch)) % 360
    h2 = np.degrees(np.arctan2(b2, a2 * stretch)) % 360
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    # Exactly opposite hues turn by +180 where h2 is the larger (equation 10).
    turn = np.where((turn == -180) & (h2 > h1), 180, turn)
    apart = np.abs(h1 - h2) > 180
    wrapped = np.where(h1 + h2 < 360, 360, -360)
    hue = np.where(grey, h1 + h2, (h1 + h2 + np.where(apart, wrapped, 0)) / 2)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = 1 - 0.17 * np.cos(np.radians(hue - 30)) + 0.24 * np.cos(np.radians(2 * hue))
    weight = weight + 0.32 * np.cos(np.radians(3 * hue + 6))
    weight = weight - 0.20 * np.cos(np.radians(4 * hue - 63))
    by_l = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    by_c = (c2 - c1) / (1 + 0.045 * chroma)
    by_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    rotation = np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    crossed = -2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * rotation
    total = by_l**2 + by_c**2 + by_h**2 + crossed * by_c * by_h
    return np.asarray(np.sqrt(np.maximum(total, 0)))


@functools.lru_cache(maxsize=4096)
def named_in(text: str) -> tuple[tuple[str, str], ...]:
    """The colours that `text` names, as (modifier or "", word of WORDS), each once, in order."""
    names = [
        (modifier, SPELLINGS.get(name, name))
        for modifier, run in _PHRASE.findall(text.lower())
        for name in _NAMED.findall(run)
    ]
    return tuple(dict.fromkeys(names))


@functools.lru_cache(maxsize=512)
def shades(modifier: str, word: str) -> NDArray[np.float64]:
    """CIELAB of all that `modifier word` may mean, shape (n, 3).

    A word alone may mean a lighter and a darker shade too; "light" and "dark" move it one way.
    """
    plain = np.array([rgb_of(code) for code in WORDS[word]], dtype=np.float64)
    amounts = (0.0, 0.35, 0.6) if modifier else (0.0, 0.25)
    parts = []
    if modifier not in DARKER:
        parts += [plain + (255 - plain) * amount for amount in amounts]
    if modifier not in LIGHTER:
        parts += [plain * (1 - amount) for amount in amounts]
    return lab(np.concatenate(parts))


def called(points: ArrayLike, names: Iterable[tuple[str, str]]) -> NDArray[np.bool_]:
    """Whether a person would call each of the CIELAB `points` (n, 3) by one of `names`.

    That is so where a shade of the word, or of a word that is a kind of it, is near, and no shade
    of a word that means something else is clearly nearer.
    """
    return np.asarray(margin(points, names) >= 0)


def margin(points: ArrayLike, names: Iterable[tuple[str, str]]) -> NDArray[np.float64]:
    """By how much (CIEDE2000) each of the points is `called` by one of `names`, or is not."""
    own = np.asarray(points, dtype=np.float64)[:, None, :]
    meant, others = _meant(tuple(names))
    apart = difference(own, meant).min(axis=1, initial=np.inf)
    margins: NDArray[np.float64] = CALLED - apart
    near = margins >= 0
    if near.any():
        rival = difference(own[near], others).min(axis=1, initial=np.inf)
        margins[near] = np.minimum(margins[near], rival + 2 - apart[near])
    return margins


@functools.lru_cache(maxsize=512)
def _meant(names: tuple[tuple[str, str], ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CIELAB of what may be meant by one of `names`, and of what is surely not."""
    terms = {FAMILIES[word].split()[0] for _, word in names}
    meant, others = [np.empty((0, 3))], [np.empty((0, 3))]
    for kind, families in FAMILIES.items():
        first = families.split()[0]
        meant += [_strict(own, kind) for own, word in names if word in (kind, first)]
        if not terms & set(families.split()):
            others.append(_strict("", kind))
    return np.unique(np.concatenate(meant), axis=0), np.unique(np.concatenate(others), axis=0)


def _strict(modifier: str, word: str) -> NDArray[np.float64]:
    # A darker white is grey, and a lighter black.
    if word in ("white", "black"):
        return lab([rgb_of(code) for code in WORDS[word]])
    return shades(modifier, word)


def name_of(rgb: Iterable[int]) -> str:
    """The word whose plain colours come nearest, "light" or "dark" before it where that is so."""
    words = [word for word, codes in WORDS.items() for _ in codes]
    points = lab([rgb_of(code) for codes in WORDS.values() for code in codes])
    own = lab(tuple(rgb))
    nearest = int(difference(points, own).argmin())
    step = own[0] - points[nearest][0]
    return f"{'light ' if step > 15 else 'dark ' if step < -15 else ''}{words[nearest]}"
