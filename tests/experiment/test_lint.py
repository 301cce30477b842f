"""Options that do nothing, weaken one another or stop the trainer, and prompts that mislead."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bespoke.experiment import options
from bespoke.experiment.config import TRAINING_FILE, Experiment
from bespoke.experiment.lint import (
    DATASET_ROWS,
    TRAINING_ROWS,
    audit,
    ignored,
    ignored_findings,
    prompt_findings,
)
from bespoke.experiment.prompts import Prompt
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


def codes(made: Experiment) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in audit(made)]


# What does nothing

# The option, with what it does nothing, and with what it acts.
IDLE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"learning_rate": 1e-4}, {"unet_lr": 1e-4, "text_encoder_lr": [5e-5]}, {"unet_lr": 1e-4}),
    (
        {"learning_rate": 1e-4},
        {"unet_lr": 1e-4, "text_encoder_lr": 5e-5},
        {"unet_lr": 1e-4, "text_encoder_lr": 5e-5, "lr_scheduler": "polynomial"},
    ),
    (
        {"lr_scheduler_num_cycles": 3},
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "cosine_with_restarts"},
    ),
    ({"multires_noise_discount": 0.3}, {}, {"multires_noise_iterations": 6}),
    ({"sdpa": True}, {"xformers": True}, {}),
    ({"log_with": "tensorboard"}, {}, {"logging_dir": "logs"}),
]


def ignored_keys(made: Experiment) -> set[str]:
    return {str(each.measured["option"]) for each in ignored_findings(made)}


@pytest.mark.parametrize(("option", "idle", "acting"), IDLE)
def test_an_option_without_effect_is_named_and_one_with_it_is_not(
    option: dict[str, Any], idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    name = f"training.{next(iter(option))}"
    assert name in ignored_keys(experiment(**option, **idle))
    assert name not in ignored_keys(experiment(**{**option, **acting}))


IDLE_DATA: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
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
    withs = Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=made.training,
        subsets=(*made.subsets, regular),
    )
    assert ignored_keys(withs) == set()


def test_the_base_files_idle_options_are_notes_and_an_experiments_are_warnings() -> None:
    for origin, severity in (
        (TRAINING_FILE, "note"),
        (DATASET_FILE, "note"),
        ("experiments/one.toml", "warning"),
        ("--set", "warning"),
    ):
        (found,) = ignored_findings(experiment(origin=origin, prior_loss_weight=0.5))
        assert found.severity == severity
        assert found.message.startswith(f"{origin}: prior_loss_weight = 0.5 has no effect: ")


def test_an_option_that_is_switched_off_is_not_called_idle() -> None:
    assert "training.sdpa" in ignored(experiment(sdpa=False, xformers=True))
    assert ignored_keys(experiment(sdpa=False, xformers=True)) == set()


def test_every_key_of_the_rows_is_an_option_of_the_trainer() -> None:
    known = options.table()
    for keys, _, _ in TRAINING_ROWS:
        assert set(keys) <= set(known.training)
    for keys, _, _ in DATASET_ROWS:
        assert set(keys) <= set(known.general)


# What weakens, stops or does not fit


def test_an_offset_beside_multires_noise_is_noted_and_either_alone_is_clean() -> None:
    both = experiment(noise_offset=0.05, multires_noise_iterations=6)
    assert ("note", "noise_offset_weakened") in codes(both)
    assert codes(experiment(noise_offset=0.05)) == []
    assert codes(experiment(noise_offset=0.0, multires_noise_iterations=6)) == []


def test_workers_that_are_kept_but_not_there_are_an_error() -> None:
    kept = {"persistent_data_loader_workers": True}
    wrong = experiment(**kept, max_data_loader_n_workers=0)
    assert codes(wrong) == [("error", "option_conflict")]
    assert codes(experiment(**kept, max_data_loader_n_workers=1)) == []


@pytest.mark.parametrize(
    ("dataset", "wrong"),
    [
        ({"resolution": 64}, True),
        ({"resolution": 64, "bucket_no_upscale": True}, True),
        ({"resolution": 64, "min_bucket_reso": 64}, False),
        ({"resolution": 2048}, True),
        ({"resolution": [256, 1024]}, False),
        ({"resolution": 320, "min_bucket_reso": 350}, False),  # rounded down to 320
        ({"resolution": 500}, True),  # every bucket would be cut down to a multiple of 64
        ({"resolution": 512}, False),
    ],
)
def test_bucket_bounds_must_hold_the_resolution(dataset: dict[str, Any], wrong: bool) -> None:
    found = ("error", "bucket_bounds") in codes(experiment({"enable_bucket": True, **dataset}))
    assert found == wrong
    assert ("error", "bucket_bounds") not in codes(experiment(dataset))


# Prompts


def prompt(text: str, negative: str = "") -> Prompt:
    return Prompt(name="one", text=text, negative=negative)


def test_a_prompt_of_225_tokens_is_read_whole_and_of_226_is_not() -> None:
    assert list(prompt_findings([prompt("a " * 225)])) == []
    (found,) = prompt_findings([prompt("short"), prompt("a", "a " * 226)])
    assert (found.code, found.severity) == ("prompt_too_long", "warning")
    assert found.message.startswith("test prompt one is 226 tokens long")


def test_a_reason_is_told_without_a_line_of_the_trainers_source() -> None:
    reasons = [row[-1] for row in (*TRAINING_ROWS, *DATASET_ROWS)]
    assert not [each for each in reasons if re.search(r"\bt[un]:\d", str(each))]
