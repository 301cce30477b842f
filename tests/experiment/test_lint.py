"""Options that do nothing, or stop the trainer late."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from bespoke.experiment import options
from bespoke.experiment.config import TRAINING_FILE, Experiment
from bespoke.experiment.lint import DATASET_ROWS, TRAINING_ROWS, audit, ignored
from bespoke.experiment.settings import DATASET_FILE, Setting

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
    ({"multires_noise_discount": 0.3}, {}, {"multires_noise_iterations": 6}),
    ({"sdpa": True}, {"xformers": True}, {}),
]


def ignored_keys(made: Experiment) -> set[str]:
    keys = [each.message.partition(" = ")[0].rpartition(" ")[2] for each in audit(made)]
    return {f"{'training' if key in made.training else 'dataset'}.{key}" for key in keys}


@pytest.mark.parametrize(("option", "idle", "acting"), IDLE)
def test_an_option_without_effect_is_named_and_one_with_it_is_not(
    option: dict[str, Any], idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    name = f"training.{next(iter(option))}"
    assert name in ignored_keys(experiment(**option, **idle))
    assert name not in ignored_keys(experiment(**{**option, **acting}))


IDLE_DATA: list[Case] = [
    ({"keep_tokens": 3}, {}, {"shuffle_caption": True}),
    ({"keep_tokens": 3}, {"shuffle_caption": False}, {"caption_tag_dropout_rate": 0.1}),
    ({"bucket_no_upscale": True}, {"enable_bucket": False}, {"enable_bucket": True}),
    (
        {"max_bucket_reso": 1024},
        {"enable_bucket": True, "bucket_no_upscale": True},
        {"enable_bucket": True},
    ),
]


@pytest.mark.parametrize(("option", "idle", "acting"), IDLE_DATA)
def test_a_dataset_option_without_effect_is_named_and_one_with_it_is_not(
    option: dict[str, Any], idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    name = f"dataset.{next(iter(option))}"
    assert name in ignored_keys(experiment({**option, **idle}))
    assert name not in ignored_keys(experiment({**option, **acting}))


def test_a_weight_for_regularisation_pictures_needs_some() -> None:
    made = experiment(prior_loss_weight=1.0)
    assert ignored_keys(made) == {"training.prior_loss_weight"}
    regular = put({"image_dir": "r", "is_reg": True}, "x")
    assert ignored_keys(replace(made, subsets=(*made.subsets, regular))) == set()


@pytest.mark.parametrize("origin", ["experiments/one.toml", "--set"])
def test_what_an_experiment_writes_without_effect_is_a_warning(origin: str) -> None:
    (found,) = audit(experiment(origin=origin, prior_loss_weight=0.5))
    assert (found.severity, found.code) == ("warning", "option_ignored")
    assert found.message.startswith(f"{origin}: prior_loss_weight = 0.5 has no effect: ")


@pytest.mark.parametrize("origin", [TRAINING_FILE, DATASET_FILE])
def test_what_the_base_files_write_is_there_for_other_experiments(origin: str) -> None:
    assert list(audit(experiment(origin=origin, prior_loss_weight=0.5))) == []


def test_an_option_that_is_switched_off_is_not_called_idle() -> None:
    assert "training.sdpa" in ignored(experiment(sdpa=False, xformers=True))
    assert ignored_keys(experiment(sdpa=False, xformers=True)) == set()


def test_every_key_of_the_rows_is_an_option_of_the_trainer() -> None:
    known = options.table()
    for keys, _, _ in TRAINING_ROWS:
        assert set(keys) <= set(known.sections["training"])
    for keys, _, _ in DATASET_ROWS:
        assert set(keys) <= set(known.sections["general"])


def test_workers_that_are_kept_but_not_there_are_an_error() -> None:
    kept = {"persistent_data_loader_workers": True}
    (found,) = audit(experiment(**kept, max_data_loader_n_workers=0))
    assert (found.severity, found.code) == ("error", "option_conflict")
    assert list(audit(experiment(**kept, max_data_loader_n_workers=1))) == []


def test_a_reason_is_told_without_a_line_of_the_trainers_source() -> None:
    reasons = [row[-1] for row in (*TRAINING_ROWS, *DATASET_ROWS)]
    assert not [each for each in reasons if re.search(r"\bt[un]:\d", each)]
