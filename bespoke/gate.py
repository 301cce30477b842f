"""Results and a policy to a decision: go on, stop, or not to be told. Pure functions alone."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bespoke.scoring import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bespoke.evaluate import EpochResult
    from bespoke.gate_policy import Policy

Outcome = Literal["GO", "STOP", "INCONCLUSIVE"]
Answer = Literal["match", "mismatch", "undecided", "unmeasured"]

# The fewest pictures that two epochs must share for the noise between them to be measured.
FEWEST_PAIRS = 4
# A fall in the mean score that is called a regression lies beyond this many standard errors.
ERRORS_APART = 2.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided after an epoch, in one line (`reason`), with what it rests on."""

    epoch: int
    outcome: Outcome
    reason: str
    evidence: Mapping[str, object]


def answers(result: EpochResult, seeds: float = 0.6) -> dict[str, Answer]:
    """Each prompt's answer about the background, over its seeds."""
    found: dict[str, Answer] = {}
    for name in dict.fromkeys(picture.prompt for picture in result.pictures):
        said = [picture.background for picture in result.pictures if picture.prompt == name]
        measured = [word for word in said if word != "unmeasured"]
        if not measured:
            found[name] = "unmeasured"
        elif measured.count("match") >= seeds * len(said):
            found[name] = "match"
        elif measured.count("mismatch") >= seeds * len(said):
            found[name] = "mismatch"
        else:
            found[name] = "undecided"
    return found


def decide(result: EpochResult, policy: Policy) -> Decision:
    """The gate's decision on the epoch that it decides at; any other epoch is not looked at.

    Raises:
        ValueError: where the result is of another epoch.
    """
    if result.epoch != policy.epoch:
        raise ValueError(f"the gate decides at epoch {policy.epoch}, not {result.epoch}")
    said = answers(result, policy.seeds)
    matched = sum(word == "match" for word in said.values())
    missed = sum(word == "mismatch" for word in said.values())
    needed = policy.prompts * len(said)
    shown = f"{matched} of {len(said)} prompts"
    outcome: Outcome = "INCONCLUSIVE"
    if said and matched >= needed:
        outcome, reason = "GO", f"hypothesis stands at epoch {policy.epoch}: {shown} match"
    elif said and missed >= needed:
        outcome = "STOP"
        reason = f"hypothesis failed at epoch {policy.epoch}: {_worst(result)}{shown}"
    else:
        reason = (
            f"inconclusive at epoch {policy.epoch}: {shown} match, {missed} do not, and "
            f"{math.ceil(needed)} must agree"
        )
    evidence = {
        "policy": asdict(policy),
        "answers": said,
        "matched": matched,
        "mismatched": missed,
        "checkpoint_sha256": result.checkpoint_sha256,
        "metrics_version": result.metrics_version,
    }
    return Decision(epoch=policy.epoch, outcome=outcome, reason=reason, evidence=evidence)


def _worst(result: EpochResult) -> str:
    """The first picture that missed, in words: what was found and what was asked."""
    missed = [picture for picture in result.pictures if picture.background == "mismatch"]
    if not missed:
        return ""
    ground = missed[0].measured["background"]
    words, codes = (" and ".join(ground["asked"][key]) for key in ("words", "hex"))
    asked = f"{words} ({codes})" if words and codes else words or codes
    return (
        f"background {ground['name']} ({ground['colour']}), asked {asked}, "
        f"ΔE {ground['delta_e']:.0f}, "
    )


# --- Over the epochs ------------------------------------------------------------------------------


def settled(results: Sequence[EpochResult]) -> list[tuple[int, Answer]]:
    """By epoch, whether the backgrounds of most prompts match; of numbered epochs, in order."""
    found: list[tuple[int, Answer]] = []
    for epoch, result in numbered(results):
        said = list(answers(result).values())
        matched, missed = said.count("match"), said.count("mismatch")
        word: Answer = "undecided"
        if not matched and not missed:
            word = "unmeasured"
        elif 2 * matched > len(said):
            word = "match"
        elif 2 * missed > len(said):
            word = "mismatch"
        found.append((epoch, word))
    return found


def first_right(results: Sequence[EpochResult]) -> int | None:
    """The first epoch in which most prompts' backgrounds match."""
    return next((epoch for epoch, word in settled(results) if word == "match"), None)


def flips(results: Sequence[EpochResult]) -> list[int]:
    """The epochs at which a background that was right is wrong again, or the other way about.

    The first turn from wrong to right is learning; what comes after it is oscillation.
    """
    known = [(epoch, word) for epoch, word in settled(results) if word in ("match", "mismatch")]
    turns = [
        (epoch, word) for (_, before), (epoch, word) in itertools.pairwise(known) if word != before
    ]
    if turns and turns[0][1] == "match":
        turns = turns[1:]
    return [epoch for epoch, _ in turns]


def best(results: Sequence[EpochResult]) -> EpochResult | None:
    """The epoch of the highest mean score, the first of equals; None where none has one."""
    scored = [result for _, result in numbered(results) if result.scores.mean is not None]
    return max(scored, key=lambda each: each.scores.mean or 0.0, default=None)


def regression(results: Sequence[EpochResult]) -> str | None:
    """Whether the newest epoch is worse than an earlier one by more than the measured noise.

    The noise is that of the differences between pictures of one prompt and one seed in both
    epochs: their mean must lie below zero by more than two of its standard errors.
    """
    known = [result for _, result in numbered(results)]
    before = best(known[:-1])
    if before is None:
        return None
    newest = known[-1]
    now, then = _scored(newest), _scored(before)
    changes = [now[shot] - then[shot] for shot in now.keys() & then.keys()]
    if len(changes) < FEWEST_PAIRS:
        return None
    mean = statistics.fmean(changes)
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    if mean >= -ERRORS_APART * error or mean >= 0:
        return None
    return (
        f"epoch {newest.epoch} is worse than epoch {before.epoch}: by {-mean:.1f} ± "
        f"{ERRORS_APART * error:.1f} of 10 over {len(changes)} pictures"
    )


def _scored(result: EpochResult) -> dict[tuple[str, int], float]:
    """The mean score of each picture that has one, by prompt and seed."""
    return {
        (picture.prompt, picture.seed): mean
        for picture in result.pictures
        if (mean := suggest([picture.measured]).mean) is not None
    }


def numbered(results: Sequence[EpochResult]) -> list[tuple[int, EpochResult]]:
    """Those whose epoch is known, in order."""
    known = [(result.epoch, result) for result in results if result.epoch is not None]
    return sorted(known, key=operator.itemgetter(0))
