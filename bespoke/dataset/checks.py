"""Checks of the files: complete, paired, unlike, as declared, each colour where it should be?"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.images import CELLS_OFF_TOLERATED, PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import FEATURES, Feature, tokens
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bespoke.dataset.loading import Collection

NEAR = 1 / 24
"""Near copies differ in fewer cells than this share: 23 of 24x24 at most."""

COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))
"""Words that, said of skin, are no colour of paint."""

WORD_NEAR = 15.0
"""CIEDE2000 within which some cell must be like a colour word without a hex: the furthest of the
137 such tags of the 203 lies at 13. A word changed at random lies beyond in 94 of 100 backgrounds,
and in 22 of 100 tags of a figure, which has many colours."""

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
    fewest = spec.pictures or spec.pictures_min or 1
    most = spec.pictures or spec.pictures_max or there
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


def _colors(collection: Collection) -> Iterator[Finding]:
    """Captions held to their pictures, where the art is known. Never errors."""
    arts = collection.arts
    for picture, caption in collection.pairs:
        line = caption_text.first_line(collection.texts.get(caption.name, ""))
        if line and picture.name in arts:
            features = caption_text.features(line)
            grid = PixelGrid(cells=arts[picture.name])
            for check in (_background, _words, _hex_codes):
                yield from check(caption.name, features, grid)


def in_picture(feature: Feature) -> bool:
    return feature.kind in (*FEATURES, "other")


def _background(name: str, features: list[Feature], grid: PixelGrid) -> Iterator[Finding]:
    """Its hex held to the border, and whether it is named: codes alone tell the model little."""
    behind = [each for each in features if "background" in each.kinds]
    texts = [caption_text.HEX.sub(" ", each.text).lower() for each in behind]
    # In "greybackground" the colour is there: that a space is missing is another finding.
    if not any(colors.named_in(text.replace("background", " ")) for text in texts):
        where = f": {behind[0].text[:60]!r}" if behind else ""
        message = f"no words say the background's colour{where}"
        yield finding("warning", "background_unnamed", name, message)
    # A later one, as in "… hoodie with grey background", may say another thing's.
    first = next((each.codes for each in behind if each.codes and in_picture(each)), None)
    most, cells = next(iter(grid.border.items()))
    if first and most not in first:
        share = cells / sum(grid.border.values())
        message = f"says that the background is {first[0]}; {share:.0%} of the border is {most}"
        yield finding("warning", "colour_background", name, message)


def _words(name: str, features: list[Feature], grid: PixelGrid) -> Iterator[Finding]:
    """Colour words without a hex, of which nothing is in the picture where it should be."""
    for each in features:
        named = () if each.codes or each.kind not in FEATURES else painted(each.text, each.kinds)
        there = set(grid.behind if "background" in each.kinds else ())
        there |= grid.figure.keys() if set(each.kinds) - {"background"} else set()
        if apart(tuple(sorted(there)), named) > WORD_NEAR:
            where = "background" if each.kind == "background" else "figure"
            message = f"says {_said(named)}; nothing of the {where} is near it: {each.text[:60]!r}"
            yield finding("warning", "colour_word", name, message)


def _said(named: Iterable[tuple[str, str]]) -> str:
    return " or ".join(" ".join(filter(None, name)) for name in named)


def _hex_codes(name: str, features: list[Feature], grid: PixelGrid) -> Iterator[Finding]:
    """All that keeps the model from learning a feature's colour by its hex codes."""
    colored = [each for each in features if each.codes and in_picture(each)]
    faults = [*_shared(colored), *_misplaced(colored, grid)]
    listed = [each for each in features if each.kind in ("palette", "loose")]
    if loose := [code for each in listed for code in each.codes]:
        faults.append(f"{len(loose)} belong to no feature ({loose[0]} …)")
    if faults:
        number = f"{len(faults)} faults" if len(faults) > 1 else "a fault"
        message = f"{number} in its hex codes: {'; '.join(faults)}"
        yield finding("warning", "hex_codes_unclear", name, message)


def _shared(colored: list[Feature]) -> Iterator[str]:
    users: dict[str, dict[str, None]] = defaultdict(dict)
    for feature in colored:
        for code in feature.codes:
            users[code][feature.kind] = None
    for code, kinds in users.items():
        if len(kinds) > 1:
            yield f"{' and '.join(kinds)} share {code}"


def _misplaced(colored: list[Feature], grid: PixelGrid) -> Iterator[str]:
    """Codes that are not in the picture where the feature is, or apart from its own words."""
    for each in colored:
        for code in each.codes:
            if code not in grid.colours:
                yield f"{code} of the {each.kind} is not in the picture"
            elif "background" not in each.kinds and code not in grid.figure:
                yield f"{code} of the {each.kind} is only behind the figure"
        if each.parts > 1:
            yield f"the commas in its parentheses make {each.parts} tags of the {each.kind}"
        named = painted(each.text, each.kinds)
        if apart(each.codes, named) > colors.FAR:
            seen = colors.name_of(colors.rgb_of(each.codes[0]))
            yield f"says {_said(named)}, and {each.codes[0]} is {seen}"


def painted(text: str, kinds: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The colours that a tag names, less the words that, said of skin, are no colour of paint."""
    named = colors.named_in(text)
    return tuple(name for name in named if not ("skin" in kinds and name[1] in COMPLEXIONS))


@functools.lru_cache(maxsize=1024)
def apart(codes: tuple[str, ...], named: tuple[tuple[str, str], ...]) -> float:
    """CIEDE2000 between the nearest code and the nearest named colour; 0 without."""
    if not named or not codes:
        return 0.0
    shades = np.concatenate([colors.shades(*name) for name in named])
    # A caption of thousands of codes is broken by its length.
    seen = colors.lab([colors.rgb_of(code) for code in codes[:1000]])
    return float(colors.difference(seen[:, None], shades).min())


CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (
    _number_of_pictures, _pairing, _pictures, _copies, _captions, _wording, _colors,
)  # fmt: skip
