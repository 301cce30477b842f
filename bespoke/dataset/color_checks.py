"""Checks of captions against their pictures: is each colour where the caption says it is?

None of these is an error: the run would train, on captions that say something else than was meant.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import FEATURES, Feature
from bespoke.findings import Finding, Severity, finding

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
    """One caption with its picture."""

    file: str
    features: list[Feature]
    grid: PixelGrid
    shuffled: bool

    @cached_property
    def coloured(self) -> list[Feature]:
        """What is in the picture and has hex codes: neither the palette nor the loose codes."""
        return [each for each in self.features if each.codes and each.kind in (*FEATURES, "other")]

    @cached_property
    def background(self) -> Feature | None:
        """The first tag that gives the background a hex; a later one may say it of another thing.

        The captions were put together from parts, and some have "… hoodie with grey background"
        again with the hoodie's hex.
        """
        return next((each for each in self.coloured if "background" in each.kinds), None)

    def warning(self, code: str, feature: Feature, message: str, **measured: object) -> Finding:
        return finding("warning", code, self.file, message, tag=feature.text, **measured)


def check_colours(collection: Collection) -> Iterator[Finding]:
    """Every check of CHECKS_OF_ONE, for each readable caption whose picture's art is known."""
    arts = {Path(name).stem: art for name, art in collection.art()}
    for name, text in collection.texts.items():
        art = arts.get(Path(name).stem)
        if art is None:
            continue
        case = Case(
            file=name,
            features=caption_text.features(caption_text.parse(text)),
            grid=PixelGrid(cells=art),
            shuffled=bool(collection.options.get("shuffle_caption")),
        )
        for check in CHECKS_OF_ONE:
            yield from check(case)


def _absent(case: Case) -> Iterator[Finding]:
    for feature in case.features:
        absent = [code for code in feature.codes if code not in case.grid.colours]
        if absent:
            code, there = absent[0], list(case.grid.colours)
            apart = colors.difference(_lab(there), _lab([code])[0])
            nearest, distance = there[int(apart.argmin())], round(float(apart.min()), 1)
            message = f"{code} is not in the picture; the nearest there is {nearest}"
            measured = {"hex": code, "nearest": nearest, "distance": distance}
            yield case.warning("colour_absent", feature, message, **measured)


def _lab(codes: Sequence[str]) -> NDArray[np.float64]:
    return colors.lab([colors.rgb_of(code) for code in codes])


def _background(case: Case) -> Iterator[Finding]:
    feature, border = case.background, case.grid.border
    most, cells = next(iter(border.items()))
    if feature is None or most in feature.codes:
        return
    every = sum(border.values())
    share = round(cells / every, 3)
    own = round(sum(border.get(code, 0) for code in feature.codes) / every, 3)
    message = (
        f"says that the background is {feature.codes[0]}, which is {own:.0%} of the border; "
        f"{share:.0%} of it is {most}"
    )
    measured = {"hex": feature.codes[0], "border": most, "share": share, "share_of_hex": own}
    yield case.warning("colour_background", feature, message, **measured)


def _background_unnamed(case: Case) -> Iterator[Finding]:
    """Without its hex codes, such a caption does not say what the background is like."""
    behind = [each for each in case.features if "background" in each.kinds]
    if behind and not any(colors.named_in(caption_text.HEX.sub(" ", each.text)) for each in behind):
        message = f"names no colour of the background in words: {behind[0].text[:60]!r}"
        yield case.warning("background_unnamed", behind[0], message)


def _shared(case: Case) -> Iterator[Finding]:
    users: dict[str, dict[str, Feature]] = defaultdict(dict)
    for feature in case.coloured:
        for code in feature.codes:
            users[code].setdefault(feature.kind, feature)
    background = case.background.codes if case.background else ()
    for code, by_kind in users.items():
        others = {k: feature for k, feature in by_kind.items() if "background" not in feature.kinds}
        first = next(iter(others.values() or by_kind.values()))
        behind = code in background and others
        kinds = ["background", *others] if behind else list(by_kind)
        named = f"{', '.join(kinds[:-1])} and {kinds[-1]}".capitalize()
        both = "both" if len(kinds) == 2 else "all"
        message = f"{named} {both} say {code}, so the model cannot learn them apart"
        measured = {"hex": code, "features": kinds}
        if behind:
            yield case.warning("colour_shared_background", first, message, **measured)
        elif len(kinds) > 1:
            yield case.warning("colour_shared", first, message, **measured)


def _only_background(case: Case) -> Iterator[Finding]:
    for feature in case.coloured:
        if "background" in feature.kinds:
            continue
        for code in feature.codes:
            cells = case.grid.colours.get(code, 0)
            if cells and code not in case.grid.figure:
                message = f"{code} of the {feature.kind} is only behind the figure ({cells} cells)"
                yield case.warning(
                    "colour_only_background", feature, message, hex=code, cells=cells
                )


def _words(case: Case) -> Iterator[Finding]:
    for each in case.coloured:
        named = painted(each.text, each.kinds)
        distance = apart(each.codes, named)
        if distance > colors.FAR:
            said = " or ".join(" ".join(filter(None, name)) for name in named)
            seen = colors.name_of(colors.rgb_of(each.codes[0]))
            message = f"says {said}, and {each.codes[0]} is {seen}"
            measured = {"hex": each.codes[0], "word": said, "distance": round(distance, 1)}
            yield case.warning("colour_word", each, message, seen=seen, **measured)


def painted(text: str, kinds: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The colours that a tag names, less the words that, said of skin, are no colour of paint."""
    named = colors.named_in(text)
    return tuple(name for name in named if not ("skin" in kinds and name[1] in COMPLEXIONS))


@functools.lru_cache(maxsize=1024)
def apart(codes: tuple[str, ...], named: tuple[tuple[str, str], ...]) -> float:
    """CIEDE2000 between the nearest of the codes and of the named colours; 0 without any named."""
    if not named:
        return 0.0
    shades = np.concatenate([colors.shades(*name) for name in named])
    return float(colors.difference(_lab(codes[:_MOST_CODES])[:, None], shades).min())


def _loose(case: Case) -> Iterator[Finding]:
    loose = [each for each in case.features if each.kind == "loose"]
    if loose:
        codes = [code for each in loose for code in each.codes]
        shown = ", ".join([*codes[:3], *(["…"] if len(codes) > 3 else [])])
        message = f"{len(codes)} hex codes belong to no feature: {shown}"
        tag = loose[0].text
        yield finding("note", "colour_loose", case.file, message, tag=tag, hex_codes=len(codes))


def _torn(case: Case) -> Iterator[Finding]:
    for each in case.features:
        if each.parts == 1:
            continue
        if each.kind != "palette":
            message = f"the commas in its parentheses make {each.parts} tags of the {each.kind}"
            severity: Severity = "warning" if case.shuffled else "note"
            yield finding(
                severity, "feature_torn", case.file, message, tag=each.text, parts=each.parts
            )
        elif case.shuffled:
            message = f"shuffling scatters the palette's {each.parts} tags over the caption"
            yield case.warning("palette_torn", each, message, parts=each.parts)


CHECKS_OF_ONE: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _absent, _background, _background_unnamed, _shared, _only_background, _words, _loose, _torn,
)  # fmt: skip

CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (check_colours,)
