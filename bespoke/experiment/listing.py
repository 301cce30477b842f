"""`bespoke experiments`: what there is to run, and what each changes."""

from __future__ import annotations

import json
import textwrap
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
        Change(f"{section}.{key}", None if s.before is None else s.before.value, s.value)
        for section, settings in levels.items()
        for key, s in settings.items()
        if s.origin == own
    ]
    if any(subset["image_dir"].origin == own for subset in experiment.subsets):
        folders = [subset["image_dir"].value for subset in experiment.subsets]
        rows.append(Change("dataset.subsets", None, folders))
    return rows


def show(chosen: argparse.Namespace) -> None:
    """Print what there is to run and what each changes, or one JSON list of it."""
    rows: list[dict[str, Any]] = [
        {
            "name": experiment.name,
            "run_name": experiment.run_name,
            "output_name": experiment.output_name,
            "parent": experiment.parent,
            "changes": {option: value for option, _, value in changes(experiment)},
            "hypothesis": experiment.hypothesis,
            "confidence": experiment.confidence,
            "expected": experiment.expected,
        }
        for experiment in known(REPOSITORY)
    ]
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for name in sorted(set(names(REPOSITORY)) - {row["name"] for row in rows}):
        print(f"{name}\n    does not load: `bespoke check --experiment {name}` says why")
    for row in rows:
        print(row["name"])
        facts = [f"parent {row['parent']}"] if row["parent"] else []
        if row["confidence"] is not None:
            facts.append(f"confidence {row['confidence']:.0%}")
        facts += [f"{key} = {value}" for key, value in row["changes"].items()]
        for text in (row["hypothesis"], *facts):
            print(textwrap.indent(textwrap.fill(text, 96), "    "))
