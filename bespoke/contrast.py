"""One experiment beside another: what differs, whether it acts, what cannot be told apart."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.findings import finding
from bespoke.option_audit import ignored
from bespoke.promise import PICTURE_EXTENSIONS
from bespoke.schedule import length, shares
from bespoke.settings import by_folder, effective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.config import Experiment
    from bespoke.findings import Finding, Severity
    from bespoke.sight import Sight

_NO_COLOUR = "no kept tag holds a colour"
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
    "loss_type huber_c huber_schedule huber_scale",
    "optimizer_type optimizer_args",
    "enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale",
    "keep_tokens keep_tokens_separator",
    "token_warmup_min token_warmup_step",
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
_CAPTION_KEYS = frozenset((
    "keep_tokens", "keep_tokens_separator", "caption_separator", "secondary_separator",
    "caption_prefix", "caption_suffix", "enable_wildcard", "shuffle_caption",
    "caption_tag_dropout_rate", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "token_warmup_min", "token_warmup_step", "max_token_length",
))  # fmt: skip


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
class Contrast:
    """`verdict` holds a few lines, the hypothesis's own subject first."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]
    verdict: tuple[str, ...]

    @property
    def acting(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if not change.idle)


@dataclass(frozen=True, kw_only=True)
class Side:
    """An experiment with what the trainer sees of its captions, and the folder of each subset."""

    experiment: Experiment
    sight: Sight
    data: Mapping[str, Path]


def compare(
    side: Side, other: Side, *, known: Sequence[Experiment] = (), inert: Severity = "error"
) -> Contrast:
    """What `side` changes beside `other`, usually its parent.

    `known` are experiments that may already make one of the changes alone. `inert` is how bad it is
    that nothing differs: "warning" where a person said that it may be so.
    """
    changes = (*_option_changes(side, other), *_data_changes(side, other))
    acting = [change for change in changes if not change.idle]
    one, two = side.experiment, other.experiment
    told = [
        None if acting else _inert(one.name, two.name, changes, inert),
        _confounded(one, two, acting, known) if len(acting) > 1 else None,
        _misses_subject(side, other, acting),
        _moves_schedule(side, other),
    ]
    found = tuple(each for each in told if each is not None)
    verdict = (*_subject_lines(side, other), *map(str, found))
    return Contrast(changes=changes, findings=found, verdict=verdict)


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
    found = differences(side.experiment, other.experiment)
    here, there = ignored(side.experiment), ignored(other.experiment)
    unseen = "the trainer draws the same captions either way"
    same_view = side.sight.view == other.sight.view
    idle: dict[str, str] = {}
    for name in found:
        key = name.partition(".")[2]
        if name in here and name in there:
            idle[name] = here[name]
        elif key in _CAPTION_KEYS and same_view and side.sight.captions:
            idle[name] = here.get(name, unseen)
    for group in _grouped({name: found[name] for name in found if name not in idle}):
        yield _change(group)
    for name, why in idle.items():
        yield _change({name: found[name]}, idle=why)


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
        new, old = (promise.caption_version if promise else "" for promise in versions)
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


def digest(folder: Path, wanted: Callable[[Path], bool]) -> str:
    """One hash of the names and contents of a folder's files that are `wanted`."""
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file() and wanted(path)):
        whole.update(repr((path.name, hashlib.blake2b(path.read_bytes()).hexdigest())).encode())
    return whole.hexdigest()


# --- What it means --------------------------------------------------------------------------------


def _inert(one: str, other: str, changes: Sequence[Change], severity: Severity) -> Finding:
    rows = "; ".join(f"{change.shown} ({change.idle})" for change in changes)
    message = f"{one} would learn the same as {other}: {rows or 'nothing differs'}"
    return finding(severity, "experiment_inert", "", message, changes=len(changes))


def _confounded(
    one: Experiment, other: Experiment, acting: Sequence[Change], known: Sequence[Experiment]
) -> Finding:
    alone = [how for change in acting if (how := _alone(change, other, known))]
    message = (
        f"{one.name} changes {len(acting)} things at once beside {other.name}, so their effects "
        f"cannot be told apart: {'; '.join(change.shown for change in acting)}. "
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
        found = {k: v for k, v in differences(each, other).items() if k not in idle}
        # With other pictures or captions promised, it would not be this change alone.
        if change.values and found == change.values and each.specs == other.specs:
            return f"--experiment {each.name}"
    return " ".join((f"--experiment {other.name}", *change.settings)) if change.settings else ""


def _misses_subject(side: Side, other: Side, acting: Sequence[Change]) -> Finding | None:
    """Whether tags are kept for a subject that is not among them."""
    subject = side.experiment.subject
    seen = side.sight.classes.get(subject)
    names = {name for change in acting for name in change.values}
    changed = names & {"dataset.keep_tokens", "dataset.keep_tokens_separator"}
    if seen is None or not changed or seen.kept >= 0.5:
        return None
    dropped = any(subset["caption_tag_dropout_rate"] for subset in effective(side.experiment))
    first, last = seen.positions
    message = (
        f"keeping tags does not reach the {subject}: {_kept(side.sight)}; the {subject} stands at "
        f"position {first} to {last} (from 0) and is kept in {seen.kept:.0%} of captions"
    )
    if not dropped:
        message += "; at caption_tag_dropout_rate 0 no tag is ever dropped, so keeping pins places"
    return finding(
        "warning", "experiment_misses_subject", "", message,
        subject=subject, kept=seen.kept, positions=seen.positions,
        before=other.sight.classes[subject].kept if subject in other.sight.classes else None,
    )  # fmt: skip


def _moves_schedule(side: Side, other: Side) -> Finding | None:
    """Whether a run of another length also changes the learning rate of the epochs both have."""
    pictures = [Counter(each.subset for each in one.sight.captions) for one in (side, other)]
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


def _kept(sight: Sight) -> str:
    """The kept tags in words, with what they hold of colour."""
    if not any(sight.kept):
        return "no tag is kept"
    count = len(sight.kept_colours)
    colours = f"{count} kept tags hold a colour" if count else _NO_COLOUR
    if len(sight.kept) > 4:
        return f"the kept tags are of {len(sight.kept)} sorts, and {colours}"
    rows = [f"{', '.join(tags)!r} ({count} captions)" for tags, count in sight.kept.items()]
    sort = f"one of {len(rows)} fixed prefixes" if len(rows) > 1 else "one fixed prefix"
    return f"the kept tags are {sort}, {' or '.join(rows)}, and {colours}"


def _subject_lines(side: Side, other: Side) -> Iterator[str]:
    subject = side.experiment.subject
    here = side.sight.classes.get(subject)
    if here is None:
        return
    there, name = other.sight.classes.get(subject), other.experiment.name
    before = f", {there.share_whole:.1%} in {name}" if there else ""
    colour = "some kept tags hold a colour" if side.sight.kept_colours else _NO_COLOUR
    share = f"{here.share_whole:.1%}"
    yield f"{subject} reaches the encoder whole in {share} of samples{before}; {colour}"
    blank, blank_there = side.sight.blank, other.sight.blank
    if blank or blank_there:
        yield f"the whole caption is blanked in {blank:.1%} of samples, {blank_there:.1%} in {name}"


def _toml(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
