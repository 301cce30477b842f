"""`bespoke experiments`: what there is to run, and what each changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bespoke.experiment.config import known, names
from bespoke.files import REPOSITORY

if TYPE_CHECKING:
    import argparse

    from bespoke.experiment.config import Experiment


class Change(NamedTuple):
    """One option by its `--set` name, what it was, and what an experiment's own file writes."""

    option: str
    before: Any
    value: Any


def changes(experiment: Experiment) -> list[Change]:
    """What the experiment's own file changes."""
    own = f"experiments/{experiment.name}.toml"
    levels = {"training": experiment.training, "dataset": experiment.general}
    rows = [
        Change(f"{section}.{key}", s.before and s.before.value, s.value)
        for section, settings in levels.items()
        for key, s in settings.items()
        if s.origin == own
    ]
    folders = [subset["image_dir"] for subset in experiment.subsets]
    if any(each.origin == own for each in folders):
        rows.append(Change("dataset.subsets", None, [each.value for each in folders]))
    return rows


def show(_: argparse.Namespace) -> None:
    """Print what there is to run and what each changes."""
    loaded = {experiment.name: experiment for experiment in known(REPOSITORY)}
    for name in names(REPOSITORY):
        experiment = loaded.get(name)
        if experiment is None:
            print(f"{name}: does not load: `bespoke check --experiment {name}` says why")
            continue
        print(name)
        if experiment.parent:
            print(f"    parent {experiment.parent}")
        print(f"    {experiment.hypothesis}")
        for option, _before, value in changes(experiment):
            print(f"    {option} = {value}")
