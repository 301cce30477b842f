"""What a portrait's figure shows: the colours asked of it, what it wears, and what is unasked.

Where in a portrait each feature lies was learnt from the 203 originals: regions.json.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation import accessories
from bespoke.evaluation.asked import TONES, Asked, Wanted
from bespoke.evaluation.view import LIKELIHOOD, PictureGrid

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The share of a feature's region, without its outline, from which on it has the asked colour: of
# hair that takes in 87 in 100 originals with their own word, and keeps out 82 with another's.
ENOUGH = 0.3

# Lightness (CIELAB) below which a cell may be outline; this share of a region is more than that.
OUTLINE, MOST_OUTLINE = 12.0, 0.75
DARK = frozenset(("black", "charcoal"))

# Cells that must be left of a region, counted by how likely each is, to measure in it.
LEAST_CELLS = 1.0

# CIELAB a*, b* and chroma of skin: those of the originals' faces that are of no paint, and 5 more.
SKIN_A, SKIN_B, SKIN_CHROMA = (-3.0, 36.0), (-1.0, 50.0), 54.0

# Shares of the face that must be of a colour of skin, and that the background may not have.
NATURAL, SPILT = 0.5, 0.4

# How sure the model of glasses must be where none were asked: 5 of 150 originals without have it.
SURE = 0.8

# How sure a model must be of a face, if no glasses cover it: 202 originals have 0.25 and more, flat
# pictures, gradients, stripes and boxes 0.2 at most.
FACELESS = 0.2

_FACE = LIKELIHOOD["skin"] >= 0.5
_FACE[18:] = False


def read(grid: PictureGrid, wanted: Asked) -> dict[str, Any]:
    """`features` by what was asked, what is there `unasked`, and whether there is a `face`.

    Each has a verdict; of an accessory also its `probability`, and the `auc` it is told with.
    """
    seen = accessories.seen(grid)
    shown = {kind: _feature(grid, wanted, kind) for kind in wanted.features}
    worn = {name: _worn(grid, name, wanted.accessories[name], seen) for name in wanted.accessories}
    covered = worn.get("glasses", {}).get("verdict") == "match"
    face, _ = seen["face"]
    return {
        "features": shown | worn,
        "unasked": _unasked(grid, wanted, seen),
        "face": {"verdict": verdict(covered or face > FACELESS), "probability": face},
    }


def _feature(grid: PictureGrid, wanted: Asked, kind: str) -> dict[str, Any]:
    """A feature's colour in its region: verdict, share of it, colour, name, delta_e."""
    own = _own_colours(wanted, kind)
    if kind == "skin" and not own and wanted.skin:
        return _complexion(grid, wanted.skin)
    if not wanted.features[kind]:
        return unmeasured("the prompt asks no colour of it")
    if not own:
        return unmeasured("its colour is asked of another thing too: which has it is not to tell")
    if kind == "eyes" and "glasses" in wanted.accessories:
        return unmeasured("glasses are asked, which cover them")
    likely = LIKELIHOOD[kind] * ~grid.ground
    if not DARK & {word for _, word in own.words}:
        plain = likely * (grid.lab[..., 0] >= OUTLINE)
        likely = plain if plain.sum() > (1 - MOST_OUTLINE) * likely.sum() else likely
    if kind in ("eyes", "lips"):
        skin = np.median(grid.lab[13:17, 10:15].reshape(-1, 3), axis=0)
        likely = likely * (colors.difference(grid.lab, skin) > 10)
    if likely.sum() < LEAST_CELLS:
        return unmeasured("the colours of what is around it fill its region")
    where = likely > 0
    points, likely = grid.lab[where], likely[where]
    met = own.met_by(points)
    share = float(likely[met].sum() / likely.sum())
    match = share >= ENOUGH
    seen = _commonest(points, likely * met if match else likely)
    colour = shown(grid.cells[where][seen], own.distance(points[seen][None])[0])
    return {"verdict": verdict(match), "share": round(share, 2), **colour, "asked": own.as_json()}


def _own_colours(wanted: Asked, kind: str) -> Wanted:
    """What is asked of `kind` without the hex codes that are asked of another thing too.

    In 167 of the 203 captions the background's hex is another feature's as well.
    """
    own = wanted.features[kind]
    others = [other for name, other in wanted.features.items() if name != kind]
    taken = {code for other in (wanted.background, *others) for code in other.codes}
    return Wanted(codes=tuple(code for code in own.codes if code not in taken), words=own.words)


def _commonest(points: NDArray[np.float64], likely: NDArray[np.float64]) -> int:
    """The place of a colour that most of the weight is like, to 8 steps of CIELAB."""
    boxes = np.unique(np.rint(points / 8), axis=0, return_inverse=True)[1].ravel()
    return int((boxes == np.bincount(boxes, weights=likely).argmax()).argmax())


def _natural(lab: NDArray[np.float64]) -> NDArray[np.bool_]:
    a, b = lab[..., 1], lab[..., 2]
    usual = (a >= SKIN_A[0]) & (a <= SKIN_A[1]) & (b >= SKIN_B[0]) & (b <= SKIN_B[1])
    return np.asarray(usual & (np.hypot(a, b) <= SKIN_CHROMA))


def _complexion(grid: PictureGrid, tones: tuple[str, ...]) -> dict[str, Any]:
    """Whether the skin is as light as its words say; skin of another colour is none of that."""
    where = _FACE & _natural(grid.lab)
    if where.sum() < NATURAL * _FACE.sum():
        return unmeasured("the face is not of a colour of skin")
    colour = np.median(grid.cells[where], axis=0)
    lightness = float(colors.lab(colour)[0])
    least, most = min(TONES[tone][0] for tone in tones), max(TONES[tone][1] for tone in tones)
    asked = {"asked": {"hex": [], "words": list(dict.fromkeys(tones))}}
    return {"verdict": verdict(least <= lightness <= most), **shown(colour, None), **asked}


def _worn(
    grid: PictureGrid, name: str, own: Wanted, seen: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    """Whether an accessory is there, and in the colour that was asked."""
    probability, auc = seen[name]
    told = {"probability": probability, "auc": auc, "asked": own.as_json()}
    if auc < accessories.GOOD:
        return told | unmeasured(f"it is told right in only {auc:.0%} of pairs")
    if probability < 0.5:
        return told | {"verdict": "mismatch", "reason": "not seen"}
    place = accessories.PLACES[name]
    points = grid.lab[place][~grid.ground[place]]
    if own and own.met_by(points).sum() < 3:
        return told | {"verdict": "mismatch", "reason": "seen in another colour"}
    return told | {"verdict": "match"}


def _unasked(
    grid: PictureGrid, wanted: Asked, seen: dict[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
    """By what no one asked, whether it is seen: the background's colour over the figure, skin of a
    colour that no skin has, and what is worn."""
    found: dict[str, dict[str, Any]] = {}
    face = grid.lab[_FACE & (grid.lab[..., 0] > OUTLINE)]
    paint, ground = bool(wanted.features.get("skin")), wanted.background
    if len(face) and not paint:
        natural = _natural(face)
        found["coloured skin"] = _seen(1 - natural.mean(), 1 - NATURAL)
        if ground:
            found["background over the face"] = _seen(
                (ground.met_by(face) & ~natural).mean(), SPILT
            )
    hair = (LIKELIHOOD["hair"] > 0.5) & ~grid.ground & (grid.lab[..., 0] > OUTLINE)
    if ground and not wanted.features.get("hair") and hair.sum() >= LEAST_CELLS:
        found["background over the hair"] = _seen(ground.met_by(grid.lab[hair]).mean(), SPILT)
    if "glasses" not in wanted.accessories:
        found["glasses"] = _seen(seen["glasses"][0], SURE)
    return found


def _seen(value: float, least: float) -> dict[str, Any]:
    return {"verdict": "seen" if value >= least else "none", "value": round(float(value), 3)}


def unmeasured(reason: str) -> dict[str, Any]:
    return {"verdict": "unmeasured", "reason": reason}


def verdict(match: bool) -> str:
    return "match" if match else "mismatch"


def shown(rgb: NDArray[np.float64], apart: float | None) -> dict[str, Any]:
    """A colour by its hex and its name, and how far (CIEDE2000) it is from the asked one."""
    whole = [round(float(value)) for value in rgb]
    delta_e = None if apart is None else round(float(apart), 1)
    return {"colour": colors.hex_of(whole), "name": colors.name_of(whole), "delta_e": delta_e}
