"""How a machine is used well for one run: throughput options alone, chosen by what was measured.

The effective batch, the steps, the learning rates, the losses and the pictures' order in an epoch's
statistics stay. What differs besides speed: the random streams (one draw for a batch of four is not
four draws), one multires scale a batch, the last, partial step of an epoch, and bf16's rounding.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.experiment.settings import put
from bespoke.trainer import checkpoints, hardware, resume
from bespoke.trainer.monitor import ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.experiment.config import Experiment
    from bespoke.trainer.hardware import Gpu, Machine
    from bespoke.trainer.job import Job

    # New values by option, each with why.
    Changes = dict[str, tuple[Any, str]]

ORIGIN = "plan"
# What a plan may change: nothing in the mathematics of a step.
KEYS = (
    *("train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"),
    *("mixed_precision", "xformers", "sdpa", "highvram", "vae_batch_size"),
)


@dataclass(frozen=True, kw_only=True)
class MemoryProfile:
    """What one way to train an effective batch takes.

    `mib` is the peak of the process's GPU memory, its CUDA context included, measured on an H100 at
    512 px and rank 32 with sdpa; fp16 and bf16 differ by less than 50 MiB. docs/performance.md.
    """

    batch: int
    checkpointing: bool
    mib: int


# The fastest first: fewer passes for a step, and none of them computed twice.
PROFILES = (
    MemoryProfile(batch=4, checkpointing=False, mib=8632),
    MemoryProfile(batch=2, checkpointing=False, mib=5910),
    MemoryProfile(batch=4, checkpointing=True, mib=3928),
    MemoryProfile(batch=1, checkpointing=False, mib=4394),
    MemoryProfile(batch=2, checkpointing=True, mib=3680),
    MemoryProfile(batch=1, checkpointing=True, mib=3394),
)
# The peak while latents are made, by the VAE's batch, measured likewise.
VAE = {16: 9342, 8: 5102, 4: 2996, 1: 1470}
# What of them does not grow with the pictures: weights, the optimizer's moments, CUDA's context.
FIXED_MIB, VAE_FIXED_MIB = 2980, 860
# Left free: a tenth for what other cards' kernels take, and a GiB for a desktop.
MARGIN, SPARE_MIB = 1.1, 1024
# Optimizer steps a second of PROFILES' first in bf16, least and most of what was measured, by card.
PACES = {"H100": (2.3, 3.2), "H200": (3.4, 3.75)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options to change, each with why; `lines` say it to a person.

    `refitted` names those that differ from what an interrupted run began with.
    """

    changes: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    refitted: frozenset[str] = frozenset()


def make(machine: Machine, experiment: Experiment, begun: Mapping[str, Any] | None = None) -> Plan:
    """A plan for this machine; `begun` holds the settings an interrupted run was recorded with.

    A key that an experiment's file or `--set` wrote is never changed, only those from the base
    file. An interrupted run keeps what it began with, unless that does not fit here.
    """
    if not machine.gpus:
        return Plan(lines=("plan: no NVIDIA GPU found, so no option is changed",))
    # The trainer takes one of them: what fits the least fits whichever that is.
    gpu = min(machine.gpus, key=lambda each: each.free_mib)
    if gpu.too_old:
        return Plan(lines=(f"plan: {gpu.too_old}, so no option is changed",))
    free = set(KEYS) - experiment.pinned
    refit: Changes = {}
    if begun is None:
        changes = _changed(_wanted(machine, gpu, experiment, free), experiment, free)
    else:
        recorded = {key: begun.get(f"training.{key}") for key in KEYS}
        kept = {
            key: (value, "as this run began")
            for key, value in recorded.items()
            if value is not None
        }
        changes = _changed(kept, experiment, free)
        refit = _refit(machine, gpu, apply(Plan(changes=changes), experiment), free)
        changes |= refit
    lines = _lines(gpu, experiment, changes, begun is not None, refit)
    return Plan(changes=changes, lines=lines, refitted=frozenset(refit))


def apply(plan: Plan, experiment: Experiment) -> Experiment:
    """The experiment with the plan's options, each marked with where it came from."""
    training = dict(experiment.training)
    for key, (value, why) in plan.changes.items():
        put(training, key, value, ORIGIN, why)
    return replace(experiment, training=training)


def fits(gpu: Gpu, mib: float) -> bool:
    """Whether a process of this peak fits into what is free, with the margin."""
    return math.ceil(mib * MARGIN) + SPARE_MIB <= gpu.free_mib


def needed_mib(experiment: Experiment) -> int | None:
    """The measured peak of these options, grown to their picture size; None where unmeasured."""
    batch = int(experiment.option("train_batch_size"))
    checkpointing = bool(experiment.option("gradient_checkpointing"))
    for each in PROFILES:
        if (each.batch, each.checkpointing) == (batch, checkpointing):
            return max(_grown(each.mib, experiment), _vae(experiment))
    return None


def _wanted(machine: Machine, gpu: Gpu, experiment: Experiment, free: set[str]) -> Changes:
    wanted = _attention(machine, experiment)
    if (
        experiment.option("mixed_precision") == "fp16"
        and (gpu.capability or (0, 0)) >= hardware.AMPERE
    ):
        wanted["mixed_precision"] = ("bf16", "from Ampere on: no loss to scale, no overflow")
    best = _best(gpu, experiment, free)
    if best is not None:
        why = f"the fastest that was measured to fit {gpu.free_mib} MiB"
        wanted |= _split(best, experiment, why)
    # Without it the trainer empties its caches after every batch of latents: 91 s instead of 4.
    why = "latents in seconds, not minutes"
    wanted["highvram"] = (True, why)
    batches = [
        size for size, mib in VAE.items() if fits(gpu, _grown(mib, experiment, VAE_FIXED_MIB))
    ]
    wanted["vae_batch_size"] = (batches[0] if batches else 1, why)
    return wanted


def _changed(wanted: Changes, experiment: Experiment, free: set[str]) -> Changes:
    """Those of `wanted` that may be changed and are not so already."""
    return {
        key: change
        for key, change in wanted.items()
        if key in free and experiment.option(key) != change[0]
    }


def _split(profile: MemoryProfile, experiment: Experiment, why: str) -> Changes:
    return {
        "train_batch_size": (profile.batch, why),
        "gradient_accumulation_steps": (_product(experiment) // profile.batch, why),
        "gradient_checkpointing": (profile.checkpointing, why),
    }


def _attention(machine: Machine, experiment: Experiment) -> Changes:
    if not experiment.option("xformers") or machine.xformers:
        return {}
    why = "xformers' kernels do not load here"
    return {"xformers": (False, why), "sdpa": (True, why)}


def _product(experiment: Experiment) -> int:
    batch = int(experiment.option("train_batch_size"))
    return batch * int(experiment.option("gradient_accumulation_steps"))


def _best(gpu: Gpu, experiment: Experiment, free: set[str]) -> MemoryProfile | None:
    """The fastest that fits; the least where none does; None where the keys are pinned."""
    batch = experiment.option("train_batch_size")
    checkpointing = bool(experiment.option("gradient_checkpointing"))
    split = {"train_batch_size", "gradient_accumulation_steps"} <= free
    allowed = [
        each
        for each in PROFILES
        if _product(experiment) % each.batch == 0
        and (split or each.batch == batch)
        and ("gradient_checkpointing" in free or each.checkpointing == checkpointing)
    ]
    fitting = [each for each in allowed if fits(gpu, _grown(each.mib, experiment))]
    return fitting[0] if fitting else min(allowed, key=lambda each: each.mib, default=None)


def _refit(machine: Machine, gpu: Gpu, experiment: Experiment, free: set[str]) -> Changes:
    """What an interrupted run's own plan must give up here; {} where all of it fits."""
    wanted = _attention(machine, experiment)
    needed, best = needed_mib(experiment), _best(gpu, experiment, free)
    if needed is not None and best is not None and not fits(gpu, needed):
        why = f"what it began with needs {needed} MiB, and {gpu.free_mib} are free here"
        wanted |= _split(best, experiment, why)
        wanted["vae_batch_size"] = (1, why)
    return _changed(wanted, experiment, free)


def _vae(experiment: Experiment) -> int:
    batch = int(experiment.option("vae_batch_size") or 1)
    size = min((size for size in VAE if size >= batch), default=max(VAE))
    return _grown(VAE[size], experiment, VAE_FIXED_MIB)


def _grown(mib: int, experiment: Experiment, fixed: int = FIXED_MIB) -> int:
    """A measured peak at this experiment's picture size and rank; never less than measured."""
    written = experiment.general["resolution"].value if "resolution" in experiment.general else 512
    sides = written if isinstance(written, (list, tuple)) else (written, written)
    pixels = int(sides[0]) * int(sides[-1]) / (512 * 512)
    rank = int(experiment.option("network_dim") or 4)
    # Weights, gradients and moments of the LoRA: 12 bytes for each element beyond rank 32.
    lora = max(0, rank - 32) * ELEMENTS * 12 / (1 << 20)
    return round(fixed + max(0, mib - fixed) * max(1.0, pixels) + lora)


def _lines(
    gpu: Gpu, experiment: Experiment, changes: Changes, begun: bool, refit: Changes
) -> tuple[str, ...]:
    """What the plan changes, what stays, what it expects: a line each."""
    planned = apply(Plan(changes=changes), experiment)
    moved = ", ".join(
        f"{key} {_word(experiment.option(key))} -> {_word(planned.option(key))}"
        for key in changes
        if experiment.option(key) != planned.option(key)
    )
    pinned = [key for key in KEYS if key in experiment.pinned]
    kept = "as this run began, " if begun else ""
    first = f"plan for {gpu.name} ({gpu.free_mib} of {gpu.memory_mib} MiB free): {kept}"
    lines = [first + (moved or "every option as written")]
    if refit:
        lines.append(f"changed in mid-run: {next(iter(refit.values()))[1]}: {', '.join(refit)}")
    lines.append(
        f"stays: effective batch {_product(planned)}, steps, learning rates, losses, seed"
        + (f"; written by you: {', '.join(pinned)}" if pinned else "")
        + "; other random numbers are drawn; --plan as-written changes nothing"
    )
    return (*lines, f"expects: {_memory(gpu, planned)}; {_pace(gpu, planned)}")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _memory(gpu: Gpu, planned: Experiment) -> str:
    needed = needed_mib(planned)
    if needed is None:
        return "memory not measured for these options"
    words = f"{needed} MiB of GPU memory at most"
    return words if fits(gpu, needed) else f"{words}: if it is too much here, less is tried"


def _pace(gpu: Gpu, planned: Experiment) -> str:
    profile = planned.option("train_batch_size"), bool(planned.option("gradient_checkpointing"))
    if profile == (4, False) and planned.option("mixed_precision") == "bf16":
        for card, (least, most) in PACES.items():
            if card in gpu.name:
                return f"{least} to {most} steps a second, as measured on an {card}"
    return "pace not measured on this card with these options"


def fit(job: Job) -> Job:
    """The run with its throughput options fitted to this machine, and what that changes said.

    One that was interrupted keeps what it began with.
    """
    if not job.adapts:
        return job
    machine = hardware.machine()
    record = resume.read_record(job.output, job.name)
    interrupted = record is not None and checkpoints.left_by(job.output, job.name)
    begun = record.settings if record and interrupted and not job.request.fresh else None
    plan = make(machine, job.experiment, begun)
    for line in plan.lines:
        say(line)
    job.journal.write("planned", machine=asdict(machine), changes=plan.changes, lines=plan.lines)
    return replace(job, experiment=apply(plan, job.experiment), refitted=plan.refitted)
