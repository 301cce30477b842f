"""Checks of the files' form: are they there, complete, paired, and what the experiment declares?"""

from __future__ import annotations

import contextlib
import operator
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.dataset.folder import picture_count
from bespoke.dataset.images import CELLS_OFF_TOLERATED, EIGHT_BIT_MODES
from bespoke.experiment import caption_text as caption_text
from bespoke.findings import Finding, error, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bespoke.dataset.folder import Collection
    from bespoke.dataset.images import Picture
    from bespoke.experiment.dataset_spec import DatasetSpec

FORMAT_OF_EXTENSION = {
    ".png": ("PNG",),
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".webp": ("WEBP",),
    ".bmp": ("BMP",),
}

_LETTERS_BEFORE = re.compile(r"\w+$")
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
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _number_of_pictures(collection: Collection) -> Iterator[Finding]:
    spec, there = collection.spec, len(collection.names["pictures"])
    if not there:
        yield error("pictures_none", "", "there is no picture that the trainer would take")
        return
    for declared, wanted, wrong in (
        (spec.pictures, "{} pictures are declared", operator.ne),
        (spec.pictures_min, "at least {} are declared", operator.lt),
        (spec.pictures_max, "at most {} are declared", operator.gt),
    ):
        if declared is not None and wrong(there, declared):
            counted = f"{there} {'is' if there == 1 else 'are'} there"
            message = f"{wanted.format(declared)}, and {counted}"
            yield error("pictures_count", "", message, pictures=there, declared=declared)
            return


def _pairing(collection: Collection) -> Iterator[Finding]:
    stems = collection.stems
    captions = set(collection.names["captions"])
    excused = {Path(name).stem for name in collection.names["ignored pictures"]}
    for stem, names in stems.items():
        if len(names) > 1:
            message = f"has the same name as {' and '.join(names[:-1])}; both would be trained"
            yield error("picture_twice", names[-1], message)
        if stem + collection.spec.caption_extension not in captions:
            yield _without_caption(names[0], collection)
    for name in collection.names["captions"]:
        if Path(name).stem not in stems and Path(name).stem not in excused:
            yield error("picture_missing", name, "has no picture of the same name")


def _without_caption(name: str, collection: Collection) -> Finding:
    extension = collection.spec.caption_extension
    wanted = Path(name).stem + extension
    others = (*collection.names["captions"], *collection.names["ignored captions"])
    near = [other for other in others if other.casefold() == wanted.casefold()]
    borrowed = _borrowed_caption(collection.folder / name, extension)
    if near:
        message = f"its caption is named {near[0]}; the trainer looks only for {wanted}"
    elif borrowed:
        message = f"has no {wanted}, and the trainer would take {borrowed} in its place"
        return error("caption_borrowed", name, message, borrowed=borrowed)
    else:
        message = f"has no caption {wanted}; it would be trained on an empty one"
    return error("caption_missing", name, message)


def _borrowed_caption(picture: Path, extension: str) -> str | None:
    """The caption that the trainer falls back on (train_util.py:1948-1953 at v0.10.1).

    It cuts four `_` parts off the whole path, not off the file's name alone.
    """
    parts = str(picture.absolute().with_suffix("")).split("_")
    fallback = "_".join(parts[:-4]) + extension
    if len(parts) < 5 or not Path(fallback).is_file():
        return None
    return os.path.relpath(fallback, picture.parent)


def _picture_form(collection: Collection) -> Iterator[Finding]:
    for picture in collection.pictures.values():
        yield from _format_and_colours(picture)
        yield from _size_and_cells(picture, collection.spec)


def _format_and_colours(picture: Picture) -> Iterator[Finding]:
    name, mode, share = picture.file, picture.mode, picture.transparent
    extension = Path(name).suffix
    if picture.format not in FORMAT_OF_EXTENSION[extension.lower()]:
        message = f"is a {picture.format} by its content, not what {extension} says; export it anew"
        yield error("picture_misnamed", name, message, format=picture.format)
    if mode not in EIGHT_BIT_MODES:
        message = f"has mode {mode}, which the trainer's conversion to RGB may distort"
        yield error("picture_mode", name, f"{message}; save it as RGB", mode=mode)
    if share > 0:
        message = f"{share:.2%} of its pixels are not opaque; the trainer drops alpha and trains on"
        message += " the colour beneath: flatten it"
        yield error("picture_transparent", name, message, transparent=share)


def _size_and_cells(picture: Picture, spec: DatasetSpec) -> Iterator[Finding]:
    (width, height), side = picture.size, spec.size
    off, grid = picture.cells_off, f"{spec.cells}x{spec.cells}"
    wrong = ""
    if side is not None and picture.size != (side, side):
        wrong = f"not {side}x{side}"
    elif spec.cells and off is None:
        wrong = f"too small for {grid} cells"
    if wrong:
        message = f"is {width}x{height}, {wrong}"
        yield error("picture_size", picture.file, message, width=width, height=height)
    if off is not None and off > CELLS_OFF_TOLERATED:
        message = (
            f"is not {grid} art enlarged by nearest neighbour: {off:.2%} of its pixels differ from "
            f"their cell ({CELLS_OFF_TOLERATED:.2%} is tolerated); export it anew from the art"
        )
        yield error("picture_cells", picture.file, message, cells_off=off)


def _caption_form(collection: Collection) -> Iterator[Finding]:
    for name, text in collection.texts.items():
        if text.startswith("\ufeff"):
            message = "begins with a byte-order mark, which stays in the text: save without it"
            yield error("caption_byte_order_mark", name, message)
        lines = caption_text.lines(text)
        further = [number for number, line in enumerate(lines[1:], start=2) if line.strip()]
        if not text:
            yield error("caption_empty", name, "is empty (0 bytes); the trainer stops at it")
        elif not lines[0].replace("\ufeff", "").replace("\u200b", "").strip():
            yield error("caption_empty", name, "has a blank first line, and no other is read")
        if further:
            message = f"has text on line {further[0]}; the trainer reads only the first line"
            yield error("caption_lines", name, message, lines=1 + len(further))
        if control := _CONTROL.search(text):
            message = f"has the control character {control[0]!r} at position {control.start()}"
            yield error("caption_control_character", name, message, position=control.start())


def _caption_content(collection: Collection) -> Iterator[Finding]:
    for name, text in collection.texts.items():
        line = caption_text.first_line(text)
        for code in caption_text.malformed_hex_codes(line):
            message = f"{code} is no colour: six digits of 0-9 and a-f are needed after #"
            yield error("caption_hex_malformed", name, message, tag=code)
        if not line:
            continue
        there, least = len(caption_text.hex_codes(line)), collection.spec.hex_codes_min
        if there < least:
            message = f"has {there} hex codes, and at least {least} are declared"
            yield error("caption_hex_few", name, message, hex_codes=there, declared=least)
        for word in collection.spec.names:
            yield from _naming(name, line, word)


def _naming(name: str, line: str, word: str) -> Iterator[Finding]:
    glued = ""
    for place in re.finditer(rf"{re.escape(word)}(?!\w)", line, re.IGNORECASE):
        before = _LETTERS_BEFORE.search(line, max(0, place.start() - 40), place.start())
        if before is None:
            return
        # "blacklips (#051e09)": the feature is there, but its tokens are not those of the word.
        glued = glued or before[0] + place[0]
    if not glued:
        yield error("caption_unnamed", name, f"does not name {word!r}", tag=word)
        return
    message = f"names {word!r} only within {glued!r}: a space seems to be missing"
    yield finding("warning", "caption_word_glued", name, message, tag=glued)


def _wording(collection: Collection) -> Iterator[Finding]:
    """Words run together, and tags or words said twice."""
    lines = {
        name: caption_text.HEX.sub("", caption_text.first_line(text)).replace("()", "").lower()
        for name, text in collection.texts.items()
    }
    counts = Counter(word for line in lines.values() for word in set(_WORD.findall(line)))
    common = {word for word, count in counts.items() if count >= _COMMON and len(word) > 2}
    features = tuple(word.lower() for word in collection.spec.names)
    for name, line in lines.items():
        for word in sorted(set(_WORD.findall(line)) - common - _COMPOUNDS):
            # What ends in a declared word is _naming's.
            cuts = range(3, len(word) - 2) if not word.endswith(features or "\0") else ()
            parts = ((word[:cut], word[cut:]) for cut in cuts if len(word) <= _LONGEST)
            if pair := next((pair for pair in parts if common.issuperset(pair)), None):
                message = f"{word!r} seems to lack a space: {' '.join(pair)!r}"
                yield finding("warning", "caption_word_glued", name, message, tag=word)
        tags = Counter(caption_text.tags(line))
        twice = [tag for tag, count in tags.items() if count > 1 and _WORD.search(tag)]
        twice += [doubled[0] for doubled in _DOUBLED.finditer(line)]
        if twice:
            message = f"repeats {twice[0]!r}"
            yield finding("warning", "caption_repeated", name, message, tag=twice[0])


def _ignored(collection: Collection) -> Iterator[Finding]:
    for name in collection.names["ignored pictures"]:
        message = "has an ending that the trainer does not take; rename or convert it"
        yield error("picture_ignored", name, message)
    for name in collection.names["hidden"]:
        yield finding("note", "file_hidden", name, "is hidden, and the trainer passes it over")
    for name in collection.names["folders"]:
        below = 0
        with contextlib.suppress(OSError):
            below = picture_count(collection.folder / name)
        if below:
            message = f"holds {below} pictures, and the trainer does not look into sub-folders"
            yield finding("warning", "folder_ignored", name, message, pictures=below)


CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (
    _number_of_pictures,
    _pairing,
    _picture_form,
    _caption_form,
    _caption_content,
    _wording,
    _ignored,
)
