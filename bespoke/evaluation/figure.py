"""What a prompt asks of a portrait, and what its figure shows of that and of what no one asked.

What is worn, and whether there is a face, is told by a linear model each over the 24x24 cells:
tools/learn_accessories.py learns them from the captions' words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation.view import LIKELIHOOD, REACH, PictureGrid
from bespoke.experiment import caption_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MODELS = Path(__file__).with_name("accessories.npz")
with np.load(MODELS, allow_pickle=False) as _arrays:
    _MODELS = dict(_arrays)

# The least AUC with which a model of an accessory is believed.
GOOD = 0.75

# The share of a feature's region from which on it has the asked colour; and the cells that must be
# left of the region, counted by how likely each is.
ENOUGH, LEAST_CELLS = 0.3, 1.0

# Lightness (CIELAB) below which a cell is outline, but where one of these is asked.
OUTLINE, DARK = 12.0, frozenset(("black", "charcoal"))

# The least and most CIELAB a* and b* of skin: of the originals' faces that are of no paint.
SKIN = ((-3.0, -1.0), (36.0, 50.0))

# Lightness (CIELAB) of skin by its word: of the originals that it is said of, from 5 to 95 in a
# hundred, and 8 more on either side.
TONES = {"light": (60.0, 100.0), "medium": (45.0, 87.0), "dark": (0.0, 68.0)}

# Shares of the face that must be of a colour of skin, and that the background may not have.
NATURAL, SPILT = 0.5, 0.4

# How sure the model of glasses must be where none were asked (5 of 150 originals without have it);
# and that of a face, if no glasses cover it: 202 originals have 0.25 and more, patterns 0.2; and
# the spreads from which on a face is like no mix of the collection's: originals left out have 1.3.
SURE, FACELESS, NO_FACE = 0.8, 0.2, 2.2

_FACE = LIKELIHOOD["skin"] >= 0.5
_FACE[18:] = False

# The words that ask for each accessory.
ACCESSORIES = {
    "crown": r"\bcrown|\btiara",
    "hat": r"\bhats?\b|\bcapp?s?\b|\bberet|\bbeanie",
    "bow": r"\bbow\b|headband|bandana|\bflower",
    "glasses": r"glasses|goggles?|\bshades\b(?! and| of)|\blenses",
    "earrings": r"\bearr?ings?",
    "beard": r"\bbeards?\b|stubble|mo?ustach|goatee|facial hair|soul patch",
    "necklace": r"necklaces?|\bchain\b|pendant",
    "smile": r"\bsmil",
}

# CIEDE2000 to the asked hex up to which a colour is it (JPEG at quality 30 moves the originals'
# grounds by 4.5 at most), where no word is asked with it, and as a shade of that word.
SAME, NEAR, WITHIN = 6.0, 12.0, 45.0

# Of skin, words of these families are a complexion and no paint.
COMPLEXIONS = frozenset(
    ["black", "white", "brown", "red", "yellow", "olive", "orange", "pink", "beige", "cream"]
)

# Words for how light skin is.
_TONES = re.compile(
    r"(?P<light>\b(?:light|pale|fair|white)\b)|(?P<dark>\b(?:dark|black)\b)|"
    r"(?P<medium>\b(?:medium|tan|olive|brown|indian|asian)\b)"
)

_DENIED = re.compile(r"\b(?:no|without)\s(?:\w+\s)?$")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One thing's colours: hex codes in small letters, and words as (modifier or "", word)."""

    codes: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()

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

    def margin(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much (CIEDE2000) a person would say of CIELAB `points` (n, 3) that it is that:
        from 0 on it is the hex, or a shade of the word within reach of the hex.
        """
        if not self.codes:
            return colors.margin(points, self.words)
        apart = self.distance(points)
        if not self.words:
            return np.asarray(NEAR - apart)
        shade = np.minimum(WITHIN - apart, colors.margin(points, self.words))
        return np.asarray(np.maximum(SAME - apart, shade))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prompt asks: colours, accessories by name, and of `skin` its TONES."""

    background: Wanted = Wanted()
    features: Mapping[str, Wanted] = field(default_factory=dict)
    accessories: tuple[str, ...] = ()
    skin: tuple[str, ...] = ()


def read_prompt(prompt: str) -> Asked:
    """What `prompt` asks, read as a caption is: the first tag that gives the background a hex is
    its own, and such a hex says nothing of another feature (it stands so in 167 of the 203).
    """
    tags = caption_text.features(prompt)
    grounds = [tag for tag in tags if "background" in tag.kinds]
    ground = next((tag for tag in grounds if tag.codes), grounds[0] if grounds else None)
    background = Wanted()
    if ground:
        background = Wanted(codes=ground.codes, words=colors.named_in(_text(ground)))
    wanted: dict[str, Wanted] = {}
    tones: tuple[str, ...] = ()
    for tag in tags:
        if tag is ground or tag.kind not in ("hair", "eyes", "skin"):
            continue
        words = colors.named_in(_text(tag))
        if tag.kind == "skin":
            tones += tuple(str(each.lastgroup) for each in _TONES.finditer(_text(tag)))
            words = tuple(w for w in words if colors.FAMILIES[w[1]].split()[0] not in COMPLEXIONS)
        codes = tuple(code for code in tag.codes if code not in background.codes)
        before = wanted.get(tag.kind, Wanted())
        wanted[tag.kind] = Wanted(codes=before.codes + codes, words=before.words + words)
    worn = accessories(prompt)
    return Asked(background=background, features=wanted, accessories=worn, skin=tones)


def accessories(prompt: str) -> tuple[str, ...]:
    """The accessories that `prompt` asks; one that is denied is not asked."""
    text = prompt.lower()
    return tuple(
        name
        for name, words in ACCESSORIES.items()
        if any(not _DENIED.search(text[: each.start()]) for each in re.finditer(words, text))
    )


def _text(tag: caption_text.Feature) -> str:
    return caption_text.HEX.sub(" ", tag.text.lower())


def read(grid: PictureGrid, wanted: Asked, unlike: float) -> dict[str, Any]:
    """`features` by what was asked, what is seen `unasked`, and whether there is a `face`, which
    is `unlike` the collection's by so many spreads.
    """
    seen = worn(grid)
    features = {kind: _feature(grid, wanted, kind) for kind in wanted.features}
    for name in wanted.accessories:
        chance, auc = seen[name]
        told = {"verdict": verdict(chance >= 0.5)}
        told = told if auc >= GOOD else unmeasured(f"it is told right in only {auc:.0%} of pairs")
        features[name] = {**told, "probability": chance, "auc": auc}
    covered = features.get("glasses", {}).get("verdict") == "match"
    face, _ = seen["face"]
    there = (covered or face > FACELESS) and unlike < NO_FACE
    return {
        "features": features,
        "unasked": _unasked(grid, wanted, seen["glasses"][0]),
        "face": {"verdict": verdict(there), "probability": face},
    }


def worn(grid: PictureGrid) -> dict[str, tuple[float, float]]:
    """By accessory, and "face", how likely it is there, and the model's AUC: how many of the pairs
    of a picture with it and one without it told right among originals left out of the learning.
    """
    logits = np.tensordot(_MODELS["weights"], planes(grid), axes=3) + _MODELS["biases"]
    sure = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    numbers = np.round([sure, _MODELS["aucs"]], 3).T.tolist()
    return dict(zip(_MODELS["names"].tolist(), map(tuple, numbers), strict=True))


def planes(grid: PictureGrid) -> NDArray[np.float64]:
    """What the models read, shape (3, 24, 24): lightness by that of the skin, and the steps in
    colour to the cell below and to the right, so that no colour of its own counts.
    """
    lab = grid.lab / (30, 20, 20)
    lighter = (lab[..., 0] - np.median(lab[13:17, 10:15, 0])) * ~grid.ground
    down = np.diff(lab, axis=0, append=lab[-1:])
    right = np.diff(lab, axis=1, append=lab[:, -1:])
    steps = (np.minimum(np.sqrt((step**2).sum(axis=-1)), 2) for step in (down, right))
    return np.stack([lighter, *steps])


def _feature(grid: PictureGrid, wanted: Asked, kind: str) -> dict[str, Any]:
    """A feature's colour in its region: verdict, share of it, colour, name, delta_e."""
    own = wanted.features[kind]
    if not own:
        if kind == "skin" and wanted.skin:
            return _complexion(grid, wanted.skin)
        return unmeasured("the prompt asks no colour of it")
    if kind == "eyes" and "glasses" in wanted.accessories:
        return unmeasured("glasses are asked, which cover them")
    likely = LIKELIHOOD[kind] * ~grid.ground
    if not DARK & {word for _, word in own.words}:
        plain = likely * (grid.lab[..., 0] >= OUTLINE)
        likely = plain if plain.sum() > likely.sum() / 4 else likely
    if likely.sum() < LEAST_CELLS:
        return unmeasured("the background fills its region")
    where = likely > 0
    points, likely = grid.lab[where], likely[where]
    met = own.margin(points) >= 0
    share = float(likely[met].sum() / likely.sum())
    match = share >= ENOUGH
    near = colors.difference(points[:, None], points) <= REACH
    seen = (near @ (likely * met if match else likely)).argmax()
    colour = shown(grid.cells[where][seen], own)
    return {"verdict": verdict(match), "share": round(share, 2), **colour, "asked": own.as_json()}


def _natural(lab: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of CIELAB `lab` are of a colour that skin has."""
    return np.asarray(((lab[..., 1:] >= SKIN[0]) & (lab[..., 1:] <= SKIN[1])).all(axis=-1))


def _complexion(grid: PictureGrid, tones: tuple[str, ...]) -> dict[str, Any]:
    """Whether the skin is of a colour that skin has, and as light as its words say."""
    natural = _FACE & _natural(grid.lab)
    sound = natural.sum() >= NATURAL * _FACE.sum()
    colour = np.median(grid.cells[natural if sound else _FACE], axis=0)
    least, most = np.array([TONES[tone] for tone in tones]).T
    match = bool(sound and least.min() <= colors.lab(colour)[0] <= most.max())
    asked = {"hex": [], "words": list(dict.fromkeys(tones))}
    return {"verdict": verdict(match), **shown(colour), "asked": asked}


def _unasked(grid: PictureGrid, wanted: Asked, glasses: float) -> dict[str, str]:
    """By what no one asked, "seen" or "none"."""
    seen = {}
    face = grid.lab[_FACE & (grid.lab[..., 0] > OUTLINE)]
    if wanted.background and len(face) and not wanted.features.get("skin"):
        spilt = (wanted.background.margin(face) >= 0) & ~_natural(face)
        seen["background over the face"] = spilt.mean() >= SPILT
    if len(face) and "skin" not in wanted.features:
        seen["coloured skin"] = _natural(face).mean() < NATURAL
    if "glasses" not in wanted.accessories:
        seen["unasked glasses"] = glasses >= SURE
    return {name: "seen" if there else "none" for name, there in seen.items()}


def unmeasured(reason: str) -> dict[str, Any]:
    return {"verdict": "unmeasured", "reason": reason}


def verdict(match: bool) -> str:
    return "match" if match else "mismatch"


def shown(rgb: NDArray[np.float64], wanted: Wanted | None = None) -> dict[str, Any]:
    """A colour by its hex and its name, and how far (CIEDE2000) it is from what is `wanted`."""
    whole = [round(float(value)) for value in rgb]
    apart = round(float(wanted.distance(colors.lab(rgb)[None])[0]), 1) if wanted else None
    return {"colour": colors.hex_of(whole), "name": colors.name_of(whole), "delta_e": apart}
