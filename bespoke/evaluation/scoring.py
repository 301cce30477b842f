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
QUALITY = {"face": 1.2, "patches": 0.8, "skin": 0.9, "ground": 0.6, "stray": 0.25}
STYLE = {"face": 0.7, "patches": 1.4, "skin": 0.9, "ground": 0.8, "stray": 0.15}
MOST = 3.0

# Points lost off the grid, for the share of steps that lies on no line, and with a fiftieth of
# them already: the best that a model draws has 8.5 with a rater, and only the originals more.
OFF_GRID, BLURRED, UNEVEN = 0.7, 3.6, 1.5

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

# The background's part of prompt adherence; the features have the rest.
BACKGROUND_WEIGHT = 0.6


def suggest(measured: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of an epoch by `metrics.measure` of its pictures; None where no picture allows it.

    A background that was asked and could not be measured counts as missed; a part that was not
    asked, or whose features could not be told, is left out of the adherence.
    """
    return Scores(
        visual_quality=_mean(_likeness(each, QUALITY) for each in measured),
        style_match=_mean(_likeness(each, STYLE) for each in measured),
        prompt_adherence=_mean(map(_adherence, measured)),
    )


def remarks(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What pulled a picture's scores down, in words, the worst first."""
    losses = _losses(measured, QUALITY)
    told = sorted((name for name in losses if losses[name] >= TOLD), key=lambda n: -losses[n])
    words = [WORDS[name] for name in told]
    if measured.get("grid", {}).get("verdict") == "mismatch":
        words.insert(0, f"not on the grid: {measured['grid'].get('reason', '')}")
    return tuple(words)


def _mean(parts: Iterable[float | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return round(10 * sum(known) / len(known)) if known else None


def _likeness(measured: Mapping[str, Any], weights: Mapping[str, float]) -> float | None:
    """From 0 to 1, what is left of a score; None where nothing was compared."""
    if not measured.get("likeness"):
        return None
    grid = measured.get("grid", {})
    lost = sum(_losses(measured, weights).values())
    lost += OFF_GRID * (grid.get("verdict") == "mismatch")
    lost += UNEVEN * min(1.0, 50 * (1 - grid.get("sharp", 1.0)))
    return max(0.0, 1 - float(lost) / 10)


def _losses(measured: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, float]:
    """By the names of WORDS, the points of ten that each costs."""
    parts = measured.get("likeness", {})
    lost = {name: weights[name] * min(MOST, parts[name]["beyond"]) for name in parts}
    return lost | {"blurred": BLURRED * (1 - measured.get("grid", {}).get("sharp", 1.0))}


def _adherence(measured: Mapping[str, Any]) -> float | None:
    parts: list[tuple[float, float]] = []
    background = measured.get("background", {})
    if any(background.get("asked", {}).values()):
        parts.append((BACKGROUND_WEIGHT, float(background.get("verdict") == "match")))
    verdicts = [each.get("verdict") for each in measured.get("features", {}).values()]
    if known := [verdict for verdict in verdicts if verdict in ("match", "mismatch")]:
        parts.append((1 - BACKGROUND_WEIGHT, known.count("match") / len(known)))
    weights = sum(weight for weight, _ in parts)
    return sum(weight * part for weight, part in parts) / weights if parts else None
