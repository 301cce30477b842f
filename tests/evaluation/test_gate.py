"""The gate decides by what is in the pictures, and never by what could not be measured."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bespoke.dataset.colors import hex_of
from bespoke.evaluation import gate, metrics
from bespoke.evaluation.epoch_result import EpochResult, PictureResult
from bespoke.evaluation.scoring import suggest
from bespoke.experiment.experiment import GateSettings
from bespoke.experiment.validation import validated
from bespoke.rehearsal import drawing

if TYPE_CHECKING:
    from collections.abc import Sequence

GREEN, PINK = (0, 200, 40), (255, 105, 180)
POLICY = GateSettings(epoch=4)


@functools.cache
def measured(seed: int, background: tuple[int, int, int] | None, noise: int = 0) -> dict[str, Any]:
    """A drawn portrait measured against a prompt that asks for green; None draws no ground."""
    asked = metrics.read_prompt("portrait of bespoke punk lady, solid green background (#00c828)")
    rng = np.random.default_rng(seed)
    if background is None:
        return metrics.measure(rng.integers(0, 256, (512, 512, 3), dtype=np.uint8), asked)
    drawn = drawing.portrait(seed, "lady", {"background": background})
    pixels = np.asarray(drawing.enlarged(drawn.cells)).astype(int)
    spread = rng.normal(0, noise, pixels.shape) if noise else 0
    return metrics.measure(np.clip(pixels + spread, 0, 255).astype(np.uint8), asked)


def result(
    epoch: int | None, *pictures: tuple[str, tuple[int, int, int] | None], noise: int = 0
) -> EpochResult:
    """An epoch of pictures (prompt's name, background), one seed each in order."""
    rows = tuple(
        PictureResult(
            prompt=prompt,
            text="",
            seed=seed,
            file=f"{prompt}_{seed}.png",
            sha256="",
            measured=measured(seed, background, noise),
        )
        for seed, (prompt, background) in enumerate(pictures)
    )
    scores = suggest([row.measured for row in rows])
    return EpochResult(
        run="RUN",
        epoch=epoch,
        checkpoint=f"lora-{epoch:06d}.safetensors" if epoch else "lora.safetensors",
        checkpoint_sha256="0" * 64,
        checkpoint_size=1,
        folder="",
        metrics_version=metrics.VERSION,
        pictures=rows,
        suggested=scores,
        scores=scores,
        scored_by="metrics",
        tested="2026-11-25T00:00:00+00:00",
    )


def epochs(backgrounds: str) -> list[EpochResult]:
    """One epoch a letter: g for green, p for pink, in three prompts."""
    colours = {"g": GREEN, "p": PINK, "-": None}
    return [
        result(number, *((name, colours[letter]) for name in "abc"))
        for number, letter in enumerate(backgrounds, start=1)
    ]


def test_it_goes_on_where_enough_prompts_show_what_was_asked() -> None:
    said = gate.decide(result(4, ("a", GREEN), ("b", GREEN), ("c", PINK)), POLICY)
    assert said.outcome == "GO"
    assert said.reason == "Gate passed at epoch 4: background right in 2 of 3 prompts"
    assert said.evidence["answers"] == {"a": "match", "b": "match", "c": "mismatch"}


def test_it_stops_where_enough_do_not_and_says_what_was_seen() -> None:
    said = gate.decide(result(4, ("a", PINK), ("b", PINK), ("c", GREEN)), POLICY)
    assert said.outcome == "STOP"
    assert said.reason.startswith(
        "Gate failed at epoch 4: background right in 1 of 3 prompts; a shows "
    )
    assert said.reason.endswith(f"pink ({hex_of(PINK)}), asked: green #00c828")


@pytest.mark.parametrize(
    "pictures",
    [
        [("a", GREEN), ("b", PINK)],
        [("a", GREEN), ("b", None), ("c", None)],
        [("a", None), ("b", None)],
        [],
    ],
    ids=["even", "mostly unmeasured", "unmeasured", "none"],
)
def test_what_is_even_or_unmeasured_decides_nothing(
    pictures: Sequence[tuple[str, tuple[int, int, int] | None]],
) -> None:
    assert gate.decide(result(4, *pictures), POLICY).outcome == "INCONCLUSIVE"


def test_a_prompts_seeds_must_agree_before_it_counts() -> None:
    mixed = result(4, ("a", GREEN), ("a", PINK), ("b", GREEN), ("b", GREEN))
    assert gate.answers(mixed) == {"a": "undecided", "b": "match"}
    assert gate.decide(mixed, POLICY).outcome == "INCONCLUSIVE"
    assert gate.decide(mixed, GateSettings(epoch=4, prompts=0.51)).outcome == "INCONCLUSIVE"
    most = result(4, ("a", GREEN), ("a", GREEN), ("a", PINK))
    assert gate.answers(most) == {"a": "match"}
    assert gate.answers(most, seeds=0.9) == {"a": "undecided"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "epoch: is missing"),
        ({"epoch": True}, "epoch: should be a whole number"),
        ({"epoch": 0}, "epoch: should be at least 1"),
        ({"epoch": 4, "prompts": 0.5}, "prompts: should be greater than 0.5"),
        ({"epoch": 4, "seeds": 2}, "seeds: should be at most 1"),
        ({"epoch": 4, "seeds": True}, "seeds: should be a number"),
    ],
)
def test_a_policy_that_cannot_decide_is_refused(table: dict[str, Any], said: str) -> None:
    policy, problems = validated(GateSettings, table, "one.toml")
    assert policy is None
    assert [problem.startswith(f"one.toml: {said}") for problem in problems] == [True]


@pytest.mark.parametrize(
    ("backgrounds", "first", "turns"),
    [
        ("ppgg", 3, []),
        ("gggg", 1, []),
        ("pppp", None, []),
        ("pgpg", 2, [3, 4]),
        ("ggpp", 1, [3]),
        ("p-g-g", 3, []),
    ],
)
def test_a_background_that_was_right_and_is_wrong_again_is_oscillation(
    backgrounds: str, first: int | None, turns: list[int]
) -> None:
    results = epochs(backgrounds)
    assert gate.first_right(results) == first
    assert gate.flips(results) == turns


def test_the_best_epoch_is_the_first_of_equals_and_these_are_named_with_its_checkpoint() -> None:
    results = epochs("pgggpg")
    best = gate.best(results)
    assert best is not None
    assert (best.epoch, gate.equals(results)) == (2, [3, 4, 6])
    mean = best.scores.mean
    assert gate.best_line(results) == (
        f"Best: epoch 2 ({mean}; epochs 3-4, 6 equal): lora-000002.safetensors"
    )
    assert gate.best_line(epochs("g")) == f"Best: epoch 1 ({mean}): lora-000001.safetensors"
    assert gate.best_line([]) is None


def test_a_mean_is_never_praised_where_the_background_is_wrong() -> None:
    right, wrong = epochs("gp")
    said = f"background right in 3 of 3 pictures; mean {right.scores.mean} of 10, {right.verdict} ("
    assert right.summary().startswith(said)
    assert wrong.verdict
    said = f"background right in 0 of 3 pictures; mean {wrong.scores.mean} of 10 (quality "
    assert wrong.summary().startswith(said)
    assert gate.best_line([wrong]) == (
        f"Best: epoch 2 ({wrong.scores.mean}, background right in 0 of 3 pictures): "
        "lora-000002.safetensors"
    )


def test_an_epoch_worse_by_more_than_the_noise_is_a_regression_and_one_within_it_is_none() -> None:
    names = [(name, GREEN) for name in "abcdef"]
    fine, noisy = result(1, *names), result(2, *names, noise=60)
    said = gate.regression([fine, noisy])
    assert said is not None
    assert said.startswith("epoch 2 is worse than epoch 1: by ")
    assert gate.regression([fine, result(2, *names)]) is None
    assert gate.regression([noisy, result(3, *names)]) is None
    assert gate.regression([fine]) is None
    # Too few pictures in common say nothing.
    assert gate.regression([result(1, *names[:3]), result(2, *names[:3], noise=60)]) is None
