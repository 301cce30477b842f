"""Other names for a run that is made from the same experiment with other values."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from bespoke.errors import ConfigError
from bespoke.experiment.config import Experiment, check
from bespoke.experiment.settings import put
from bespoke.experiment.toml_files import toml_value


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
        raise ConfigError("--set training.seed: --seeds names a seed too: keep one of the two")
    if own is not None and own.value == seed:
        return experiment
    training = dict(experiment.training)
    put(training, "seed", seed, "--seeds")
    if problems := check(training, {}, ()):
        raise ConfigError("\n".join(problems))
    return _suffixed(replace(experiment, training=training), f"seed_{seed}", "--seeds")


def named_by_overrides(experiment: Experiment) -> Experiment:
    """The same under names of its own where `--set` changed a value: it is another run.

    The names hold each option and value, as far as they fit into a file's name.
    """
    levels = (experiment.training, experiment.general)
    changed = {key: s.value for level in levels for key, s in level.items() if s.origin == "--set"}
    if not changed:
        return experiment
    words = "_".join(
        f"{key}_{value if isinstance(value, str) else toml_value(value)}"
        for key, value in sorted(changed.items())
    )
    suffix = re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("_")
    if suffix != words or len(suffix) > 60:
        suffix = f"{suffix[:40]}_{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    return _suffixed(experiment, suffix, "--set")


def _suffixed(experiment: Experiment, suffix: str, origin: str) -> Experiment:
    training = dict(experiment.training)
    # TensorBoard's folders are told apart by this and the second of the start.
    prefix = f"{experiment.option('log_prefix') or ''}_{suffix}_"
    put(training, "log_prefix", prefix, origin, "names TensorBoard's folder")
    return replace(
        experiment,
        run_name=f"{experiment.run_name}_{suffix}",
        output_name=f"{experiment.output_name}_{suffix}",
        training=training,
    )
