"""The trainer's options with where each was written, and the three levels of its dataset file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bespoke.options import table
from bespoke.toml_files import read_toml
from bespoke.validation import did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bespoke.config import Experiment

DATASET_FILE = "dataset_config.toml"


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


def read_dataset(repository: Path, problems: list[str]) -> tuple[Settings, tuple[Block, ...]]:
    content = read_toml(repository / DATASET_FILE, DATASET_FILE)
    sections = ("general", "datasets")
    problems += [
        f"{DATASET_FILE}: {key}: unknown section: {did_you_mean(key, sections)}"
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


def overlay_dataset(
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
    problems.append(f"{origin}: {where}: should be a list of tables, not {shown(value)}")
    return []


def _settings(value: object, origin: str, where: str, problems: list[str]) -> Settings:
    if not isinstance(value, dict):
        problems.append(f"{origin}: {where}: should be a table, not {shown(value)}")
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


# --- What the trainer makes of the levels ---------------------------------------------------------

# The training file's names of two dataset keys (config_util.py:260 at v0.10.1).
_ARGPARSE_NAMES = {"train_batch_size": "batch_size", "dataset_repeats": "num_repeats"}


def effective(experiment: Experiment) -> tuple[dict[str, Any], ...]:
    """Every dataset option of each subset as the trainer merges it, in the subsets' order.

    Subset, then its dataset, then [general], then the training file, then the default; None counts
    as not written (config_util.py:467). A key that datasets hold and subsets do not starts there.
    """
    known = table()
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
