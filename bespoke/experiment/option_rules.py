"""What is wrong with the values of the trainer's options.

Every option is held to its type and its choices in the trainer's table; bounds and rules of their
own have only those that the experiments here use. Places in the trainer's source are v0.10.1's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bespoke.experiment.options import misplaced, table
from bespoke.experiment.toml_files import toml_value
from bespoke.experiment.validation import (
    did_you_mean,
    key_shown,
    nearest,
    shown,
    without_control_characters,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bespoke.experiment.options import Option

# Lowest and highest value that a person could mean.
LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("learning_rate", "unet_lr", "text_encoder_lr", "noise_offset"), (0, 10)),
    **dict.fromkeys(("network_alpha", "prior_loss_weight", "min_snr_gamma"), (0, 10_000)),
    **dict.fromkeys(("network_dim", "train_batch_size", "vae_batch_size"), (1, 1024)),
    **dict.fromkeys(("gradient_accumulation_steps", "lr_scheduler_num_cycles"), (1, 1024)),
    **dict.fromkeys(("max_train_epochs", "save_every_n_epochs", "num_repeats"), (1, 1000)),
    **dict.fromkeys(("caption_dropout_rate", "multires_noise_discount"), (0, 1)),
    **dict.fromkeys(("resolution", "min_bucket_reso", "max_bucket_reso"), (64, 8192)),
    **dict.fromkeys(("max_data_loader_n_workers", "multires_noise_iterations"), (0, 64)),
    "lr_warmup_steps": (0, 10_000_000),
    "keep_tokens": (0, 1000),
    "seed": (0, 2**32 - 1),  # numpy's; the trainer seeds it with the same number
}
_LARGEST_NUMBER, _LONGEST_TEXT, _LONGEST_LIST = 1e15, 4096, 1000

# Values beyond the parser's own choices that a TOML may hold and the trainer honours.
_ALSO = {"max_token_length": (75,), "resize_interpolation": ("box",)}
# transformers 4.54.1's SchedulerType, less the two that get_scheduler_fix calls with arguments
# they do not take (train_util.py:5393), and diffusers' one.
SCHEDULERS = (
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
    "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor",
)  # fmt: skip
# torch.optim's classes that get_optimizer can use; unlike its own names these keep their case.
TORCH_OPTIMIZERS = (
    "ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip
_PAIRS = ("network_args", "optimizer_args", "lr_scheduler_args")


def _number(*kinds: type) -> Callable[[Any], bool]:
    """True and false are no numbers, though Python's are."""
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _all(values: object, kind: Callable[[Any], bool]) -> bool:
    return isinstance(values, (list, tuple)) and all(map(kind, values))


# What each kind of option needs, in words, and whether a value is that.
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "int": ("a whole number", _number(int)),
    "float": ("a number", _number(int, float)),
    "exact_float": ("a number with a decimal point", _number(float)),
    "str": ("text", lambda v: isinstance(v, str)),
    "Path": ("a path as text", lambda v: isinstance(v, str)),
    "int_or_float": ("a whole number of steps, or a ratio below 1.0", _number(int, float)),
    "int_or_pair": (
        "a whole number, or a list of two (width, height)",
        lambda v: _number(int)(v) or (_all(v, _number(int)) and len(v) == 2),
    ),
    "float_pair": (
        "a list of two numbers with decimal points",
        lambda v: _all(v, _number(float)) and len(v) == 2,
    ),
    "dict": ("a table", lambda v: isinstance(v, dict)),
    "tables": ("a list of tables", lambda v: _all(v, lambda each: isinstance(each, dict))),
}


def fits(kind: str, value: object) -> bool:
    return _KINDS[kind][1](value)


def problems(section: str, values: Mapping[str, object]) -> list[str]:
    """What is wrong with one section's values: a sentence each, beginning with `key: `.

    `section` is `training`, `general`, `datasets` (one entry of [[datasets]]; its subsets are
    given apart) or `subsets`. A missing key is no problem in itself. Values that depend on each
    other are compared where both are given, so give all of a section at once.
    """
    lines: list[str] = []
    sound: dict[str, Any] = {}
    for key, value in values.items():
        wrong = misplaced(section, key)
        if wrong is None:
            wrong = _wrong_value(table().section(section)[key], value, section == "training")
        if wrong is None:
            sound[key] = value
        else:
            lines.append(f"{key_shown(key)}: {wrong}")
    if section == "training":
        if "lr_scheduler" not in values:
            sound["lr_scheduler"] = table().training["lr_scheduler"].default
        lines += [f"{key}: {wrong}" for key, wrong in _relations(sound)]
    return lines


def _wrong_value(option: Option, value: object, unconverted: bool) -> str | None:
    """`unconverted`: the training file's values reach the trainer as they are written."""
    if option.many:
        return _wrong_list(option, value)
    wrong = _wrong_kind(option.kind, value, unconverted)
    if wrong is None and option.kind == "int_or_float":
        wrong = _wrong_steps(value)
    if wrong is None and option.choices:
        allowed = tuple(c for c in option.choices if c is not None)
        wrong = _wrong_choice(value, (*allowed, *_ALSO.get(option.name, ())))
    if wrong is None and option.name == "optimizer_type":
        wrong = _wrong_optimizer(str(value))
    if wrong is None and option.name == "lr_scheduler":
        own = str(value).startswith("adafactor:")
        wrong = None if own else _wrong_choice(value, SCHEDULERS)
    return wrong or _wrong_size(option.name, value)


def _wrong_kind(kind: str, value: object, unconverted: bool = True) -> str | None:
    if fits(kind, value):
        return _unmeant(value)
    wrong = f"{_KINDS[kind][0]} is needed, not {shown(value)}"
    if isinstance(value, str) and unconverted:
        as_read = f"read it as {'true' if value else 'false'}"
        taken = as_read if kind == "bool" else "take it unconverted"
        return f"{wrong} (the trainer would {taken})"
    if isinstance(value, float) and kind in ("int", "int_or_pair") and value.is_integer():
        return f"{wrong}: write {int(value)}"
    if kind == "exact_float" and fits("int", value):
        return f"{wrong}: write {shown(value)}.0"
    return wrong


def _unmeant(value: object) -> str | None:
    """What no person means, whichever option it is written for."""
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            return f"is {len(value)} letters long: at most {_LONGEST_TEXT} are taken"
        try:
            without_control_characters(value)
        except ValueError as error:
            return str(error)
    for number in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            return f"a finite number is needed, not {shown(number)}"
        if isinstance(number, (int, float)) and abs(number) > _LARGEST_NUMBER:
            return f"{shown(number)} is too large"
    return None


def _wrong_steps(value: Any) -> str | None:
    """A float is a ratio of the run, whatever its size (train_util.py:5275)."""
    if not isinstance(value, float) or value < 1:
        return None
    instead = f"write {int(value)}" if value.is_integer() else "write a whole number of steps"
    return f"{value!r} would be read as a ratio, {value:g} times the whole run: {instead}"


def _wrong_choice(value: object, allowed: tuple[Any, ...]) -> str | None:
    if value in allowed:
        return None
    near = nearest(str(value), filter(None, map(str, allowed)))[:1]
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{shown(value)} is not one of {', '.join(map(str, allowed))}{hint}"


def _wrong_size(name: str, value: Any) -> str | None:
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if name == "bucket_reso_steps" and (value < 64 or value % 64):
        return f"a multiple of 64 is needed, not {shown(value)}"
    low, high = LIMITS.get(name, (-math.inf, math.inf))
    wrong = next((n for n in numbers if name in LIMITS and not low <= n <= high), None)
    return None if wrong is None else f"{shown(wrong)} is not between {low} and {high}"


def _wrong_list(option: Option, value: object) -> str | None:
    if option.name == "text_encoder_lr" and fits("float", value):
        # One number is read too (train_network.py:738).
        return _wrong_kind(option.kind, value) or _wrong_size(option.name, value)
    needed = f"a list of {'texts' if option.kind == 'str' else 'numbers'} is needed"
    if isinstance(value, str) and option.kind == "str":
        return f"{needed}, not {shown(value)}: write {toml_value(value[:60].split()[:4])}"
    if not isinstance(value, (list, tuple)) or len(value) > _LONGEST_LIST:
        return f"{needed}, not {shown(value)}"
    for item in value:
        wrong = _wrong_kind(option.kind, item)
        if wrong is None and option.name in _PAIRS:
            # Split at the first = (train_network.py:667), or at the only (train_util.py:4860).
            key, equals, _ = str(item).partition("=")
            if not key.strip() or not equals or key != key.strip():
                wrong = f'"key=value" without spaces around the key is needed, not {shown(item)}'
        if wrong:
            return f"in its list, {wrong}"
    return _wrong_size(option.name, value)


def _wrong_optimizer(name: str) -> str | None:
    """Its own names in any case; torch.optim's and dotted ones as they stand (train_util.py:4846).

    A dotted name is not looked up: that would import the trainer's packages. DAdapt's package is
    not in the trainer's set.
    """
    own = [each for each in table().optimizers if not each.startswith("DAdapt")]
    if not name or "." in name or name in TORCH_OPTIMIZERS or name.lower() in map(str.lower, own):
        return None
    hint = did_you_mean(name, (*own, *TORCH_OPTIMIZERS))
    return f"the trainer knows no optimizer {shown(name)}: {hint}"


def _relations(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What sound training options say against each other, with the key to change."""
    if values.get("network_module") == "networks.lora":
        pairs = values.get("network_args", ())
        yield from (("network_args", wrong) for wrong in _wrong_lora(pairs))
    warmup = values.get("lr_warmup_steps", 0)
    optimizer = str(values.get("optimizer_type")).lower()
    another = values.get("lr_scheduler_type") or optimizer.endswith("schedulefree")
    if values.get("lr_scheduler") == "constant" and warmup and not another:
        # get_scheduler_fix raises it after minutes of loading (train_util.py:5264).
        yield (
            "lr_warmup_steps",
            f"the scheduler constant takes none, and {shown(warmup)} stops the trainer late:"
            ' write lr_scheduler = "constant_with_warmup", or 0',
        )


def _wrong_lora(pairs: Iterable[str]) -> Iterator[str]:
    """networks.lora ignores what it does not look up (lora.py:416)."""
    known = table().lora_args
    given = dict(pair.split("=", 1) for pair in pairs)
    for key, value in given.items():
        if key == "dropout":
            # train_network.py:674 puts it where only LyCORIS looks.
            yield "networks.lora ignores dropout: write the option network_dropout instead"
        elif key not in known:
            yield f"networks.lora would ignore {shown(key)}: {did_you_mean(key, known)}"
        elif key in ("conv_dim", "conv_alpha") and not _is_number(value, key == "conv_dim"):
            needed = "a whole number" if key == "conv_dim" else "a number"
            yield f"{key}: {needed} is needed after the =, not {shown(value)}"
    if "conv_alpha" in given and "conv_dim" not in given:
        yield "networks.lora ignores conv_alpha without conv_dim"


def _is_number(text: str, whole: bool) -> bool:
    try:
        return abs(int(text) if whole else float(text)) < _LARGEST_NUMBER
    except ValueError:
        return False
