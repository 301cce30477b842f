"""The dataset options of each subset as the trainer merges them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bespoke import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bespoke.config import Experiment

# The training file's names of two dataset keys (config_util.py:260 at v0.10.1).
_ARGPARSE_NAMES = {"train_batch_size": "batch_size", "dataset_repeats": "num_repeats"}


def effective(experiment: Experiment) -> tuple[dict[str, Any], ...]:
    """Every dataset option of each subset as the trainer merges it, in the subsets' order.

    Subset, then its dataset, then [general], then the training file, then the default; None counts
    as not written (config_util.py:467). A key that datasets hold and subsets do not starts there.
    """
    known = options.table()
    training = {_ARGPARSE_NAMES.get(k, k): s.value for k, s in experiment.training.items()}
    general = {key: setting.value for key, setting in experiment.general.items()}
    merged = []
    for block in experiment.blocks:
        dataset = {key: setting.value for key, setting in block.settings.items()}
        for subset in block.subsets:
            own = {key: setting.value for key, setting in subset.items()}
            levels = (own, dataset, general, training)
            keys = {**known.datasets, **known.subsets}
            keys.pop("subsets")
            merged.append({key: _first(key, levels, keys[key].default) for key in keys})
    return tuple(merged)


def by_folder(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """The same by each subset's image_dir."""
    return {str(options["image_dir"]): options for options in effective(experiment)}


def _first(key: str, levels: Iterable[Mapping[str, Any]], default: Any) -> Any:
    return next((level[key] for level in levels if level.get(key) is not None), default)
