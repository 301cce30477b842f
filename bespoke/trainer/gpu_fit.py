"""How a machine is used well for one run: throughput options alone, chosen by what was measured.

The effective batch, the steps, the learning rates, the losses and the pictures' order in an epoch's
statistics stay. What differs besides speed: the random streams (one draw for a batch of four is not
four draws), one multires scale a batch, the last, partial step of an epoch, and bf16's rounding.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.experiment.trainer_options import put
from bespoke.trainer import captured_options, checkpoints, hardware, resume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.dataset.preflight import Preflight
    from bespoke.experiment.experiment import Experiment
    from bespoke.trainer.hardware import Gpu
    from bespoke.trainer.job import Job

    # New values by option, each with why.
    Changes = dict[str, tuple[Any, str]]

ORIGIN = "plan"
# What a plan may change: nothing in the mathematics of a step.
KEYS = (
    *("train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"),
    *("mixed_precision", "xformers", "sdpa", "highvram", "vae_batch_size"),
)
# What only changes together; and what an interrupted run keeps wherever it resumes.
SPLIT, KEPT = KEYS[:3], KEYS[:6]


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
# The first of them with its step captured, whose graphs keep their memory; with conv_dim 8.
CAPTURED_MIB = 14090
# Seconds a step, captured and not, of a batch of four at once; and seconds for a picture.
PACE = {
    "H100": {True: (0.07, 0.75), False: (0.32, 2.0)},
    "H200": {True: (0.061, 0.75), False: (0.34, 2.0)},
}
START_S = 60
# The peak while latents are made, by the VAE's batch, measured likewise.
VAE = {16: 9342, 8: 5102, 4: 2996, 1: 1470}
# The largest side of pictures that these peaks hold for.
SIDE = 512
# Left free: a tenth for what other cards' kernels take, and a GiB for a desktop.
MARGIN, SPARE_MIB = 1.1, 1024


def plan(
    gpu: Gpu, experiment: Experiment, begun: Mapping[str, Any] | None = None
) -> tuple[Changes, str | None]:
    """The options to change for this GPU; and why the step is not captured, None where it is.

    A key that an experiment's file or `--set` wrote is never changed. `begun` holds the settings
    that an interrupted run was recorded with, which it keeps.
    """
    changes = _changes(gpu, experiment, begun, captures=True)
    reason = _reason_against_capture(gpu, apply(changes, experiment))
    return (_changes(gpu, experiment, begun, captures=False) if reason else changes), reason


def apply(changes: Changes, experiment: Experiment) -> Experiment:
    """The experiment with a plan's options, each marked with where it came from."""
    training = dict(experiment.training)
    for key, (value, why) in changes.items():
        put(training, key, value, ORIGIN, why)
    return replace(experiment, training=training)


def fits(gpu: Gpu, mib: float) -> bool:
    """Whether a process of this peak fits into what is free, with the margin."""
    return math.ceil(mib * MARGIN) + SPARE_MIB <= gpu.free_mib


def _changes(
    gpu: Gpu, experiment: Experiment, begun: Mapping[str, Any] | None, *, captures: bool
) -> Changes:
    free = set(KEYS) - experiment.pinned
    wanted = _wanted(gpu, experiment, captures=captures)
    for key in KEPT if begun is not None else ():
        wanted.pop(key, None)
        if (value := (begun or {}).get(f"training.{key}")) is not None:
            wanted[key] = (value, "as this run began")
    return {
        key: change
        for key, change in wanted.items()
        if key in free and experiment.option(key) != change[0]
    }


def _reason_against_capture(gpu: Gpu, planned: Experiment) -> str | None:
    if os.environ.get("BESPOKE_CAPTURE") == "0":
        return "BESPOKE_CAPTURE is 0"
    if not fits(gpu, CAPTURED_MIB):
        return f"it takes {CAPTURED_MIB} MiB and a margin"
    if planned.option("train_batch_size") != PROFILES[0].batch:
        return f"only a batch of {PROFILES[0].batch} was tried"
    return captured_options.reason_against(planned.option)


def _wanted(gpu: Gpu, experiment: Experiment, *, captures: bool) -> Changes:
    wanted: Changes = {}
    if experiment.option("xformers") and (captures or not hardware.xformers_loads()):
        why = "the captured step" if captures else "xformers' kernels do not load here"
        wanted |= {"xformers": (False, why), "sdpa": (True, why)}
    is_ampere = (gpu.capability or (0, 0)) >= hardware.AMPERE
    if experiment.option("mixed_precision") == "fp16" and is_ampere:
        wanted["mixed_precision"] = ("bf16", "from Ampere on: no loss to scale, no overflow")
    if not experiment.pinned & set(SPLIT):
        best = _best(gpu, experiment)
        why = f"the fastest that was measured to fit {gpu.free_mib} MiB"
        wanted |= {
            "train_batch_size": (best.batch, why),
            "gradient_accumulation_steps": (_product(experiment) // best.batch, why),
            "gradient_checkpointing": (best.checkpointing, why),
        }
    # Without it the trainer empties its caches after every batch of latents: 91 s instead of 4.
    why = "latents in seconds, not minutes"
    wanted["highvram"] = (True, why)
    wanted["vae_batch_size"] = (next((size for size in VAE if fits(gpu, VAE[size])), 1), why)
    return wanted


def _side(experiment: Experiment) -> int:
    written = experiment.general["resolution"].value if "resolution" in experiment.general else SIDE
    return max(written) if isinstance(written, (list, tuple)) else int(written)


def _product(experiment: Experiment) -> int:
    batch = int(experiment.option("train_batch_size"))
    return batch * int(experiment.option("gradient_accumulation_steps"))


def _best(gpu: Gpu, experiment: Experiment) -> MemoryProfile:
    """The fastest that fits; the least where none does."""
    allowed = [each for each in PROFILES if _product(experiment) % each.batch == 0]
    fitting = (each for each in allowed if fits(gpu, each.mib))
    return next(fitting, min(allowed, key=lambda each: each.mib))


def fit(job: Job, checked: Preflight, samples: int) -> Job:
    """The run with its throughput options fitted to this machine, and what that changes said.

    One that was interrupted keeps what it began with. `samples` pictures test each epoch.
    """
    if not job.adapts:
        return job
    # The trainer takes one of them: what fits the least fits whichever that is.
    gpu = min(hardware.gpus(), key=lambda each: each.free_mib, default=None)
    reason = "no NVIDIA GPU found" if gpu is None else gpu.too_old
    if _side(job.experiment) > SIDE:
        reason = f"memory is measured for pictures up to {SIDE} px"
    if gpu is None or reason:
        say(f"plan: {reason}, so no option is changed")
        return job
    record = resume.read_record(job.output, job.name)
    interrupted = record is not None and checkpoints.left_by(job.output, job.name)
    begun = record.settings if record and interrupted and not job.request.fresh else None
    changes, reason = plan(gpu, job.experiment, begun)
    planned = apply(changes, job.experiment)
    moved = [f"{key} {job.experiment.option(key)} -> {changes[key][0]}" for key in changes]
    step = f"not captured ({reason})" if reason else "captured; BESPOKE_CAPTURE=0 leaves that out"
    say(f"plan for {gpu.name} ({gpu.free_mib} of {gpu.memory_mib} MiB free): the step is {step}")
    say(
        f"  {', '.join(moved).lower() or 'every option as written'}; "
        f"effective batch {_product(planned)} as before; --plan as-written changes nothing"
    )
    say(f"  {_expected(gpu, planned, checked, samples, captured=not reason)}")
    job.journal.write("planned", gpu=gpu.name, free_mib=gpu.free_mib, changes=changes)
    return replace(job, experiment=planned, captures=not reason)


def _expected(
    gpu: Gpu, planned: Experiment, checked: Preflight, samples: int, *, captured: bool
) -> str:
    """How long the run is, and will take by runs that were measured on such a card."""
    epochs = int(planned.option("max_train_epochs"))
    folders = planned.by_folder()
    pictures = sum(
        len(each.pairs) * int(folders[name]["num_repeats"])
        for name, each in checked.collections.items()
    )
    steps = epochs * math.ceil(pictures / _product(planned))
    pace = next((PACE[name] for name in PACE if name in gpu.name), None)
    split = tuple(planned.option(key) for key in SPLIT)
    if pace is None or split != (PROFILES[0].batch, 1, False):
        return f"{steps} steps; no such run was measured on this card"
    step, picture = pace[captured]
    drawn = (epochs + 1) * samples
    minutes = (START_S + steps * step + drawn * picture) / 60
    return f"{steps} steps and {drawn} test pictures: about {minutes:.0f} minutes"
