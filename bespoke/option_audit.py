"""Options that do nothing, weaken one another or stop the trainer late, and prompts that mislead.

Places in the trainer's source are those of v0.10.1: `tn` is train_network.py, `tu`
library/train_util.py, `lora` networks/lora.py.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bespoke.caption_rules import effective
from bespoke.captions import tokens
from bespoke.config import DATASET_FILE, TRAINING_FILE
from bespoke.findings import SEVERITIES, Finding, Severity, finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bespoke.config import Experiment, Setting

SAMPLED_TOKENS = 225
"""What a sample prompt may cost, whatever max_token_length (lpw_stable_diffusion.py:274)."""

# The torch that xformers' kernels were built for; with another one they do not load.
XFORMERS_TORCH = {"0.0.35": "2.10.0"}

_BRACKET = re.compile(r"(?<!\\)(?:\\\\)*[()\[\]]")

Look = Callable[[str], Any]
Row = tuple[tuple[str, ...], Callable[[Look], object], str]


def _fixed_lr(o: Look) -> bool:
    """Every LoRA parameter group gets a rate of its own (lora:1199); polynomial reads this one."""
    own = o("unet_lr") is not None and o("text_encoder_lr") not in (None, [])
    plain = o("network_module") == "networks.lora" and o("lr_scheduler") != "polynomial"
    return own and plain and not str(o("optimizer_type")).lower().startswith("adafactor")


def _off(key: str) -> Callable[[Look], object]:
    return lambda o: not o(key)


def _on(key: str) -> Callable[[Look], object]:
    return lambda o: o(key)


def _given(key: str) -> Callable[[Look], object]:
    return lambda o: o(key) is not None


def _unless(key: str, *values: str) -> Callable[[Look], object]:
    return lambda o: o(key) not in values


_CYCLIC = _unless(
    "lr_scheduler", "cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay"
)
# Training options, when they do nothing, and why: the rest of "X has no effect: ...".
TRAINING_ROWS: tuple[Row, ...] = (
    (("learning_rate",), _fixed_lr, "unet_lr and text_encoder_lr both stand in its place"),
    (("text_encoder_lr",), _on("network_train_unet_only"), "the UNet alone is trained"),
    (("unet_lr",), _on("network_train_text_encoder_only"), "the text encoder alone is trained"),
    (("lr_scheduler", "lr_scheduler_num_cycles", "lr_scheduler_power", "lr_warmup_steps"),
     lambda o: str(o("optimizer_type")).lower().endswith("schedulefree"),
     "a schedule-free optimizer takes no schedule"),
    (("lr_scheduler", "lr_scheduler_num_cycles", "lr_scheduler_power"),
     _on("lr_scheduler_type"), "lr_scheduler_type stands in its place"),
    (("lr_scheduler_num_cycles",), _CYCLIC, "this lr_scheduler has no cycles"),
    (("lr_scheduler_power",), _unless("lr_scheduler", "polynomial"),
     "only lr_scheduler polynomial reads it"),
    (("lr_scheduler_timescale",), _unless("lr_scheduler", "inverse_sqrt"),
     "only lr_scheduler inverse_sqrt reads it"),
    (("lr_scheduler_min_lr_ratio",),
     _unless("lr_scheduler", "cosine_with_min_lr", "warmup_stable_decay"),
     "only lr_scheduler cosine_with_min_lr and warmup_stable_decay read it"),
    (("lr_decay_steps",), _unless("lr_scheduler", "warmup_stable_decay"),
     "only lr_scheduler warmup_stable_decay reads it"),
    (("max_train_steps",), _given("max_train_epochs"), "max_train_epochs stands in its place"),
    (("noise_offset_random_strength",), _off("noise_offset"), "there is no noise_offset"),
    (("multires_noise_discount",), _off("multires_noise_iterations"),
     "there are no multires_noise_iterations"),
    (("ip_noise_gamma_random_strength",), _off("ip_noise_gamma"), "there is no ip_noise_gamma"),
    (("huber_c", "huber_schedule", "huber_scale"), _unless("loss_type", "huber", "smooth_l1"),
     "only loss_type huber and smooth_l1 read it"),
    (("network_dim", "network_alpha"), _on("dim_from_weights"),
     "dim_from_weights takes it from network_weights"),
    (("save_last_n_epochs", "save_last_n_epochs_state"),
     lambda o: o("save_every_n_epochs") is None and o("save_n_epoch_ratio") is None,
     "without save_every_n_epochs no epoch but the last is saved"),
    (("save_every_n_epochs",), _on("save_n_epoch_ratio"), "save_n_epoch_ratio stands in its place"),
    (("save_last_n_epochs_state", "save_last_n_steps_state"), _off("save_state"),
     "without save_state no state is saved on the way"),
    (("save_last_n_steps", "save_last_n_steps_state"), lambda o: o("save_every_n_steps") is None,
     "there is no save_every_n_steps"),
    (("save_state_on_train_end",), _on("save_state"), "save_state saves that one too"),
    (("sample_every_n_steps",), _given("sample_every_n_epochs"),
     "sample_every_n_epochs stands in its place"),
    (("skip_cache_check",), _off("cache_latents_to_disk"), "nothing is kept on disk"),
    (("cpu_offload_checkpointing",), _off("gradient_checkpointing"),
     "gradient_checkpointing is off"),
    (("sdpa",), lambda o: o("xformers") or o("mem_eff_attn"), "another attention is chosen"),
    (("xformers",), _on("mem_eff_attn"), "mem_eff_attn stands in its place"),
    (("dynamo_backend",), _off("torch_compile"), "torch_compile is off"),
    (("log_with", "log_prefix", "log_tracker_name", "log_tracker_config"),
     lambda o: not o("logging_dir") and o("log_with") not in ("wandb", "all"),
     "there is no logging_dir"),
    (("zero_stage", "offload_optimizer_device", "offload_param_device", "zero3_init_flag"),
     _off("deepspeed"), "deepspeed is off"),
)  # fmt: skip
# Dataset options, by what one subset has once all levels are merged.
DATASET_ROWS: tuple[Row, ...] = (
    # tu:867: only where a subset's tags are taken apart does keep_tokens act.
    (("keep_tokens",),
     lambda o: not (
         o("shuffle_caption") or o("caption_tag_dropout_rate") or o("token_warmup_step")
     ),
     "nothing is shuffled, dropped or warmed up, so every tag stays where it is"),
    (("token_warmup_min",), _off("token_warmup_step"), "there is no token_warmup_step"),
    (("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
     _off("enable_bucket"), "enable_bucket is false"),
    (("min_bucket_reso", "max_bucket_reso"),
     lambda o: o("enable_bucket") and o("bucket_no_upscale"),
     "with bucket_no_upscale each picture's own size decides; the resolution must still "
     "lie between them"),
)  # fmt: skip

# Values that stop the trainer once it has loaded everything: the key, when it does so where it is
# written and not off, and what to do.
CONFLICTS: tuple[tuple[str, Callable[[Look], object], str], ...] = (
    ("adaptive_noise_scale", lambda o: o("noise_offset") is None,
     "needs noise_offset beside it"),
    ("v_pred_like_loss", lambda o: o("v_pred_like_loss") and o("v_parameterization"),
     "cannot stand beside v_parameterization"),
    ("scale_v_pred_loss_like_noise_pred", _off("v_parameterization"),
     "needs v_parameterization beside it"),
    ("full_fp16", _unless("mixed_precision", "fp16"),
     'needs mixed_precision = "fp16"'),
    ("full_bf16", _unless("mixed_precision", "bf16"),
     'needs mixed_precision = "bf16"'),
    ("persistent_data_loader_workers", _off("max_data_loader_n_workers"),
     "needs max_data_loader_n_workers of 1 or more"),
)  # fmt: skip


def audit(experiment: Experiment, versions: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """Every finding on the experiment's options, by severity.

    `versions` are the installed packages' by name; left out, they are asked of this interpreter.
    """
    found = [
        *conflict_findings(experiment),
        *bucket_findings(experiment),
        *xformers_findings(experiment, installed() if versions is None else versions),
        *noise_findings(experiment),
        *ignored_findings(experiment),
    ]
    return tuple(sorted(found, key=lambda each: SEVERITIES.index(each.severity)))


def ignored(experiment: Experiment) -> dict[str, str]:
    """The options that do nothing in this experiment, written or not, and why.

    The keys are those of `--set`: training.KEY and dataset.KEY.
    """
    found: dict[str, str] = {}
    for keys, idle, why in TRAINING_ROWS:
        if idle(experiment.option):
            found |= {f"training.{key}": why for key in keys}
    subsets = effective(experiment)
    if not any(subset["is_reg"] for subset in subsets):
        found["training.prior_loss_weight"] = "there are no regularisation pictures (is_reg)"
    for keys, idle, why in DATASET_ROWS:
        if all(idle(subset.get) for subset in subsets):
            found |= {f"dataset.{key}": why for key in keys}
    return found


def ignored_findings(experiment: Experiment) -> Iterator[Finding]:
    """Written options that do nothing; only a note where the base files write them."""
    idle = ignored(experiment)
    for option, setting in _written(experiment):
        # An option switched off says nothing that could be ignored.
        if option not in idle or setting.value is False or setting.origin == "bespoke":
            continue
        key = option.partition(".")[2]
        base = setting.origin in (TRAINING_FILE, DATASET_FILE)
        message = f"{setting.origin}: {key} = {setting.value} has no effect: {idle[option]}"
        severity: Severity = "note" if base else "warning"
        yield finding(severity, "option_ignored", "", message, option=option, value=setting.value)


def _written(experiment: Experiment) -> Iterator[tuple[str, Setting]]:
    """Each option that a file or `--set` writes, the innermost level of the dataset's once."""
    for key, setting in experiment.training.items():
        yield f"training.{key}", setting
    levels = [subset for block in experiment.blocks for subset in block.subsets]
    levels += [block.settings for block in experiment.blocks] + [experiment.general]
    seen: set[str] = set()
    for level in levels:
        for key, setting in level.items():
            if key not in seen:
                seen.add(key)
                yield f"dataset.{key}", setting


def conflict_findings(experiment: Experiment) -> Iterator[Finding]:
    """Options on which the trainer stops after minutes of loading."""
    o = experiment.option
    for key, wrong, what in CONFLICTS:
        if o(key) is not None and o(key) is not False and wrong(o):
            written = experiment.training.get(key)
            origin = f"{written.origin}: " if written else ""
            message = f"{origin}{key} = {o(key)} {what}: the trainer would stop"
            yield finding("error", "option_conflict", "", message, option=f"training.{key}")
    if not (o("cache_latents") or o("cache_latents_to_disk")):
        return
    for key in ("color_aug", "random_crop"):
        if any(subset[key] for subset in effective(experiment)):
            message = f"{key} = true cannot stand beside cache_latents: the trainer would stop"
            yield finding("error", "option_conflict", "", message, option=f"dataset.{key}")


def bucket_findings(experiment: Experiment) -> Iterator[Finding]:
    """Bucket bounds that leave the resolution out, over all levels: the assertion at tu:765.

    It holds with bucket_no_upscale too, where the bounds do nothing else.
    """
    for subset in effective(experiment):
        written = subset["resolution"]
        if not subset["enable_bucket"] or written is None:
            continue
        sides = written if isinstance(written, (list, tuple)) else (written,)
        steps = subset["bucket_reso_steps"]
        low = subset["min_bucket_reso"] // steps * steps
        high = -(-subset["max_bucket_reso"] // steps) * steps
        if low <= min(sides) and max(sides) <= high:
            continue
        side, lies, key, bound = max(sides), "above", "max_bucket_reso", high
        if low > min(sides):
            side, lies, key, bound = min(sides), "below", "min_bucket_reso", low
        message = (
            f"resolution {side} lies {lies} {key}, {bound} where nothing else is written: "
            f"write {key} = {side}, or enable_bucket = false"
        )
        yield finding("error", "bucket_bounds", "", message, resolution=side, bound=bound)
        return


def noise_findings(experiment: Experiment) -> Iterator[Finding]:
    """An offset that the multires noise's normalising weakens (tu:6076, custom_train_functions)."""
    o = experiment.option
    if o("noise_offset") and o("multires_noise_iterations"):
        message = (
            f"noise_offset = {o('noise_offset')} is weakened: multires noise is added to it and "
            "the sum is scaled back (at 0.05 with 6 iterations and discount 0.3 a channel's mean "
            "spreads by 0.044, not 0.052); use one of the two to know what acts"
        )
        yield finding("note", "noise_offset_weakened", "", message, noise_offset=o("noise_offset"))


def installed() -> dict[str, str]:
    """The versions of torch and xformers here, without importing either."""
    from importlib import metadata

    versions = {}
    for name in ("torch", "xformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def xformers_findings(experiment: Experiment, versions: Mapping[str, str]) -> Iterator[Finding]:
    """xformers beside a torch that its kernels were not built for; where both are installed."""
    if not experiment.option("xformers") or not {"torch", "xformers"} <= versions.keys():
        return
    wanted = XFORMERS_TORCH.get(versions["xformers"].partition("+")[0])
    torch = versions["torch"].partition("+")[0]
    if wanted and torch != wanted:
        message = (
            f"xformers {versions['xformers']} is built for torch {wanted}, and torch {torch} is "
            "installed: its kernels will not load; install the trainer's locked set, or write "
            "xformers = false and sdpa = true"
        )
        yield finding("error", "xformers_torch", "", message, torch=torch, wanted=wanted)


# --- Sample prompts -------------------------------------------------------------------------------


def prompt_findings(prompts: Iterable[str]) -> Iterator[Finding]:
    """Prompts, as lines of a prompt file, that the sampler cuts or weighs unasked (tu:6251).

    Unlike training's captions, a sample prompt's brackets weigh what they hold
    (lpw_stable_diffusion.py); the caption's own text needs them escaped.
    """
    for number, line in enumerate(prompts, start=1):
        for text in _texts(line):
            cost = tokens(re.sub(r"\\([()\[\]\\])", r"\1", text))
            if cost > SAMPLED_TOKENS:
                message = (
                    f"prompt {number} costs {cost} tokens and the sampler reads {SAMPLED_TOKENS}: "
                    f"the end of {_shortened(text)} is cut off"
                )
                yield finding("warning", "prompt_too_long", "", message, prompt=number, tokens=cost)
            if count := len(_BRACKET.findall(text)):
                message = (
                    f"prompt {number} has {count} brackets that weigh a phrase when "
                    "sampling and are plain text when training: write \\( and \\) in "
                    f"{_shortened(text)}"
                )
                yield finding(
                    "warning", "prompt_parentheses", "", message, prompt=number, brackets=count
                )


def _texts(line: str) -> list[str]:
    """The prompt and its negative one; the other arguments hold no text."""
    first, *arguments = line.strip().split(" --")
    return [first, *(each[2:] for each in arguments if each[:2].lower() == "n ")]


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
