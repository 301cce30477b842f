"""The trainer's options with where each was written, and the levels of its dataset file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from bespoke.experiment.toml_files import read_toml
from bespoke.experiment.validation import CLOSED, validated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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


_Subsets = Annotated[list[dict[str, Any]], Field(min_length=1)]


@checked_dataclass(frozen=True, kw_only=True, config=CLOSED)
class _Dataset:
    subsets: _Subsets


@checked_dataclass(frozen=True, kw_only=True, config=CLOSED)
class _File:
    datasets: Annotated[list[_Dataset], Field(min_length=1, max_length=1)]
    general: dict[str, Any] = Field(default_factory=dict)


def read_dataset(repository: Path, problems: list[str]) -> tuple[Settings, tuple[Settings, ...]]:
    """[general] and [[datasets.subsets]] of the base file."""
    content = read_toml(repository / DATASET_FILE, DATASET_FILE)
    file, wrong = validated(_File, content, DATASET_FILE)
    problems += wrong
    if file is None:
        return {}, ()
    subsets = _subsets(file.datasets[0].subsets, DATASET_FILE, problems)
    return _settings(file.general, DATASET_FILE), subsets


def overlay_dataset(
    general: Settings,
    subsets: tuple[Settings, ...],
    content: Mapping[str, Any],
    origin: str,
    problems: list[str],
) -> tuple[Settings, ...]:
    """Lay an experiment's [dataset] over what stands: keys into `general`, subsets as a whole."""
    options = dict(content)
    if "subsets" in options:
        tables, wrong = validated(_Subsets, options.pop("subsets"), origin, ("dataset", "subsets"))
        problems += wrong
        subsets = _subsets(tables or [], origin, problems)
    for key, value in options.items():
        winner = next((subset[key].origin for subset in subsets if key in subset), None)
        if winner is not None:
            problems.append(
                f"{origin}: {key}: would have no effect: a subset in {winner} sets it too"
            )
        put(general, key, value, origin)
    return subsets


def _settings(values: Mapping[str, Any], origin: str) -> Settings:
    return {key: Setting(value=value, origin=origin) for key, value in values.items()}


def _subsets(
    tables: list[dict[str, Any]], origin: str, problems: list[str]
) -> tuple[Settings, ...]:
    problems += [
        f"{origin}: subsets.{number}.image_dir: write the folder's name"
        for number, table in enumerate(tables, start=1)
        if not isinstance(table.get("image_dir"), str)
    ]
    return tuple(_settings(table, origin) for table in tables)
