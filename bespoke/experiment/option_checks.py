"""What is wrong with the names, places and values of the trainer's options, and what does nothing.

Each is held to its type and its choices in the trainer's table; bounds and rules of their own have
only those that the experiments here use. Places in the trainer's source are v0.10.1's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from bespoke.experiment.trainer_options import SECTIONS, table
from bespoke.experiment.validation import (
    SAFE_NAME,
    Text,
    did_you_mean,
    matching,
    one_of,
    shown,
    validated,
)
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.experiment.experiment import Experiment
    from bespoke.experiment.trainer_options import Option, Settings

_FILES = {
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
    **dict.fromkeys(("train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir"),
                    "write image_dir in a [[datasets.subsets]]"),
    "output_name": "write output_name at the top of the experiment's file",
    "max_train_steps": "runs are counted in epochs: write max_train_epochs",
    "huggingface_token": "keep secrets out of files: set HF_TOKEN in the environment",
    "wandb_api_key": "keep secrets out of files: set WANDB_API_KEY in the environment",
}  # fmt: skip
# What people write where no likeness of letters leads to what they mean.
MEANT = {
    "lr": "learning_rate", "epochs": "max_train_epochs", "batch_size": "train_batch_size",
    "rank": "network_dim", "dim": "network_dim", "alpha": "network_alpha",
}  # fmt: skip
# Lowest and highest value that a person could mean.
LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("learning_rate", "unet_lr", "text_encoder_lr", "noise_offset"), (0, 10)),
    **dict.fromkeys(("network_dim", "train_batch_size", "gradient_accumulation_steps"), (1, 1024)),
    **dict.fromkeys(("max_train_epochs", "save_every_n_epochs", "num_repeats"), (1, 1000)),
    **dict.fromkeys(("resolution", "min_bucket_reso", "max_bucket_reso"), (64, 8192)),
    **dict.fromkeys(("keep_tokens", "lr_scheduler_num_cycles"), (0, 1000)),
    "max_data_loader_n_workers": (0, 64),
    "caption_dropout_rate": (0, 1),
    "seed": (0, 2**32 - 1),  # numpy's; the trainer seeds it with the same number
}
# transformers 4.54.1's SchedulerType, less the two that get_scheduler_fix calls with arguments
# they do not take (train_util.py:5393), and diffusers' one.
SCHEDULERS = (
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
    "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor",
)  # fmt: skip


def problems(section: str, settings: Settings) -> list[str]:
    """What is wrong with one section's options: a line each, with where it was written.

    `section` is `training`, `general` or `subsets`. A missing key is no problem in itself.
    """
    lines: list[str] = []
    sound: Settings = {}
    for key, setting in settings.items():
        if wrong := _misplaced(section, key):
            lines.append(f"{setting.origin}: {ascii(key)[1:-1][:60]}: {wrong}")
            continue
        kind = type_of(table().sections[section][key], isinstance(setting.value, list))
        _, wrongs = validated(kind, setting.value, setting.origin, (key,))
        lines += wrongs
        if not wrongs:
            sound[key] = setting
    lines += [f"{sound[key].origin}: {key}: {wrong}" for key, wrong in _relations(sound)]
    return lines


def _misplaced(section: str, key: str) -> str | None:
    """Why `key` cannot stand in this section, or None."""
    sections = table().sections
    if key in REFUSED:
        return REFUSED[key]
    if key in sections[section]:
        return None
    option = table().training.get(key)
    name = option.dataset_key if option and option.dataset_key else key
    home = next((each for each in SECTIONS if name in sections[each]), None)
    if home:
        return f"belongs elsewhere: write {name} in {_FILES[home]}"
    plain = key.strip("- ").replace("-", "_").lower()
    known = {each for keys in sections.values() for each in keys}
    return f"the trainer has no such option: {did_you_mean(MEANT.get(plain, plain), known)}"


def type_of(option: Option, listed: bool) -> Any:
    """The type of this option's values, with bounds; `listed` where a list is written."""
    low, high = LIMITS.get(option.name, (-(10**15), 10**15))
    bounds = Field(strict=True, ge=low, le=high)
    whole, number = Annotated[int, bounds], Annotated[FiniteFloat, bounds]
    kinds: dict[str, Any] = {
        "bool": Annotated[bool, Field(strict=True)],
        "int": whole,
        "float": number,
        "str": Text,
        "int_or_float": Annotated[number, BeforeValidator(_no_long_ratio)],
        "int_or_pair": _list_of(whole, 2, 2) if listed else whole,
    }
    kind = kinds.get(option.kind, Any)  # the trainer itself says what is wrong with the rare ones
    if rule := RULES.get(option.name):
        kind = Annotated[kind, rule]
    elif option.choices:
        kind = Annotated[kind, one_of([each for each in option.choices if each is not None])]
    # A number alone does for text_encoder_lr too (train_network.py:738).
    if option.nargs is not None and (listed or option.name != "text_encoder_lr"):
        return _list_of(kind, 0, 1000)
    return kind


def _list_of(kind: Any, fewest: int, most: int) -> Any:
    return Annotated[list[kind], Field(strict=True, min_length=fewest, max_length=most)]


def _no_long_ratio(value: object) -> object:
    """A float is a ratio of the run, whatever its size (train_util.py:5275)."""
    if isinstance(value, float) and value >= 1:
        raise ValueError(f"{value!r} would be read as a ratio of the run: write a whole number")
    return value


def _optimizer(name: str) -> str:
    """In any case, and dotted ones such as torch.optim.SGD (train_util.py:4846)."""
    own = [each for each in table().optimizers if not each.startswith("DAdapt")]  # no package
    if "." in name or name.lower() in map(str.lower, own):
        return name
    raise ValueError(f"unknown optimizer {shown(name)}: {did_you_mean(name, own)}")


_folder = matching(f"{SAFE_NAME.pattern}(/{SAFE_NAME.pattern})*", "be a folder in the workspace")
RULES = {
    "optimizer_type": AfterValidator(_optimizer),
    "lr_scheduler": one_of(SCHEDULERS),
    "max_token_length": one_of((75, 150, 225)),  # 75 is what is read without it
    "save_model_as": one_of(("safetensors",)),  # the form that can be verified
    "output_dir": _folder,
    "logging_dir": _folder,
    "image_dir": matching(SAFE_NAME.pattern, "be a name, whose folder --data NAME=DIR gives"),
    # Split at the first = (train_network.py:667).
    "network_args": matching(r"[^\s=]+=.*", 'be "key=value" without spaces around the key'),
}


def _relations(sound: Settings) -> Iterator[tuple[str, str]]:
    """What sound training options say against each other, with the key to change."""
    values = {key: setting.value for key, setting in sound.items()}
    if values.get("lr_scheduler") == "constant" and values.get("lr_warmup_steps"):
        # get_scheduler_fix raises it after minutes of loading (train_util.py:5264).
        yield "lr_warmup_steps", 'write 0, or lr_scheduler = "constant_with_warmup"'
    if values.get("network_module") != "networks.lora":
        return
    for pair in values.get("network_args", ()):
        key = pair.partition("=")[0]
        if key not in table().lora_args:  # ignored without a word (lora.py:416)
            hint = did_you_mean(key, table().lora_args)
            yield "network_args", f"networks.lora would ignore {shown(key)}: {hint}"


def warnings(experiment: Experiment) -> Iterator[Finding]:
    """Options of an experiment that do nothing, and a gate that would never decide."""
    gate, epochs = experiment.gate, experiment.option("max_train_epochs")
    if gate is not None and gate.epoch > epochs:
        message = (
            f"the gate decides at epoch {gate.epoch}, and the run ends with epoch {epochs}: "
            "decide earlier, or train longer"
        )
        yield finding("warning", "gate_beyond_last_epoch", "", message)
    reasons = without_effect(experiment)
    levels = [("training", experiment.training), ("dataset", experiment.general)]
    for section, settings in (*levels, *(("dataset", each) for each in experiment.subsets)):
        for key, setting in settings.items():
            why = reasons.get(f"{section}.{key}")
            # What the base files write is there for other experiments, and off is off.
            written_here = setting.origin == "--set" or setting.origin.startswith("experiments/")
            if why and setting.value and written_here:
                message = f"{setting.origin}: {key} = {setting.value} has no effect: {why}"
                yield finding("warning", "option_ignored", "", message)


def without_effect(experiment: Experiment) -> dict[str, str]:
    """Options that do nothing in this experiment, written or not, and why.

    Those that experiments here use; the keys are those of `--set`.
    """
    o, subsets = experiment.option, experiment.by_folder().values()
    reasons = {}
    # Each group of parameters gets a rate of its own (lora.py:1199 at v0.10.1).
    if o("unet_lr") is not None and o("text_encoder_lr") not in (None, []):
        reasons["training.learning_rate"] = "unet_lr and text_encoder_lr both replace it"
    if o("lr_scheduler") != "cosine_with_restarts":
        reasons["training.lr_scheduler_num_cycles"] = "this lr_scheduler has no cycles"
    # It acts only where a caption's tags are taken apart (train_util.py:867 at v0.10.1).
    if not any(each["shuffle_caption"] or each["caption_tag_dropout_rate"] for each in subsets):
        why = "nothing is shuffled or dropped, so every tag stays where it is"
        reasons["dataset.keep_tokens"] = why
    return reasons
