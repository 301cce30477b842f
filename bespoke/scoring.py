"""Scores 0 to 10 from metrics, and the verdict that the collection's owner gives by their mean."""

from __future__ import annotations

from dataclasses import dataclass

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
