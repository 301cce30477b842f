"""`bespoke experiments`: what there is to run, and what each changes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from bespoke import config

REPOSITORY = Path(__file__).resolve().parent.parent


def rows(repository: Path) -> list[dict[str, Any]]:
    """One row an experiment: its names, parent, own changes, hypothesis and confidence."""
    found = []
    for experiment in config.known(repository):
        name = experiment.name
        found.append(
            {
                "name": name,
                "run_name": experiment.run_name,
                "output_name": experiment.output_name,
                "parent": experiment.parent,
                "changes": _changes(experiment),
                "hypothesis": experiment.hypothesis,
                "confidence": experiment.confidence,
                "expected": list(experiment.expected),
            }
        )
    return found


def _changes(experiment: config.Experiment) -> dict[str, Any]:
    origin = f"experiments/{experiment.name}.toml"
    levels = {"training": experiment.training, "dataset": experiment.general}
    changes = {
        f"{section}.{key}": setting.value
        for section, settings in levels.items()
        for key, setting in settings.items()
        if setting.origin == origin
    }
    subsets = [subset for block in experiment.blocks for subset in block.subsets]
    if any(subset["image_dir"].origin == origin for subset in subsets):
        changes["dataset.subsets"] = [subset["image_dir"].value for subset in subsets]
    return changes


def show(*, as_json: bool) -> None:
    """Print the experiments, or one JSON list of them."""
    found = rows(REPOSITORY)
    if as_json:
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
