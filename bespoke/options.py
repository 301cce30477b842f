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

from bespoke.validation import nearest

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
    "debug_dataset": "with it the trainer shows pictures and trains nothing: leave it out",
}  # fmt: skip
# Schema keys of the dataset that would override the training file's value without a word.
_NOT_IN_THE_DATASET = {"batch_size": "train_batch_size"}
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


def misplaced(section: str, key: str, value: object) -> str | None:
    """Why `key` cannot stand in this section, or None."""
    option = table().section(section).get(key)
    if option is None:
        return _unknown(section, key)
    if section != "training":
        meant = _NOT_IN_THE_DATASET.get(key)
        return meant and f"write {meant} in {PLACES['training']}; here it would override that one"
    if key == "console_log_simple":
        # Rich's log lines draw from the run's random numbers, so a resume would not repeat.
        return "bespoke needs it true: leave it out" if value is False else None
    if key in REFUSED:
        return REFUSED[key]
    return _of_the_dataset(key, option.dataset_key) if option.dataset_key else None


def _unknown(section: str, key: str) -> str:
    """Where a key that this section does not know belongs, or what may be meant."""
    known = table()
    twin = known.training.get(key)
    if twin and not twin.dataset_key:
        return REFUSED.get(key) or f"a training option: write it in {PLACES['training']}"
    dataset_key = twin.dataset_key if twin and twin.dataset_key else key
    elsewhere = any(dataset_key in known.section(other) for other in _DATASET_SECTIONS)
    if not elsewhere or (key in _NOT_IN_THE_DATASET and section == "training"):
        return _perhaps(section, key)
    return _of_the_dataset(key, dataset_key)


def _of_the_dataset(key: str, dataset_key: str) -> str:
    known = table()
    place = next(name for name in _DATASET_SECTIONS if dataset_key in known.section(name))
    named = "it" if dataset_key == key else dataset_key
    return f"a dataset option: write {named} in {PLACES[place]}"


def _perhaps(section: str, key: str) -> str:
    """The known names near `key`, each with its file where that is not this section's."""
    known = table()
    sections = ("training", "subsets", "datasets", "general")
    place = {name: s for s in sections for name in known.section(s)}
    # validation_seed is a key of both files that acts in both (train_network.py:1540).
    place |= {**dict.fromkeys(_NOT_IN_THE_DATASET, ""), "validation_seed": "training"}
    here = known.section(section)
    plain = key.strip().strip("-").replace("-", "_").lower()
    if plain in _MEANT:
        names = [_MEANT[plain]]
    elif place.get(plain):
        names = [plain]
    else:
        names = nearest(plain, here) or nearest(plain, place)
    hints = []
    for name in filter(place.get, names):
        at_home = place[name] == "training" if section == "training" else name in here
        hints.append(name if at_home else f"{name} (in {PLACES[place[name]]})")
    if not hints:
        return "the trainer has no such option, and none with a name like it"
    return f"the trainer has no such option; did you mean {' or '.join(hints)}?"
