"""Checks of captions against their pictures: is each colour where the caption says it is?

None of these is an error: the run would train, on captions that say something else than was meant.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import FEATURES, Feature
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from bespoke.dataset.folder import Collection

COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))
"""Words that, said of skin, are no colour of paint."""

# Codes of one feature that are looked at: a caption of thousands is broken by its length.
_MOST_CODES = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """One caption with its picture. `colored` is what is in the picture and has hex codes: neither
    the palette nor the loose codes."""

    file: str
    features: list[Feature]
    colored: list[Feature]
    grid: PixelGrid
    shuffled: bool

    @property
    def background(self) -> Feature | None:
        """The first tag that gives the background a hex; a later one, as in "… hoodie with grey
        background", may say another thing's."""
        return next((each for each in self.colored if "background" in each.kinds), None)

    def warning(self, code: str, feature: Feature, message: str, **measured: object) -> Finding:
        return finding("warning", code, self.file, message, tag=feature.text, **measured)


def check_colors(collection: Collection) -> Iterator[Finding]:
    """Every check of CHECKS, for each readable caption whose picture's art is known."""
    arts = {Path(name).stem: art for name, art in collection.arts.items()}
    for name, text in collection.texts.items():
        stem = Path(name).stem
        if stem not in arts:
            continue
        features = caption_text.features(text)
        case = Case(
            file=name,
            features=features,
            colored=[each for each in features if each.codes and in_picture(each)],
            grid=PixelGrid(cells=arts[stem]),
            shuffled=collection.shuffled,
        )
        for check in CHECKS:
            yield from check(case)


def in_picture(feature: Feature) -> bool:
    return feature.kind in (*FEATURES, "other")


def _absent(case: Case) -> Iterator[Finding]:
    for feature in case.features:
        absent = [code for code in feature.codes if code not in case.grid.colours]
        if absent:
            there = list(case.grid.colours)
            nearest = there[int(colors.difference(_lab(there), _lab(absent[:1])[0]).argmin())]
            message = f"{absent[0]} is not in the picture; the nearest there is {nearest}"
            yield case.warning("colour_absent", feature, message, hex=absent[0], nearest=nearest)


def _lab(codes: Sequence[str]) -> NDArray[np.float64]:
    return colors.lab([colors.rgb_of(code) for code in codes])


def _background(case: Case) -> Iterator[Finding]:
    feature, border = case.background, case.grid.border
    most = next(iter(border))
    if feature is not None and most not in feature.codes:
        share = border[most] / sum(border.values())
        message = (
            f"says that the background is {feature.codes[0]}; {share:.0%} of the border is {most}"
        )
        yield case.warning("colour_background", feature, message, border=most)


def _background_unnamed(case: Case) -> Iterator[Finding]:
    """Without its hex codes, such a caption does not say what the background is like."""
    behind = [each for each in case.features if "background" in each.kinds]
    if behind and not any(colors.named_in(caption_text.HEX.sub(" ", each.text)) for each in behind):
        message = f"names no colour of the background in words: {behind[0].text[:60]!r}"
        yield case.warning("background_unnamed", behind[0], message)


def _shared(case: Case) -> Iterator[Finding]:
    users: dict[str, dict[str, Feature]] = defaultdict(dict)
    for feature in case.colored:
        for code in feature.codes:
            users[code].setdefault(feature.kind, feature)
    background = case.background.codes if case.background else ()
    for code, by_kind in users.items():
        others = {k: feature for k, feature in by_kind.items() if "background" not in feature.kinds}
        behind = code in background and others
        kinds = ["background", *others] if behind else list(by_kind)
        if len(kinds) < 2:
            continue
        named = f"{', '.join(kinds[:-1])} and {kinds[-1]}".capitalize()
        both = "both" if len(kinds) == 2 else "all"
        message = f"{named} {both} say {code}, so the model cannot learn them apart"
        first = next(iter(others.values() or by_kind.values()))
        if behind:
            yield case.warning("colour_shared_background", first, message, features=kinds)
        else:
            yield case.warning("colour_shared", first, message, features=kinds)


def _only_background(case: Case) -> Iterator[Finding]:
    for feature in case.colored:
        for code in () if "background" in feature.kinds else feature.codes:
            if code in case.grid.colours and code not in case.grid.figure:
                message = f"{code} of the {feature.kind} is only behind the figure"
                yield case.warning("colour_only_background", feature, message, hex=code)


def _words(case: Case) -> Iterator[Finding]:
    for each in case.colored:
        named = painted(each.text, each.kinds)
        if apart(each.codes, named) > colors.FAR:
            words = " or ".join(" ".join(filter(None, name)) for name in named)
            seen = colors.name_of(colors.rgb_of(each.codes[0]))
            message = f"says {words}, and {each.codes[0]} is {seen}"
            yield case.warning("colour_word", each, message, hex=each.codes[0], seen=seen)


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
    return float(colors.difference(_lab(codes[:_MOST_CODES])[:, None], shades).min())


def _loose(case: Case) -> Iterator[Finding]:
    loose = [each for each in case.features if each.kind == "loose"]
    if loose:
        codes = [code for each in loose for code in each.codes]
        message = f"{len(codes)} hex codes belong to no feature: {', '.join(codes[:3])}"
        yield finding("note", "colour_loose", case.file, message, tag=loose[0].text)


def _torn(case: Case) -> Iterator[Finding]:
    for each in case.features if case.shuffled else ():
        if each.parts > 1 and each.kind == "palette":
            message = f"shuffling scatters the palette's {each.parts} tags over the caption"
            yield case.warning("palette_torn", each, message)
        elif each.parts > 1:
            message = f"the commas in its parentheses make {each.parts} tags of the {each.kind}"
            yield case.warning("feature_torn", each, message)


CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _absent, _background, _background_unnamed, _shared, _only_background, _words, _loose, _torn,
)  # fmt: skip
