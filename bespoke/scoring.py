"""Scores 0 to 10 from metrics, and the verdict that the collection's owner gives by their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The owner's own bounds for the mean of the three scores; below the last it is "skip".
VERDICTS = ((8.0, "best"), (7.0, "good"), (5.0, "acceptable"))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Three scores from 0 to 10; None where nothing could be measured, which is never a pass."""

    visual_quality: int | None
    style_match: int | None
    prompt_adherence: int | None

    @property
    def mean(self) -> float | None:
        """The mean of the three, to one decimal; None where one of them is missing."""
        three = (self.visual_quality, self.style_match, self.prompt_adherence)
        known = [score for score in three if score is not None]
        return round(sum(known) / 3, 1) if len(known) == 3 else None

    @property
    def verdict(self) -> str | None:
        """best, good, acceptable or skip; None without a mean."""
        return None if self.mean is None else verdict_of(self.mean)


def verdict_of(mean: float) -> str:
    """best, good, acceptable or skip, for a mean score from 0 to 10."""
    return next((word for bound, word in VERDICTS if mean >= bound), "skip")


# --- What the metrics suggest ---------------------------------------------------------------------

DISTANCE_LOST = 12.0
"""Mean distance of the pixels from their cells, of 255, at which nothing is left of the quality.

The 203 have 0.002 at most, JPEG at quality 75 about 1, Gaussian noise of 20 levels 12 to 16, and
smooth pictures made of them (bicubic, shaded) about 10.
"""

COLOURS_KEPT, COLOURS_LOST = 80.0, 320.0
"""Colours of the cells up to which a picture has the originals' style (they have 9 to 79), and
from which on it has nothing of it."""

EDGES_WEIGHT = 0.7
"""Hard edges are what both a picture's quality and its style stand on."""

BACKGROUND_WEIGHT = 0.6
"""The background's part of prompt adherence; the features have the rest."""


def suggest(measured: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of an epoch from what `metrics.measure` gave of its pictures.

    Each is the mean over the pictures of a number 0 to 1, times ten, rounded:

    - visual_quality: EDGES_WEIGHT for `edges` (the share of all steps that lies where cells meet),
      the rest by 1 - `cells` / DISTANCE_LOST;
    - style_match: the same for `edges`, the rest by the palette's number of colours (1 up to
      COLOURS_KEPT, 0 from COLOURS_LOST);
    - prompt_adherence: BACKGROUND_WEIGHT for a background that is as asked, the rest by the share
      of the measured features that are. A background that was asked and could not be measured
      counts as missed; a part that was not asked, or whose features could not be told, is left out:
      where all features are unmeasured, adherence is the background alone, 0 or 10.

    A score is None where no picture allows it.
    """
    return Scores(
        visual_quality=_mean(_quality, measured),
        style_match=_mean(_style, measured),
        prompt_adherence=_mean(_adherence, measured),
    )


def _mean(
    part: Callable[[Mapping[str, Any]], float | None], measured: Sequence[Mapping[str, Any]]
) -> int | None:
    known = [value for each in measured if (value := part(each)) is not None]
    return round(10 * sum(known) / len(known)) if known else None


def _value(measured: Mapping[str, Any], name: str) -> float | None:
    value = measured.get(name, {}).get("value")
    return None if value is None else float(value)


def _quality(measured: Mapping[str, Any]) -> float | None:
    distance, edges = _value(measured, "cells"), _value(measured, "edges")
    if distance is None or edges is None:
        return None
    clean = max(0.0, 1 - distance / DISTANCE_LOST)
    return EDGES_WEIGHT * edges + (1 - EDGES_WEIGHT) * clean


def _style(measured: Mapping[str, Any]) -> float | None:
    count, edges = _value(measured, "palette"), _value(measured, "edges")
    if count is None or edges is None:
        return None
    lost = (count - COLOURS_KEPT) / (COLOURS_LOST - COLOURS_KEPT)
    return EDGES_WEIGHT * edges + (1 - EDGES_WEIGHT) * min(1.0, max(0.0, 1 - lost))


def _adherence(measured: Mapping[str, Any]) -> float | None:
    parts: list[tuple[float, float]] = []
    background = measured.get("background", {})
    if any(background.get("asked", {}).values()):
        parts.append((BACKGROUND_WEIGHT, float(background["verdict"] == "match")))
    told = [each["verdict"] for each in measured.get("features", {}).values()]
    known = [verdict for verdict in told if verdict != "unmeasured"]
    if known:
        parts.append((1 - BACKGROUND_WEIGHT, known.count("match") / len(known)))
    if not parts:
        return None
    return sum(weight * part for weight, part in parts) / sum(weight for weight, _ in parts)
