"""Results and a policy to a decision: go on, stop, or not to be told. Pure functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bespoke.evaluation.epoch_result import asked_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.experiment_file import Policy

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
    if not {"match", "mismatch"} & set(words):
        return "unmeasured"
    enough = (word for word in ("match", "mismatch") if words.count(word) >= needed)
    return next(enough, "undecided")


def decide(result: EpochResult, policy: Policy) -> Decision:
    """The gate's decision on the epoch that it decides at."""
    by_prompt = answers(result, policy.seeds)
    words = list(by_prompt.values())
    needed = policy.prompts * len(words)
    matched, missed = words.count("match"), words.count("mismatch")
    at = f"at epoch {policy.epoch}: background right in {matched} of {len(words)} prompts"
    decisions: dict[str, tuple[Outcome, str]] = {
        "match": ("GO", f"Gate passed {at}"),
        "mismatch": ("STOP", f"Gate failed {at}{_example(result)}"),
    }
    open_ = f"Gate undecided {at}, wrong in {missed}; {math.ceil(needed)} must agree"
    outcome, reason = decisions.get(_agreed(words, needed), ("INCONCLUSIVE", open_))
    evidence = {"policy": asdict(policy), "answers": by_prompt, "metrics": result.metrics_version}
    return Decision(epoch=policy.epoch, outcome=outcome, reason=reason, evidence=evidence)


def _example(result: EpochResult) -> str:
    """The first picture that missed, in words: what it shows and what was asked."""
    for picture in result.pictures:
        if picture.background == "mismatch":
            seen = f"{picture.ground.get('name')} ({picture.ground.get('colour')})"
            return f"; {picture.prompt} shows {seen}, asked: {asked_words(picture.ground)}"
    return ""


def settled(results: Sequence[EpochResult]) -> list[tuple[int, str]]:
    """By epoch, whether the backgrounds of most prompts match; of numbered epochs, in order."""
    words = [(epoch, list(answers(result).values())) for epoch, result in numbered(results)]
    return [(epoch, _agreed(each, len(each) // 2 + 1)) for epoch, each in words]


def first_right(results: Sequence[EpochResult]) -> int | None:
    """The first epoch in which most prompts' backgrounds match."""
    return next((epoch for epoch, word in settled(results) if word == "match"), None)


def best(results: Sequence[EpochResult]) -> EpochResult | None:
    """The epoch of the highest mean score, the first of equals; None where none has one."""
    scored = [result for _, result in numbered(results) if result.scores.mean is not None]
    return max(scored, key=lambda each: each.scores.mean or 0.0, default=None)


def equals(results: Sequence[EpochResult]) -> list[int]:
    """The later epochs whose mean score is that of the best one."""
    top = best(results)
    return [n for n, each in numbered(results) if top and each.scores.mean == top.scores.mean][1:]


def best_line(results: Sequence[EpochResult]) -> str | None:
    """The best epoch, how good it is and which are equal, and its checkpoint; None without one."""
    top = best(results)
    if top is None:
        return None
    wrong = "" if top.background_right else f", {top.background_words()}"
    same = f"; {listed(ties)} equal" if (ties := equals(results)) else ""
    return f"Best: epoch {top.epoch} ({top.scores.mean}{wrong}{same}): {top.checkpoint}"


def listed(epochs: Sequence[int]) -> str:
    """Epochs in words: "epoch 4", "epochs 4, 5, 9"."""
    return f"epoch{'s' * (len(epochs) > 1)} {', '.join(map(str, epochs))}"


def numbered(results: Sequence[EpochResult]) -> list[tuple[int, EpochResult]]:
    """Those whose epoch is known, in order."""
    known = [(result.epoch, result) for result in results if result.epoch is not None]
    return sorted(known, key=operator.itemgetter(0))
