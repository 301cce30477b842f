"""Checks of the files: are they there, complete, paired, unlike, and what is declared?"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.images import CELLS_OFF_TOLERATED
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import tokens
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bespoke.dataset.loading import Collection

NEAR = 1 / 24
"""Near copies differ in fewer cells than this share: 23 of 24x24 at most."""

_WORD = re.compile(r"\b[^\W\d_]{4,40}\b")
# "dark dark green" and "skin tone skin tone", but not "#000000, #000000" nor "hair hairband".
_DOUBLED = re.compile(r"\b((?:[^\W\d_]{1,40} ){0,4}[^\W\d_]{1,40}) \1\b")
# Words that others are run together with, before or behind them.
_HUES = "|".join(word for word in colors.WORDS if len(word) > 4) + "|blue|gr[ae]y|pink"
_ENDS = f"{_HUES}|wearing|background|bright|eyes|lips|shirt"
_STARTS = "background|bald|brown|eyes|glasses|green|lips|pink|purple"
_RUN_ON = re.compile(rf"({_STARTS})((?!ing|ish|ness)\w{{3,}})")
# These make words of their own, such as "blackboard": not so before a shade or before no word.
_COMPOUNDING = re.compile(r"(hair|skin|dark|light|black|white|blue)(\w{3,})")
_SHADES = ("dark", "deep", "light", "red")
_COMPOUNDS = ("undershirt", "nightshirt", "overshirt", "eyesight", "eyesore")


def _number_of_pictures(collection: Collection) -> Iterator[Finding]:
    spec, there = collection.spec, len(collection.names["pictures"])
    fewest, most = spec.fewest, spec.pictures or spec.pictures_max or there
    if not there:
        message = "there is no picture that the trainer would take"
        yield finding("error", "pictures_none", "", message)
    elif not fewest <= there <= most:
        bound = f"at least {fewest}" if there < fewest else f"at most {most}"
        message = f"{spec.pictures or bound} pictures are declared, and {there} are there"
        yield finding("error", "pictures_count", "", message)


def _pairing(collection: Collection) -> Iterator[Finding]:
    pictures, captions, ignored = (
        {Path(name).stem: name for name in collection.names[kind]}
        for kind in ("pictures", "captions", "ignored")
    )
    for stem in pictures.keys() - captions.keys():
        wanted = stem + collection.spec.caption_extension
        message = f"has no caption {wanted}; it would be trained on an empty one"
        yield finding("error", "caption_missing", pictures[stem], message)
    for stem in captions.keys() - pictures.keys() - ignored.keys():
        yield finding("error", "picture_missing", captions[stem], "has no picture of the same name")
    for name in collection.names["ignored"]:
        message = "has an ending that the trainer does not take; rename or convert it"
        yield finding("error", "picture_ignored", name, message)


def _pictures(collection: Collection) -> Iterator[Finding]:
    side, grid = collection.spec.size, f"{collection.spec.cells}x{collection.spec.cells}"
    for name, picture in collection.pictures.items():
        (width, height), off = picture.size, picture.cells_off
        if picture.transparent > 0:
            shown = f"{picture.transparent:.2%} of its pixels"
            message = f"{shown} are not opaque, and the trainer drops alpha: flatten it"
            yield finding("error", "picture_transparent", name, message)
        if side and picture.size != (side, side):
            message = f"is {width}x{height}, not {side}x{side}"
            yield finding("error", "picture_size", name, message)
        if off is not None and off > CELLS_OFF_TOLERATED:
            message = (
                f"is not {grid} art enlarged by nearest neighbour: {off:.2%} of its pixels differ "
                f"from their cell ({CELLS_OFF_TOLERATED:.2%} is tolerated); export it again from "
                "the art"
            )
            yield finding("error", "picture_cells", name, message)


def _copies(collection: Collection) -> Iterator[Finding]:
    """The same art twice, and art that differs from an earlier picture's in a few cells."""
    arts = collection.arts
    names = list(arts)
    # All of one side: the collection declares how many cells its pictures have.
    cells = np.array([PixelGrid(cells=art).packed.ravel() for art in arts.values()])
    for number, name in enumerate(names[1:], start=1):
        unlike = np.count_nonzero(cells[:number] != cells[number], axis=1)
        nearest = int(unlike.argmin())
        near, apart = names[nearest], unlike[nearest]
        if apart == 0:
            message = f"is the same art as {near}, which is thereby trained more often"
            yield finding("warning", "picture_copy", name, message)
        elif apart < cells.shape[1] * NEAR:
            message = f"differs from {near} only in {apart} of {cells.shape[1]} cells"
            yield finding("note", "picture_near_copy", name, message)


def _captions(collection: Collection) -> Iterator[Finding]:
    for name, text in collection.texts.items():
        line = caption_text.first_line(text)
        if text.startswith("\ufeff"):
            message = "begins with a byte-order mark, which stays in the text: save without it"
            yield finding("error", "caption_byte_order_mark", name, message)
        if any(each.strip() for each in caption_text.lines(text)[1:]):
            message = "has more than one line; only the first is read"
            yield finding("error", "caption_lines", name, message)
        if not line.strip("\ufeff"):
            message = "has an empty first line, and no other is read"
            yield finding("error", "caption_empty", name, message)
            continue
        for code in caption_text.MALFORMED_HEX.findall(line):
            message = f"{code} is no colour: six digits of 0-9 and a-f are needed after #"
            yield finding("error", "caption_hex_malformed", name, message)
        there, least = len(caption_text.HEX.findall(line)), collection.spec.hex_codes_min
        if there < least:
            message = f"has {there} hex codes, and at least {least} are declared"
            yield finding("error", "caption_hex_few", name, message)
        for word in collection.spec.names:
            # In "blacklips" it is there: that a space is missing, _wording says.
            if not re.search(rf"{re.escape(word)}(?!\w)", line, re.IGNORECASE):
                yield finding("error", "caption_unnamed", name, f"does not name {word!r}")


def _wording(collection: Collection) -> Iterator[Finding]:
    """Words run together, and tags or words said twice."""
    ends = "|".join([*(re.escape(word.lower()) for word in collection.spec.names), _ENDS])
    run_into = re.compile(rf"(\w{{2,}}?)({ends})")
    for name, text in collection.texts.items():
        line = caption_text.HEX.sub("", caption_text.first_line(text)).replace("()", "").lower()
        for word in dict.fromkeys(_WORD.findall(line)):
            if parts := _parts(word, run_into):
                message = f"{word!r} seems to lack a space: {parts!r}"
                yield finding("warning", "caption_word_glued", name, message)
        tags = Counter(caption_text.tags(line))
        twice = [tag for tag, count in tags.items() if count > 1 and re.search(r"[^\W\d_]", tag)]
        twice += [doubled[0] for doubled in _DOUBLED.finditer(line)]
        if twice:
            yield finding("warning", "caption_repeated", name, f"repeats {twice[0]!r}")


def _parts(word: str, run_into: re.Pattern[str]) -> str:
    """The two words that one seems to be; "" for a word that the text encoder knows as a whole."""
    if word in _COMPOUNDS or word in colors.SPELLINGS or word in colors.WORDS or tokens(word) == 1:
        return ""
    match = run_into.fullmatch(word) or _RUN_ON.fullmatch(word)
    if not match and (compound := _COMPOUNDING.fullmatch(word)):
        match = compound if compound[2] in _SHADES or tokens(compound[2]) > 1 else None
    return " ".join(match.groups()) if match else ""


CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (
    _number_of_pictures, _pairing, _pictures, _copies, _captions, _wording,
)  # fmt: skip
