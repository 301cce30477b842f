"""Options that do nothing, and a gate that would never decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bespoke.experiment.experiment import Experiment, GateSettings
from bespoke.experiment.option_warnings import check, without_effect
from bespoke.experiment.trainer_options import Setting

BASE: dict[str, Any] = {"network_module": "networks.lora", "max_train_epochs": 10}


def put(values: dict[str, Any], origin: str) -> dict[str, Setting]:
    return {key: Setting(value=value, origin=origin) for key, value in values.items()}


def experiment(
    dataset: dict[str, Any] | None = None, origin: str = "experiments/one.toml", **training: Any
) -> Experiment:
    return Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=put({**BASE, **training}, origin),
        general=put(dataset or {}, origin),
        subsets=({"image_dir": Setting(value="all", origin="x")},),
    )


# The option, with what it does nothing, and with what it acts.
Case = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
IDLE: list[Case] = [
    ({"learning_rate": 1e-4}, {"unet_lr": 1e-4, "text_encoder_lr": [5e-5]}, {"unet_lr": 1e-4}),
    (
        {"lr_scheduler_num_cycles": 3},
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "cosine_with_restarts"},
    ),
]
IDLE_DATA: list[Case] = [
    ({"keep_tokens": 3}, {}, {"shuffle_caption": True}),
    ({"keep_tokens": 3}, {"shuffle_caption": False}, {"caption_tag_dropout_rate": 0.1}),
]


def named(one: Experiment) -> set[str]:
    keys = [each.message.partition(" = ")[0].rpartition(" ")[2] for each in check(one)]
    return {f"{'training' if key in one.training else 'dataset'}.{key}" for key in keys}


@pytest.mark.parametrize(("option", "idle", "acting"), IDLE)
def test_an_option_without_effect_is_named_and_one_with_it_is_not(
    option: dict[str, Any], idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    name = f"training.{next(iter(option))}"
    assert name in named(experiment(**option, **idle))
    assert name not in named(experiment(**option, **acting))


@pytest.mark.parametrize(("option", "idle", "acting"), IDLE_DATA)
def test_a_dataset_option_without_effect_is_named_and_one_with_it_is_not(
    option: dict[str, Any], idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    name = f"dataset.{next(iter(option))}"
    assert name in named(experiment({**option, **idle}))
    assert name not in named(experiment({**option, **acting}))


@pytest.mark.parametrize(
    ("origin", "count"),
    [("experiments/one.toml", 1), ("--set", 1), ("training_config.toml", 0)],
)
def test_what_the_base_files_write_is_there_for_other_experiments(origin: str, count: int) -> None:
    findings = list(check(experiment({"keep_tokens": 3}, origin=origin)))
    assert [each.code for each in findings] == ["option_ignored"] * count
    assert all(each.message.startswith(f"{origin}: keep_tokens = 3 has no") for each in findings)


def test_an_option_that_is_switched_off_is_not_named() -> None:
    off = experiment({"keep_tokens": 0})
    assert "dataset.keep_tokens" in without_effect(off)
    assert named(off) == set()


def test_a_gate_beyond_the_last_epoch_is_a_warning_and_at_it_none() -> None:
    def codes(epoch: int) -> list[str]:
        return [each.code for each in check(replace(experiment(), gate=GateSettings(epoch=epoch)))]

    assert codes(11) == ["gate_beyond_last_epoch"]
    assert codes(10) == []
