"""The gate decides by what is in the pictures, and never by what could not be measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bespoke.evaluation import gate
from bespoke.experiment.experiment import GateSettings
from tests.records import a_result, scores

if TYPE_CHECKING:
    from bespoke.evaluation.epoch_result import EpochResult

POLICY = GateSettings(epoch=4)
WORDS = {"g": "match", "p": "mismatch", "-": "unmeasured"}


def result(backgrounds: str, epoch: int | None = 4, prompts: str = "abcdefg") -> EpochResult:
    """An epoch with a picture a letter of `backgrounds`, each of the prompt named beside it."""
    made = a_result(epoch=epoch, backgrounds=tuple(WORDS[letter] for letter in backgrounds))
    seen = {"name": "pink", "colour": "#ff69b4", "delta_e": 83.0, "sure": True}
    asked = {"asked": {"words": ["green"], "hex": ["#00ff00"]}}
    pictures = (
        replace(each, prompt=name, measured={"background": {**each.ground, **seen, **asked}})
        for each, name in zip(made.pictures, prompts, strict=False)
    )
    return replace(made, pictures=tuple(pictures))


def test_it_goes_on_where_enough_prompts_show_what_was_asked() -> None:
    said = gate.decide(result("ggp"), POLICY)
    assert said.outcome == "GO"
    assert said.reason.endswith(" 4: background right in 2 of 3 prompts, sure of 3 of 3 pictures")
    assert said.evidence["answers"]["c"] == "mismatch"


def test_it_stops_where_enough_do_not_and_says_what_was_seen() -> None:
    said = gate.decide(result("ppg"), POLICY)
    assert said.outcome == "STOP"
    assert said.reason.startswith("Gate failed at epoch 4: background right in 1 of 3 prompts, ")
    assert said.reason.endswith("; mismatch, pink (#ff69b4), asked green #00ff00, ΔE 83")


@pytest.mark.parametrize("pictures", ["gp", "g--", "--", ""])
def test_what_is_even_or_unmeasured_decides_nothing(pictures: str) -> None:
    assert gate.decide(result(pictures), POLICY).outcome == "INCONCLUSIVE"


def test_a_prompts_seeds_must_agree_before_it_counts() -> None:
    mixed = result("gpgg", prompts="aabb")
    assert gate.answers(mixed) == {"a": "undecided", "b": "match"}
    assert gate.decide(mixed, POLICY).outcome == "INCONCLUSIVE"
    most = result("ggp", prompts="aaa")
    assert gate.answers(most) == {"a": "match"}
    assert gate.answers(most, seeds=0.9) == {"a": "undecided"}


@pytest.mark.parametrize(("backgrounds", "first"), [("pp-g", 4), ("gpgg", 1), ("pppp", None)])
def test_an_epochs_background_is_what_most_of_its_prompts_say(
    backgrounds: str, first: int | None
) -> None:
    results = [result(3 * letter, number) for number, letter in enumerate(backgrounds, start=1)]
    assert gate.first_right(results) == first
    words = {**WORDS, "-": "undecided"}
    assert [*gate.settled(results).values()] == [words[letter] for letter in backgrounds]


def test_the_best_epoch_is_the_first_of_equals() -> None:
    means = {1: 5, 2: 8, 3: None, 4: 8}
    best = gate.best([a_result(epoch=each, given=scores(n, n, n)) for each, n in means.items()])
    assert getattr(best, "epoch", None) == 2
    assert gate.best([]) is None


def test_a_mean_is_never_praised_where_the_background_is_wrong() -> None:
    assert " of 10, good (visual 7" in result("gg").summary()
    assert " of 10 (visual 7" in result("pp").summary()
