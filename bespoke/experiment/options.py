"""What bespoke knows of the pinned trainer's options: their names, types, and where each belongs.

The trainer takes a TOML as it stands (train_util.py:4760 at v0.10.1): what it would not say is said
here and by the rules. `python tools/options_scan.py vendor/sd-scripts` writes the table anew.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.experiment.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECTIONS = ("training", "general", "subsets")
TABLE_FILE = Path(__file__).with_name("trainer_options.json")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of the training file, or one key of the dataset file.

    `many` takes a list of its kind. `default` is the training file's, which the dataset's keys of
    the same name fall back on. `dataset_key` is the dataset file's name for a training option that
    belongs there.
    """

    name: str
    kind: str
    default: Any = None
    nargs: object = None
    choices: Sequence[Any] = ()
    dataset_key: str | None = None

    @property
    def many(self) -> bool:
        return self.nargs is not None


@dataclass(frozen=True, kw_only=True)
class Table:
    """What was scanned from the trainer's source at `commit`, by section of our files."""

    commit: str
    sections: Mapping[str, Mapping[str, Option]]
    lora_args: tuple[str, ...]
    optimizers: tuple[str, ...]

    @property
    def training(self) -> Mapping[str, Option]:
        return self.sections["training"]


@functools.cache
def table() -> Table:
    """The committed table, read once."""
    read = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    return Table(
        commit=read["commit"],
        sections={
            section: {name: Option(name=name, **record) for name, record in read[section].items()}
            for section in SECTIONS
        },
        lora_args=tuple(read["lora_args"]),
        optimizers=tuple(read["optimizers"]),
    )


PLACES = {
    "training": "training_config.toml or the experiment's [training]",
    "general": "dataset_config.toml under [general], or the experiment's [dataset]",
    "subsets": "dataset_config.toml under [[datasets.subsets]]",
}
# Options that a person may not set, and why.
REFUSED = {
    **dict.fromkeys((
        "config_file", "dataset_config", "resume", "resume_from_huggingface", "initial_step",
        "initial_epoch", "skip_until_initial_step", "sample_prompts", "tokenizer_cache_dir",
        "training_comment", "console_log_simple", "console_log_file", "output_config",
        "save_last_n_epochs", "save_n_epoch_ratio", "dataset_class", "debug_dataset",
    ), "bespoke sets this itself: leave it out"),
    **dict.fromkeys((
        "train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir",
    ), "the trainer ignores it beside a dataset file: write image_dir in a [[datasets.subsets]]"),
    "output_name": "write output_name at the top of the experiment's file",
    "max_train_steps": "runs are counted in epochs: write max_train_epochs",
    "huggingface_token": "keep secrets out of files: set HF_TOKEN in the environment",
    "wandb_api_key": "keep secrets out of files: set WANDB_API_KEY in the environment",
}  # fmt: skip
# What people write where no likeness of letters leads to what they mean.
MEANT = {
    "lr": "learning_rate", "epochs": "max_train_epochs", "steps": "max_train_epochs",
    "rank": "network_dim", "dim": "network_dim", "alpha": "network_alpha",
    "batch_size": "train_batch_size", "precision": "mixed_precision",
    "model": "pretrained_model_name_or_path",
}  # fmt: skip


def misplaced(section: str, key: str) -> str | None:
    """Why `key` cannot stand in this section, or None."""
    if key in REFUSED:
        return REFUSED[key]
    name, homes = _homes(key)
    if section in homes and name == key:
        return None
    if homes:
        return f"belongs elsewhere: write {name} in {PLACES[homes[0]]}"
    hints = [
        near if section in homes else f"{near} (in {PLACES[homes[0]]})"
        for near, homes in map(_homes, _meant(key))
    ]
    return f"the trainer has no such option; did you mean {' or '.join(hints) or 'another'}?"


def _homes(key: str) -> tuple[str, list[str]]:
    """The name that a file takes an option by, and the sections that it acts in."""
    option = table().training.get(key)
    name = option.dataset_key or key if option else key
    homes = [section for section in SECTIONS if name in table().sections[section]]
    if name == "batch_size":  # it would override train_batch_size without a word
        homes = []
    if name in table().training and table().training[name].dataset_key:
        homes.remove("training")
    return name, homes


def _meant(key: str) -> list[str]:
    plain = key.strip("- ").replace("-", "_").lower()
    if plain in MEANT:
        return [MEANT[plain]]
    names = {name for section in table().sections.values() for name in section}
    return nearest(plain, sorted(name for name in names if _homes(name)[1]))
