"""What is wrong with the values of the trainer's options.

Every option is held to its type and its choices in the trainer's table; bounds and rules of their
own have only those that the experiments here use. Places in the trainer's source are v0.10.1's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from bespoke.experiment.options import misplaced, table
from bespoke.experiment.validation import (
    SAFE_NAME,
    Text,
    did_you_mean,
    key_shown,
    matching,
    one_of,
    shown,
    validated,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.experiment.options import Option
    from bespoke.experiment.settings import Settings

# Lowest and highest value that a person could mean.
LIMITS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("learning_rate", "unet_lr", "text_encoder_lr", "noise_offset"), (0, 10)),
    **dict.fromkeys(("network_alpha", "prior_loss_weight", "min_snr_gamma"), (0, 10_000)),
    **dict.fromkeys(("network_dim", "train_batch_size", "vae_batch_size"), (1, 1024)),
    **dict.fromkeys(("gradient_accumulation_steps", "lr_scheduler_num_cycles"), (1, 1024)),
    **dict.fromkeys(("max_train_epochs", "save_every_n_epochs", "num_repeats"), (1, 1000)),
    **dict.fromkeys(("caption_dropout_rate", "multires_noise_discount"), (0, 1)),
    **dict.fromkeys(("resolution", "min_bucket_reso", "max_bucket_reso"), (64, 8192)),
    **dict.fromkeys(("max_data_loader_n_workers", "multires_noise_iterations"), (0, 64)),
    "bucket_reso_steps": (64, 8192),
    "lr_warmup_steps": (0, 10_000_000),
    "keep_tokens": (0, 1000),
    "seed": (0, 2**32 - 1),  # numpy's; the trainer seeds it with the same number
}
_ANY_NUMBER = (-(10**15), 10**15)
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
        if wrong := misplaced(section, key):
            lines.append(f"{setting.origin}: {key_shown(key)}: {wrong}")
            continue
        kind = type_of(table().sections[section][key], isinstance(setting.value, list))
        _, wrongs = validated(kind, setting.value, setting.origin, (key,))
        lines += wrongs
        if not wrongs:
            sound[key] = setting
    lines += [f"{sound[key].origin}: {key}: {wrong}" for key, wrong in _relations(sound)]
    return lines


def type_of(option: Option, listed: bool) -> Any:
    """The type of this option's values, with bounds; `listed` where a list is written."""
    low, high = LIMITS.get(option.name, _ANY_NUMBER)
    bounds = Field(strict=True, ge=low, le=high)
    whole, number = Annotated[int, bounds], Annotated[FiniteFloat, bounds]
    kinds: dict[str, Any] = {
        "bool": Annotated[bool, Field(strict=True)],
        "int": whole,
        "float": number,
        "exact_float": number,  # the trainer says at once where it misses the point
        "str": Text,
        "Path": Text,
        "int_or_float": Annotated[number, BeforeValidator(_no_long_ratio)],
        "int_or_pair": _list_of(whole, 2, 2) if listed else whole,
        "float_pair": _list_of(number, 2, 2),
        "dict": dict[str, Any],
    }
    kind: Any = kinds[option.kind]
    if rule := _RULES.get(option.name):
        kind = Annotated[kind, rule]
    elif option.choices:
        kind = Annotated[kind, one_of([each for each in option.choices if each is not None])]
    # A number alone does for text_encoder_lr too (train_network.py:738).
    if option.many and (listed or option.name != "text_encoder_lr"):
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
    """Its own names in any case, and dotted ones such as torch.optim.SGD (train_util.py:4846).

    DAdapt's package is not in the trainer's set.
    """
    own = [each for each in table().optimizers if not each.startswith("DAdapt")]
    if "." in name or name.lower() in map(str.lower, own):
        return name
    raise ValueError(f"unknown optimizer {shown(name)}: {did_you_mean(name, own)}")


_folder = matching(f"{SAFE_NAME.pattern}(/{SAFE_NAME.pattern})*", "be a folder in the workspace")
_RULES = {
    "optimizer_type": AfterValidator(_optimizer),
    "lr_scheduler": one_of(SCHEDULERS),
    "max_token_length": one_of((75, 150, 225)),  # 75 is what is read without it
    "save_model_as": one_of(("safetensors",)),  # the form that can be verified
    "output_dir": _folder,
    "logging_dir": _folder,
    "image_dir": matching(SAFE_NAME.pattern, "be a name, whose folder --data NAME=DIR gives"),
    # Split at the first = (train_network.py:667), or at the only (train_util.py:4860).
    **dict.fromkeys(
        ("network_args", "optimizer_args", "lr_scheduler_args"),
        matching(r"[^\s=]+=.*", 'be "key=value" without spaces around the key'),
    ),
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
        key, _, value = pair.partition("=")
        if key not in table().lora_args:  # ignored without a word (lora.py:416)
            hint = did_you_mean(key, table().lora_args)
            yield "network_args", f"networks.lora would ignore {shown(key)}: {hint}"
        elif key == "conv_dim" and not value.isdecimal():
            yield "network_args", f"conv_dim: a whole number is needed, not {shown(value)}"
