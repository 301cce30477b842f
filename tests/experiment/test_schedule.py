"""The learning rate over the epochs, held to the trainer's own, and the gate beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.experiment.config import Experiment
from bespoke.experiment.experiment_file import Policy
from bespoke.experiment.schedule import Length, gate_findings, length, shares
from bespoke.experiment.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

OF_RECORD: dict[str, Any] = {
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_num_cycles": 3,
    "lr_warmup_steps": 100,
    "learning_rate": 1e-4,
    "max_train_epochs": 10,
    "gradient_accumulation_steps": 4,
}
RUN = Length(steps_per_epoch=508, epochs=10, steps=5080)


def put(values: dict[str, Any]) -> dict[str, Setting]:
    return {key: Setting(value=value, origin="a test") for key, value in values.items()}


def experiment(*subsets: dict[str, Any], **training: Any) -> Experiment:
    given = subsets or ({"image_dir": "all", "num_repeats": 10},)
    return Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=put({**OF_RECORD, **training}),
        subsets=tuple(put(subset) for subset in given),
    )


# How long a run is


def test_the_collection_of_record_makes_508_steps_an_epoch() -> None:
    assert length(experiment(), {"all": 203}) == RUN


def test_a_batch_of_four_makes_as_many_steps_as_four_accumulated() -> None:
    made = experiment(train_batch_size=4, gradient_accumulation_steps=1)
    assert length(made, {"all": 203}) == RUN


def test_each_subset_counts_by_its_repeats() -> None:
    one = {"image_dir": "a", "num_repeats": 2}
    two = {"image_dir": "b", "num_repeats": 3}
    assert length(experiment(one, two), {"a": 10, "b": 20}).steps_per_epoch == 20


# The learning rate


def test_the_schedule_of_record_anneals_at_3_6_and_10_and_restarts_in_4_and_7() -> None:
    rates = shares(experiment(), RUN)
    assert rates is not None
    assert [round(rate, 2) for rate in rates] == [
        *(0.86, 0.42, 0.05, 0.94, 0.55, 0.12, 0.98, 0.67, 0.21, 0.0)
    ]


@pytest.mark.parametrize(
    "training",
    [
        {"lr_scheduler": "polynomial"},
        {"lr_scheduler_type": "CosineAnnealingLR"},
        {"optimizer_type": "AdamWScheduleFree"},
    ],
)
def test_what_is_not_computed_says_so(training: dict[str, Any]) -> None:
    assert shares(experiment(**training), RUN) is None


def test_a_gate_beyond_the_last_epoch_is_a_warning_and_at_it_none() -> None:
    def found(epoch: int) -> list[str]:
        gated = replace(experiment(), gate=Policy(epoch=epoch))
        return [each.code for each in gate_findings(gated, RUN)]

    assert found(11) == ["gate_beyond_last_epoch"]
    assert found(10) == []
    assert list(gate_findings(experiment(), RUN)) == []


# Against the trainer

LIVE = """
import torch, train_network
from library import train_util

answer = []
for case in asked["cases"]:
    args = train_network.setup_parser().parse_args([])
    args.optimizer_type, args.max_train_steps = "AdamW", asked["steps"]
    vars(args).update(case)
    rate = 5e-5  # a group's own, as text_encoder_lr gives it
    weights = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))], "lr": rate}]
    optimizer = train_util.get_optimizer(args, weights)[-1]
    scheduler = train_util.get_scheduler_fix(args, optimizer, 1)
    ends = []
    for step in range(1, asked["steps"] + 1):
        scheduler.step()
        if step % asked["epoch"] == 0:
            ends.append(scheduler.get_last_lr()[0] / rate)
    answer.append(ends)
"""

CASES: dict[str, dict[str, Any]] = {
    "of record": {},
    "warm-up as a ratio": {"lr_warmup_steps": 0.05},
    "long warm-up": {"lr_warmup_steps": 1200, "lr_scheduler": "linear"},
    "one cycle": {"lr_scheduler_num_cycles": 1},
    "cosine": {"lr_scheduler": "cosine"},
    "linear": {"lr_scheduler": "linear"},
    "constant": {"lr_scheduler": "constant", "lr_warmup_steps": 0},
    "constant with warm-up": {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 700},
}


@pytest.fixture(scope="module")
def live(ask_trainer: Callable[[str, Any], Any]) -> dict[str, list[float]]:
    """The shares that the trainer's own schedulers reach at each epoch's end."""
    chosen = ("lr_scheduler", "lr_scheduler_num_cycles", "lr_warmup_steps", "learning_rate")
    plain = {key: OF_RECORD[key] for key in chosen}
    asked = {
        "cases": [{**plain, **case} for case in CASES.values()],
        "steps": RUN.steps,
        "epoch": RUN.steps_per_epoch,
    }
    return dict(zip(CASES, ask_trainer(LIVE, asked), strict=True))


@pytest.mark.trainer
@pytest.mark.parametrize("name", CASES)
def test_the_shares_are_the_trainers_own(live: dict[str, list[float]], name: str) -> None:
    assert shares(experiment(**CASES[name]), RUN) == pytest.approx(live[name], abs=1e-6)
