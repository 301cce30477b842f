"""One experiment compared with its parent: what differs, does it act, can it be told apart?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.dataset.caption_exposure import NOT_COMPUTED
from bespoke.experiment.caption_text import HEX
from bespoke.experiment.option_warnings import without_effect
from bespoke.experiment.trainer_options import PICTURE_EXTENSIONS
from bespoke.files import digest
from bespoke.findings import finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.dataset.caption_exposure import Exposure
    from bespoke.experiment.experiment import Experiment
    from bespoke.findings import Finding, Severity

# Options that change what is kept of a run or how fast it goes, and nothing that it learns.
_KEEPING = (
    "output_", "save_", "sample_", "log", "wandb_", "metadata_", "huggingface_",
    "training_comment", "console_log", "no_metadata", "async_upload", "max_data_loader",
    "persistent_data_loader", "cache_latents", "skip_cache_check", "vae_batch_size", "highvram",
    "lowram", "xformers", "sdpa", "mem_eff_attn", "gradient_checkpointing", "cpu_offload",
    "torch_compile", "dynamo_", "cache_info", "dataset_config", "tokenizer_cache_dir",
    "validate_every", "max_validation",
)  # fmt: skip
# Options that are one thing together: a change of several of a row counts as one.
_TOGETHER = tuple(tuple(row.split()) for row in (
    "network_dim network_alpha",
    "learning_rate unet_lr text_encoder_lr",
    "lr_scheduler lr_scheduler_num_cycles lr_scheduler_power lr_scheduler_args",
    "train_batch_size gradient_accumulation_steps",
    "multires_noise_iterations multires_noise_discount",
    "noise_offset noise_offset_random_strength adaptive_noise_scale",
    "optimizer_type optimizer_args",
    "enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale",
))  # fmt: skip
# Options that the trainer asks for by truth: 0 is as good as unset.
_OFF_AT_ZERO = frozenset((
    "noise_offset", "multires_noise_iterations", "min_snr_gamma", "ip_noise_gamma",
    "scale_weight_norms", "v_pred_like_loss", "adaptive_noise_scale", "network_dropout",
))  # fmt: skip
# What acts through the captions that the trainer draws, and through nothing else.
_CAPTION_KEYS = frozenset((
    *NOT_COMPUTED, "caption_separator", "token_warmup_min", "keep_tokens", "shuffle_caption",
    "caption_dropout_rate", "max_token_length",
))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs: its options by their `--set` names, and how a person reads it.

    `idle` says why it does not act, "" where it does.
    """

    options: tuple[str, ...] = ()
    shown: str
    idle: str = ""


@dataclass(frozen=True, kw_only=True)
class Side:
    """An experiment with what the model sees of its captions, and the folder of each subset."""

    experiment: Experiment
    exposure: Exposure
    data: Mapping[str, Path]


def compare(
    side: Side, parent: Side, *, no_op: Severity = "error"
) -> tuple[list[Finding], list[str]]:
    """What the experiment cannot show, and in words what the model sees of its subject.

    `no_op` is how bad it is that nothing differs.
    """
    changes = list(changed(side, parent))
    acting = [change for change in changes if not change.idle]
    name, before = side.experiment.name, parent.experiment.name
    findings = (
        None if acting else _no_op(name, before, changes, no_op),
        _misses_subject(side, acting),
        _confounded(name, before, acting) if len(acting) > 1 else None,
    )
    return [each for each in findings if each is not None], list(_subject_lines(side, parent))


def _differences(one: Experiment, parent: Experiment) -> dict[str, str]:
    """Each option that differs, by its `--set` name, as a person reads it.

    Subsets are held together by their image_dir; what only one experiment has is left out.
    """
    pairs = {
        f"training.{key}": (parent.option(key), one.option(key))
        for key in {**one.training, **parent.training}
    }
    before = parent.by_folder()
    for subset in one.subset_options():
        twin = before.get(str(subset["image_dir"]), subset)
        for key in subset:
            # The training file's name of batch_size is the one that bespoke lets people write.
            if twin[key] != subset[key] and key != "batch_size":
                pairs[f"dataset.{key}"] = (twin[key], subset[key])
    return {
        name: f"{name.partition('.')[2]} {_toml(old)} -> {_toml(new)}"
        for name, (old, new) in pairs.items()
        if old != new and _is_learnt(name.partition(".")[2], old or new)
    }


def _is_learnt(key: str, either: Any) -> bool:
    """Whether an option that differs can act on what is learnt."""
    return not key.startswith(_KEEPING) and bool(either or key not in _OFF_AT_ZERO)


def changed(side: Side, parent: Side) -> Iterator[Change]:
    """Each thing that differs; of options that are one thing together, one."""
    yield from _data_changes(side, parent)
    differing = _differences(side.experiment, parent.experiment)
    here, there = without_effect(side.experiment), without_effect(parent.experiment)
    same_captions = side.exposure.fingerprint == parent.exposure.fingerprint
    left = {}
    for name, shown in differing.items():
        if name in here and name in there:
            yield Change(options=(name,), shown=shown, idle=here[name])
        elif name.partition(".")[2] in _CAPTION_KEYS and same_captions and side.exposure.tokens:
            why = here.get(name, "the trainer draws the same captions either way")
            yield Change(options=(name,), shown=shown, idle=why)
        else:
            left[name] = shown
    while left:
        section, _, key = next(iter(left)).partition(".")
        row = next((row for row in _TOGETHER if key in row), (key,))
        names = tuple(name for name in left if name in {f"{section}.{each}" for each in row})
        yield Change(options=names, shown=", ".join(left.pop(name) for name in names))


def _data_changes(side: Side, parent: Side) -> Iterator[Change]:
    here, there = (each.experiment.by_folder().keys() for each in (side, parent))
    if here != there:
        words = [f"{name} added" for name in sorted(here - there)]
        words += [f"{name} left out" for name in sorted(there - here)]
        yield Change(shown=f"subsets: {', '.join(words)}")
    for name in sorted(here & there & side.data.keys() & parent.data.keys()):
        specs = [each.experiment.specs.get(name) for each in (side, parent)]
        new, old = ((spec and spec.caption_version) or "no version" for spec in specs)
        one, two = side.data[name], parent.data[name]
        if new != old:
            yield Change(shown=f"captions of {name}: {old} -> {new}")
        elif one.resolve() != two.resolve() and digest(one, _trained) != digest(two, _trained):
            yield Change(shown=f"pictures or captions of {name}: {two} -> {one}")


def _trained(path: Path) -> bool:
    return path.suffix.lower() in (*PICTURE_EXTENSIONS, ".txt", ".caption")


def _no_op(one: str, parent: str, changes: Sequence[Change], severity: Severity) -> Finding:
    rows = "; ".join(f"{change.shown} has no effect: {change.idle}" for change in changes)
    message = f"{one} would train exactly what {parent} trained: {rows or 'nothing differs'}"
    if severity == "error":
        message += ". Change something, or repeat it knowingly with --allow-no-op"
    return finding(severity, "experiment_no_op", "", message)


def _confounded(one: str, parent: str, acting: Sequence[Change]) -> Finding:
    message = (
        f"{one} changes {len(acting)} things from {parent}, so you cannot know which one worked: "
        f"{'; '.join(change.shown for change in acting)}. Make an experiment of each"
    )
    return finding("warning", "experiment_confounded", "", message, changes=len(acting))


def _misses_subject(side: Side, acting: Sequence[Change]) -> Finding | None:
    """Whether tags are kept for a subject that is not among them."""
    seen = side.exposure.subject
    captions = len(seen.places)
    keeps = any("dataset.keep_tokens" in change.options for change in acting)
    if not captions or not keeps or seen.kept >= 0.5 * captions:
        return None
    first, last = min(seen.places) + 1, max(seen.places) + 1
    where = f"tag {first}" + (f" to {last}" if last > first else "")
    often = f"kept in {seen.kept} of {captions} captions" if seen.kept else "never kept"
    message = (
        f"{side.experiment.name} cannot test its hypothesis: {_kept(side.exposure)}; the "
        f"{seen.kind} is {where} and {often}. Move it to the front: `captions repair` does"
    )
    return finding("warning", "experiment_misses_subject", "", message, kept=seen.kept)


def _kept(exposure: Exposure) -> str:
    """The kept tags in words, and whether they hold a colour."""
    from bespoke.dataset.colors import named_in  # numpy

    rows = [f'"{", ".join(tags)}"' for tags in exposure.kept if tags]
    if not rows:
        return "no tag is kept"
    shown = " or ".join(rows) if len(rows) <= 3 else f"of {len(rows)} sorts"
    kept = {tag for tags in exposure.kept for tag in tags}
    colored = any(HEX.search(tag) or named_in(tag) for tag in kept)
    return f"the kept tags are {shown}{'' if colored else ', without any colour'}"


def _subject_lines(side: Side, parent: Side) -> Iterator[str]:
    name, here, there = parent.experiment.name, side.exposure, parent.exposure
    share, before = here.subject.share, there.subject.share
    if share is not None:
        compared = f" ({before:.1%} in {name})" if before is not None else ""
        yield f"The model sees the {here.subject.kind} tag in {share:.1%} of samples{compared}"
    if here.blank or there.blank:
        yield (
            f"{here.blank:.1%} of samples train with an empty caption (caption_dropout_rate), "
            f"{there.blank:.1%} in {name}"
        )
    if here.unknown:
        yield f"What the model sees is not computed with {', '.join(here.unknown)}"


def _toml(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
