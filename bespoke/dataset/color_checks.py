"""Checks of captions against their pictures: is each colour where it should be? Never errors."""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import FEATURES, Feature
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bespoke.dataset.loading import Collection

COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))
"""Words that, said of skin, are no colour of paint."""

NEAR = 15.0
"""CIEDE2000 within which some cell must be like a colour word without a hex: the furthest of the
137 such tags of the 203 lies at 13. A word changed at random lies beyond in 94 of 100 backgrounds,
and in 22 of 100 tags of a figure, which has many colours."""


def check_colors(collection: Collection) -> Iterator[Finding]:
    """What is said of each readable caption whose picture's art is known."""
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
        if apart(tuple(sorted(there)), named) > NEAR:
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
