"""Experiments: base TOMLs, overlays and `--set` folded into one checked, traceable whole.

Every value keeps the place that it was written in, so that the receipt of a run can name it.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import toml

from bespoke import gate, ladder, options, options_values
from bespoke.captions import KINDS
from bespoke.dataset import Promise
from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TRAINING_FILE = "training_config.toml"
DATASET_FILE = "dataset_config.toml"
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One trainer option's value, where it was written, and the setting that it replaced."""

    value: Any
    origin: str
    before: Setting | None = None
    why: str = ""


Settings = dict[str, Setting]


def put(settings: Settings, key: str, value: object, origin: str, why: str = "") -> None:
    """Set `key`, keeping what it replaces for the receipt; the same value again changes nothing."""
    before = settings.get(key)
    if before is not None and type(before.value) is type(value) and before.value == value:
        return
    settings[key] = Setting(value=value, origin=origin, before=before, why=why)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One entry of [[datasets]]: its own settings and those of each of its subsets."""

    settings: Settings
    subsets: tuple[Settings, ...]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything one run is made from, before paths and the machine are known.

    `training` holds the trainer's options; `general` and `blocks` the dataset's, in the three
    levels of kohya's dataset file. `promises` says of each named folder of data what it holds;
    `test` which of the test prompts each epoch is tested with, and how small;
    `ladder` is what its own `[[next]]` says comes after it;
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
    gate: gate.Policy | None = None
    test: Mapping[str, Any] = field(default_factory=dict)
    pictures_taken: int | None = None
    drawn_if_missing: bool = False
    training: Settings = field(default_factory=dict)
    general: Settings = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    promises: Mapping[str, Promise] = field(default_factory=dict)
    ladder: tuple[ladder.Rung, ...] = ()
    pinned: frozenset[str] = frozenset()

    @property
    def parent(self) -> str | None:
        return self.lineage[0] if self.lineage else None

    def option(self, key: str) -> Any:
        """The training option's value, or the trainer's own default where nothing is written."""
        if key in self.training:
            return self.training[key].value
        return options.table().training[key].default


# What an experiment's file may hold besides its overlays, with the type each takes.
FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("parent", "run_name", "output_name", "hypothesis", "subject"), (str,)),
    **dict.fromkeys(("gate", "test", "training", "dataset", "data"), (dict,)),
    **dict.fromkeys(("expected", "next"), (list,)),
    "confidence": (int, float),
    "pictures_taken": (int,),
    "drawn_if_missing": (bool,),
}
# What `[test]` may hold: which prompts of test_prompts.toml, and how small and short.
TEST = {
    "prompts": "a list of names from test_prompts.toml",
    "size": "pixels",
    "steps": "a number of sampling steps",
}
# What a hypothesis may be about: a class of tags, or the machine itself.
SUBJECTS = (*KINDS, "machine")
# An experiment's own words: a child that does not say them has none.
PERSONAL = ("hypothesis", "confidence", "subject", "pictures_taken", "drawn_if_missing")


def names(repository: Path) -> list[str]:
    """The experiments there are, by name."""
    stems = (path.stem for path in (repository / "experiments").glob("*.toml"))
    return sorted(stem for stem in stems if SAFE_NAME.fullmatch(stem))


def known(repository: Path) -> list[Experiment]:
    """Every experiment that loads: one that is broken is no obstacle to the others."""
    found = []
    for name in names(repository):
        with contextlib.suppress(ConfigError):
            found.append(load(name, repository=repository))
    return found


def load(name: str, *, repository: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Fold base files, ancestors (eldest first), the experiment and `--set` into one.

    Raises:
        ConfigError: listing every problem found, each with its file and key.
    """
    chain = _chain(name, repository)
    problems: list[str] = []
    training = _base_training(repository, problems)
    general, blocks = _base_dataset(repository, problems)
    promises: dict[str, Promise] = {}
    pinned: set[str] = set()
    for ancestor, content in reversed(chain):
        origin = f"experiments/{ancestor}.toml"
        _check_fields(content, origin, problems)
        _check_words(content, origin, problems)
        pinned |= _table(content, "training").keys()
        for key, value in _table(content, "training").items():
            put(training, key, value, origin)
        blocks = _overlay_dataset(general, blocks, _table(content, "dataset"), origin, problems)
        for folder, promise in _table(content, "data").items():
            promises[folder] = Promise.from_toml(promise, f"{origin} [data.{folder}]")
    for override in overrides:
        section, key, value = _override(override)
        if section == "training":
            put(training, key, value, "--set")
            pinned.add(key)
        else:
            blocks = _overlay_dataset(general, blocks, {key: value}, "--set", problems)
    problems += check(training, general, blocks)
    problems += _leaving(training, blocks)
    own = chain[0][1]
    rungs, unsound = ladder.read(own.get("next", []), names(repository))
    problems += [f"experiments/{name}.toml: {problem}" for problem in unsound]
    run_name = str(own.get("run_name", f"{name.upper()}_EXPERIMENT"))
    output_name = str(own.get("output_name", name))
    for what, text in (("run_name", run_name), ("output_name", output_name)):
        if not SAFE_NAME.fullmatch(text):
            problems.append(
                f"experiments/{name}.toml: {what} {text!r} becomes a file's name: "
                "write letters, digits, '.', '_' and '-' alone"
            )
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    if "log_prefix" not in training:
        put(training, "log_prefix", f"{name}_experiment", "bespoke", "names TensorBoard's folder")
    return Experiment(
        name=name,
        lineage=tuple(ancestor for ancestor, _ in chain[1:]),
        run_name=run_name,
        output_name=output_name,
        expected=tuple(own.get("expected", ())),
        gate=gate.Policy(**own["gate"]) if "gate" in own else None,
        test=_table(own, "test"),
        training=training,
        general=general,
        blocks=blocks,
        promises=promises,
        ladder=rungs,
        pinned=frozenset(pinned),
        **{key: own[key] for key in PERSONAL if key in own},
    )


def renamed(experiment: Experiment, prefix: str) -> Experiment:
    """The same experiment under names that nothing else can be mistaken for."""
    return replace(
        experiment,
        run_name=f"{prefix}_{experiment.run_name}",
        output_name=f"{prefix}_{experiment.output_name}",
    )


def check(training: Settings, general: Settings, blocks: Iterable[Block]) -> list[str]:
    """Every option against the pinned trainer's table; one sentence a problem, with its origin."""
    levels = [("training", training), ("general", general)]
    for block in blocks:
        levels.append(("datasets", block.settings))
        levels += [("subsets", subset) for subset in block.subsets]
    found: list[str] = []
    for section, settings in levels:
        values = {key: setting.value for key, setting in settings.items()}
        for problem in options.problems(section, values):
            key = problem.partition(":")[0]
            base = TRAINING_FILE if section == "training" else DATASET_FILE
            origin = settings[key].origin if key in settings else base
            found.append(f"{origin}: {problem}")
    return found


def _leaving(training: Settings, blocks: Iterable[Block]) -> list[str]:
    """Names that would leave the folders they are taken from."""
    found = []
    form = training.get("save_model_as")
    if form is not None and form.value != "safetensors":
        found.append(
            f'{form.origin}: save_model_as: write "safetensors": no other form says of itself '
            "whether it is whole"
        )
    for key in ("output_dir", "logging_dir"):
        folder = training.get(key)
        if folder and not all(map(SAFE_NAME.fullmatch, str(folder.value).split("/"))):
            found.append(
                f"{folder.origin}: {key}: {folder.value!r} is taken from the workspace and must "
                "stay in it: name a folder there, and the workspace itself with --workspace"
            )
    for subset in (subset for block in blocks for subset in block.subsets):
        name = subset.get("image_dir")
        if name and isinstance(name.value, str) and not SAFE_NAME.fullmatch(name.value):
            found.append(
                f"{name.origin}: image_dir: {name.value!r}: write a name here, and say where it is "
                f"with --data NAME=DIR"
            )
    return found


def read_toml(path: Path, shown: str) -> dict[str, Any]:
    """A TOML file as the trainer's own library reads it.

    Raises:
        ConfigError: where it cannot be read, is not UTF-8, or is not TOML; with the line.
    """
    try:
        return dict(toml.loads(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}") from error
    except Exception as error:
        # The library meets some malformed files with IndexError or KeyError of its own.
        raise ConfigError(f"{shown}: not valid TOML: {error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Half a sentence that names the likeliest meant word, or all of the few there are."""
    choices = sorted(known)
    close = options_values.nearest(word, choices)
    return f"perhaps you meant {close[0]!r}" if close else f"there are: {', '.join(choices)}"


def _chain(name: str, repository: Path) -> list[tuple[str, dict[str, Any]]]:
    """The experiment and its ancestors, nearest first, each with its file's content."""
    chain: list[tuple[str, dict[str, Any]]] = []
    wanted: str | None = name
    while wanted is not None:
        told_by = f"experiments/{chain[-1][0]}.toml: parent" if chain else "--experiment"
        if wanted in (seen for seen, _ in chain):
            path = " -> ".join([seen for seen, _ in chain] + [wanted])
            raise ConfigError(f"{told_by}: an experiment cannot be its own ancestor: {path}")
        file = repository / "experiments" / f"{wanted}.toml"
        if not SAFE_NAME.fullmatch(wanted) or not file.is_file():
            hint = nearest(wanted, names(repository))
            raise ConfigError(f"{told_by}: there is no experiment {wanted!r}: {hint}")
        content = read_toml(file, f"experiments/{wanted}.toml")
        chain.append((wanted, content))
        parent = content.get("parent")
        if parent is not None and not isinstance(parent, str):
            raise ConfigError(f"experiments/{wanted}.toml: parent: a name in quotes is needed")
        wanted = parent
    return chain


def _check_fields(content: Mapping[str, Any], origin: str, problems: list[str]) -> None:
    for key, value in content.items():
        if key not in FIELDS:
            problems.append(
                f"{origin}: {key}: not a field of an experiment: {nearest(key, FIELDS)}"
            )
        elif not isinstance(value, FIELDS[key]) or (
            isinstance(value, bool) and bool not in FIELDS[key]
        ):
            wanted = " or ".join(kind.__name__ for kind in FIELDS[key])
            problems.append(f"{origin}: {key}: {wanted} is needed, not {value!r}")
    data = content.get("data")
    for folder, promise in data.items() if isinstance(data, dict) else ():
        if not isinstance(promise, dict):
            problems.append(f"{origin}: [data]: write [data.NAME] for a folder, not {folder!r}")


def _check_words(content: Mapping[str, Any], origin: str, problems: list[str]) -> None:
    """What an experiment says of itself: confidence, subject and gate."""
    confidence, subject = content.get("confidence"), content.get("subject")
    if isinstance(confidence, (int, float)) and not 0 <= confidence <= 1:
        problems.append(f"{origin}: confidence: from 0 to 1 is needed, not {confidence!r}")
    if isinstance(subject, str) and subject not in SUBJECTS:
        problems.append(f"{origin}: subject: {subject!r}: {nearest(subject, SUBJECTS)}")
    for section, known in (("gate", [each.name for each in fields(gate.Policy)]), ("test", TEST)):
        problems += [
            f"{origin}: [{section}]: {key}: {nearest(key, known)}"
            for key in _table(content, section)
            if key not in known
        ]
    if isinstance(content.get("gate"), dict):
        problems += [f"{origin}: [gate]: {each}" for each in gate.problems(content["gate"])]
    for key, value in _table(content, "test").items():
        good = isinstance(value, list) if key == "prompts" else type(value) is int and value > 0
        if key in TEST and not good:
            problems.append(f"{origin}: [test]: {key}: {TEST[key]}, not {value!r}")


def _table(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    if not isinstance(value, dict):
        return {}
    return {
        name: inner for name, inner in value.items() if key != "data" or isinstance(inner, dict)
    }


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


def _base_dataset(repository: Path, problems: list[str]) -> tuple[Settings, tuple[Block, ...]]:
    content = read_toml(repository / DATASET_FILE, DATASET_FILE)
    sections = ("general", "datasets")
    problems += [
        f"{DATASET_FILE}: {key}: not a section of it: {nearest(key, sections)}"
        for key in content
        if key not in sections
    ]
    general = _settings(content.get("general", {}), DATASET_FILE, "[general]", problems)
    entries = _entries(content.get("datasets", []), DATASET_FILE, "[[datasets]]", problems)
    blocks = tuple(
        Block(
            subsets=_subsets(entry.pop("subsets", []), DATASET_FILE, problems),
            settings=_settings(entry, DATASET_FILE, "[[datasets]]", problems),
        )
        for entry in entries
    )
    if not any(block.subsets for block in blocks):
        problems.append(f"{DATASET_FILE}: [[datasets.subsets]]: none is written, so no pictures")
    return general, blocks


def _overlay_dataset(
    general: Settings,
    blocks: tuple[Block, ...],
    content: Mapping[str, Any],
    origin: str,
    problems: list[str],
) -> tuple[Block, ...]:
    """Lay an experiment's [dataset] over what stands: keys into `general`, subsets as a whole."""
    if "subsets" in content:
        if len(blocks) == 1:
            subsets = _subsets(content["subsets"], origin, problems)
            blocks = (replace(blocks[0], subsets=subsets),)
        else:
            problems.append(
                f"{origin}: [[dataset.subsets]]: {DATASET_FILE} has {len(blocks)} [[datasets]], "
                "so it is not clear whose subsets these are; keep one"
            )
    inner = [block.settings for block in blocks] + [s for b in blocks for s in b.subsets]
    for key, value in content.items():
        if key == "subsets":
            continue
        winner = next((rows[key] for rows in inner if key in rows), None)
        if winner is not None:
            problems.append(
                f"{origin}: {key}: would have no effect, for a [[datasets]] entry or subset in "
                f"{winner.origin} sets it too and wins; change it there"
            )
        put(general, key, value, origin)
    return blocks


def _entries(value: object, origin: str, where: str, problems: list[str]) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return value
    problems.append(f"{origin}: {where}: a list of tables is needed, not {value!r}")
    return []


def _settings(value: object, origin: str, where: str, problems: list[str]) -> Settings:
    if not isinstance(value, dict):
        problems.append(f"{origin}: {where}: a table is needed, not {value!r}")
        return {}
    return {key: Setting(value=inner, origin=origin) for key, inner in value.items()}


def _subsets(value: object, origin: str, problems: list[str]) -> tuple[Settings, ...]:
    where = "[[datasets.subsets]]"
    entries = _entries(value, origin, where, problems)
    problems += [
        f"{origin}: {where}: image_dir: the folder's name is needed"
        for entry in entries
        if not isinstance(entry.get("image_dir"), str)
    ]
    return tuple(_settings(entry, origin, where, problems) for entry in entries)


def _override(text: str) -> tuple[str, str, object]:
    """`training.KEY=VALUE` or `dataset.KEY=VALUE` as section, key and value, read as TOML."""
    path, equals, written = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot or not key or section not in ("training", "dataset"):
        known = options.table()
        guess = section if not dot else key
        where = "dataset" if guess in known.general else "training"
        raise ConfigError(
            f"--set {text}: write {where}.{guess or 'KEY'}={written or 'VALUE'}"
            " (training.KEY or dataset.KEY)"
        )
    try:
        value = toml.loads(f"value = {written.strip()}")["value"]
    except Exception:  # noqa: BLE001 - the library meets malformed text with many exceptions
        # A bare word is text: nobody types TOML's quotes through a shell gladly. The option
        # table then says whether text is what the option takes.
        value = written.strip()
    return section, key.strip(), value
