"""Warnings before a run: options that do nothing, and a gate that would never decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.experiment.experiment import Experiment


def check(experiment: Experiment) -> Iterator[Finding]:
    """Every finding on the experiment's options and its gate."""
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
    o, subsets = experiment.option, experiment.subset_options()
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
