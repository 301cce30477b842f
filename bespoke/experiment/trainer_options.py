"""What bespoke knows of the pinned trainer's options and files, and a value with its origin.

The trainer takes a TOML as it stands (train_util.py:4760 at v0.10.1): what it would not say is said
by `option_checks`. `python tools/options_scan.py vendor/sd-scripts` writes the table anew.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECTIONS = ("training", "general", "subsets")
TABLE_FILE = Path(__file__).with_name("trainer_options.json")
TRAINED_EXTENSIONS = frozenset(
    (".png", ".PNG", ".jpg", ".JPG", ".jpeg", ".JPEG", ".webp", ".WEBP", ".bmp", ".BMP")
)
"""What the trainer's glob takes with the locked packages (train_util.py:104 at v0.10.1)."""
PICTURE_EXTENSIONS = frozenset(
    (*TRAINED_EXTENSIONS, ".gif", ".tif", ".tiff", ".avif", ".jxl", ".heic", ".tga")
)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of the training file, or one key of the dataset file.

    `default` is the training file's, which the dataset's keys of the same name fall back on.
    `dataset_key` is the dataset file's name for a training option that belongs there; an option
    with `nargs` takes a list of its kind.
    """

    name: str
    kind: str
    default: Any = None
    nargs: object = None
    choices: Sequence[Any] = ()
    dataset_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """What was scanned from the trainer's source at `commit`.

    `training` holds every option of its parser, `sections` those that act in each of our sections.
    """

    commit: str
    training: Mapping[str, Option]
    sections: Mapping[str, Mapping[str, Option]]
    lora_args: tuple[str, ...]
    optimizers: tuple[str, ...]


@functools.cache
def table() -> Table:
    """The committed table, read once."""
    read = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    sections = {
        section: {name: Option(name=name, **record) for name, record in read[section].items()}
        for section in SECTIONS
    }
    training = sections["training"]
    sections["training"] = {name: each for name, each in training.items() if not each.dataset_key}
    # It would override train_batch_size without a word.
    del sections["general"]["batch_size"]
    return Table(
        commit=read["commit"],
        training=training,
        sections=sections,
        lora_args=tuple(read["lora_args"]),
        optimizers=tuple(read["optimizers"]),
    )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One option's value, where it was written, and the setting that it replaced."""

    value: Any
    origin: str
    before: Setting | None = None
    why: str = ""


Settings = dict[str, Setting]


def put(settings: Settings, key: str, value: object, origin: str, why: str = "") -> None:
    """Set `key`, keeping what it replaces for the receipt; the same value again changes nothing."""
    before = settings.get(key)
    if before is None or type(before.value) is not type(value) or before.value != value:
        settings[key] = Setting(value=value, origin=origin, before=before, why=why)
