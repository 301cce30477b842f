"""Experiments: base TOMLs, overlays and `--set` folded into one checked, traceable whole.

Every value keeps the place that it was written in, so that the receipt of a run can name it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError
from bespoke.experiment import next_step, prompts
from bespoke.experiment.experiment_file import SAFE_NAME, ExperimentFile, TestSettings
from bespoke.experiment.option_rules import problems as option_problems
from bespoke.experiment.options import table
from bespoke.experiment.settings import DATASET_FILE, Settings, overlay_dataset, put, read_dataset
from bespoke.experiment.toml_files import parsed, read_toml
from bespoke.experiment.validation import did_you_mean, shown, validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from bespoke.experiment.dataset_spec import DatasetSpec
    from bespoke.experiment.gate_policy import Policy

TRAINING_FILE = "training_config.toml"
# What no run can be without, and how it is written.
_REQUIRED = {
    "pretrained_model_name_or_path": '"stable-diffusion-v1-5/stable-diffusion-v1-5"',
    "network_module": '"networks.lora"',
    "max_train_epochs": "10",
    "output_dir": '"output"',
}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything one run is made from, before paths and the machine are known.

    `training` holds the trainer's options; `general` and `subsets` the dataset's, in the
    levels of kohya's dataset file. `specs` says of each named folder of data what it must hold;
    `test` which of the test prompts each epoch is tested with, and how small;
    `next_steps` is what its own `[[next]]` says comes after it;
    `pinned`: training options that an experiment's file or `--set` wrote; no plan changes them.
    """

    name: str
    lineage: tuple[str, ...] = ()
    run_name: str
    output_name: str
    hypothesis: str = ""
    confidence: float | None = None
    expected: tuple[str, ...] = ()
    subject: str = ""
    gate: Policy | None = None
    test: TestSettings = field(default_factory=TestSettings)
    pictures_taken: int | None = None
    drawn_if_missing: bool = False
    training: Settings = field(default_factory=dict)
    general: Settings = field(default_factory=dict)
    subsets: tuple[Settings, ...] = ()
    specs: Mapping[str, DatasetSpec] = field(default_factory=dict)
    next_steps: tuple[next_step.NextStep, ...] = ()
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
    specs: dict[str, DatasetSpec] = {}
    pinned: set[str] = set()
    for ancestor, file in reversed(chain):
        origin = f"experiments/{ancestor}.toml"
        pinned |= file.training.keys()
        for key, value in file.training.items():
            put(training, key, value, origin)
        subsets = overlay_dataset(general, subsets, file.dataset, origin, problems)
        specs |= file.data
    for section, key, value in map(_override, overrides):
        if section == "training":
            put(training, key, value, "--set")
            pinned.add(key)
        else:
            subsets = overlay_dataset(general, subsets, {key: value}, "--set", problems)
    problems += check(training, general, subsets)
    problems += _missing(training)
    problems += _leaving(training, subsets)
    own = chain[0][1]
    unsound = next_step.problems(own.next, names(repository))
    problems += [f"experiments/{name}.toml: {problem}" for problem in unsound]
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    if "log_prefix" not in training:
        put(training, "log_prefix", f"{name}_experiment", "bespoke", "names TensorBoard's folder")
    return Experiment(
        name=name,
        lineage=tuple(ancestor for ancestor, _ in chain[1:]),
        run_name=own.run_name or f"{name.upper()}_EXPERIMENT",
        output_name=own.output_name or name,
        hypothesis=own.hypothesis,
        confidence=own.confidence,
        expected=own.expected,
        subject=own.subject or "",
        gate=own.gate,
        test=own.test,
        pictures_taken=own.pictures_taken,
        drawn_if_missing=own.drawn_if_missing,
        training=training,
        general=general,
        subsets=subsets,
        specs=specs,
        next_steps=tuple(sorted(own.next, key=lambda step: step.at_least)),
        pinned=frozenset(pinned),
    )


def renamed(experiment: Experiment, prefix: str) -> Experiment:
    """The same experiment under names that nothing else can be mistaken for."""
    return replace(
        experiment,
        run_name=f"{prefix}_{experiment.run_name}",
        output_name=f"{prefix}_{experiment.output_name}",
    )


# --- What is wrong with it ------------------------------------------------------------------------


def check(training: Settings, general: Settings, subsets: Iterable[Settings]) -> list[str]:
    """Every option against the pinned trainer's table; one sentence a problem, with its origin."""
    levels = [("training", training), ("general", general)]
    levels += [("subsets", subset) for subset in subsets]
    lines: list[str] = []
    for section, settings in levels:
        values = {key: setting.value for key, setting in settings.items()}
        for problem in option_problems(section, values):
            key = problem.partition(":")[0]
            base = TRAINING_FILE if section == "training" else DATASET_FILE
            origin = settings[key].origin if key in settings else base
            lines.append(f"{origin}: {problem}")
    return lines


def _missing(training: Settings) -> Iterator[str]:
    for key, example in _REQUIRED.items():
        if key not in training:
            yield f"{TRAINING_FILE}: {key}: is missing: write for example {key} = {example}"


def _leaving(training: Settings, subsets: Iterable[Settings]) -> Iterator[str]:
    """Names that would leave the folders they are taken from, and files that cannot be verified."""
    form = training.get("save_model_as")
    if form is not None and form.value != "safetensors":
        yield (
            f"{form.origin}: save_model_as: only safetensors files can be verified: write "
            '"safetensors"'
        )
    for key in ("output_dir", "logging_dir"):
        folder = training.get(key)
        if folder and not all(map(SAFE_NAME.fullmatch, str(folder.value).split("/"))):
            yield (
                f"{folder.origin}: {key}: {shown(folder.value)} is taken from the workspace and "
                "must stay in it: name a folder there, and the workspace itself with --workspace"
            )
    for name in (subset.get("image_dir") for subset in subsets):
        if name and isinstance(name.value, str) and not SAFE_NAME.fullmatch(name.value):
            yield (
                f"{name.origin}: image_dir: {shown(name.value)}: write a name here, and say where "
                "it is with --data NAME=DIR"
            )


# --- Reading --------------------------------------------------------------------------------------


def _chain(name: str, repository: Path, problems: list[str]) -> list[tuple[str, ExperimentFile]]:
    """The experiment and its ancestors, nearest first, each with its file's content."""
    chain: list[tuple[str, ExperimentFile]] = []
    wanted: str | None = name
    while wanted is not None:
        named_in = f"experiments/{chain[-1][0]}.toml: parent" if chain else "--experiment"
        if wanted in (ancestor for ancestor, _ in chain):
            path = " -> ".join([ancestor for ancestor, _ in chain] + [wanted])
            raise ConfigError(f"{named_in}: an experiment cannot be its own ancestor: {path}")
        file = repository / "experiments" / f"{wanted}.toml"
        if not SAFE_NAME.fullmatch(wanted) or not file.is_file():
            hint = did_you_mean(wanted, names(repository))
            raise ConfigError(f"{named_in}: no experiment {shown(wanted)}: {hint}")
        origin = f"experiments/{wanted}.toml"
        content = read_toml(file, origin)
        read, wrong = validated(ExperimentFile, content, origin)
        problems += wrong
        chain.append((wanted, read or _overlays_alone(content)))
        parent = content.get("parent")
        wanted = parent if isinstance(parent, str) else None
    return chain


def _overlays_alone(content: Mapping[str, Any]) -> ExperimentFile:
    """Of a file that is wrong elsewhere: its options can be checked all the same."""
    training, dataset = content.get("training"), content.get("dataset")
    return ExperimentFile(
        training=training if isinstance(training, dict) else {},
        dataset=dataset if isinstance(dataset, dict) else {},
    )


def _base_training(repository: Path, problems: list[str]) -> Settings:
    settings: Settings = {}
    written_in: dict[str, str] = {}
    for name, value in read_toml(repository / TRAINING_FILE, TRAINING_FILE).items():
        rows = value if isinstance(value, dict) else {name: value}
        for key, inner in rows.items():
            if key in written_in:
                problems.append(
                    f"{TRAINING_FILE}: {key}: written twice, in [{written_in[key]}] and [{name}]: "
                    "the trainer would take the later one without a word; keep one"
                )
            written_in[key] = name
            put(settings, key, inner, TRAINING_FILE)
    return settings


def _override(text: str) -> tuple[str, str, object]:
    """`training.KEY=VALUE` or `dataset.KEY=VALUE` as section, key and value, read as TOML."""
    path, equals, written = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot or not key or section not in ("training", "dataset"):
        guess = section if not dot else key
        where = "dataset" if guess in table().general else "training"
        raise ConfigError(
            f"--set {text[:60]}: write {where}.{guess[:60] or 'KEY'}={written[:60] or 'VALUE'}"
            " (training.KEY or dataset.KEY)"
        )
    value: object = written.strip()
    # A bare word is text: nobody types TOML's quotes through a shell gladly. The option table then
    # says whether text is what the option takes.
    with contextlib.suppress(ValueError):
        content = parsed(f"value = {value}")
        value = content["value"] if len(content) == 1 else value
    return section, key.strip(), value


def test_prompts(experiment: Experiment, file: Path) -> tuple[prompts.Prompt, ...]:
    """The prompts of a file that each epoch is tested with, as the experiment's `[test]` says.

    Raises:
        ConfigError: where `[test]` names one that is not there, or as `prompts.load`.
    """
    test, known = experiment.test, prompts.load(file)
    names = [prompt.name for prompt in known]
    wanted = names if test.prompts is None else test.prompts
    for name in wanted:
        if name not in names:
            where = f"experiments/{experiment.name}.toml: [test]: prompts"
            raise ConfigError(f"{where}: {did_you_mean(name, names)}")
    kept = [prompt for prompt in known if prompt.name in wanted]
    return prompts.resized(kept, size=test.size, steps=test.steps)
