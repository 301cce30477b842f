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


# Mean distance of the pixels from their cells, of 255, at which nothing is left of the quality:
# the 203 have 0.002 at most, JPEG at quality 75 about 1, noise of 20 levels 12 to 16.
DISTANCE_LOST = 12.0

# Colours of the cells up to which a picture has the originals' style (they have 9 to 79), and
# from which on it has nothing of it.
COLOURS_KEPT, COLOURS_LOST = 80.0, 320.0

# Hard edges are what both a picture's quality and its style stand on.
EDGES_WEIGHT = 0.7

# The background's part of prompt adherence; the features have the rest.
BACKGROUND_WEIGHT = 0.6


def suggest(measured: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of an epoch by `metrics.measure` of its pictures; None where no picture allows it.

    A background that was asked and could not be measured counts as missed; a part that was not
    asked, or whose features could not be told, is left out of the adherence.
    """
    return Scores(
        visual_quality=_mean(_with_edges(each, "cells", 0, DISTANCE_LOST) for each in measured),
        style_match=_mean(
            _with_edges(each, "palette", COLOURS_KEPT, COLOURS_LOST) for each in measured
        ),
        prompt_adherence=_mean(map(_adherence, measured)),
    )


def _mean(parts: Iterable[float | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return round(10 * sum(known) / len(known)) if known else None


def _with_edges(measured: Mapping[str, Any], name: str, kept: float, lost: float) -> float | None:
    """The share of hard edges, and with the weight that is left a number's way from `lost`."""
    edges, value = (measured.get(key, {}).get("value") for key in ("edges", name))
    if edges is None or value is None:
        return None
    share = min(1.0, max(0.0, (lost - value) / (lost - kept)))
    return float(EDGES_WEIGHT * edges + (1 - EDGES_WEIGHT) * share)


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
