"""Experiments: base TOMLs, overlays and `--set` folded into one checked, traceable whole.

Every value keeps the place that it was written in, so that the receipt of a run can name it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError
from bespoke.experiment import prompts
from bespoke.experiment.experiment_file import (
    ExperimentFile,
    Statement,
    overlay_alone,
    step_problems,
)
from bespoke.experiment.option_rules import problems as option_problems
from bespoke.experiment.options import table
from bespoke.experiment.settings import Setting, Settings, overlay_dataset, put, read_dataset
from bespoke.experiment.toml_files import parsed, read_toml
from bespoke.experiment.validation import SAFE_NAME, did_you_mean, shown, validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bespoke.experiment.dataset_spec import DatasetSpec
    from bespoke.experiment.experiment_file import NextStep

TRAINING_FILE = "training_config.toml"
# What no run can be without.
_REQUIRED = ("pretrained_model_name_or_path", "network_module", "max_train_epochs", "output_dir")


@dataclass(frozen=True, kw_only=True)
class Experiment(Statement):
    """Everything one run is made from, before paths and the machine are known.

    `training` holds the trainer's options; `general` and `subsets` the dataset's, in the levels of
    kohya's dataset file. `specs` says of each named folder of data what it must hold.
    `pinned`: training options that an experiment's file or `--set` wrote; no plan changes them.
    """

    name: str
    lineage: tuple[str, ...] = ()
    run_name: str
    output_name: str
    training: Settings = field(default_factory=dict)
    general: Settings = field(default_factory=dict)
    subsets: tuple[Settings, ...] = ()
    specs: Mapping[str, DatasetSpec] = field(default_factory=dict)
    next_steps: tuple[NextStep, ...] = ()
    pinned: frozenset[str] = frozenset()

    @property
    def parent(self) -> str | None:
        return self.lineage[0] if self.lineage else None

    def option(self, key: str) -> Any:
        """The training option's value, or the trainer's own default where nothing is written."""
        if key in self.training:
            return self.training[key].value
        return table().training[key].default


def names(repository: Path) -> list[str]:
    """The experiments there are, by name."""
    stems = (path.stem for path in (repository / "experiments").glob("*.toml"))
    return sorted(stem for stem in stems if SAFE_NAME.fullmatch(stem))


def known(repository: Path) -> list[Experiment]:
    """Every experiment that loads: one that is broken is no obstacle to the others."""
    loaded = []
    for name in names(repository):
        with contextlib.suppress(ConfigError):
            loaded.append(load(name, repository=repository))
    return loaded


def load(name: str, *, repository: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Fold base files, ancestors (eldest first), the experiment and `--set` into one.

    Raises:
        ConfigError: listing every problem, each with its file and key.
    """
    problems: list[str] = []
    chain = _chain(name, repository, problems)
    training = _base_training(repository, problems)
    general, subsets = read_dataset(repository, problems)
    layers = [(f"experiments/{each}.toml", file) for each, file in reversed(chain)]
    layers += [("--set", _override(text)) for text in overrides]
    for origin, file in layers:
        for key, value in file.training.items():
            put(training, key, value, origin)
        subsets = overlay_dataset(general, subsets, file.dataset, origin, problems)
    problems += option_problems("training", training)
    problems += option_problems("general", general)
    problems += [line for each in subsets for line in option_problems("subsets", each)]
    problems += [f"{TRAINING_FILE}: {key}: is missing" for key in _REQUIRED if key not in training]
    own = chain[0][1]
    unsound = step_problems(own.next, names(repository))
    problems += [f"experiments/{name}.toml: {problem}" for problem in unsound]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    if "log_prefix" not in training:
        put(training, "log_prefix", f"{name}_experiment", "bespoke", "names TensorBoard's folder")
    return Experiment(
        **{each.name: getattr(own, each.name) for each in fields(Statement)},
        name=name,
        lineage=tuple(ancestor for ancestor, _ in chain[1:]),
        run_name=own.run_name or f"{name.upper()}_EXPERIMENT",
        output_name=own.output_name or name,
        training=training,
        general=general,
        subsets=subsets,
        specs={key: spec for _, file in layers for key, spec in file.data.items()},
        next_steps=tuple(sorted(own.next, key=lambda step: step.at_least)),
        pinned=frozenset(key for _, file in layers for key in file.training),
    )


def _chain(name: str, repository: Path, problems: list[str]) -> list[tuple[str, ExperimentFile]]:
    """The experiment and its ancestors, nearest first, each with its file's content."""
    chain: list[tuple[str, ExperimentFile]] = []
    wanted: object = name
    while isinstance(wanted, str):
        named_in = f"experiments/{chain[-1][0]}.toml: parent" if chain else "--experiment"
        if wanted in (ancestor for ancestor, _ in chain):
            path = " -> ".join([ancestor for ancestor, _ in chain] + [wanted])
            raise ConfigError(f"{named_in}: an experiment cannot be its own ancestor: {path}")
        origin = f"experiments/{wanted}.toml"
        if not SAFE_NAME.fullmatch(wanted) or not (repository / origin).is_file():
            hint = did_you_mean(wanted, names(repository))
            raise ConfigError(f"{named_in}: no experiment {shown(wanted)}: {hint}")
        content = read_toml(repository / origin, origin)
        file, wrong = validated(ExperimentFile, content, origin)
        problems += wrong
        if file is None:  # its options can be checked all the same
            file = overlay_alone(content)
        chain.append((wanted, file))
        wanted = content.get("parent")
    return chain


def _base_training(repository: Path, problems: list[str]) -> Settings:
    settings: Settings = {}
    for name, value in read_toml(repository / TRAINING_FILE, TRAINING_FILE).items():
        rows = value if isinstance(value, dict) else {name: value}
        problems += [f"{TRAINING_FILE}: {key}: written twice" for key in rows if key in settings]
        settings |= {k: Setting(value=v, origin=TRAINING_FILE) for k, v in rows.items()}
    return settings


def _override(text: str) -> ExperimentFile:
    """`training.KEY=VALUE` or `dataset.KEY=VALUE` as a file would say it, read as TOML."""
    path, equals, written = text.partition("=")
    section, _, key = path.strip().partition(".")
    if not equals or not key or section not in ("training", "dataset"):
        raise ConfigError(f"--set {text[:60]}: write training.KEY=VALUE or dataset.KEY=VALUE")
    value: object = written.strip()
    # A bare word is text: nobody types TOML's quotes through a shell gladly.
    with contextlib.suppress(ValueError):
        content = parsed(f"value = {value}")
        value = content["value"] if len(content) == 1 else value
    return overlay_alone({section: {key.strip(): value}})


def test_prompts(experiment: Experiment, file: Path) -> tuple[prompts.Prompt, ...]:
    """The prompts of a file that each epoch is tested with, as the experiment's `[test]` says."""
    test, every = experiment.test, prompts.load(file)
    names = [prompt.name for prompt in every]
    for name in test.prompts or ():
        if name not in names:
            where = f"experiments/{experiment.name}.toml: test.prompts"
            raise ConfigError(f"{where}: {did_you_mean(name, names)}")
    kept = [prompt for prompt in every if test.prompts is None or prompt.name in test.prompts]
    return prompts.resized(kept, size=test.size, steps=test.steps)
