"""What an experiment's file may say, and the experiment that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.validation import SAFE_NAME, validated

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("pictures", wrong) for wrong in ("203", True, 203.0, 10**4000, float("nan"))),
        ("size", 0),
        ("hex_codes_min", -1),
        *(("names", wrong) for wrong in ("lips", [1], [""], [["lips"]])),
        *(("caption_version", wrong) for wrong in (1, "v\x00", "v" * 3000)),
        *(("caption_extension", wrong) for wrong in ("txt", ".", ".a/b")),
    ],
)
def test_a_wrong_value_is_named_with_its_key_in_one_short_line(key: str, value: object) -> None:
    spec, problems = validated(DatasetSpec, {key: value}, "x.toml", ("data", "art"))
    assert spec is None
    assert [line.startswith(f"x.toml: data.art.{key}") for line in problems] == [True]
    assert len(problems[0]) < 160


@pytest.mark.parametrize(
    ("score", "experiments"),
    [
        (8.0, ("expanded_dataset", "conv_dim_8")),
        (7.9, ("longer_15_epochs", "lower_lr_5e-5")),
        (6.9, ("keep_tokens_5",)),
    ],
)
def test_keep_tokens_3_goes_on_by_its_score_and_its_child_inherits_no_step(
    repository: Path, score: float, experiments: tuple[str, ...]
) -> None:
    step = config.load("keep_tokens_3", repository=repository).next_step(score)
    assert step is not None
    assert step.experiments == experiments
    assert config.load("keep_tokens_5", repository=repository).next_step(score) is None


# Names of a run with other values


def test_another_seed_has_names_of_its_own_and_the_experiments_own_keeps_the_plain_ones(
    repository: Path,
) -> None:
    plain = config.load("keep_tokens_3", repository=repository)
    assert plain.with_seed(None) is plain
    assert plain.with_seed(42) is plain
    other = plain.with_seed(43)
    assert other.run_name == "SD15_KEEP_TOKENS_3_EXPERIMENT_seed_43"
    assert other.output_name == "bespoke_baby_sd15_lora_keep_tokens_3_seed_43"
    assert other.log_prefix == "keep_tokens_3_experiment_seed_43_"
    seed = other.training["seed"]
    assert (seed.value, seed.origin) == (43, "--seeds")
    assert seed.before is plain.training["seed"]
    assert other.name == plain.name
    for wrong in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"--seeds {wrong}: should be at least 0"):
            plain.with_seed(wrong)


def test_overrides_give_a_run_names_of_its_own_and_no_override_changes_none(
    repository: Path,
) -> None:
    def named(*overrides: str) -> config.Experiment:
        loaded = config.load("keep_tokens_3", repository=repository, overrides=overrides)
        return loaded.named_by_overrides()

    plain = config.load("keep_tokens_3", repository=repository)
    assert plain.named_by_overrides() is plain
    assert named("training.seed=42").output_name == plain.output_name  # the value that it has
    other = named("training.unet_lr=5e-5", "dataset.keep_tokens=4")
    assert other.run_name == f"{plain.run_name}_keep_tokens_4_unet_lr_5e-05"
    assert other.output_name == f"{plain.output_name}_keep_tokens_4_unet_lr_5e-05"
    assert other.log_prefix == "keep_tokens_3_experiment_keep_tokens_4_unet_lr_5e-05_"
    one, two = (
        named(f'training.network_args=["conv_dim={dim}", "conv_alpha=4"]') for dim in (8, 9)
    )
    assert one.output_name != two.output_name
    assert SAFE_NAME.fullmatch(one.output_name.removeprefix(plain.output_name + "_"))
