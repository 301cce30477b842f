"""Results and a policy to a decision: go on, stop, or not to be told. Pure functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bespoke.evaluation.epoch_result import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.experiment import GateSettings

Outcome = Literal["GO", "STOP", "INCONCLUSIVE"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided after an epoch, in one line (`reason`), with what it rests on."""

    epoch: int
    outcome: Outcome
    reason: str
    evidence: Mapping[str, object]


def answers(result: EpochResult, seeds: float = 0.6) -> dict[str, str]:
    """Each prompt's answer about the background: what at least this share of its seeds say."""
    by_prompt: dict[str, list[str]] = {}
    for picture in result.pictures:
        by_prompt.setdefault(picture.prompt, []).append(picture.background)
    return {name: _agreed(words, seeds * len(words)) for name, words in by_prompt.items()}


def _agreed(words: Sequence[str], needed: float) -> str:
    enough = (word for word in ("match", "mismatch") if words.count(word) >= max(1, needed))
    return next(enough, "undecided")


def decide(result: EpochResult, policy: GateSettings) -> Decision:
    """The gate's decision on the epoch that it decides at."""
    by_prompt = answers(result, policy.seeds)
    words = list(by_prompt.values())
    needed, matched = policy.prompts * len(words), words.count("match")
    sure = sum(bool(each.ground.get("sure")) for each in result.pictures)
    at = f"at epoch {policy.epoch}: background right in {matched} of {len(words)} prompts"
    at += f", sure of {sure} of {len(result.pictures)} pictures"
    missed = (in_words(each.ground) for each in result.pictures if each.background == "mismatch")
    outcomes: dict[str, tuple[Outcome, str]] = {
        "match": ("GO", f"Gate passed {at}"),
        "mismatch": ("STOP", f"Gate failed {at}; {next(missed, '')}"),
    }
    undecided = f"Gate undecided {at}; {math.ceil(needed)} must agree"
    outcome, reason = outcomes.get(_agreed(words, needed), ("INCONCLUSIVE", undecided))
    metrics = {"version": result.metrics_version, "sure": sure}
    evidence = {"policy": asdict(policy), "answers": by_prompt, "metrics": metrics}
    return Decision(epoch=policy.epoch, outcome=outcome, reason=reason, evidence=evidence)


def settled(results: Sequence[EpochResult]) -> dict[int, str]:
    """By epoch, what most prompts answer about the background; of numbered epochs, in order."""
    words = {number: list(answers(each).values()) for number, each in numbered(results)}
    return {number: _agreed(each, len(each) // 2 + 1) for number, each in words.items()}


def first_right(results: Sequence[EpochResult]) -> int | None:
    """The first epoch in which most prompts' backgrounds match."""
    return next((epoch for epoch, word in settled(results).items() if word == "match"), None)


def best(results: Sequence[EpochResult]) -> EpochResult | None:
    """The epoch of the highest mean score, the first of equals; None where none has one."""
    scored = [result for _, result in numbered(results) if result.scores.mean is not None]
    return max(scored, key=lambda each: each.scores.mean or 0.0, default=None)


def numbered(results: Sequence[EpochResult]) -> list[tuple[int, EpochResult]]:
    """Those whose epoch is known, in order, without the base model's own, epoch 0."""
    known = [(result.epoch, result) for result in results if result.epoch]
    return sorted(known, key=operator.itemgetter(0))
