"""One experiment compared with its parent: what differs, does it act, can it be told apart?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from bespoke.dataset import caption_exposure
from bespoke.experiment.option_checks import without_effect
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bespoke.dataset.caption_exposure import Exposure
    from bespoke.dataset.loading import Collection
    from bespoke.experiment.experiment import Experiment
    from bespoke.findings import Severity

# Options that change what is kept of a run or how fast it goes, and nothing that it learns.
_KEEPING = (
    "output_", "save_", "sample_", "log", "wandb_", "metadata_", "huggingface_",
    "training_comment", "max_data_loader", "persistent_data_loader", "cache_latents",
    "vae_batch_size", "highvram", "lowram", "xformers", "sdpa", "mem_eff_attn",
    "gradient_checkpointing", "cpu_offload", "torch_compile", "dynamo_", "tokenizer_cache_dir",
)  # fmt: skip
# Options that are one thing together: a change of several of a row counts as one.
_TOGETHER = tuple(tuple(row.split()) for row in (
    "network_dim network_alpha",
    "learning_rate unet_lr text_encoder_lr",
    "lr_scheduler lr_scheduler_num_cycles lr_scheduler_power lr_scheduler_args",
    "train_batch_size gradient_accumulation_steps",
    "multires_noise_iterations multires_noise_discount",
    "optimizer_type optimizer_args",
    "enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale",
))  # fmt: skip


class Change(NamedTuple):
    """What differs: its options by their `--set` names, in words, and why it does not act if so."""

    options: tuple[str, ...]
    shown: str
    idle: str = ""


@dataclass(frozen=True, kw_only=True)
class Side:
    """An experiment on its captions; `subject` is the kind of tags that is looked at in them."""

    experiment: Experiment
    collections: Mapping[str, Collection]
    subject: str

    @cached_property
    def exposure(self) -> Exposure:
        captions = {name: each.captions for name, each in self.collections.items()}
        return caption_exposure.look(self.experiment, captions, self.subject)

    def version(self, name: str) -> str:
        spec = self.experiment.specs.get(name)
        return (spec and spec.caption_version) or "no version"


def compare(
    side: Side, parent: Side, *, allow_no_op: bool = False
) -> tuple[list[Finding], list[str]]:
    """What the experiment cannot show, and in words what the model sees of its subject."""
    changes = list(changed(side, parent))
    acting = [change for change in changes if not change.idle]
    name, before = side.experiment.name, parent.experiment.name
    findings = []
    if not acting:
        why = [f"{change.shown} has no effect: {change.idle}" for change in changes]
        message = (
            f"{name} would train exactly what {before} trained: "
            f"{'; '.join(why) or 'nothing differs'}. Change something, or repeat it knowingly with "
            "--allow-no-op"
        )
        severity: Severity = "warning" if allow_no_op else "error"
        findings.append(finding(severity, "experiment_no_op", "", message))
    if any("dataset.keep_tokens" in change.options for change in acting):
        findings += _misses_subject(name, side.exposure)
    if len(acting) > 1:
        message = (
            f"{name} changes {len(acting)} things from {before}, so you cannot know which one "
            f"worked: {'; '.join(change.shown for change in acting)}. Make an experiment of each"
        )
        findings.append(finding("warning", "experiment_confounded", "", message))
    return findings, list(_subject_lines(side, parent))


def changed(side: Side, parent: Side) -> Iterator[Change]:
    """Each thing that differs; of options that are one thing together, one."""
    yield from _data_changes(side, parent)
    here, there = without_effect(side.experiment), without_effect(parent.experiment)
    left = {}
    for name, shown in _differences(side.experiment, parent.experiment):
        if name in here and name in there:
            yield Change((name,), shown, idle=here[name])
        else:
            left[name] = shown
    while left:
        section, _, key = next(iter(left)).partition(".")
        row = next((row for row in _TOGETHER if key in row), (key,))
        names = tuple(name for name in left if name in {f"{section}.{each}" for each in row})
        yield Change(names, ", ".join(left.pop(name) for name in names))


def _differences(one: Experiment, parent: Experiment) -> Iterator[tuple[str, str]]:
    """Each option that differs, by its `--set` name, as a person reads it."""
    pairs = {
        f"training.{key}": (parent.option(key), one.option(key))
        for key in {**one.training, **parent.training}
    }
    before = parent.by_folder()
    for name, subset in one.by_folder().items():
        twin = before.get(name, subset)  # what only one has is left out
        # The training file's name of batch_size is the one that bespoke lets people write.
        keys = [key for key in subset if twin[key] != subset[key] and key != "batch_size"]
        pairs |= {f"dataset.{key}": (twin[key], subset[key]) for key in keys}
    for name, (old, new) in pairs.items():
        key = name.partition(".")[2]
        if old != new and not key.startswith(_KEEPING):
            before_after = ("unset" if each is None else json.dumps(each) for each in (old, new))
            yield name, f"{key} {' -> '.join(before_after)}"


def _data_changes(side: Side, parent: Side) -> Iterator[Change]:
    here, there = (each.experiment.by_folder().keys() for each in (side, parent))
    if here != there:
        old, new = (", ".join(sorted(each)) for each in (there, here))
        yield Change((), f"subsets: {old} -> {new}")
    for name in sorted(here & there & side.collections.keys() & parent.collections.keys()):
        new, old = side.version(name), parent.version(name)
        one, two = (each.collections[name].folder.resolve() for each in (side, parent))
        if new != old:
            yield Change((), f"captions of {name}: {old} -> {new}")
        elif one != two:
            yield Change((), f"pictures or captions of {name}: {two} -> {one}")


def _misses_subject(name: str, seen: Exposure) -> Iterator[Finding]:
    """Tags are kept for a subject that is not among them."""
    captions = len(seen.places)
    if not captions or seen.held >= 0.5 * captions:
        return
    first, last = min(seen.places) + 1, max(seen.places) + 1
    where = f"tag {first}" + (f" to {last}" if last > first else "")
    often = f"kept in {seen.held} of {captions} captions" if seen.held else "never kept"
    rows = [f'"{", ".join(tags)}"' for tags in seen.kept if tags] or ["none"]
    kept = " or ".join(rows) if len(rows) <= 3 else f"of {len(rows)} sorts"
    message = (
        f"{name} cannot test its hypothesis: the kept tags are {kept}; the {seen.subject} is "
        f"{where} and {often}. Move it to the front: `captions repair` does"
    )
    yield finding("warning", "experiment_misses_subject", "", message)


def _subject_lines(side: Side, parent: Side) -> Iterator[str]:
    name, here, there = parent.experiment.name, side.exposure, parent.exposure
    if here.share is not None:
        compared = f" ({there.share:.1%} in {name})" if there.share is not None else ""
        yield f"The model sees the {here.subject} tag in {here.share:.1%} of samples{compared}"
    for subset, own in side.collections.items():
        if own is parent.collections.get(subset) and side.version(subset) != parent.version(subset):
            yield f"The captions of {name} are not here: name them with --parent-data {subset}=DIR"
    if here.blank or there.blank:
        yield (
            f"{here.blank:.1%} of samples train with an empty caption (caption_dropout_rate), "
            f"{there.blank:.1%} in {name}"
        )
    if here.unknown:
        yield f"What the model sees is not computed with {', '.join(here.unknown)}"
