"""What is wrong with the value of one option, and with two values beside each other.

The sentences follow the pinned trainer's source, v0.10.1; places in it are named where they decide.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bespoke.options import Option, Table

# Lowest and highest value that make sense; None: no bound.
LIMITS: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys((
        "learning_rate", "unet_lr", "text_encoder_lr", "max_grad_norm", "lr_warmup_steps",
        "lr_decay_steps", "noise_offset", "network_alpha", "prior_loss_weight", "min_snr_gamma",
        "max_data_loader_n_workers", "multires_noise_iterations", "sample_every_n_epochs",
        "sample_every_n_steps", "keep_tokens", "caption_dropout_every_n_epochs",
        "token_warmup_min", "token_warmup_step",
    ), (0, None)),
    **dict.fromkeys((
        "train_batch_size", "gradient_accumulation_steps", "vae_batch_size", "network_dim",
        "clip_skip", "num_repeats", "max_train_epochs", "max_train_steps", "save_every_n_epochs",
        "save_every_n_steps", "save_last_n_epochs", "save_last_n_epochs_state",
        "save_last_n_steps", "save_last_n_steps_state", "save_n_epoch_ratio",
        "lr_scheduler_num_cycles",
    ), (1, None)),
    **dict.fromkeys((
        "caption_dropout_rate", "caption_tag_dropout_rate", "network_dropout",
        "multires_noise_discount", "validation_split",
    ), (0, 1)),
    **dict.fromkeys(("resolution", "min_bucket_reso", "max_bucket_reso"), (64, None)),
    "min_timestep": (0, 999),
    "max_timestep": (1, 1000),
    "seed": (0, 2**32 - 1),  # numpy's; the trainer seeds it with the same number
}  # fmt: skip

# Values beyond the parser's own choices that a TOML may hold and the trainer honours.
_ALSO = {"max_token_length": (75,), "resize_interpolation": ("box",)}

# transformers 4.54.1's SchedulerType, less the two that get_scheduler_fix calls with arguments
# they do not take (train_util.py:5393), and diffusers' one.
SCHEDULERS = (
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
    "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay", "piecewise_constant", "adafactor",
)  # fmt: skip
# What a scheduler cannot be without; one of them is enough.
_WANTED = {
    "cosine_with_min_lr": ("lr_scheduler_min_lr_ratio", "lr_scheduler_args"),
    "piecewise_constant": ("lr_scheduler_args",),
}
# torch.optim's classes that get_optimizer can use; unlike its own names these keep their case.
TORCH_OPTIMIZERS = (
    "ASGD", "Adadelta", "Adagrad", "Adam", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
)  # fmt: skip
_LORA_NUMBERS = {
    "conv_dim": int, "conv_alpha": float, "rank_dropout": float, "module_dropout": float,
    "loraplus_lr_ratio": float, "loraplus_unet_lr_ratio": float,
    "loraplus_text_encoder_lr_ratio": float, "block_lr_zero_threshold": float,
}  # fmt: skip
# What the trainer does with the pairs of each list: python literals, or text.
_LITERAL_PAIRS = ("optimizer_args", "lr_scheduler_args")
_PAIRS = (*_LITERAL_PAIRS, "network_args")


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


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to two known names like `name`, whatever its case; the nearest first."""
    import difflib  # only a mistake needs it

    folded = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name[:60].lower(), folded, n=2, cutoff=0.65)
    return [folded[each] for each in found]


def _perhaps(name: str, known: Iterable[str], otherwise: str = "") -> str:
    near = nearest(name, known)
    return f"; perhaps {' or '.join(near)}" if near else otherwise


def wrong_value(known: Table, option: Option, value: object, *, converted: bool) -> str | None:
    """What is wrong with one value, as the rest of a sentence; None where nothing is.

    `converted` says that the reader checks types itself, as it does for the dataset file only.
    """
    if option.many:
        return _wrong_list(option, value)
    wrong = _wrong_kind(option.kind, value, converted)
    if wrong is None and option.kind == "int_or_float":
        wrong = _wrong_steps(value)
    if wrong is None and option.choices:
        allowed = tuple(c for c in option.choices if c is not None)
        wrong = _wrong_choice(value, (*allowed, *_ALSO.get(option.name, ())))
    if wrong is None and option.name == "optimizer_type":
        wrong = _wrong_optimizer(known, str(value))
    if wrong is None and option.name == "lr_scheduler":
        own = str(value).startswith("adafactor:")
        wrong = None if own else _wrong_choice(value, SCHEDULERS)
    return wrong or _wrong_size(option.name, value)


def _wrong_kind(kind: str, value: object, converted: bool = False) -> str | None:
    if fits(kind, value):
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        endless = any(isinstance(v, float) and not math.isfinite(v) for v in numbers)
        return f"a finite number is needed, not {shown(value)}" if endless else None
    wrong = f"{_KINDS[kind][0]} is needed, not {shown(value)}"
    if isinstance(value, str) and not converted:
        as_read = f"read it as {'true' if value else 'false'}"
        taken = as_read if kind == "bool" else "take it unconverted"
        return f"{wrong} (the trainer would {taken})"
    if isinstance(value, float) and kind in ("int", "int_or_pair") and _whole(value):
        return f"{wrong}: write {int(value)}"
    if kind == "exact_float" and fits("int", value):
        return f"{wrong}: write {shown(value)}.0"
    return wrong


def _whole(value: float) -> bool:
    return math.isfinite(value) and value.is_integer()


def _wrong_steps(value: Any) -> str | None:
    """A float is a ratio of the run, whatever its size (train_util.py:5275)."""
    if not isinstance(value, float) or value < 1:
        return None
    instead = f"write {int(value)}" if _whole(value) else "write a whole number of steps"
    return f"{value!r} would be read as a ratio, {value:g} times the whole run: {instead}"


def _wrong_choice(value: object, allowed: tuple[Any, ...]) -> str | None:
    if value in allowed:
        return None
    near = nearest(value, allowed)[:1] if isinstance(value, str) else []
    hint = f"; perhaps {near[0]}" if near else ""
    return f"{shown(value)} is not one of {', '.join(map(str, allowed))}{hint}"


def _wrong_size(name: str, value: Any) -> str | None:
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if name == "bucket_reso_steps" and (value < 64 or value % 64):
        return (
            f"a multiple of 64 is needed, not {shown(value)} (train_network.py:175 refuses it late)"
        )
    low, high = LIMITS.get(name, (None, None))
    if low is None:
        return None
    wrong = [n for n in numbers if n < low or (high is not None and n > high)]
    if not wrong:
        return None
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    return f"{shown(wrong[0])} cannot be meant: it must be {bounds}"


def _wrong_list(option: Option, value: object) -> str | None:
    if option.name == "text_encoder_lr" and fits("float", value):
        # One number is read too (train_network.py:738).
        return _wrong_kind(option.kind, value) or _wrong_size(option.name, value)
    needed = f"a list of {'texts' if option.kind == 'str' else 'numbers'} is needed"
    if isinstance(value, dict):
        pairs = [f"{k}={v if isinstance(v, str) else shown(v)}" for k, v in value.items()]
        return f"{needed}, not a table: write {_toml(pairs[:4])}"
    if isinstance(value, str) and option.kind == "str":
        return f"{needed}, not {shown(value)}: write {_toml(value.split()[:4])}"
    if not isinstance(value, (list, tuple)):
        return f"{needed}, not {shown(value)}"
    for item in value:
        wrong = _wrong_kind(option.kind, item)
        if wrong is None and option.name in _PAIRS:
            wrong = _wrong_pair(option.name, str(item))
        if wrong:
            return f"in its list, {wrong}"
    return _wrong_size(option.name, value)


def _wrong_pair(name: str, item: str) -> str | None:
    """train_network.py:667 splits network_args at the first =, train_util.py:4860 at the only."""
    key, equals, value = item.partition("=")
    if not key.strip() or not equals or key != key.strip():
        return f'"key=value" without spaces around the key is needed, not {shown(item)}'
    if name in _LITERAL_PAIRS and not _is_literal(value):
        return f"the value of {shown(item)} is read as a Python literal and is none: quote text"
    return None


def _is_literal(text: str) -> bool:
    import ast  # some milliseconds, and few runs write such a list
    import warnings

    if "=" in text or len(text) > 1000:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1if", "\\d" and the like
            ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def _wrong_optimizer(table: Table, name: str) -> str | None:
    """Its own names in any case; torch.optim's and dotted ones as they stand (train_util.py:4846).

    A dotted name is not looked up: that would import the trainer's packages.
    """
    known = [each for each in table.optimizers if not each.startswith("DAdapt")]
    if name.lower().startswith("dadapt"):
        return f"{shown(name)} needs the package dadaptation, which is not in the trainer's set"
    if not name or "." in name or name in TORCH_OPTIMIZERS:
        return None
    if name.lower() in {each.lower() for each in known}:
        return None
    hint = _perhaps(name, (*known, *TORCH_OPTIMIZERS), ": AdamW8bit, AdamW, Prodigy, Lion")
    return f"the trainer knows no optimizer {shown(name)}{hint}"


def relations(known: Table, section: str, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What sound values of one section say against each other, with the key to change."""
    if section != "training":
        yield from _bucket_relations(values)
        return
    if values.get("network_module") == "networks.lora":
        pairs = values.get("network_args", ())
        yield from (("network_args", wrong) for wrong in _wrong_lora(known.lora_args, pairs))
    scheduler, optimizer = values.get("lr_scheduler"), values.get("optimizer_type")
    if scheduler is not None and optimizer is not None and not values.get("lr_scheduler_type"):
        yield from _scheduler_relations(scheduler, optimizer.lower(), values)
    if values.get("min_timestep", 0) >= values.get("max_timestep", 1001):
        yield "min_timestep", "must be below max_timestep"


def _scheduler_relations(
    scheduler: str, optimizer: str, values: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """What get_scheduler_fix raises after minutes of loading (train_util.py:5264-5398)."""
    if optimizer.endswith("schedulefree"):
        return
    warmup = values.get("lr_warmup_steps", 0)
    if scheduler == "constant" and warmup:
        yield (
            "lr_warmup_steps",
            f"the scheduler constant takes none, and {shown(warmup)} stops the trainer late:"
            ' write lr_scheduler = "constant_with_warmup", or 0',
        )
    if scheduler.startswith("adafactor") and optimizer != "adafactor":
        yield "lr_scheduler", 'adafactor works with optimizer_type = "Adafactor" alone'
    wanted = _WANTED.get(scheduler, ())
    if wanted and not any(key in values for key in wanted):
        yield "lr_scheduler", f"{scheduler} needs {' or '.join(wanted)} beside it"


def _wrong_lora(known: tuple[str, ...], pairs: Iterable[str]) -> Iterator[str]:
    """networks.lora ignores what it does not look up (lora.py:416)."""
    given = dict(pair.split("=", 1) for pair in pairs)
    for key, value in given.items():
        if key == "dropout":
            # train_network.py:674 puts it where only LyCORIS looks.
            yield "networks.lora ignores dropout: write the option network_dropout instead"
        elif key not in known:
            hint = _perhaps(key, known, f"; it knows {', '.join(known)}")
            yield f"networks.lora would ignore {shown(key)}{hint}"
        elif key in _LORA_NUMBERS and not _converts(_LORA_NUMBERS[key], value):
            needed = _KINDS[_LORA_NUMBERS[key].__name__][0]
            yield f"{key}: {needed} is needed after the =, not {shown(value)}"
    if "conv_alpha" in given and "conv_dim" not in given:
        yield "networks.lora ignores conv_alpha without conv_dim"


def _converts(kind: type, text: str) -> bool:
    try:
        return math.isfinite(kind(text))
    except (ValueError, OverflowError):
        return False


def _bucket_relations(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """train_util.py:747-773: the trainer rounds the bounds, then asserts on the resolution."""
    steps = values.get("bucket_reso_steps", 64)
    low, high = values.get("min_bucket_reso"), values.get("max_bucket_reso")
    for key, bound in (("min_bucket_reso", low), ("max_bucket_reso", high)):
        if bound is not None and bound % steps:
            used = bound - bound % steps + (steps if key.startswith("max") else 0)
            wrong = f"{shown(bound)} is no multiple of {shown(steps)} (bucket_reso_steps)"
            yield key, f"{wrong}; the trainer would use {shown(used)}"
    if low is not None and high is not None and low > high:
        yield "min_bucket_reso", f"{shown(low)} is above max_bucket_reso, {shown(high)}"
    if values.get("enable_bucket") is not True or "resolution" not in values:
        return
    written = values["resolution"]
    sides = written if isinstance(written, (list, tuple)) else (written,)
    if low is not None and low > min(sides):
        yield "min_bucket_reso", f"{shown(low)} is above the resolution, {shown(min(sides))}"
    if high is not None and high < max(sides):
        yield "max_bucket_reso", f"{shown(high)} is below the resolution, {shown(max(sides))}"
    if uneven := [side for side in sides if side % steps]:
        # model_util.py:1322 rounds every bucket down.
        wrong = f"{shown(uneven[0])} is no multiple of {shown(steps)}"
        yield "resolution", f"{wrong} (bucket_reso_steps): every bucket would be cut down to one"


def shown(value: object) -> str:
    """A value inside a sentence, on one line and never long."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            return f"the text {json.dumps(text, ensure_ascii=not text.isprintable())}"
        case float():
            return repr(value)
        case int():
            return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case None:
            return "nothing"
        case _:
            return f"a {type(value).__name__}"


def _toml(items: list[str]) -> str:
    quoted = (json.dumps(item, ensure_ascii=not item.isprintable()) for item in items)
    return f"[{', '.join(quoted)}]"
