"""Checks of captions against their pictures: is each colour where the caption says it is?

None of these is an error: the run would train, on captions that say something else than was meant.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import captions
from bespoke.canvas import Canvas, canvas_of
from bespoke.captions import FEATURES, Feature
from bespoke.findings import Finding, Severity, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bespoke.contents import Contents

COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))
"""Words that, said of skin, are no colour of paint."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One caption beside its picture."""

    file: str
    features: list[Feature]
    canvas: Canvas
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

    def found(
        self, severity: Severity, code: str, feature: Feature, message: str, **measured: object
    ) -> Finding:
        return finding(severity, code, self.file, message, tag=feature.text, **measured)


def check_colours(contents: Contents) -> Iterator[Finding]:
    """Every check of CHECKS_OF_ONE, for each readable caption whose picture's art is known."""
    arts = {Path(name).stem: art for name, art in contents.art()}
    for name, text in contents.captions.items():
        art = arts.get(Path(name).stem)
        if art is None:
            continue
        case = Case(
            file=name,
            features=captions.features(captions.parse(text)),
            canvas=canvas_of(art),
            shuffled=contents.shuffled,
        )
        for check in CHECKS_OF_ONE:
            yield from check(case)


def _absent(case: Case) -> Iterator[Finding]:
    for feature in case.features:
        for code in dict.fromkeys(feature.codes):
            if code not in case.canvas.cells:
                nearest, distance = _nearest(code, list(case.canvas.cells))
                message = f"{code} is not in the picture; the nearest there is {nearest}"
                measured = {"hex": code, "nearest": nearest, "distance": distance}
                yield case.found("warning", "colour_absent", feature, message, **measured)


def _nearest(code: str, others: list[str]) -> tuple[str, float]:
    from bespoke import colours

    points = colours.lab([colours.rgb_of(other) for other in others])
    distances = colours.difference(points, colours.lab(colours.rgb_of(code)))
    return others[int(distances.argmin())], round(float(distances.min()), 1)


def _background(case: Case) -> Iterator[Finding]:
    feature, border = case.background, case.canvas.border
    most, cells = next(iter(border.items()))
    if feature is None or most in feature.codes:
        return
    every = sum(border.values())
    share = round(cells / every, 3)
    own = round(sum(border.get(code, 0) for code in set(feature.codes)) / every, 3)
    message = (
        f"the background is said to be {feature.codes[0]}, which {own:.0%} of the border is; "
        f"{share:.0%} of it is {most}"
    )
    measured = {"hex": feature.codes[0], "border": most, "share": share, "share_of_hex": own}
    yield case.found("warning", "colour_background", feature, message, **measured)


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
        named = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
        message = f"{code} is given to {named}: the words are taught one colour"
        told = {"hex": code, "features": kinds}
        if behind:
            yield case.found("warning", "colour_shared_background", first, message, **told)
        elif len(kinds) > 1:
            yield case.found("warning", "colour_shared", first, message, **told)


def _only_background(case: Case) -> Iterator[Finding]:
    for feature in case.coloured:
        if "background" in feature.kinds:
            continue
        for code in dict.fromkeys(feature.codes):
            cells = case.canvas.cells.get(code, 0).bit_count()
            if cells and not case.canvas.outside_ground(code):
                message = f"{code} of the {feature.kind} is only behind the figure ({cells} cells)"
                measured = {"hex": code, "cells": cells, "outside": 0}
                yield case.found("warning", "colour_only_background", feature, message, **measured)


def _words(case: Case) -> Iterator[Finding]:
    import numpy as np

    from bespoke import colours

    judged = [(each, named) for each in case.coloured if (named := painted(each.text, each.kinds))]
    if not judged:
        return
    pairs = [
        (code, colours.shades(*name)) for each, named in judged for code in each.codes
        for name in named
    ]  # fmt: skip
    own = colours.lab([colours.rgb_of(code) for code, _ in pairs])
    sizes = [len(points) for _, points in pairs]
    apart = colours.difference(
        np.concatenate([points for _, points in pairs]), np.repeat(own, sizes, axis=0)
    )
    starts = np.cumsum([0, *(len(each.codes) * len(named) for each, named in judged)])[:-1]
    of_pair = np.minimum.reduceat(apart, np.cumsum([0, *sizes])[:-1])
    for (each, named), distance in zip(judged, np.minimum.reduceat(of_pair, starts), strict=True):
        if distance > colours.FAR:
            said = " or ".join(" ".join(filter(None, name)) for name in named)
            seen = colours.name_of(colours.rgb_of(each.codes[0]))
            message = f"says {said}, and {each.codes[0]} is {seen}"
            measured = {"hex": each.codes[0], "word": said, "distance": round(float(distance), 1)}
            yield case.found("warning", "colour_word", each, message, seen=seen, **measured)


def painted(text: str, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """The colours that a tag names, less the words that, said of skin, are no colour of paint."""
    from bespoke import colours

    named = colours.named_in(text)
    return [name for name in named if not ("skin" in kinds and name[1] in COMPLEXIONS)]


def _loose(case: Case) -> Iterator[Finding]:
    loose = [each for each in case.features if each.kind == "loose"]
    if loose:
        codes = [code for each in loose for code in each.codes]
        shown = ", ".join([*codes[:3], *(["…"] if len(codes) > 3 else [])])
        message = f"{len(codes)} hex codes belong to no feature: {shown}"
        yield case.found("note", "colour_loose", loose[0], message, hex_codes=len(codes))


def _torn(case: Case) -> Iterator[Finding]:
    for feature in case.features:
        parts = feature.parts
        if parts == 1:
            continue
        if feature.kind != "palette":
            message = f"the commas in its parentheses make {parts} tags of the {feature.kind}"
            severity: Severity = "warning" if case.shuffled else "note"
            yield case.found(severity, "feature_torn", feature, message, parts=parts)
        elif case.shuffled:
            message = f"shuffling scatters the palette's {parts} tags over the caption"
            yield case.found("warning", "palette_torn", feature, message, parts=parts)


CHECKS_OF_ONE: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    _absent, _background, _shared, _only_background, _words, _loose, _torn,
)  # fmt: skip

CHECKS: tuple[Callable[[Contents], Iterator[Finding]], ...] = (check_colours,)
