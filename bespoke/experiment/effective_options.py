"""The dataset options of each subset as the trainer merges them from every level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bespoke.experiment.options import table

if TYPE_CHECKING:
    from bespoke.experiment.config import Experiment

# The training file's names of two dataset keys (config_util.py:260 at v0.10.1).
_ARGPARSE_NAMES = {"train_batch_size": "batch_size", "dataset_repeats": "num_repeats"}


def effective(experiment: Experiment) -> tuple[dict[str, Any], ...]:
    """Every dataset option of each subset as the trainer merges it, in the subsets' order.

    Subset, then [general], then the training file, then the default; None counts as not written
    (config_util.py:467). A key that datasets hold and subsets do not starts at [general].
    """
    keys = {**table().datasets, **table().subsets}
    keys.pop("subsets")
    training = {_ARGPARSE_NAMES.get(key, key): each for key, each in experiment.training.items()}
    merged = []
    for subset in experiment.subsets:
        values: dict[str, Any] = {key: option.default for key, option in keys.items()}
        for level in (training, experiment.general, subset):
            values |= {k: s.value for k, s in level.items() if k in keys and s.value is not None}
        merged.append(values)
    return tuple(merged)


def by_folder(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The same by each subset's image_dir."""
    return {str(options["image_dir"]): options for options in effective(experiment)}
