"""Scores 0 to 10 from metrics, and the verdict that the collection's owner gives by their mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# The owner's own bounds for the mean of the three scores; below the last it is "skip".
VERDICTS = ((8.0, "best"), (7.0, "good"), (5.0, "acceptable"))


Score = Annotated[int, Field(ge=0, le=10)]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Three scores from 0 to 10; None where nothing could be measured, which is never a pass."""

    visual_quality: Score | None
    style_match: Score | None
    prompt_adherence: Score | None

    @property
    def mean(self) -> float | None:
        """To one decimal; None where one of the three is missing."""
        known = [score for score in asdict(self).values() if score is not None]
        return round(sum(known) / 3, 1) if len(known) == 3 else None

    @property
    def verdict(self) -> str | None:
        """best, good, acceptable or skip; None without a mean."""
        return None if self.mean is None else verdict_of(self.mean)


def verdict_of(mean: float) -> str:
    """best, good, acceptable or skip, for a mean score from 0 to 10."""
    return next((word for bound, word in VERDICTS if mean >= bound), "skip")


# Points of ten that are lost for each of the originals' spreads beyond their middle, of which MOST
# count.
QUALITY = {"face": 0.9, "patches": 0.65, "skin": 0.65, "ground": 0.4, "stray": 0.15}
STYLE = {"face": 0.5, "patches": 1.05, "skin": 0.65, "ground": 0.4, "stray": 0.1}
MOST = 3.0

# Points lost off the grid, for the share of steps that lies on no line, and with a fiftieth of
# them already: the best that a model draws has 8.5 with a rater, and only the originals more.
OFF_GRID, BLURRED, UNEVEN = 0.8, 3.6, 2.0

# What is said of a part that costs TOLD points or more.
TOLD = 0.5
WORDS = {
    "face": "face unlike the collection",
    "patches": "details of the face unlike the collection",
    "skin": "skin of a colour that no original has",
    "ground": "rough background",
    "stray": "stray cells",
    "blurred": "edges not hard",
}

# What each asked part weighs in the adherence (an accessory ACCESSORY), and what share of the whole
# is lost by what no one asked. Round numbers by how much a rater minds each, fitted to no labels.
WEIGHTS = {"background": 5.0, "hair": 2.5, "eyes": 2.5, "skin": 2.0, "clothing": 1.0, "lips": 1.0}
ACCESSORY = 1.5
UNASKED = {
    "background over the face": 0.4,
    "coloured skin": 0.3,
    "background over the hair": 0.2,
    "glasses": 0.2,
    "hat": 0.2,
}

# From here on a face's lightness is like no mix of the collection's faces: noise has 0.78 and more,
# originals that were left out of the learning 0.6 at most.
NO_FACE = 0.79


def suggest(measured: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of an epoch by `metrics.measure` of its pictures; None where no picture allows it.

    A background that was asked and could not be measured counts as missed; a part that was not
    asked, or that could not be told, is left out of the adherence.
    """
    return Scores(
        visual_quality=_mean(_likeness(each, QUALITY) for each in measured),
        style_match=_mean(_likeness(each, STYLE) for each in measured),
        prompt_adherence=_mean(map(_adherence, measured)),
    )


def remarks(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What pulled a picture's scores down, in words, the worst first."""
    lost = {WORDS[name]: points for name, points in _losses(measured, QUALITY).items()}
    grid, asked = measured.get("grid", {}), _asked(measured)
    if grid.get("verdict") == "mismatch":
        lost[f"not on the grid: {grid['reason']}"] = 10.0
    if _faceless(measured):
        lost["no face"] = 10.0
    else:
        whole = sum(WEIGHTS.get(name, ACCESSORY) for name in asked)
        for name, part in asked.items():
            if part.get("verdict") == "mismatch":
                lost[_missed(name, part)] = 10 * WEIGHTS.get(name, ACCESSORY) / whole
    ground = " ".join(measured.get("background", {}).get("asked", {}).get("words", ())[:1])
    for name, part in measured.get("unasked", {}).items():
        if part["verdict"] == "seen":
            lost[name.replace("background", ground or "background")] = 10 * UNASKED[name]
    return tuple(sorted((each for each in lost if lost[each] >= TOLD), key=lambda e: -lost[e]))


def _missed(name: str, part: Mapping[str, Any]) -> str:
    """Something that was asked and is not there: "hair brown, blonde asked", "no crown"."""
    if part.get("reason") == "not seen":
        return f"no {name}"
    asked = " ".join((*part["asked"]["words"], *part["asked"]["hex"]))
    return f"{name} {part['name']}, {asked} asked" if "name" in part else f"{name} not {asked}"


def _mean(parts: Iterable[float | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return round(sum(known) / len(known)) if known else None


def _likeness(measured: Mapping[str, Any], weights: Mapping[str, float]) -> float | None:
    """From 0 to 10; None where nothing was compared."""
    if not measured.get("likeness"):
        return None
    grid = measured.get("grid", {})
    lost = sum(_losses(measured, weights).values())
    lost += OFF_GRID * (grid.get("verdict") == "mismatch")
    lost += UNEVEN * min(1.0, 50 * (1 - grid.get("sharp", 1.0)))
    return max(0.0, 10 - float(lost))


def _losses(measured: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, float]:
    """By the names of WORDS, the points of ten that each costs."""
    parts = measured.get("likeness", {})
    lost = {name: weights[name] * min(MOST, parts[name]["beyond"]) for name in parts}
    return lost | {"blurred": BLURRED * (1 - measured.get("grid", {}).get("sharp", 1.0))}


def _adherence(measured: Mapping[str, Any]) -> float | None:
    """From 0 to 10, how much of what was asked is there, and nothing that was not.

    None where nothing was asked that could be told; where there is no face, nothing is there.
    """
    if _faceless(measured):
        return 0.0
    met = [
        (WEIGHTS.get(name, ACCESSORY), part.get("verdict") == "match")
        for name, part in _asked(measured).items()
        if name == "background" or part.get("verdict") in ("match", "mismatch")
    ]
    if not met:
        return None
    value = 10 * sum(weight * right for weight, right in met) / sum(weight for weight, _ in met)
    for name, part in measured.get("unasked", {}).items():
        value *= 1 - UNASKED[name] * (part["verdict"] == "seen")
    return value


def _faceless(measured: Mapping[str, Any]) -> bool:
    unlike = measured.get("likeness", {}).get("face", {}).get("value", 0.0)
    return bool(unlike >= NO_FACE or measured.get("face", {}).get("verdict") == "mismatch")


def _asked(measured: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """By name all that was asked, as it was measured."""
    background = measured.get("background", {})
    ground = {"background": background} if any(background.get("asked", {}).values()) else {}
    return {**ground, **measured.get("features", {})}
