"""Options that do nothing, weaken one another or stop the trainer late.

Places in the trainer's source are those of v0.10.1: `tn` is train_network.py, `tu`
library/train_util.py, `lora` networks/lora.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bespoke.experiment.caption_text import tokens
from bespoke.experiment.config import TRAINING_FILE
from bespoke.experiment.effective_options import effective
from bespoke.experiment.settings import DATASET_FILE
from bespoke.experiment.validation import shown
from bespoke.findings import SEVERITIES, Finding, Severity, finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bespoke.experiment.config import Experiment
    from bespoke.experiment.prompts import Prompt
    from bespoke.experiment.settings import Setting

SAMPLED_TOKENS = 225
"""What a sample prompt may cost, whatever max_token_length (lpw_stable_diffusion.py:274)."""

Look = Callable[[str], Any]
Row = tuple[tuple[str, ...], Callable[[Look], object], str]


def _fixed_lr(o: Look) -> bool:
    """Every LoRA parameter group gets a rate of its own (lora:1199); polynomial reads this one."""
    own = o("unet_lr") is not None and o("text_encoder_lr") not in (None, [])
    plain = o("network_module") == "networks.lora" and o("lr_scheduler") != "polynomial"
    return own and plain and not str(o("optimizer_type")).lower().startswith("adafactor")


# Options that experiments here use, when they do nothing, and why: the rest of "X has no effect: ".
TRAINING_ROWS: tuple[Row, ...] = (
    (("learning_rate",), _fixed_lr, "unet_lr and text_encoder_lr both replace it"),
    (("lr_scheduler_num_cycles",),
     lambda o: o("lr_scheduler") not in (
         "cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay"),
     "this lr_scheduler has no cycles"),
    (("multires_noise_discount",), lambda o: not o("multires_noise_iterations"),
     "there are no multires_noise_iterations"),
    (("sdpa",), lambda o: o("xformers") or o("mem_eff_attn"), "another attention is chosen"),
    (("log_with", "log_prefix"),
     lambda o: not o("logging_dir") and o("log_with") not in ("wandb", "all"),
     "there is no logging_dir"),
)  # fmt: skip
# Dataset options, by what one subset has once all levels are merged.
DATASET_ROWS: tuple[Row, ...] = (
    # tu:867: only where a subset's tags are taken apart does keep_tokens act.
    (("keep_tokens",),
     lambda o: not (
         o("shuffle_caption") or o("caption_tag_dropout_rate") or o("token_warmup_step")
     ),
     "nothing is shuffled, dropped or warmed up, so every tag stays where it is"),
    (("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
     lambda o: not o("enable_bucket"), "enable_bucket is false"),
    (("min_bucket_reso", "max_bucket_reso"),
     lambda o: o("enable_bucket") and o("bucket_no_upscale"),
     "with bucket_no_upscale each picture's own size decides; the resolution must still "
     "lie between them"),
)  # fmt: skip


def audit(experiment: Experiment) -> tuple[Finding, ...]:
    """Every finding on the experiment's options, by severity."""
    found = [
        *worker_findings(experiment),
        *bucket_findings(experiment),
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
    levels = (*experiment.subsets, experiment.general)
    seen: set[str] = set()
    for level in levels:
        for key, setting in level.items():
            if key not in seen:
                seen.add(key)
                yield f"dataset.{key}", setting


def worker_findings(experiment: Experiment) -> Iterator[Finding]:
    """The trainer stops after minutes of loading where workers are kept and there are none."""
    o = experiment.option
    if o("persistent_data_loader_workers") and not o("max_data_loader_n_workers"):
        origin = experiment.training["persistent_data_loader_workers"].origin
        message = (
            f"{origin}: persistent_data_loader_workers = true needs max_data_loader_n_workers of "
            "1 or more: the trainer would stop"
        )
        key = "training.persistent_data_loader_workers"
        yield finding("error", "option_conflict", "", message, option=key)


def bucket_findings(experiment: Experiment) -> Iterator[Finding]:
    """Bucket bounds that leave the resolution out, over all levels: the assertion at tu:765.

    The trainer rounds the bounds outwards (tu:747) and every bucket down (model_util.py:1322). It
    asserts with bucket_no_upscale too, where the bounds do nothing else.
    """
    for subset in effective(experiment):
        written = subset["resolution"]
        if not subset["enable_bucket"] or written is None:
            continue
        sides = written if isinstance(written, (list, tuple)) else (written,)
        steps = subset["bucket_reso_steps"]
        low = subset["min_bucket_reso"] // steps * steps
        high = -(-subset["max_bucket_reso"] // steps) * steps
        wrong = None
        if low > min(sides):
            wrong = f"resolution {min(sides)} lies below min_bucket_reso, {low}"
        elif high < max(sides):
            wrong = f"resolution {max(sides)} lies above max_bucket_reso, {high}"
        elif uneven := [side for side in sides if side % steps]:
            wrong = f"resolution {uneven[0]} is no multiple of bucket_reso_steps, {steps}"
        if wrong:
            message = f"{wrong}: change one of the two, or write enable_bucket = false"
            yield finding("error", "bucket_bounds", "", message, resolution=list(sides))
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


def prompt_findings(prompts: Iterable[Prompt]) -> Iterator[Finding]:
    """Prompts whose end the sampler cuts off."""
    for prompt in prompts:
        for text in (prompt.text, prompt.negative):
            cost = tokens(text)
            if cost > SAMPLED_TOKENS:
                message = (
                    f"test prompt {prompt.name} is {cost} tokens long and the sampler reads "
                    f"{SAMPLED_TOKENS}: the end of {shown(text)} is cut off"
                )
                yield finding(
                    "warning", "prompt_too_long", "", message, prompt=prompt.name, tokens=cost
                )
