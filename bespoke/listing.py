"""`bespoke experiments`: what there is to run, and what each changes."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import config

if TYPE_CHECKING:
    import argparse

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Change:
    """One option that an experiment's own file writes, and what it was before that."""

    option: str
    before: Any
    value: Any


def changes(experiment: config.Experiment) -> list[Change]:
    """What the experiment's own file changes, by the options' `--set` names."""
    own = f"experiments/{experiment.name}.toml"
    levels = {"training": experiment.training, "dataset": experiment.general}
    found = [
        Change(
            option=f"{section}.{key}",
            before=None if setting.before is None else setting.before.value,
            value=setting.value,
        )
        for section, settings in levels.items()
        for key, setting in settings.items()
        if setting.origin == own
    ]
    subsets = [subset for block in experiment.blocks for subset in block.subsets]
    if any(subset["image_dir"].origin == own for subset in subsets):
        folders = [subset["image_dir"].value for subset in subsets]
        found.append(Change(option="dataset.subsets", before=None, value=folders))
    return found


def show(chosen: argparse.Namespace) -> None:
    """Print the experiments, or one JSON list of them."""
    found: list[dict[str, Any]] = [
        {
            "name": experiment.name,
            "run_name": experiment.run_name,
            "output_name": experiment.output_name,
            "parent": experiment.parent,
            "changes": {each.option: each.value for each in changes(experiment)},
            "hypothesis": experiment.hypothesis,
            "confidence": experiment.confidence,
            "expected": experiment.expected,
        }
        for experiment in config.known(REPOSITORY)
    ]
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    broken = set(config.names(REPOSITORY)) - {row["name"] for row in found}
    for name in sorted(broken):
        print(f"{name}\n    does not load: `bespoke check --experiment {name}` says why")
    for row in found:
        print(row["name"])
        facts = [f"parent {row['parent']}"] if row["parent"] else []
        if row["confidence"] is not None:
            facts.append(f"confidence {row['confidence']:.0%}")
        facts += [f"{key} = {value}" for key, value in row["changes"].items()]
        for text in (row["hypothesis"], *facts):
            print(textwrap.indent(textwrap.fill(text, 96), "    "))
