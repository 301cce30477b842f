"""Options that do nothing, or stop the trainer late.

Places in the trainer's source are those of v0.10.1: `tu` is library/train_util.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bespoke.experiment.config import TRAINING_FILE
from bespoke.experiment.effective_options import effective
from bespoke.experiment.settings import DATASET_FILE
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.experiment.config import Experiment

Row = tuple[tuple[str, ...], Callable[[Callable[[str], Any]], object], str]

# Options that experiments here use, when they do nothing, and why: the rest of "X has no effect: ".
TRAINING_ROWS: tuple[Row, ...] = (
    (("learning_rate",),  # each group of parameters gets a rate of its own (lora.py:1199)
     lambda o: o("unet_lr") is not None and o("text_encoder_lr") not in (None, []),
     "unet_lr and text_encoder_lr both replace it"),
    (("lr_scheduler_num_cycles",),
     lambda o: o("lr_scheduler") != "cosine_with_restarts", "this lr_scheduler has no cycles"),
    (("multires_noise_discount",), lambda o: not o("multires_noise_iterations"),
     "there are no multires_noise_iterations"),
    (("sdpa",), lambda o: o("xformers"), "another attention is chosen"),
)  # fmt: skip
# Dataset options, by what one subset has once all levels are merged.
DATASET_ROWS: tuple[Row, ...] = (
    (("keep_tokens",),  # tu:867: it acts only where a caption's tags are taken apart
     lambda o: not (o("shuffle_caption") or o("caption_tag_dropout_rate")),
     "nothing is shuffled or dropped, so every tag stays where it is"),
    (("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale"),
     lambda o: not o("enable_bucket"), "enable_bucket is false"),
    (("min_bucket_reso", "max_bucket_reso"),
     lambda o: o("enable_bucket") and o("bucket_no_upscale"),
     "with bucket_no_upscale each picture's own size decides"),
)  # fmt: skip


def audit(experiment: Experiment) -> Iterator[Finding]:
    """Every finding on the experiment's options."""
    o = experiment.option
    if o("persistent_data_loader_workers") and not o("max_data_loader_n_workers"):
        message = "persistent_data_loader_workers needs max_data_loader_n_workers of 1 or more"
        yield finding("error", "option_conflict", "", message)
    idle = ignored(experiment)
    levels = [("training", experiment.training), ("dataset", experiment.general)]
    for section, settings in (*levels, *(("dataset", each) for each in experiment.subsets)):
        for key, setting in settings.items():
            why = idle.get(f"{section}.{key}")
            # What the base files write is there for other experiments, and off is off.
            if why and setting.value and setting.origin not in (TRAINING_FILE, DATASET_FILE):
                message = f"{setting.origin}: {key} = {setting.value} has no effect: {why}"
                yield finding("warning", "option_ignored", "", message)


def ignored(experiment: Experiment) -> dict[str, str]:
    """The options that do nothing in this experiment, written or not, and why.

    The keys are those of `--set`: training.KEY and dataset.KEY.
    """
    idle = {
        f"training.{key}": why
        for keys, nothing, why in TRAINING_ROWS
        if nothing(experiment.option)
        for key in keys
    }
    subsets = effective(experiment)
    if not any(subset["is_reg"] for subset in subsets):
        idle["training.prior_loss_weight"] = "there are no regularisation pictures (is_reg)"
    for keys, nothing, why in DATASET_ROWS:
        if all(nothing(subset.get) for subset in subsets):
            idle |= {f"dataset.{key}": why for key in keys}
    return idle
