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
        mean = self.mean
        if mean is None:
            return None
        return next((word for bound, word in VERDICTS if mean >= bound), "skip")


# By part of the likeness, the points of ten of quality and of style that are lost for each of the
# originals' spreads beyond their middle, of which MOST count; and what is said of it, if TOLD
# points or more are lost.
LIKENESS = {
    "face": (0.9, 0.5, "face unlike the collection"),
    "patches": (0.65, 1.05, "details of the face unlike the collection"),
    "skin": (0.65, 0.65, "skin of a colour that no original has"),
    "ground": (0.4, 0.4, "rough background"),
}
MOST, TOLD = 3.0, 0.5

# Points lost without a face, off the grid, for the share of steps that lies on no line, and with a
# fiftieth of them already: the best that a model draws has 8.5 with a rater.
FACELESS, OFF_GRID, BLURRED, UNEVEN = 4.0, 0.8, 3.6, 2.0

# What each asked part weighs in the adherence (an accessory ACCESSORY), and the share of the rest
# that what no one asked costs: round numbers by how much a rater minds each.
ASKED = {"background": 5.0, "hair": 2.5, "eyes": 2.5, "skin": 2.0}
ACCESSORY = 2.5
UNASKED = {"background over the face": 0.4, "coloured skin": 0.3, "unasked glasses": 0.2}


def suggest(measured: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores of an epoch by `metrics.measure` of its pictures; None where no picture allows it.

    A background that was asked and not measured counts as missed, another part is left out.
    """
    return Scores(
        visual_quality=_mean(_unlike(each, 0) for each in measured),
        style_match=_mean(_unlike(each, 1) for each in measured),
        prompt_adherence=_mean(map(_missed, measured)),
    )


def remarks(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """What pulled a picture's scores down, in words: another grid, and then the worst first."""
    lost = (_unlike(measured, 0) or {}) | (_missed(measured) or {})
    told = [words for words in lost if words and lost[words] >= TOLD]
    return tuple(sorted(told, key=lambda words: ("grid" not in words, -lost[words])))


def _mean(lost: Iterable[Mapping[str, float] | None]) -> int | None:
    known = [max(0.0, 10 - sum(each.values())) for each in lost if each is not None]
    return round(sum(known) / len(known)) if known else None


def _unlike(measured: Mapping[str, Any], column: int) -> dict[str, float] | None:
    """By what there is to say of it, the points that a likeness lacks; None without one."""
    parts, grid = measured.get("unlike"), measured.get("grid", {})
    if not parts:
        return None
    lost = {row[2]: row[column] * min(MOST, parts[name]) for name, row in LIKENESS.items()}
    if grid.get("verdict") == "mismatch":
        lost[f"not on the grid: {grid['reason']}"] = OFF_GRID
    if measured.get("face", {}).get("verdict") == "mismatch":
        lost["no face"] = FACELESS
    spread = 1 - grid.get("sharp", 1.0)
    return lost | {"edges not hard": BLURRED * spread, "": UNEVEN * min(1.0, 50 * spread)}


def _missed(measured: Mapping[str, Any]) -> dict[str, float] | None:
    """By what there is to say of it, the points that what was asked lacks; None without any."""
    if measured.get("face", {}).get("verdict") == "mismatch":
        return {"no face": 10.0}
    ground = measured.get("background", {})
    known = {
        name: part
        for name, part in measured.get("features", {}).items()
        if part.get("verdict") != "unmeasured" and (name in ASKED or "probability" in part)
    }
    if any(ground.get("asked", {}).values()):
        known["background"] = ground
    if not known:
        return None
    weights = {name: ASKED.get(name, ACCESSORY) for name in known}
    lost = {
        _in_words(name, part): 10 * weights[name] / sum(weights.values())
        for name, part in known.items()
        if part.get("verdict") != "match"
    }
    colour = (*ground.get("asked", {}).get("words", ()), "background")[0]
    for name, share in UNASKED.items():
        if measured.get("unasked", {}).get(name) == "seen":
            rest = 10 - sum(lost.values())
            lost[name.replace("background", colour)] = max(TOLD, share * rest)
    return lost


def _in_words(name: str, part: Mapping[str, Any]) -> str:
    if name not in ASKED:
        return f"no {name}"
    asked = " ".join((*part["asked"]["words"], *part["asked"]["hex"]))
    return f"{name} {part.get('name', 'unmeasured')}, {asked} asked"
