"""The trainer's options with where each was written, and the three levels of its dataset file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from bespoke.options import table
from bespoke.toml_files import read_toml
from bespoke.validation import CLOSED, validated

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


_Subsets = Annotated[list[dict[str, Any]], Field(min_length=1)]


@checked_dataclass(frozen=True, kw_only=True, config=CLOSED)
class _File:
    datasets: Annotated[list[dict[str, Any]], Field(min_length=1)]
    general: dict[str, Any] = Field(default_factory=dict)


def read_dataset(repository: Path, problems: list[str]) -> tuple[Settings, tuple[Block, ...]]:
    """The base dataset file; what is wrong with its form is added to `problems`."""
    content = read_toml(repository / DATASET_FILE, DATASET_FILE)
    file, wrong = validated(_File, content, DATASET_FILE)
    problems += wrong
    blocks = tuple(
        Block(
            subsets=_subsets(entry.pop("subsets", None), DATASET_FILE, problems),
            settings=_settings(entry, DATASET_FILE),
        )
        for entry in (file.datasets if file else ())
    )
    return _settings(file.general if file else {}, DATASET_FILE), blocks


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


def _settings(values: Mapping[str, Any], origin: str) -> Settings:
    return {key: Setting(value=value, origin=origin) for key, value in values.items()}


def _subsets(value: object, origin: str, problems: list[str]) -> tuple[Settings, ...]:
    where = ("datasets", "subsets")
    tables, wrong = validated(_Subsets, value, origin, where)
    problems += wrong
    problems += [
        f"{origin}: {'.'.join(where)}.{number}.image_dir: write the folder's name"
        for number, table in enumerate(tables or (), start=1)
        if not isinstance(table.get("image_dir"), str)
    ]
    return tuple(_settings(table, origin) for table in tables or ())


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
