"""Checks of the files: are they there, complete, paired, unlike, and what is declared?"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset.images import CELLS_OFF_TOLERATED
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.findings import Finding, error, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bespoke.dataset.folder import Collection

NEAR = 1 / 24
"""Near copies differ in fewer cells than this share: 23 of 24x24 at most."""

_WORD = re.compile(r"[^\W\d_]+")
# "dark dark green", but not "#000000, #000000" nor "hair hairband".
_DOUBLED = re.compile(r"\b([^\W\d_]{1,40}) \1\b")
# A word that so many captions hold is one that the artist uses.
_COMMON = 3
_LONGEST = 40
_COMPOUNDS = frozenset((
    "haircut", "hairstyle", "hairband", "headband", "highlight", "overcoat", "overtop",
    "skintone", "throughout",
))  # fmt: skip


def _number_of_pictures(collection: Collection) -> Iterator[Finding]:
    spec, there = collection.spec, len(collection.names["pictures"])
    fewest, most = spec.fewest, spec.pictures or spec.pictures_max or there
    if not there:
        yield error("pictures_none", "", "there is no picture that the trainer would take")
    elif not fewest <= there <= most:
        words = "" if spec.pictures else "at least " if there < fewest else "at most "
        declared = fewest if there < fewest else most
        message = f"{words}{declared} pictures are declared, and {there} are there"
        yield error("pictures_count", "", message, pictures=there, declared=declared)


def _pairing(collection: Collection) -> Iterator[Finding]:
    pictures, captions, ignored = (
        {Path(name).stem: name for name in collection.names[kind]}
        for kind in ("pictures", "captions", "ignored")
    )
    for stem in pictures.keys() - captions.keys():
        wanted = stem + collection.spec.caption_extension
        message = f"has no caption {wanted}; it would be trained on an empty one"
        yield error("caption_missing", pictures[stem], message)
    for stem in captions.keys() - pictures.keys() - ignored.keys():
        yield error("picture_missing", captions[stem], "has no picture of the same name")
    for name in collection.names["ignored"]:
        message = "has an ending that the trainer does not take; rename or convert it"
        yield error("picture_ignored", name, message)


def _picture_form(collection: Collection) -> Iterator[Finding]:
    spec = collection.spec
    side, grid = spec.size, f"{spec.cells}x{spec.cells}"
    for name, picture in collection.pictures.items():
        (width, height), off = picture.size, picture.cells_off
        if picture.transparent > 0:
            message = (
                f"{picture.transparent:.2%} of its pixels are not opaque; the trainer drops alpha "
                "and trains on the colour beneath: flatten it"
            )
            yield error("picture_transparent", name, message, transparent=picture.transparent)
        if side is not None and picture.size != (side, side):
            message = f"is {width}x{height}, not {side}x{side}"
            yield error("picture_size", name, message, width=width, height=height)
        elif spec.cells and off is None:
            message = f"is {width}x{height}, too small for {grid} cells"
            yield error("picture_size", name, message, width=width, height=height)
        if off is not None and off > CELLS_OFF_TOLERATED:
            message = (
                f"is not {grid} art enlarged by nearest neighbour: {off:.2%} of its pixels differ "
                f"from their cell ({CELLS_OFF_TOLERATED:.2%} is tolerated); export it again from "
                "the art"
            )
            yield error("picture_cells", name, message, cells_off=off)


def _copies(collection: Collection) -> Iterator[Finding]:
    """The same art twice, and art that differs from an earlier picture's in a few cells."""
    arts = collection.arts
    names = list(arts)
    # All of one side: the collection declares how many cells its pictures have.
    cells = np.array([PixelGrid(cells=art).packed.ravel() for art in arts.values()])
    for number, name in enumerate(names[1:], start=1):
        unlike = np.count_nonzero(cells[:number] != cells[number], axis=1)
        nearest = int(unlike.argmin())
        near, apart = names[nearest], int(unlike[nearest])
        if apart == 0:
            message = f"is the same art as {near}, which is thereby trained more often"
            yield finding("warning", "picture_copy", name, message)
        elif apart < cells.shape[1] * NEAR:
            message = f"differs from {near} only in {apart} of {cells.shape[1]} cells"
            yield finding("note", "picture_near_copy", name, message, cells_unlike=apart)


def _caption_form(collection: Collection) -> Iterator[Finding]:
    for name, text in collection.texts.items():
        if text.startswith("\ufeff"):
            message = "begins with a byte-order mark, which stays in the text: save without it"
            yield error("caption_byte_order_mark", name, message)
        if not caption_text.first_line(text).strip("\ufeff\u200b"):
            yield error("caption_empty", name, "has an empty first line, and no other is read")
        if any(line.strip() for line in caption_text.lines(text)[1:]):
            yield error("caption_lines", name, "has more than one line; only the first is read")


def _caption_content(collection: Collection) -> Iterator[Finding]:
    spec = collection.spec
    for name, text in collection.texts.items():
        line = caption_text.first_line(text)
        for code in caption_text.MALFORMED_HEX.findall(line):
            message = f"{code} is no colour: six digits of 0-9 and a-f are needed after #"
            yield error("caption_hex_malformed", name, message, tag=code)
        if not line:
            continue
        there = len(caption_text.HEX.findall(line))
        if there < spec.hex_codes_min:
            message = f"has {there} hex codes, and at least {spec.hex_codes_min} are declared"
            yield error("caption_hex_few", name, message, hex_codes=there)
        for word in spec.names:
            yield from _naming(name, line, word)


def _naming(name: str, line: str, word: str) -> Iterator[Finding]:
    whole = rf"{re.escape(word)}(?!\w)"
    if re.search(rf"(?<!\w){whole}", line, re.IGNORECASE):
        return
    # "blacklips (#051e09)": the feature is there, but its tokens are not those of the word.
    glued = re.search(rf"\w{{1,{_LONGEST}}}{whole}", line, re.IGNORECASE)
    if glued:
        message = f"names {word!r} only within {glued[0]!r}: a space seems to be missing"
        yield finding("warning", "caption_word_glued", name, message, tag=glued[0])
    else:
        yield error("caption_unnamed", name, f"does not name {word!r}", tag=word)


def _wording(collection: Collection) -> Iterator[Finding]:
    """Words run together, and tags or words said twice."""
    lines = {
        name: caption_text.HEX.sub("", caption_text.first_line(text)).replace("()", "").lower()
        for name, text in collection.texts.items()
    }
    counts = Counter(word for line in lines.values() for word in set(_WORD.findall(line)))
    common = {word for word, count in counts.items() if count >= _COMMON and len(word) > 2}
    # What ends in a declared word is _naming's.
    features = tuple(word.lower() for word in collection.spec.names)
    for name, line in lines.items():
        for word in sorted(set(_WORD.findall(line)) - common - _COMPOUNDS):
            cuts = range(3, len(word) - 2) if len(word) <= _LONGEST else ()
            parts = ((word[:cut], word[cut:]) for cut in cuts if not word.endswith(features))
            if pair := next((pair for pair in parts if common.issuperset(pair)), None):
                message = f"{word!r} seems to lack a space: {' '.join(pair)!r}"
                yield finding("warning", "caption_word_glued", name, message, tag=word)
        tags = Counter(caption_text.tags(line))
        twice = [tag for tag, count in tags.items() if count > 1 and _WORD.search(tag)]
        twice += [doubled[0] for doubled in _DOUBLED.finditer(line)]
        if twice:
            message = f"repeats {twice[0]!r}"
            yield finding("warning", "caption_repeated", name, message, tag=twice[0])


CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (
    _number_of_pictures, _pairing, _picture_form, _copies,
    _caption_form, _caption_content, _wording,
)  # fmt: skip
