"""Results and a policy to a decision: go on, stop, or not to be told. Pure functions alone."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bespoke.evaluation.scoring import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.gate_policy import Policy

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
    by_prompt: dict[str, list[str]] = {}
    for picture in result.pictures:
        by_prompt.setdefault(picture.prompt, []).append(picture.background)
    return {name: _answer(words, seeds) for name, words in by_prompt.items()}


def _answer(words: Sequence[str], share: float) -> Answer:
    if words.count("unmeasured") == len(words):
        return "unmeasured"
    if words.count("match") >= share * len(words):
        return "match"
    return "mismatch" if words.count("mismatch") >= share * len(words) else "undecided"


def decide(result: EpochResult, policy: Policy) -> Decision:
    """The gate's decision on the epoch that it decides at; any other epoch is not looked at.

    Raises:
        ValueError: where the result is of another epoch.
    """
    if result.epoch != policy.epoch:
        raise ValueError(f"the gate decides at epoch {policy.epoch}, not {result.epoch}")
    by_prompt = answers(result, policy.seeds)
    words = list(by_prompt.values())
    matched, missed = words.count("match"), words.count("mismatch")
    needed = policy.prompts * len(words)
    at = f"at epoch {policy.epoch}: background right in {matched} of {len(words)} prompts"
    outcome: Outcome = "INCONCLUSIVE"
    if words and matched >= needed:
        outcome, reason = "GO", f"Gate passed {at}"
    elif words and missed >= needed:
        outcome, reason = "STOP", f"Gate failed {at}{_example(result)}"
    else:
        reason = f"Gate undecided {at}, wrong in {missed}; {math.ceil(needed)} must agree"
    evidence = {
        "policy": asdict(policy),
        "answers": by_prompt,
        "matched": matched,
        "mismatched": missed,
        "checkpoint_sha256": result.checkpoint_sha256,
        "metrics_version": result.metrics_version,
    }
    return Decision(epoch=policy.epoch, outcome=outcome, reason=reason, evidence=evidence)


def _example(result: EpochResult) -> str:
    """The first picture that missed, in words: what it shows and what was asked."""
    missed = next((each for each in result.pictures if each.background == "mismatch"), None)
    if missed is None:
        return ""
    ground = missed.measured["background"]
    asked = ground.get("asked", {})
    words = " ".join((*asked.get("words", ()), *asked.get("hex", ())))
    return f"; {missed.prompt} shows {ground.get('name')} ({ground.get('colour')}), asked: {words}"


# --- Over the epochs ------------------------------------------------------------------------------


def settled(results: Sequence[EpochResult]) -> list[tuple[int, Answer]]:
    """By epoch, whether the backgrounds of most prompts match; of numbered epochs, in order."""
    return [(epoch, _most(list(answers(result).values()))) for epoch, result in numbered(results)]


def _most(words: Sequence[Answer]) -> Answer:
    if not {"match", "mismatch"} & set(words):
        return "unmeasured"
    if 2 * words.count("match") > len(words):
        return "match"
    return "mismatch" if 2 * words.count("mismatch") > len(words) else "undecided"


def first_right(results: Sequence[EpochResult]) -> int | None:
    """The first epoch in which most prompts' backgrounds match."""
    return next((epoch for epoch, word in settled(results) if word == "match"), None)


def flips(results: Sequence[EpochResult]) -> list[int]:
    """The epochs at which a background that was right is wrong again, or the other way about.

    The first turn from wrong to right is learning; what comes after it is oscillation.
    """
    known = [(epoch, word) for epoch, word in settled(results) if word in ("match", "mismatch")]
    turns = [epoch for (_, was), (epoch, word) in itertools.pairwise(known) if word != was]
    return turns[1:] if known and known[0][1] == "mismatch" else turns


def best(results: Sequence[EpochResult]) -> EpochResult | None:
    """The epoch of the highest mean score, the first of equals; None where none has one."""
    scored = [result for _, result in numbered(results) if result.scores.mean is not None]
    return max(scored, key=lambda each: each.scores.mean or 0.0, default=None)


def equals(results: Sequence[EpochResult]) -> list[int]:
    """The later epochs whose mean score is that of the best one."""
    top = best(results)
    if top is None:
        return []
    means = [(number, each.scores.mean) for number, each in numbered(results)]
    return [number for number, mean in means if mean == top.scores.mean][1:]


def best_line(results: Sequence[EpochResult]) -> str | None:
    """The best epoch, how good it is and which are equal, and its checkpoint; None without one."""
    top = best(results)
    if top is None:
        return None
    words, same = f"{top.scores.mean}", equals(results)
    if top.verdict and not top.background_right:
        words += f", {top.background_words()}"
    if same:
        words += f"; {listed(same)} equal"
    return f"Best: epoch {top.epoch} ({words}): {top.checkpoint}"


def listed(epochs: Sequence[int]) -> str:
    """Rising epochs in words: "epoch 4", "epochs 4-6, 9"."""
    spans: list[list[int]] = []
    for epoch in epochs:
        if spans and epoch == spans[-1][-1] + 1:
            spans[-1].append(epoch)
        else:
            spans.append([epoch])
    words = (f"{span[0]}-{span[-1]}" if len(span) > 1 else f"{span[0]}" for span in spans)
    return f"epoch{'s' if len(epochs) > 1 else ''} {', '.join(words)}"


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
    changes = [now[spec] - then[spec] for spec in now.keys() & then.keys()]
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


def notes(results: Sequence[EpochResult]) -> list[str]:
    """What the newest epoch tells beside its own scores: that it is worse, that it oscillates."""
    lines = [worse] if (worse := regression(results)) else []
    turns = flips(results)
    if turns and turns[-1] == numbered(results)[-1][0]:
        at = ", ".join(map(str, turns))
        lines.append(f"the background oscillates: it turned at epoch {at}")
    return lines


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
