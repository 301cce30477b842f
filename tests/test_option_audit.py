"""Options that do nothing, weaken one another or stop the trainer, and prompts that mislead."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bespoke import options
from bespoke.config import DATASET_FILE, TRAINING_FILE, Block, Experiment, Setting
from bespoke.option_audit import (
    CONFLICTS,
    DATASET_ROWS,
    TRAINING_ROWS,
    audit,
    ignored,
    ignored_findings,
    prompt_findings,
    xformers_findings,
)

BASE: dict[str, Any] = {"network_module": "networks.lora", "max_train_epochs": 10}
FITTING = {"torch": "2.10.0", "xformers": "0.0.35"}


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
        blocks=(Block(settings={}, subsets=({"image_dir": Setting(value="all", origin="x")},)),),
    )


def codes(made: Experiment) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in audit(made, FITTING)]


# What does nothing

# The option, with what it does nothing, and with what it acts.
IDLE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"learning_rate": 1e-4}, {"unet_lr": 1e-4, "text_encoder_lr": [5e-5]}, {"unet_lr": 1e-4}),
    (
        {"learning_rate": 1e-4},
        {"unet_lr": 1e-4, "text_encoder_lr": 5e-5},
        {"unet_lr": 1e-4, "text_encoder_lr": 5e-5, "lr_scheduler": "polynomial"},
    ),
    ({"text_encoder_lr": [5e-5]}, {"network_train_unet_only": True}, {}),
    ({"unet_lr": 5e-5}, {"network_train_text_encoder_only": True}, {}),
    (
        {"lr_scheduler_num_cycles": 3},
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "cosine_with_restarts"},
    ),
    ({"lr_scheduler_power": 2.0}, {"lr_scheduler": "linear"}, {"lr_scheduler": "polynomial"}),
    (
        {"lr_scheduler": "cosine"},
        {"optimizer_type": "AdamWScheduleFree"},
        {"optimizer_type": "AdamW8bit"},
    ),
    ({"max_train_steps": 1000}, {}, {"max_train_epochs": None}),
    ({"noise_offset_random_strength": True}, {"noise_offset": 0.0}, {"noise_offset": 0.1}),
    ({"multires_noise_discount": 0.3}, {}, {"multires_noise_iterations": 6}),
    ({"huber_c": 0.2}, {"loss_type": "l2"}, {"loss_type": "huber"}),
    ({"save_last_n_epochs": 2}, {}, {"save_every_n_epochs": 1}),
    (
        {"save_last_n_epochs_state": 2, "save_every_n_epochs": 1},
        {"save_state": False},
        {"save_state": True},
    ),
    ({"save_state_on_train_end": True}, {"save_state": True}, {}),
    ({"sample_every_n_steps": 100}, {"sample_every_n_epochs": 1}, {}),
    ({"sdpa": True}, {"xformers": True}, {}),
    ({"log_with": "tensorboard"}, {}, {"logging_dir": "logs"}),
    ({"dynamo_backend": "eager"}, {}, {"torch_compile": True}),
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
    ({"token_warmup_min": 2}, {}, {"token_warmup_step": 0.1}),
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
    regular = Block(settings={}, subsets=(put({"image_dir": "r", "is_reg": True}, "x"),))
    withs = Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=made.training,
        blocks=(*made.blocks, regular),
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
    assert {key for key, _, _ in CONFLICTS} <= set(known.training)


# What weakens, stops or does not fit


def test_an_offset_beside_multires_noise_is_noted_and_either_alone_is_clean() -> None:
    both = experiment(noise_offset=0.05, multires_noise_iterations=6)
    assert ("note", "noise_offset_weakened") in codes(both)
    assert codes(experiment(noise_offset=0.05)) == []
    assert codes(experiment(noise_offset=0.0, multires_noise_iterations=6)) == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"adaptive_noise_scale": 0.1}, {"noise_offset": 0.1}),
        ({"scale_v_pred_loss_like_noise_pred": True}, {"v_parameterization": True}),
        ({"v_pred_like_loss": 0.5, "v_parameterization": True}, {"v_parameterization": False}),
        ({"full_fp16": True}, {"mixed_precision": "fp16"}),
        ({"full_bf16": True}, {"mixed_precision": "bf16"}),
        (
            {"persistent_data_loader_workers": True, "max_data_loader_n_workers": 0},
            {"max_data_loader_n_workers": 1},
        ),
    ],
)
def test_what_would_stop_the_trainer_is_an_error(
    wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    assert codes(experiment(**wrong)) == [("error", "option_conflict")]
    assert codes(experiment(**{**wrong, **right})) == []


@pytest.mark.parametrize("key", ["color_aug", "random_crop"])
def test_what_cached_latents_cannot_follow_is_an_error(key: str) -> None:
    assert codes(experiment({key: True}, cache_latents=True)) == [("error", "option_conflict")]
    assert codes(experiment({key: True})) == []


@pytest.mark.parametrize(
    ("dataset", "wrong"),
    [
        ({"resolution": 64}, True),
        ({"resolution": 64, "bucket_no_upscale": True}, True),
        ({"resolution": 64, "min_bucket_reso": 64}, False),
        ({"resolution": 2048}, True),
        ({"resolution": [256, 1024]}, False),
        ({"resolution": 320, "min_bucket_reso": 350}, False),  # rounded down to 320
        ({"resolution": 512}, False),
    ],
)
def test_bucket_bounds_must_hold_the_resolution(dataset: dict[str, Any], wrong: bool) -> None:
    found = ("error", "bucket_bounds") in codes(experiment({"enable_bucket": True, **dataset}))
    assert found == wrong
    assert ("error", "bucket_bounds") not in codes(experiment(dataset))


def test_bucket_bounds_of_different_levels_are_held_together() -> None:
    made = Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        general=put({"enable_bucket": True}, "x"),
        blocks=(
            Block(
                settings=put({"resolution": 64}, "x"),
                subsets=(put({"image_dir": "all"}, "x"),),
            ),
        ),
    )
    assert codes(made) == [("error", "bucket_bounds")]


@pytest.mark.parametrize(
    ("versions", "wrong"),
    [
        (FITTING, False),
        ({"torch": "2.10.0+cu128", "xformers": "0.0.35"}, False),
        ({"torch": "2.9.1", "xformers": "0.0.35"}, True),
        ({"torch": "2.9.1"}, False),
        ({"torch": "2.9.1", "xformers": "0.0.30"}, False),  # nothing is known of this one
    ],
)
def test_xformers_is_held_to_the_torch_it_was_built_for(
    versions: dict[str, str], wrong: bool
) -> None:
    found = [each.code for each in xformers_findings(experiment(xformers=True), versions)]
    assert found == (["xformers_torch"] if wrong else [])
    assert list(xformers_findings(experiment(xformers=False), versions)) == []


# Prompts


def test_a_prompt_of_225_tokens_is_read_whole_and_of_226_is_not() -> None:
    assert list(prompt_findings(["a " * 225])) == []
    (found,) = prompt_findings(["short", "a " * 226 + "--w 512"])
    assert (found.code, found.severity) == ("prompt_too_long", "warning")
    assert found.message.startswith("prompt 2 costs 226 tokens")


def test_unescaped_brackets_are_named_in_the_prompt_and_in_its_negative() -> None:
    assert list(prompt_findings([r"hair \(#ff0000\), \[x\] --n no \(y\) --d 42"])) == []
    (found,) = prompt_findings(["hair (#ff0000) --w 512"])
    assert (found.code, found.measured["brackets"]) == ("prompt_parentheses", 2)
    (found,) = prompt_findings(["hair --n [bad] --l 7"])
    assert "'[bad]'" in found.message


def test_a_reason_is_told_without_a_line_of_the_trainers_source() -> None:
    reasons = [row[-1] for row in (*TRAINING_ROWS, *DATASET_ROWS, *CONFLICTS)]
    assert not [each for each in reasons if re.search(r"\bt[un]:\d", str(each))]
