"""Experiments read: base TOMLs, overlays and `--set` folded into one checked, traceable whole.

Every value keeps the place that it was written in, so that the receipt of a run can name it.
"""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError
from bespoke.experiment import prompts
from bespoke.experiment.experiment import Experiment, ExperimentFile, Statement
from bespoke.experiment.option_checks import problems as option_problems
from bespoke.experiment.toml_files import parsed, read_toml
from bespoke.experiment.trainer_options import Setting, Settings, put
from bespoke.experiment.validation import SAFE_NAME, did_you_mean, shown, validated
from bespoke.files import REPOSITORY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TRAINING_FILE = "training_config.toml"
DATASET_FILE = "dataset_config.toml"
# What no run can be without.
_REQUIRED = ("pretrained_model_name_or_path", "network_module", "max_train_epochs", "output_dir")


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


def show(_: argparse.Namespace) -> None:
    """Print what there is to run and what each changes."""
    for name in names(REPOSITORY):
        print(name)
        try:
            experiment = load(name, repository=REPOSITORY)
        except ConfigError as error:
            print(f"    cannot be run: {error}")
            continue
        if experiment.parent:
            print(f"    parent {experiment.parent}")
        print(f"    {experiment.hypothesis}")
        for option, value in experiment.changes.items():
            print(f"    {option} = {value}")


def load(name: str, *, repository: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Fold base files, ancestors (eldest first), the experiment and `--set` into one.

    A ConfigError lists every problem, each with its file and key.
    """
    chain = _chain(name, repository)
    files, problems = [], []
    for each, content in chain:
        file, wrong = validated(ExperimentFile, content, f"experiments/{each}.toml")
        files.append(file)
        problems += wrong
    training = _base_training(repository, problems)
    general, subsets = _base_dataset(repository)
    layers = [(f"experiments/{each}.toml", content) for each, content in reversed(chain)]
    layers += [("--set", _override(text)) for text in overrides]
    for origin, content in layers:
        for key, value in _table(content, "training").items():
            put(training, key, value, origin)
        subsets = _overlay_dataset(general, subsets, _table(content, "dataset"), origin)
    problems += option_problems("training", training)
    problems += option_problems("general", general)
    problems += [line for each in subsets for line in option_problems("subsets", each)]
    problems += [f"{TRAINING_FILE}: {key}: is missing" for key in _REQUIRED if key not in training]
    own = files[0]
    if not problems:
        there = names(repository)
        wanted = [each for step in own.next for each in step.experiments if each not in there]
        hints = [f"no experiment {each!r}: {did_you_mean(each, there)}" for each in wanted]
        problems += [f"experiments/{name}.toml: next: {hint}" for hint in hints]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return Experiment(
        **{each.name: getattr(own, each.name) for each in fields(Statement)},
        name=name,
        lineage=tuple(ancestor for ancestor, _ in chain[1:]),
        run_name=own.run_name or f"{name.upper()}_EXPERIMENT",
        output_name=own.output_name or name,
        log_prefix=f"{name}_experiment",
        training=training,
        general=general,
        subsets=subsets,
        changes={
            f"{section}.{key}": value
            for section in ("training", "dataset")
            for key, value in getattr(own, section).items()
        },
        specs={key: spec for file in reversed(files) for key, spec in file.data.items()},
        next_steps=tuple(sorted(own.next, key=lambda step: step.at_least)),
        pinned=frozenset(key for _, content in layers for key in _table(content, "training")),
    )


def _chain(name: str, repository: Path) -> list[tuple[str, dict[str, Any]]]:
    """The experiment and its ancestors, nearest first, each with its file's content."""
    chain: list[tuple[str, dict[str, Any]]] = []
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
        chain.append((wanted, content))
        wanted = content.get("parent")
    return chain


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A file's options, which can be checked also where the file is otherwise wrong."""
    table = content.get(name)
    return table if isinstance(table, dict) else {}


def _base_training(repository: Path, problems: list[str]) -> Settings:
    settings: Settings = {}
    for name, value in read_toml(repository / TRAINING_FILE, TRAINING_FILE).items():
        rows = value if isinstance(value, dict) else {name: value}
        problems += [f"{TRAINING_FILE}: {key}: written twice" for key in rows if key in settings]
        settings |= _settings(rows, TRAINING_FILE)
    return settings


def _base_dataset(repository: Path) -> tuple[Settings, tuple[Settings, ...]]:
    """[general] and [[datasets.subsets]] of the base file."""
    match read_toml(repository / DATASET_FILE, DATASET_FILE):
        case {"general": dict(general), "datasets": [{"subsets": tables, **more}], **others} if (
            not more and not others
        ):
            return _settings(general, DATASET_FILE), _subsets(tables, DATASET_FILE)
    form = "[general], and one [[datasets]] that holds its [[datasets.subsets]] and nothing else"
    raise ConfigError(f"{DATASET_FILE}: not of the form that is needed: {form}")


def _subsets(tables: Any, origin: str) -> tuple[Settings, ...]:
    match tables:
        case [_, *_] if all(isinstance(each, dict) and "image_dir" in each for each in tables):
            return tuple(_settings(each, origin) for each in tables)
    raise ConfigError(f"{origin}: subsets: write a table for each, with its image_dir")


def _overlay_dataset(
    general: Settings, subsets: tuple[Settings, ...], content: Mapping[str, Any], origin: str
) -> tuple[Settings, ...]:
    """Lay an experiment's [dataset] over what stands: keys into `general`, subsets as a whole."""
    options = dict(content)
    if "subsets" in options:
        subsets = _subsets(options.pop("subsets"), origin)
    for key, value in options.items():
        winner = next((subset[key].origin for subset in subsets if key in subset), None)
        if winner is not None:
            wrong = f"would have no effect: a subset in {winner} sets it too"
            raise ConfigError(f"{origin}: {key}: {wrong}")
        put(general, key, value, origin)
    return subsets


def _settings(values: Mapping[str, Any], origin: str) -> Settings:
    return {key: Setting(value=value, origin=origin) for key, value in values.items()}


def _override(text: str) -> dict[str, Any]:
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
    return {section: {key.strip(): value}}


def test_prompts(experiment: Experiment, file: Path) -> tuple[prompts.Prompt, ...]:
    """The prompts of a file that each epoch is tested with, as the experiment's `[test]` says."""
    test, every = experiment.test, prompts.load(file)
    known_names = [prompt.name for prompt in every]
    if unknown := [name for name in test.prompts or () if name not in known_names]:
        where = f"experiments/{experiment.name}.toml: test.prompts: {shown(unknown[0])}"
        raise ConfigError(f"{where}: {did_you_mean(unknown[0], known_names)}")
    kept = [prompt for prompt in every if prompt.name in (test.prompts or known_names)]
    return prompts.resized(kept, size=test.size, steps=test.steps)
