"""Another seed is another run, under names of its own; the experiment's own seed is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.experiment.run_names import with_seed

if TYPE_CHECKING:
    from pathlib import Path


def test_another_seed_has_names_of_its_own_and_the_experiments_own_keeps_the_plain_ones(
    repository: Path,
) -> None:
    plain = config.load("keep_tokens_3", repository=repository)
    assert with_seed(plain, None) is plain
    assert with_seed(plain, 42) is plain
    other = with_seed(plain, 43)
    assert other.run_name == "SD15_KEEP_TOKENS_3_EXPERIMENT_seed_43"
    assert other.output_name == "bespoke_baby_sd15_lora_keep_tokens_3_seed_43"
    assert other.option("log_prefix") == "keep_tokens_3_experiment_seed_43_"
    seed = other.training["seed"]
    assert (seed.value, seed.origin) == (43, "--seeds")
    assert seed.before is plain.training["seed"]
    assert other.name == plain.name


@pytest.mark.parametrize(
    ("overrides", "seed", "said"),
    [
        (("training.seed=7",), 43, "--set training.seed: --seeds names a seed too"),
        ((), -1, "--seeds: seed: "),
        ((), 2**32, "--seeds: seed: "),
    ],
)
def test_a_seed_that_cannot_be_is_refused(
    repository: Path, overrides: tuple[str, ...], seed: int, said: str
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository, overrides=overrides)
    with pytest.raises(ConfigError) as caught:
        with_seed(experiment, seed)
    assert str(caught.value).startswith(said)
