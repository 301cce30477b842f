"""One experiment compared with another: what differs, does it act, can it be told apart?"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.dataset.caption_exposure import NOT_COMPUTED
from bespoke.experiment.dataset_spec import PICTURE_EXTENSIONS
from bespoke.experiment.effective_options import by_folder, effective
from bespoke.experiment.lint import ignored
from bespoke.experiment.schedule import length, shares
from bespoke.files import digest
from bespoke.findings import finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.dataset.caption_exposure import ClassExposure, Exposure
    from bespoke.experiment.config import Experiment
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
_TOGETHER: tuple[tuple[str, ...], ...] = tuple(tuple(row.split()) for row in (
    "network_dim network_alpha",
    "lr_scheduler lr_scheduler_num_cycles lr_scheduler_power lr_scheduler_args",
    "train_batch_size gradient_accumulation_steps",
    "max_train_epochs max_train_steps",
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
_WANTED: dict[str, Callable[[Path], bool]] = {
    "pictures": lambda path: path.suffix.lower() in PICTURE_EXTENSIONS,
    "captions": lambda path: path.suffix.lower() in (".txt", ".caption"),
}
_RATES = ("learning_rate", "unet_lr", "text_encoder_lr")
# What acts through the captions that the trainer draws, and through nothing else.
_CAPTION_KEYS = frozenset((*NOT_COMPUTED, "caption_separator", "token_warmup_min",
    "keep_tokens", "shuffle_caption", "caption_dropout_rate", "max_token_length"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs. `values` holds each option's value before and after, by `--set` name.

    `section` is training, dataset, pictures or captions. `idle` says why it does not act, "" where
    it does. `shown` puts it for a person.
    """

    section: str
    values: Mapping[str, tuple[Any, Any]]
    shown: str
    idle: str = ""

    @property
    def settings(self) -> tuple[str, ...]:
        """The `--set` arguments that make this change alone; none where an option is unset."""
        after = {name: value for name, (_, value) in self.values.items()}
        if None in after.values():
            return ()
        return tuple(
            f"--set {shlex.quote(f'{name}={_toml(value)}')}" for name, value in after.items()
        )


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """`findings` say what the experiment cannot show, the worst first; `lines` what the model sees
    of its subject."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Side:
    """An experiment with what the model sees of its captions, and the folder of each subset."""

    experiment: Experiment
    exposure: Exposure
    data: Mapping[str, Path]

    @property
    def subject(self) -> ClassExposure | None:
        return self.exposure.classes.get(self.experiment.subject)


def compare(
    side: Side, other: Side, *, known: Sequence[Experiment] = (), no_op: Severity = "error"
) -> Ablation:
    """What `side` changes compared with `other`, usually its parent.

    `known` are experiments that may already make one of the changes alone. `no_op` is how bad it is
    that nothing differs: "warning" where a person said that it may be so.
    """
    changes = (*_option_changes(side, other), *_data_changes(side, other))
    acting = [change for change in changes if not change.idle]
    one, two = side.experiment, other.experiment
    findings = (
        None if acting else _no_op(one.name, two.name, changes, no_op),
        _misses_subject(side, acting),
        _confounded(one, two, acting, known) if len(acting) > 1 else None,
        _moves_schedule(side, other),
    )
    return Ablation(
        changes=changes,
        findings=tuple(each for each in findings if each is not None),
        lines=tuple(_subject_lines(side, other)),
    )


# --- What differs ---------------------------------------------------------------------------------


def differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Each option that differs, by its `--set` name, as (in `other`, in `one`).

    Subsets are held together by their image_dir; what only one experiment has is left out.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**one.training, **other.training}:
        pair = (other.option(key), one.option(key))
        off = key in _OFF_AT_ZERO and not any(pair)
        if not off and not key.startswith(_KEEPING) and not _same(*pair):
            found[f"training.{key}"] = pair
    before = by_folder(other)
    for subset in effective(one):
        twin = before.get(str(subset["image_dir"]), subset)
        for key, value in subset.items():
            if not key.startswith(_KEEPING) and not _same(twin[key], value):
                found[f"dataset.{key}"] = (twin[key], value)
    # The training file's name of it is the one that bespoke lets people write.
    found.pop("dataset.batch_size", None)
    return found


def _same(before: Any, after: Any) -> bool:
    return bool(before == after) and isinstance(before, bool) == isinstance(after, bool)


def _option_changes(side: Side, other: Side) -> Iterator[Change]:
    differing = differences(side.experiment, other.experiment)
    here, there = ignored(side.experiment), ignored(other.experiment)
    same_captions = side.exposure.fingerprint == other.exposure.fingerprint
    idle: dict[str, str] = {}
    for name in differing:
        if name in here and name in there:
            idle[name] = here[name]
        elif name.partition(".")[2] in _CAPTION_KEYS and same_captions and side.exposure.captions:
            idle[name] = here.get(name, "the trainer draws the same captions either way")
    acting = {name: pair for name, pair in differing.items() if name not in idle}
    yield from map(_change, _grouped(acting))
    for name, why in idle.items():
        yield _change({name: differing[name]}, idle=why)


def _change(values: Mapping[str, tuple[Any, Any]], idle: str = "") -> Change:
    shown = ", ".join(
        f"{name.partition('.')[2]} {_toml(before)} -> {_toml(after)}"
        for name, (before, after) in values.items()
    )
    section = next(iter(values)).partition(".")[0]
    return Change(section=section, values=values, shown=shown, idle=idle)


def _grouped(found: Mapping[str, tuple[Any, Any]]) -> Iterator[dict[str, tuple[Any, Any]]]:
    left = dict(found)
    together = _TOGETHER if not _scaled_alike(found) else (*_TOGETHER, _RATES)
    while left:
        first = next(iter(left))
        section, _, key = first.partition(".")
        row = next((row for row in together if key in row), (key,))
        names = [name for name in left if name in {f"{section}.{each}" for each in row}]
        yield {name: left.pop(name) for name in names}


def _scaled_alike(found: Mapping[str, tuple[Any, Any]]) -> bool:
    """Whether all learning rates that differ are changed by one factor."""
    pairs = [found[f"training.{key}"] for key in _RATES if f"training.{key}" in found]
    if not all(isinstance(rate, (int, float)) for pair in pairs for rate in pair):
        return False
    factors = [after / before if before else math.inf for before, after in pairs]
    return all(math.isclose(factor, factors[0], rel_tol=1e-6) for factor in factors)


def _data_changes(side: Side, other: Side) -> Iterator[Change]:
    here, there = (by_folder(each.experiment).keys() for each in (side, other))
    if here != there:
        words = [f"{name} added" for name in sorted(here - there)]
        words += [f"{name} left out" for name in sorted(there - here)]
        yield Change(section="pictures", values={}, shown=f"subsets: {', '.join(words)}")
    for name in sorted(here & there & side.data.keys() & other.data.keys()):
        one, two = side.data[name], other.data[name]
        versions = [each.experiment.specs.get(name) for each in (side, other)]
        new, old = (spec.caption_version if spec else "" for spec in versions)
        if new != old:
            shown = f"captions of {name}: {old or 'no version'} -> {new or 'no version'}"
            yield Change(section="captions", values={}, shown=shown)
            continue
        if one.resolve() == two.resolve():
            continue
        for section, wanted in _WANTED.items():
            if digest(one, wanted) != digest(two, wanted):
                shown = f"{section} of {name}: {two} -> {one}"
                yield Change(section=section, values={}, shown=shown)


# --- What it means --------------------------------------------------------------------------------


def _no_op(one: str, other: str, changes: Sequence[Change], severity: Severity) -> Finding:
    rows = "; ".join(f"{change.shown} has no effect: {change.idle}" for change in changes)
    message = f"{one} would train exactly what {other} trained: {rows or 'nothing differs'}"
    if severity == "error":
        message += ". Change something, or repeat it knowingly with --allow-no-op"
    return finding(severity, "experiment_no_op", "", message, changes=len(changes))


def _confounded(
    one: Experiment, other: Experiment, acting: Sequence[Change], known: Sequence[Experiment]
) -> Finding:
    alone = [how for change in acting if (how := _alone(change, other, known))]
    message = (
        f"{one.name} changes {len(acting)} things from {other.name}, so you cannot know which one "
        f"worked: {'; '.join(change.shown for change in acting)}. "
        f"One at a time: {'; '.join(alone) or 'make an experiment of each'}"
    )
    return finding(
        "warning", "experiment_confounded", "", message,
        changes=[change.shown for change in acting], alone=alone,
    )  # fmt: skip


def _alone(change: Change, other: Experiment, known: Sequence[Experiment]) -> str:
    """How to run one change alone: an experiment that does, or `--set` upon the other one."""
    for each in known:
        idle = ignored(each).keys() & ignored(other).keys()
        own = {k: v for k, v in differences(each, other).items() if k not in idle}
        # With other pictures or captions declared, it would not be this change alone.
        if change.values and own == change.values and each.specs == other.specs:
            return f"--experiment {each.name}"
    return " ".join((f"--experiment {other.name}", *change.settings)) if change.settings else ""


def _misses_subject(side: Side, acting: Sequence[Change]) -> Finding | None:
    """Whether tags are kept for a subject that is not among them."""
    subject, seen = side.experiment.subject, side.subject
    keeps = any("dataset.keep_tokens" in change.values for change in acting)
    if seen is None or not keeps or seen.kept >= 0.5 * seen.captions:
        return None
    first, last = (place + 1 for place in seen.positions)
    where = f"tag {first} to {last}" if first < last else f"tag {first}"
    often = f"kept in {seen.kept} of {seen.captions} captions" if seen.kept else "never kept"
    message = (
        f"{side.experiment.name} cannot test its hypothesis: {_kept(side.exposure)}; the {subject} "
        f"is {where} and {often}. Move it to the front: `captions repair` does"
    )
    return finding(
        "warning", "experiment_misses_subject", "", message,
        subject=subject, kept=seen.kept, positions=seen.positions,
    )  # fmt: skip


def _moves_schedule(side: Side, other: Side) -> Finding | None:
    """Whether a run of another length also changes the learning rate of the epochs both have."""
    pictures = [Counter(each.subset for each in one.exposure.captions) for one in (side, other)]
    lengths = [length(one.experiment, n) for one, n in zip((side, other), pictures, strict=True)]
    own, before = shares(side.experiment, lengths[0]), shares(other.experiment, lengths[1])
    if own is None or before is None or lengths[0].epochs == lengths[1].epochs:
        return None
    rows = zip(range(1, len(own) + 1), own, before, strict=False)
    epoch, here, there = max(rows, key=lambda row: abs(row[1] - row[2]))
    if abs(here - there) < 0.05:
        return None
    message = (
        f"its {lengths[0].epochs} epochs stretch the schedule of {other.experiment.name}'s "
        f"{lengths[1].epochs}: at the end of epoch {epoch} the learning rate is at {here:.0%} of "
        f"its peak instead of {there:.0%}, so earlier epochs differ too"
    )
    return finding("note", "experiment_moves_schedule", "", message, epoch=epoch)


def _kept(exposure: Exposure) -> str:
    """The kept tags in words, with what they hold of colour."""
    rows = [f'"{", ".join(tags)}"' for tags in exposure.kept if tags]
    if not rows:
        return "no tag is kept"
    shown = f"{' or '.join(rows)}" if len(rows) <= 3 else f"of {len(rows)} sorts"
    colours = len(exposure.kept_colours)
    return f"the kept tags are {shown}, {f'{colours} with a' if colours else 'without any'} colour"


def _subject_lines(side: Side, other: Side) -> Iterator[str]:
    name, here, there = other.experiment.name, side.subject, other.subject
    if here is not None:
        before = f" ({there.share:.1%} in {name})" if there else ""
        tag = f"the {side.experiment.subject} tag"
        yield f"The model sees {tag} in {here.share:.1%} of samples{before}"
    blank, blank_there = side.exposure.blank, other.exposure.blank
    if blank or blank_there:
        yield (
            f"{blank:.1%} of samples train with an empty caption (caption_dropout_rate), "
            f"{blank_there:.1%} in {name}"
        )
    if side.exposure.unknown:
        yield f"What the model sees is not computed with {', '.join(side.exposure.unknown)}"


def _toml(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
