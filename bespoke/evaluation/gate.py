"""Results and a policy to a decision: go on, stop, or not to be told. Pure functions."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from bespoke.evaluation.epoch_result import asked_words
from bespoke.evaluation.scoring import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.experiment import GateSettings

Outcome = Literal["GO", "STOP", "INCONCLUSIVE"]
Answer = Literal["match", "mismatch", "undecided", "unmeasured"]

# Pictures that two epochs must share for the noise between them to be measured.
FEWEST_PAIRS = 4


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided after an epoch, in one line (`reason`), with what it rests on."""

    epoch: int
    outcome: Outcome
    reason: str
    evidence: Mapping[str, object]


def answers(result: EpochResult, seeds: float = 0.6) -> dict[str, Answer]:
    """Each prompt's answer about the background: what at least this share of its seeds say."""
    by_prompt: dict[str, list[str]] = {}
    for picture in result.pictures:
        by_prompt.setdefault(picture.prompt, []).append(picture.background)
    return {name: _agreed(words, seeds * len(words)) for name, words in by_prompt.items()}


def _agreed(words: Sequence[str], needed: float) -> Answer:
    if not {"match", "mismatch"} & set(words):
        return "unmeasured"
    if words.count("match") >= needed:
        return "match"
    return "mismatch" if words.count("mismatch") >= needed else "undecided"


def decide(result: EpochResult, policy: GateSettings) -> Decision:
    """The gate's decision on the epoch that it decides at."""
    by_prompt = answers(result, policy.seeds)
    words = list(by_prompt.values())
    needed = policy.prompts * len(words)
    matched, missed = words.count("match"), words.count("mismatch")
    at = f"at epoch {policy.epoch}: background right in {matched} of {len(words)} prompts"
    outcome: Outcome = "INCONCLUSIVE"
    agreed = _agreed(words, needed)
    if agreed == "match":
        outcome, reason = "GO", f"Gate passed {at}"
    elif agreed == "mismatch":
        outcome, reason = "STOP", f"Gate failed {at}{_example(result)}"
    else:
        reason = f"Gate undecided {at}, wrong in {missed}; {math.ceil(needed)} must agree"
    evidence = {
        "policy": asdict(policy),
        "answers": by_prompt,
        "checkpoint_sha256": result.checkpoint_sha256,
        "metrics_version": result.metrics_version,
    }
    return Decision(epoch=policy.epoch, outcome=outcome, reason=reason, evidence=evidence)


def _example(result: EpochResult) -> str:
    """The first picture that missed, in words: what it shows and what was asked."""
    missed = [each for each in result.pictures if each.background == "mismatch"]
    if not missed:
        return ""
    ground = missed[0].measured["background"]
    seen = f"{ground.get('name')} ({ground.get('colour')})"
    return f"; {missed[0].prompt} shows {seen}, asked: {asked_words(ground)}"


def settled(results: Sequence[EpochResult]) -> list[tuple[int, Answer]]:
    """By epoch, whether the backgrounds of most prompts match; of numbered epochs, in order."""
    words = [(epoch, list(answers(result).values())) for epoch, result in numbered(results)]
    return [(epoch, _agreed(each, len(each) // 2 + 1)) for epoch, each in words]


def first_right(results: Sequence[EpochResult]) -> int | None:
    """The first epoch in which most prompts' backgrounds match."""
    return next((epoch for epoch, word in settled(results) if word == "match"), None)


def flips(results: Sequence[EpochResult]) -> list[int]:
    """The epochs at which the background turned, without the first turn from wrong to right."""
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
    wrong = "" if top.background_right else f", {top.background_words()}"
    same = f"; {listed(ties)} equal" if (ties := equals(results)) else ""
    return f"Best: epoch {top.epoch} ({top.scores.mean}{wrong}{same}): {top.checkpoint}"


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
    """Whether the newest epoch is worse than the best before it by more than the measured noise:
    two standard errors of the differences between pictures of one prompt and seed.
    """
    known = [result for _, result in numbered(results)]
    before = best(known[:-1])
    if before is None:
        return None
    now, then = _scored(known[-1]), _scored(before)
    changes = [now[spec] - then[spec] for spec in now.keys() & then.keys()]
    if len(changes) < FEWEST_PAIRS:
        return None
    fall = -statistics.fmean(changes)
    noise = 2 * statistics.stdev(changes) / math.sqrt(len(changes))
    words = (
        f"epoch {known[-1].epoch} is worse than epoch {before.epoch}: by {fall:.1f} ± {noise:.1f}"
    )
    return f"{words} of 10 over {len(changes)} pictures" if fall > noise else None


def _scored(result: EpochResult) -> dict[tuple[str, int], float]:
    """The mean score of each picture that has one, by prompt and seed."""
    means = {(each.prompt, each.seed): suggest([each.measured]).mean for each in result.pictures}
    return {spec: mean for spec, mean in means.items() if mean is not None}


def numbered(results: Sequence[EpochResult]) -> list[tuple[int, EpochResult]]:
    """Those whose epoch is known, in order."""
    known = [(result.epoch, result) for result in results if result.epoch is not None]
    return sorted(known, key=operator.itemgetter(0))
