"""The dataset options of each subset as the trainer merges them from every level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bespoke.experiment.options import table

if TYPE_CHECKING:
    from bespoke.experiment.config import Experiment


def effective(experiment: Experiment) -> tuple[dict[str, Any], ...]:
    """Every dataset option of each subset as the trainer merges it, in the subsets' order.

    Subset, then [general], then the default (config_util.py:467). Of the training file's options
    the dataset takes train_batch_size alone (config_util.py:260): others are refused there.
    """
    sections = table().sections
    defaults = {k: o.default for k, o in {**sections["general"], **sections["subsets"]}.items()}
    batch = experiment.option("train_batch_size")
    merged = []
    for subset in experiment.subsets:
        levels = (experiment.general, subset)
        written = {key: each.value for level in levels for key, each in level.items()}
        merged.append({**defaults, "batch_size": batch, **written})
    return tuple(merged)


def by_folder(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The same by each subset's image_dir."""
    return {str(options["image_dir"]): options for options in effective(experiment)}
