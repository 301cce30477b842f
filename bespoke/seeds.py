"""The same experiment at another seed: is a difference larger than that between two seeds?"""

from __future__ import annotations

from dataclasses import replace

from bespoke.config import Experiment, check, put
from bespoke.errors import ConfigError


def with_seed(experiment: Experiment, seed: int | None) -> Experiment:
    """The same experiment at another seed, under names of its own.

    The seed that its files say, or None, changes nothing: that run keeps the plain names, and what
    was trained under them.

    Raises:
        ConfigError: where `--set` says a seed too, or the trainer takes no such number.
    """
    own = experiment.training.get("seed")
    if seed is None:
        return experiment
    if own is not None and own.origin == "--set":
        raise ConfigError("--set training.seed: a seed is asked for beside it: keep one of the two")
    if own is not None and own.value == seed:
        return experiment
    training = dict(experiment.training)
    put(training, "seed", seed, "--seed")
    # TensorBoard's folders are told apart by this and the second of the start.
    prefix = f"{experiment.option('log_prefix') or ''}_seed_{seed}_"
    put(training, "log_prefix", prefix, "--seed", "each seed has a TensorBoard folder of its own")
    problems = check(training, {}, ())
    if problems:
        raise ConfigError("\n".join(problems))
    return replace(
        experiment,
        run_name=f"{experiment.run_name}_seed_{seed}",
        output_name=f"{experiment.output_name}_seed_{seed}",
        training=training,
    )
