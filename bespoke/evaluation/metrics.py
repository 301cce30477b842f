"""A picture and what was asked of it, to numbers: pure functions, each in one table.

`VERSION` goes with every measurement: two are compared only where it is the same. Where in a
portrait each feature lies was learnt from the 203 originals: regions.json.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation import likeness
from bespoke.evaluation.view import CELLS, LIKELIHOOD, SHARES, PictureGrid
from bespoke.experiment import caption_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from bespoke.evaluation.likeness import Likeness

VERSION = 3

# What float16 that overflows, or weights that diverged, end as.
BLACK = "the picture is black, as where the model gives NaN"

# Those that have a region of their own; a beard and accessories lie anywhere.
FEATURES = ("hair", "eyes", "lips", "skin", "clothing")

# CIEDE2000 to the asked hex up to which a colour is it (JPEG at quality 30 moves the originals'
# grounds by 4.5 at most), and up to which it may be, if it is called by the hex's own name.
SAME, NEAR = 6.0, 15.0

# CIEDE2000 to the asked hex beyond which a shade of the word asked with it is another colour: of
# #00ff00 it holds forest green (#228b22, 31), and not #0a4619 (61). A choice.
WITHIN = 45.0

# Words that, said of skin, are no colour of paint.
COMPLEXIONS = frozenset(("black", "white", "olive", "yellow", "red"))


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
        maybe = ~met & (apart <= (WITHIN if self.words else NEAR))
        # A hex alone is called by its own name.
        names = [colors.name_of(colors.rgb_of(code)) for code in self.codes]
        plain = [("", name.removeprefix("light ").removeprefix("dark ")) for name in names]
        met[maybe] = colors.called(points[maybe], self.words or plain)
        return met


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


def read_prompt(prompt: str) -> Asked:
    """What `prompt` asks, read as a caption is.

    The first tag that gives the background a hex is its own, as in the checks of captions.
    """
    tags = caption_text.features(caption_text.parse(prompt))
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
    before, *after = _BACKGROUND.split(text, maxsplit=1)
    # "raspberry shirt dark green background": what is said of another thing is not the ground's.
    clause = f"{_NOUNS.split(before)[-1]} , {_NOUNS.split(' '.join(after))[0]}"
    words = colors.named_in(clause)
    if tag.codes:
        # "hot pink background with green candlesticks (#05db73)": words that the hex is not called
        # by are of something else, unless all are.
        codes = colors.lab([colors.rgb_of(code) for code in tag.codes])
        words = tuple(w for w in words if colors.called(codes, [w]).any()) or words
    return Wanted(codes=tag.codes, words=words, several=bool(_SEVERAL.search(clause)))


# Shares of the ground that the asked colour must have: PART as one of several ("stripes"), else
# MOST. Along the border the very hex needs but EXACT of what the largest other colour has: where an
# original is half and half its caption names one.
PART, MOST, EXACT = 0.25, 0.5, 0.7

# Cells that must be left of a region, counted by how likely each is, to measure in it.
LEAST_CELLS = 3.0


def measure(
    picture: NDArray[np.uint8], wanted: Asked, like: Likeness | None = None
) -> dict[str, Any]:
    """Every metric of `picture`, uint8 of shape (height, width, 3) and any size, as JSON.

    It is compared with the pictures that `like` was learnt from, or with the 203. What could not be
    measured has the verdict "unmeasured" and a `reason`, never a number.
    """
    if picture.any():
        grid = PictureGrid(pixels=picture)
        numbers = {name: metric(grid, wanted) for name, metric in METRICS.items()}
        numbers["likeness"] = (like or likeness.read()).parts(grid.lab)
    else:
        numbers = {name: _unmeasured(BLACK) for name in METRICS} | {"likeness": {}}
        numbers["background"]["asked"] = wanted.background.as_json()
        numbers["features"] = {kind: _unmeasured(BLACK) for kind in wanted.features}
    return {"version": VERSION, **numbers}


def background(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """The ground's colour compared with the asked one: verdict, colour, name, delta_e.

    It is right for 195 of the 196 originals whose background's hex is their border's, and wrong for
    32,361 of the 32,588 pairs of an original and another's hex, 20 or more from its own.
    """
    every, ground = grid.ground_colours, wanted.background
    asked = {"asked": ground.as_json()}
    if not every:
        return asked | _unmeasured("no colour stands out where the ground should be")
    if not ground:
        shown = _shown(every[0].rgb, None)
        return asked | shown | _unmeasured("the prompt asks no background colour")
    labs, shares, borders = (
        np.array([getattr(own, key) for own in every]) for key in ("lab", "share", "border")
    )
    met, apart = ground.met_by(labs), ground.distance(labs)
    exact = apart <= SAME if ground.codes else np.zeros_like(met)
    share, most = shares[met].sum(), shares[~met].max(initial=0)
    match = bool(met.any()) and (
        (ground.several and share >= PART)
        or (share >= MOST and share > most)
        or borders[exact].sum() >= max(PART, EXACT * borders[~met].max(initial=0))
    )
    # The largest that is right, or else wrong.
    largest = int(np.argmax(met == match))
    return {"verdict": _verdict(match), **asked, **_shown(every[largest].rgb, apart[largest])}


def features(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """Each asked feature's colour in its own region: verdict, colour, name, delta_e."""
    return {kind: _feature(grid, wanted, kind) for kind in wanted.features}


def _feature(grid: PictureGrid, wanted: Asked, kind: str) -> dict[str, Any]:
    own = _own_colours(wanted, kind)
    if not wanted.features[kind]:
        return _unmeasured("the prompt asks no colour of it")
    if not own:
        return _unmeasured("its colour is asked of another thing too: which has it is not to tell")
    likely = LIKELIHOOD[kind] * ~grid.ground
    if likely.sum() < LEAST_CELLS:
        return _unmeasured("the ground's colours fill its region")
    where = likely > 0
    points, likely = grid.lab[where], likely[where]
    apart = own.distance(points)
    order = np.argsort(apart)
    reached = np.cumsum(likely[order]) / likely.sum()
    # What a feature takes of its region at the least; the middle of that part stands for it.
    nearest = order[int(np.searchsorted(reached, SHARES[kind] / 2))]
    match = bool(own.met_by(points[nearest][None])[0])
    seen = nearest if match else _commonest(points, likely)
    shown = _shown(grid.cells[where][seen], apart[nearest])
    return {"verdict": _verdict(match), **shown, "asked": own.as_json()}


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


# Levels from which on a step between pixels is seen, and the share of such steps that must lie on
# the grid: the 203 have all there, generated pictures 0.78 or more, what is off it 0.4 at most.
VISIBLE, ON_GRID = 6, 0.55


def grid(grid: PictureGrid, _: Asked) -> dict[str, Any]:
    """Whether the picture is art of 24x24 cells, and what it is instead.

    `value` is the share of the steps from pixel to pixel that lies where two cells meet, `sharp`
    the share on lines of the picture's own. A pixel off still counts; what is not VISIBLE does not.
    """
    if grid.cell_size < 2:
        return _unmeasured("a cell is not two pixels wide")
    on_grid = sharp = total = 0.0
    gaps: list[int] = []
    for pixels in (grid.pixels, grid.pixels.swapaxes(0, 1)):
        profile = _steps(np.ascontiguousarray(pixels[::3])).sum(axis=0, dtype=np.int64)
        cells = np.arange(1, CELLS) * (len(profile) + 1) / CELLS
        lines = _lines(profile)
        on_grid += _beside(profile, np.rint(cells).astype(np.intp) - 1)
        sharp += _beside(profile, lines)
        total += float(profile.sum())
        gaps += np.diff(lines).tolist()
    if not total:
        return _unmeasured("it is one colour all over")
    shares = {"value": round(on_grid / total, 3), "sharp": round(sharp / total, 3)}
    if shares["value"] >= ON_GRID:
        return {"verdict": "match", **shares}
    reason = "smooth or noisy: it has no hard edges"
    if shares["sharp"] >= ON_GRID and gaps:
        usual = int(np.convolve(np.bincount(gaps), (1, 1, 1), "same").argmax())
        near = [gap for gap in gaps if abs(gap - usual) <= 1]
        reason = (
            f"cells are about {np.mean(near):.0f} px, grid {CELLS} expected {grid.cell_size:.1f}"
        )
        if len(near) < 0.3 * len(gaps):
            reason = "its edges lie on no even grid"
    return {"verdict": "mismatch", **shares, "reason": reason}


def _steps(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """From each pixel to the next in its row, what can be seen of the largest channel's step.

    Bytes take a fifth of the time of wider numbers.
    """
    one, other = pixels[:, 1:], pixels[:, :-1]
    steps = (np.maximum(one, other) - np.minimum(one, other)).max(axis=2)
    return np.where(steps >= VISIBLE, steps, np.uint8(0))


def _lines(profile: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where the steps stand out from those of three pixels on either side."""
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(profile, 3), 7).max(axis=1)
    strong = profile > max(0.02 * profile.max(initial=0), 1.5 * profile.mean())
    return np.flatnonzero((profile == nearby) & strong)


def _beside(profile: NDArray[np.int64], lines: NDArray[np.intp]) -> float:
    """The steps at `lines`, and one pixel on either side."""
    places = np.unique((lines[:, None] + (-1, 0, 1)).clip(0, len(profile) - 1))
    return float(profile[places].sum())


# Every metric by the name that its result has.
METRICS: dict[str, Callable[[PictureGrid, Asked], dict[str, Any]]] = {
    "background": background,
    "features": features,
    "grid": grid,
}


def _unmeasured(reason: str) -> dict[str, Any]:
    return {"verdict": "unmeasured", "reason": reason}


def _verdict(match: bool) -> str:
    return "match" if match else "mismatch"


def _shown(rgb: NDArray[np.float64], apart: float | None) -> dict[str, Any]:
    """A colour by its hex and its name, and how far (CIEDE2000) it is from the asked one."""
    whole = [round(float(value)) for value in rgb]
    delta_e = None if apart is None else round(float(apart), 1)
    return {"colour": colors.hex_of(whole), "name": colors.name_of(whole), "delta_e": delta_e}
