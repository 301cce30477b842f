"""Other names for a run that is made from the same experiment with other values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.experiment.option_rules import problems
from bespoke.experiment.settings import put

if TYPE_CHECKING:
    from bespoke.experiment.config import Experiment


def renamed(experiment: Experiment, prefix: str = "", suffix: str = "") -> Experiment:
    """The same experiment under names that nothing else can be mistaken for."""
    return replace(
        experiment,
        run_name=f"{prefix}{experiment.run_name}{suffix}",
        output_name=f"{prefix}{experiment.output_name}{suffix}",
    )


def with_seed(experiment: Experiment, seed: int | None) -> Experiment:
    """The same experiment at another seed, under names of its own.

    The seed that its files say, or None, changes nothing.
    """
    own = experiment.training.get("seed")
    if seed is None or (own and own.value == seed):
        return experiment
    if own and own.origin == "--set":
        raise ConfigError("--set training.seed: --seeds names a seed too: keep one of the two")
    training = dict(experiment.training)
    put(training, "seed", seed, "--seeds")
    if wrong := problems("training", training):
        raise ConfigError("\n".join(wrong))
    return _suffixed(replace(experiment, training=training), f"seed_{seed}", "--seeds")


def _suffixed(experiment: Experiment, suffix: str, origin: str) -> Experiment:
    training = dict(experiment.training)
    # TensorBoard's folders are told apart by this and the second of the start.
    prefix = f"{experiment.option('log_prefix') or ''}_{suffix}_"
    put(training, "log_prefix", prefix, origin, "names TensorBoard's folder")
    return renamed(replace(experiment, training=training), suffix=f"_{suffix}")
