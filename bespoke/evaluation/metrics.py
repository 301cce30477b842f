"""A picture and what was asked of it, to numbers: pure functions, each in one table.

`VERSION` goes with every measurement: two are compared only where it is the same. Where in a
portrait each feature lies was learnt from the 203 originals: regions.json.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.dataset.images import nearest_neighbour
from bespoke.evaluation.view import CELLS, GroundColour, PictureGrid, region, table
from bespoke.experiment import caption_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

VERSION = 2

BLACK = "the picture is black, as where the model gives NaN"
"""What float16 that overflows, or weights that diverged, end as."""

FEATURES = ("hair", "eyes", "lips", "skin", "clothing")
"""The features that have a region of their own; a beard and accessories lie anywhere."""

SAME, NEAR = 6.0, 15.0
"""CIEDE2000 to the asked hex up to which a colour is it (JPEG at quality 30 moves the originals'
grounds by 4.5 at most), and up to which it may be, if it is called by the hex's own name."""

WITHIN = 45.0
"""CIEDE2000 to the asked hex beyond which a shade of the word asked with it is another colour: of
#00ff00 it holds forest green (#228b22, 31), and not #0a4619 (61). A choice."""

COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))
"""Words that, said of skin, are no colour of paint."""


# --- What was asked -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One thing's colours: hex codes in small letters, and words as (modifier or "", word)."""

    codes: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    several: bool = False

    def __bool__(self) -> bool:
        return bool(self.codes or self.words)

    def as_json(self) -> dict[str, Any]:
        return {"hex": list(self.codes), "words": [" ".join(filter(None, w)) for w in self.words]}

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """CIEDE2000 of CIELAB `points` (n, 3) to the nearest hex; without one, to the words."""
        if self.codes:
            targets = colors.lab([colors.rgb_of(code) for code in self.codes])
        else:
            targets = np.concatenate([colors.shades(*word) for word in self.words])
        return np.asarray(colors.difference(points[:, None, :], targets).min(axis=1))

    def met_by(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a person would say of each of CIELAB `points` (n, 3) that it is what was asked.

        It is the hex (within SAME), or a shade of the word, or near the hex and not another colour.
        """
        if not self.codes:
            return colors.called(points, self.words)
        apart = self.distance(points)
        met = apart <= SAME
        # A hex alone is called by its own name.
        names = self.words or [("", self._name(code)) for code in self.codes]
        maybe = ~met & (apart <= (WITHIN if self.words else NEAR))
        met[maybe] = colors.called(points[maybe], names)
        return met

    @staticmethod
    def _name(code: str) -> str:
        return colors.name_of(colors.rgb_of(code)).removeprefix("light ").removeprefix("dark ")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prompt asks: the background's colours, and each other feature's by its kind."""

    background: Wanted = Wanted()
    features: Mapping[str, Wanted] = field(default_factory=dict)


_SEVERAL = re.compile(
    r"\bsplit|two.?tone|strip|check|brick|gradient|radial|multi|many|flag|half|halves|rainbow|"
    r"\b(?:to|and|with)\b"
)
_NOUNS = re.compile("|".join(caption_text.KINDS[kind] for kind in caption_text.FEATURES[1:]))
_BACKGROUND = re.compile(caption_text.KINDS["background"])


@functools.lru_cache(maxsize=256)
def read_prompt(prompt: str) -> Asked:
    """What `prompt` asks, read as a caption is; the trainer's escapes and options are put off.

    The first tag that gives the background a hex is its own, as in the checks of captions.
    """
    text = re.split(r"\s--[a-z]+\s", " ".join(prompt.split()))[0]
    text = re.sub(r"\\([()])", r"\1", text)
    tags = caption_text.features(caption_text.parse(text))
    grounds = [tag for tag in tags if "background" in tag.kinds]
    ground = next((tag for tag in grounds if tag.codes), grounds[0] if grounds else None)
    wanted: dict[str, Wanted] = {}
    for tag in tags:
        if tag is ground or tag.kind not in FEATURES:
            continue
        words = colors.named_in(caption_text.HEX.sub(" ", tag.text))
        if tag.kind == "skin":
            words = tuple(word for word in words if word[1] not in COMPLEXIONS)
        before = wanted.get(tag.kind, Wanted())
        wanted[tag.kind] = Wanted(codes=before.codes + tag.codes, words=before.words + words)
    return Asked(background=_wanted_ground(ground), features=wanted)


def _wanted_ground(tag: caption_text.Feature | None) -> Wanted:
    if tag is None:
        return Wanted()
    text = caption_text.HEX.sub(" ", tag.text.lower())
    place = _BACKGROUND.search(text)
    before, after = (text[: place.start()], text[place.end() :]) if place else (text, "")
    # "raspberry shirt dark green background": what is said of another thing is not the ground's.
    others = list(_NOUNS.finditer(before))
    other = _NOUNS.search(after)
    before = before[others[-1].end() :] if others else before
    after = after[: other.start()] if other else after
    clause = f"{before} , {after}"
    words = colors.named_in(clause)
    if tag.codes:
        # "hot pink background with green candlesticks (#05db73)": words that the hex is not called
        # by are of something else, unless all are.
        codes = colors.lab([colors.rgb_of(code) for code in tag.codes])
        words = tuple(w for w in words if colors.called(codes, [w]).any()) or words
    return Wanted(codes=tag.codes, words=words, several=bool(_SEVERAL.search(clause)))


# --- What is measured -----------------------------------------------------------------------------

PART, MOST, EXACT = 0.25, 0.5, 0.7
"""Shares of the ground that the asked colour must have: PART as one of several ("stripes"), else
MOST. Along the border the very hex needs but EXACT of what the largest other colour has: where an
original is half and half its caption names one."""

BLEEDING = 0.15
"""Share of the face's or hair's cells in the asked background's colour from which on it bleeds: 1
original in 107 has as much."""

PARTS = {"face": ("skin", "eyes", "lips"), "hair": ("hair",)}
"""What the background's colour may bleed into, and the features whose regions make it up."""

LEAST_CELLS = 3.0
"""Cells that must be left of a region, counted by how likely each is, to measure in it."""


def measure(picture: NDArray[np.uint8], wanted: Asked) -> dict[str, Any]:
    """Every metric of `picture`, uint8 of shape (height, width, 3) and any size, as JSON.

    What could not be measured has the verdict "unmeasured" and a `reason`; of a picture that is
    nothing but black that is everything.

    Raises:
        ValueError: where `picture` is no such array, or empty.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(f"a picture of shape {picture.shape} and {picture.dtype} is not RGB")
    if picture.any():
        grid = PictureGrid(pixels=picture)
        numbers = {name: metric(grid, wanted) for name, metric in METRICS.items()}
    else:
        numbers = {name: _unmeasured(BLACK) for name in METRICS}
        numbers["background"]["asked"] = wanted.background.as_json()
        numbers["features"] = {kind: _unmeasured(BLACK) for kind in wanted.features}
    return {"version": VERSION, "size": [picture.shape[1], picture.shape[0]], **numbers}


def background(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """The ground's colour beside the asked one: verdict, colour, name, delta_e, and all colours.

    It is the asked one where the colours that are as asked make up enough of the ground: PART.
    Measured: 195 of the 196 originals whose background's hex is their border's have it; 32,361 of
    the 32,588 pairs of an original and another's hex, 20 or more from its own, do not match.
    """
    every, ground = grid.ground_colours, wanted.background
    shown: dict[str, Any] = {
        "colour": None,
        "name": None,
        "delta_e": None,
        "asked": ground.as_json(),
        "share": None,
        "colours": [{"colour": _hex(own.rgb), "share": round(own.share, 2)} for own in every],
    }
    if not every:
        return {**_unmeasured("no colour stands out where the ground should be"), **shown}
    if not ground:
        reason = _unmeasured("the prompt asks no background colour")
        return {**reason, **shown, **_described(every[0], None)}
    labs = np.array([own.lab for own in every])
    shares, borders = (
        np.array([getattr(own, key) for own in every]) for key in ("share", "border")
    )
    met = ground.met_by(labs)
    exact = ground.distance(labs) <= SAME if ground.codes else np.zeros_like(met)
    share, most = shares[met].sum(), shares[~met].max(initial=0)
    match = bool(met.any()) and (
        (ground.several and share >= PART)
        or (share >= MOST and share > most)
        or borders[exact].sum() >= max(PART, EXACT * borders[~met].max(initial=0))
    )
    # The largest that is right, or else wrong.
    shown |= _described(every[int(np.argmax(met == match))], ground)
    verdict = "match" if match else "mismatch"
    return {"verdict": verdict, **shown, "share": round(float(share), 2)}


def _described(own: GroundColour, ground: Wanted | None) -> dict[str, Any]:
    apart = None if ground is None else round(float(ground.distance(own.lab[None])[0]), 1)
    return {"colour": _hex(own.rgb), "name": colors.name_of(_bytes(own.rgb)), "delta_e": apart}


def features(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """Each asked feature's colour in its own region: verdict, colour, name, delta_e."""
    if grid.cell_size < 1:
        return {kind: _unmeasured("smaller than 24x24") for kind in wanted.features}
    return {kind: _feature(grid, wanted, kind) for kind in wanted.features}


def _feature(grid: PictureGrid, wanted: Asked, kind: str) -> dict[str, Any]:
    own = _own_colours(wanted, kind)
    if not wanted.features[kind]:
        return _unmeasured("the prompt asks no colour of it")
    if not own:
        return _unmeasured("its colour is asked of another thing too: which has it is not to tell")
    likely = region(kind) * ~grid.ground
    if likely.sum() < LEAST_CELLS:
        return _unmeasured("the ground's colours fill its region")
    where = likely > 0
    points, likely = grid.lab[where], likely[where]
    apart = own.distance(points)
    order = np.argsort(apart)
    reached = np.cumsum(likely[order]) / likely.sum()
    # What a feature takes of its region at the least; the middle of that part stands for it.
    nearest = order[int(np.searchsorted(reached, table()["shares"][kind] / 2))]
    match = bool(own.met_by(points[nearest][None])[0])
    shown = nearest if match else _commonest(points, likely)
    rgb = grid.cells[where][shown]
    return {
        "verdict": "match" if match else "mismatch",
        "colour": _hex(rgb),
        "name": colors.name_of(_bytes(rgb)),
        "delta_e": round(float(apart[nearest]), 1),
        "asked": own.as_json(),
    }


def _own_colours(wanted: Asked, kind: str) -> Wanted:
    """What is asked of `kind` without the hex codes that are asked of another thing too.

    In 167 of the 203 captions the background's hex is another feature's as well.
    """
    own = wanted.features[kind]
    others = [other for name, other in wanted.features.items() if name != kind]
    taken = {code for other in (wanted.background, *others) for code in other.codes}
    left = tuple(code for code in own.codes if code not in taken)
    return Wanted(codes=left, words=own.words if left or not own.codes else ())


def _commonest(points: NDArray[np.float64], likely: NDArray[np.float64]) -> int:
    """The place of a colour that most of the weight is like, to 8 steps of CIELAB."""
    boxes = np.unique(np.rint(points / 8), axis=0, return_inverse=True)[1].ravel()
    return int((boxes == np.bincount(boxes, weights=likely).argmax()).argmax())


def bleeding(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """Shares of the face and of the hair that have the asked background's colour."""
    if not wanted.background:
        return _unmeasured("the prompt asks no background colour")
    if grid.cell_size < 1:
        return _unmeasured("smaller than 24x24")
    parts: dict[str, Any] = {}
    for part, kinds in PARTS.items():
        where = (np.max([region(kind) for kind in kinds], axis=0) >= 0.5) & ~grid.ground
        if _shares_colour(wanted, kinds):
            parts[part] = _unmeasured(f"the {part} is asked in the background's colour")
        elif where.sum() < LEAST_CELLS:
            parts[part] = _unmeasured("the ground's colours fill its region")
        else:
            # Noise has hundreds of colours: those alike to 3 steps are judged as one.
            places, own = np.unique(np.rint(grid.lab[where] / 3), axis=0, return_inverse=True)
            share = float(wanted.background.met_by(3 * places)[own.ravel()].mean())
            parts[part] = {"verdict": "bleeding" if share >= BLEEDING else "clean", **_value(share)}
    verdicts = {part["verdict"] for part in parts.values()}
    worst = next(each for each in ("bleeding", "unmeasured", "clean") if each in verdicts)
    return {"verdict": worst, **parts}


def _shares_colour(wanted: Asked, kinds: tuple[str, ...]) -> bool:
    """Whether one of `kinds` is asked in what would pass for the background's colour."""
    codes: list[str] = []
    for kind in kinds:
        own = wanted.features.get(kind, Wanted())
        codes += own.codes or [colors.WORDS[word][0] for _, word in own.words]
    points = colors.lab([colors.rgb_of(code) for code in codes] or np.empty((0, 3)))
    return bool(wanted.background.met_by(points).any())


def cells(grid: PictureGrid, _: Asked) -> dict[str, Any]:
    """Mean distance of the pixels from their own cell's colour, of 255."""
    if grid.cell_size < 2:
        return _unmeasured("a cell is not two pixels wide")
    rows, columns = (nearest_neighbour(side, CELLS)[0] for side in grid.pixels.shape[:2])
    own = np.rint(grid.cells).astype(np.uint8).take(columns, 1).take(rows, 0)
    return _value(float(_unlike(grid.pixels, own).mean()))


def palette(grid: PictureGrid, _: Asked) -> dict[str, Any]:
    """The number of colours of the cells, those alike (4 steps of CIELAB) counted as one."""
    if grid.cell_size < 1:
        return _unmeasured("smaller than 24x24")
    return _value(float(len(np.unique(np.rint(grid.lab.reshape(-1, 3) / 4), axis=0))))


def edges(grid: PictureGrid, _: Asked) -> dict[str, Any]:
    """Of all steps from pixel to pixel, the share that lies where two cells meet: 1 in the art."""
    if grid.cell_size < 2:
        return _unmeasured("a cell is not two pixels wide")
    on_grid = total = 0.0
    for pixels in (grid.pixels, grid.pixels.swapaxes(0, 1)):
        # Every third line tells the same as all of them.
        lines = np.ascontiguousarray(pixels[::3])
        steps = _unlike(lines[:, 1:], lines[:, :-1]).sum(axis=0, dtype=np.uint32).sum(axis=1)
        on_grid += float(steps[np.diff(nearest_neighbour(pixels.shape[1], CELLS)[0]) > 0].sum())
        total += float(steps.sum())
    return _value(on_grid / total) if total else _unmeasured("it is one colour all over")


def _unlike(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The absolute difference, in bytes: a fifth of the time of wider numbers."""
    return np.maximum(first, second) - np.minimum(first, second)


METRICS: dict[str, Callable[[PictureGrid, Asked], dict[str, Any]]] = {
    "background": background,
    "features": features,
    "bleeding": bleeding,
    "cells": cells,
    "palette": palette,
    "edges": edges,
}
"""Every metric by the name that its result has."""


def _value(value: float) -> dict[str, Any]:
    return {"value": round(value, 3)}


def _unmeasured(reason: str) -> dict[str, Any]:
    return {"verdict": "unmeasured", "reason": reason}


def _bytes(rgb: NDArray[np.float64]) -> list[int]:
    return [round(float(value)) for value in rgb]


def _hex(rgb: NDArray[np.float64]) -> str:
    return colors.hex_of(_bytes(rgb))
