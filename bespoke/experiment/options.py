"""What bespoke knows of the pinned trainer's options: their names, types, and where each belongs.

The trainer takes a TOML as it stands: unknown keys, text for a number and values outside `choices`
pass its parser (train_util.py:4760 at v0.10.1). What it would not say is said here and in the
rules of the values. `python tools/options_scan.py vendor/sd-scripts` writes the table anew.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.experiment.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DATASET_SECTIONS = ("general", "datasets", "subsets")
TABLE_FILE = Path(__file__).with_name("trainer_options.json")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of the training file, or one key of the dataset file.

    `kind` is bool, int, float (a whole number will do), exact_float (it will not), str, Path,
    int_or_float, int_or_pair, float_pair, dict or tables. `many` takes a list of that kind.
    `default` is the training file's, which the dataset's keys of the same name fall back on.
    `dataset_key` is the dataset file's name for a training option that belongs there.
    """

    name: str
    kind: str
    default: Any = None
    many: bool = False
    choices: tuple[Any, ...] = ()
    dataset_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """All that was scanned from the trainer's source at `commit`."""

    commit: str
    training: Mapping[str, Option]
    general: Mapping[str, Option]
    datasets: Mapping[str, Option]
    subsets: Mapping[str, Option]
    lora_args: tuple[str, ...]
    optimizers: tuple[str, ...]

    def section(self, name: str) -> Mapping[str, Option]:
        """One of `training`, `general`, `datasets` and `subsets`."""
        section: Mapping[str, Option] = getattr(self, name)
        return section


@functools.cache
def table() -> Table:
    """The committed table, read once."""
    read = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    return Table(
        commit=read["commit"],
        lora_args=tuple(read["lora_args"]),
        optimizers=tuple(read["optimizers"]),
        **{
            section: {name: _option(name, **record) for name, record in read[section].items()}
            for section in ("training", *_DATASET_SECTIONS)
        },
    )


def _option(name: str, *, nargs: object = None, choices: Iterable[Any] = (), **rest: Any) -> Option:
    return Option(name=name, many=nargs is not None, choices=tuple(choices), **rest)


PLACES = {
    "training": "training_config.toml or the experiment's [training]",
    "general": "dataset_config.toml under [general], or the experiment's [dataset]",
    "datasets": "dataset_config.toml under [[datasets]]",
    "subsets": "dataset_config.toml under [[datasets.subsets]]",
}

_OWN = "bespoke sets this itself: leave it out"
_IGNORED = "the trainer ignores it beside a dataset file: "
# Options that a person may not set, and why.
REFUSED = {
    **dict.fromkeys((
        "config_file", "dataset_config", "resume", "resume_from_huggingface", "initial_step",
        "initial_epoch", "skip_until_initial_step", "sample_prompts", "tokenizer_cache_dir",
        "training_comment",
    ), _OWN),
    "output_name": "write output_name at the top of the experiment's file",
    "output_config": "with it the trainer writes a file and ends without training",
    "max_train_steps": "runs are counted in epochs: write max_train_epochs",
    "save_last_n_epochs": "a run keeps the checkpoint of every epoch: leave it out",
    "save_n_epoch_ratio": "write save_every_n_epochs",
    "console_log_file": "it would keep the trainer's lines out of bespoke's log: leave it out",
    "train_data_dir": _IGNORED + "name the pictures with --data, or with image_dir",
    "reg_data_dir": _IGNORED + "add a [[datasets.subsets]] with image_dir and is_reg = true",
    "in_json": _IGNORED + "add a [[datasets.subsets]] with metadata_file",
    "conditioning_data_dir": "train_network.py never reads it: leave it out",
    "dataset_class": "it replaces the dataset that bespoke has checked: leave it out",
    "huggingface_token": "keep secrets out of files: set HF_TOKEN in the environment",
    "wandb_api_key": "keep secrets out of files: set WANDB_API_KEY in the environment",
    "console_log_simple": _OWN,
    "debug_dataset": "with it the trainer shows pictures and trains nothing: leave it out",
}  # fmt: skip
# What people write where no likeness of letters leads to what they mean.
_MEANT = {
    "lr": "learning_rate", "text_lr": "text_encoder_lr", "batch_size": "train_batch_size",
    "epochs": "max_train_epochs", "steps": "max_train_epochs", "rank": "network_dim",
    "dim": "network_dim", "alpha": "network_alpha", "dropout": "network_dropout",
    "optimizer": "optimizer_type", "scheduler": "lr_scheduler", "warmup_steps": "lr_warmup_steps",
    "precision": "mixed_precision", "model": "pretrained_model_name_or_path",
    "bucket_resolution": "bucket_reso_steps", "repeats": "num_repeats", "folder": "image_dir",
    "gradient_accumulation": "gradient_accumulation_steps",
}  # fmt: skip


def misplaced(section: str, key: str) -> str | None:
    """Why `key` cannot stand in this section, or None."""
    if key in REFUSED:
        return REFUSED[key]
    name, homes = _homes(key)
    if section in homes and name == key:
        return None
    if homes:
        sort = "training" if homes[0] == "training" else "dataset"
        return f"a {sort} option: write {'it' if name == key else name} in {PLACES[homes[0]]}"
    hints = [
        name if section in homes else f"{name} (in {PLACES[homes[0]]})"
        for name, homes in map(_homes, _meant(section, key))
    ]
    hint = f"did you mean {' or '.join(hints)}?" if hints else "and none with a name like it"
    return f"the trainer has no such option; {hint}"


def _homes(key: str) -> tuple[str, list[str]]:
    """The name that a file takes an option by, and the sections that it acts in.

    The dataset's batch_size would override the training file's without a word, so it has none.
    """
    option = table().training.get(key)
    name = option.dataset_key or key if option else key
    sections = [s for s in _DATASET_SECTIONS if name in table().section(s) and key != "batch_size"]
    return name, ["training", *sections] if option and not option.dataset_key else sections


def _meant(section: str, key: str) -> list[str]:
    """The names that are likely meant: of this section, or else of any."""
    plain = key.strip().strip("-").replace("-", "_").lower()
    if plain in _MEANT:
        return [_MEANT[plain]]
    known = table()
    names = {n for s in ("training", *_DATASET_SECTIONS) for n in known.section(s) if _homes(n)[1]}
    if plain in names:
        return [plain]
    here = [name for name in names if section in _homes(name)[1]]
    return nearest(plain, sorted(here)) or nearest(plain, sorted(names))
