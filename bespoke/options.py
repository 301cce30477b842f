"""What bespoke knows of the pinned trainer's options, and what is wrong with the values given them.

The trainer takes a TOML as it stands: unknown keys, text for a number and values outside `choices`
pass its parser (train_util.py:4760 at v0.10.1). What it would not say is said here.
`python -m bespoke.options_scan vendor/sd-scripts` writes the table anew from its source.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.options_values import nearest, relations, shown, wrong_value

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
        found: Mapping[str, Option] = getattr(self, name)
        return found


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

# Options that a person may not set, and why. Rendering sets the first group.
_OWN = {
    "config_file": "bespoke renders the file and passes it",
    "dataset_config": "bespoke renders the file and names it",
    "output_config": "with it the trainer writes a file and ends without training",
    "resume": "bespoke names the state to resume from",
    "resume_from_huggingface": "bespoke resumes from this machine's own states",
    "initial_step": "bespoke counts the steps that a resumed run has behind it",
    "initial_epoch": "bespoke counts in steps; on several processes the trainer divides it twice",
    "skip_until_initial_step": "with gradient accumulation it skips an epoch without a word",
    "sample_prompts": "bespoke renders test_prompts.toml and names it",
    "tokenizer_cache_dir": "bespoke provides the tokenizer offline",
    "output_name": "the experiment's own output_name names the files",
    "training_comment": "bespoke writes the run's name there",
    "save_last_n_epochs": "the run is held to the checkpoint of every epoch",
    "save_n_epoch_ratio": "write save_every_n_epochs, which the run is held to",
    "console_log_file": "it would take the trainer's lines away from bespoke's log",
}
_USELESS = {
    "train_data_dir": "the trainer ignores it beside a dataset file: name the pictures with --data,"
    " or with image_dir in [[datasets.subsets]]",
    "reg_data_dir": "the trainer ignores it beside a dataset file: add a [[datasets.subsets]] with"
    " image_dir and is_reg = true",
    "in_json": "the trainer ignores it beside a dataset file: add a [[datasets.subsets]] with"
    " metadata_file",
    "conditioning_data_dir": "train_network.py never reads it: leave it out",
    "dataset_class": "it puts another dataset in the place of the one that bespoke has checked:"
    " leave it out",
    "huggingface_token": "a secret stays out of every file: set HF_TOKEN in the environment",
    "wandb_api_key": "a secret stays out of every file: set WANDB_API_KEY in the environment",
    "debug_dataset": "with it the trainer shows pictures and trains nothing: leave it out",
}
# Schema keys of the dataset that would override the training file's value without a word.
_NOT_IN_THE_DATASET = {"batch_size": "train_batch_size"}

# What people write, and what they mean.
_MEANT = {
    "lr": "learning_rate", "text_lr": "text_encoder_lr", "te_lr": "text_encoder_lr",
    "batch_size": "train_batch_size", "epochs": "max_train_epochs",
    "num_epochs": "max_train_epochs", "max_epochs": "max_train_epochs", "steps": "max_train_steps",
    "gradient_accumulation": "gradient_accumulation_steps", "rank": "network_dim",
    "network_rank": "network_dim", "dim": "network_dim", "alpha": "network_alpha",
    "dropout": "network_dropout", "optimizer": "optimizer_type", "scheduler": "lr_scheduler",
    "warmup_steps": "lr_warmup_steps", "lr_warmup": "lr_warmup_steps",
    "lr_cycles": "lr_scheduler_num_cycles", "snr_gamma": "min_snr_gamma",
    "precision": "mixed_precision", "model": "pretrained_model_name_or_path",
    "base_model": "pretrained_model_name_or_path", "bucket_resolution": "bucket_reso_steps",
    "bucket_steps": "bucket_reso_steps", "min_bucket_resolution": "min_bucket_reso",
    "max_bucket_resolution": "max_bucket_reso", "repeats": "num_repeats",
    "dropout_rate": "caption_dropout_rate", "shuffle": "shuffle_caption",
    "shuffle_captions": "shuffle_caption", "shuffle_tags": "shuffle_caption", "folder": "image_dir",
}  # fmt: skip


def problems(section: str, values: Mapping[str, object], *, rendered: bool = False) -> list[str]:
    """What is wrong with one section's values: a sentence each, beginning with `key: `.

    `section` is `training`, `general`, `datasets` (one entry of [[datasets]]; its subsets are
    given apart) or `subsets`. `rendered` allows the options that only bespoke itself may set.
    A missing key is no problem in itself. What the trainer holds together is held together where
    it is given, so give all of a section at once.
    """
    known = table()
    found: list[str] = []
    sound: dict[str, Any] = {}
    for key, value in values.items():
        wrong = _misplaced(section, key, value, rendered)
        if wrong is None:
            option = known.section(section)[key]
            wrong = wrong_value(known, option, value, converted=section != "training")
        if wrong is None:
            sound[key] = value
        else:
            found.append(f"{_key(key)}: {wrong}")
    if section == "training":
        # The trainer's defaults for these two stop some runs late, as much as written values do.
        absent = {"lr_scheduler", "optimizer_type"} - values.keys()
        sound |= {key: known.training[key].default for key in absent}
    return found + [f"{key}: {wrong}" for key, wrong in relations(known, section, sound)]


def _misplaced(section: str, key: str, value: object, rendered: bool) -> str | None:
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
    if key in _OWN:
        return None if rendered else f"bespoke sets this itself ({_OWN[key]}): leave it out"
    if option.dataset_key:
        return _of_the_dataset(key, option.dataset_key)
    return _USELESS.get(key)


def _unknown(section: str, key: str) -> str:
    """Where a key that this section does not know belongs, or what may be meant."""
    known = table()
    twin = known.training.get(key)
    if twin and not twin.dataset_key:
        return _USELESS.get(key) or f"a training option: write it in {PLACES['training']}"
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
    return f"the trainer has no such option; perhaps {' or '.join(hints)}"


def _key(key: str) -> str:
    """The key as it stands, or quoted where it would break the line it is shown in."""
    plain = key.isprintable() and key and ":" not in key and len(key) <= 60
    return key if plain else shown(key).removeprefix("the text ")
