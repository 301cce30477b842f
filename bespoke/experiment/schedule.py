"""How long a run is, and where its learning rate stands at each epoch's end.

Places in the trainer's source are those of v0.10.1: `tn` is train_network.py, `tu`
library/train_util.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.experiment.effective_options import effective
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.experiment.config import Experiment


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a run is, in optimizer steps on one process."""

    steps_per_epoch: int
    epochs: int
    steps: int


def length(experiment: Experiment, pictures: Mapping[str, int]) -> Length:
    """The run's length by the pictures of each subset's image_dir (tn:800, tn:913).

    All pictures are taken to share one bucket; each further one can add a batch.
    """
    training, regular, size = 0, 0, 1
    for options in effective(experiment):
        size = int(options["batch_size"])
        count = pictures.get(str(options["image_dir"]), 0)
        if options["is_reg"]:
            regular += count
        else:
            left = math.ceil(count * (1 - float(options["validation_split"] or 0)))
            training += left * int(options["num_repeats"])
    # Regularisation pictures are repeated until they are as many (tu:2170).
    batches = math.ceil((2 * training if regular else training) / size)
    steps = max(1, math.ceil(batches / int(experiment.option("gradient_accumulation_steps"))))
    epochs = int(experiment.option("max_train_epochs"))
    return Length(steps_per_epoch=steps, epochs=epochs, steps=steps * epochs)


# --- The learning rate ----------------------------------------------------------------------------

_COMPUTED = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts")


def shares(experiment: Experiment, run: Length) -> tuple[float, ...] | None:
    """The learning rate at each epoch's end as a share of its peak; None where none is computed.

    The schedules are those of transformers 4.54.1's optimization.py as tu:5264 calls them.
    """
    o = experiment.option
    optimizer = str(o("optimizer_type")).lower()
    other = o("lr_scheduler_type") or o("lr_scheduler_args") or o("lr_scheduler") not in _COMPUTED
    if other or optimizer.endswith("schedulefree") or optimizer.startswith("adafactor"):
        return None
    warmup = warmup_steps(experiment, run)
    ends = [min(run.steps, epoch * run.steps_per_epoch) for epoch in range(1, run.epochs + 1)]
    return tuple(_share(step, warmup, run.steps, o) for step in ends)


def warmup_steps(experiment: Experiment, run: Length) -> int:
    """The steps until the peak; a float is a ratio of the run (tu:5275)."""
    written = experiment.option("lr_warmup_steps") or 0
    return int(written * run.steps) if isinstance(written, float) else int(written)


def _share(step: int, warmup: int, steps: int, o: Callable[[str], Any]) -> float:
    name = str(o("lr_scheduler"))
    if name != "constant" and step < warmup:
        return step / max(1, warmup)
    # The share of the steps after warm-up.
    done = (step - warmup) / max(1, steps - warmup)
    if name.startswith("constant"):
        return 1.0
    if name == "linear":
        return max(0.0, 1 - done)
    cycles = int(o("lr_scheduler_num_cycles")) if name == "cosine_with_restarts" else 1
    return 0.5 * (1 + math.cos(math.pi * (done * cycles % 1.0))) if done < 1 else 0.0


def restarted(experiment: Experiment, run: Length) -> tuple[int, ...]:
    """The epochs within which the schedule restarts at its peak."""
    if experiment.option("lr_scheduler") != "cosine_with_restarts":
        return ()
    warmup = warmup_steps(experiment, run)
    cycles = int(experiment.option("lr_scheduler_num_cycles"))
    starts = [warmup + k * (run.steps - warmup) / cycles for k in range(1, cycles)]
    return tuple(math.ceil(start / run.steps_per_epoch) for start in starts)


def annealed(rates: Sequence[float]) -> tuple[int, ...]:
    """The epochs at whose end the rate is lowest before it rises again, and a low last one."""
    following = (*rates[1:], math.inf)
    before = (math.inf, *rates[:-1])
    return tuple(
        epoch
        for epoch, (last, rate, then) in enumerate(zip(before, rates, following, strict=True), 1)
        if last > rate < then and rate < 0.25
    )


def gate_findings(experiment: Experiment, run: Length, gate_epoch: int) -> Iterator[Finding]:
    """What is wrong with deciding at `gate_epoch`."""
    if gate_epoch > run.epochs:
        message = (
            f"the gate decides at epoch {gate_epoch}, and the run ends with epoch {run.epochs}: "
            "decide earlier, or train longer"
        )
        yield finding("warning", "gate_beyond_last_epoch", "", message, epochs=run.epochs)
        return
    rates = shares(experiment, run)
    if rates is None or gate_epoch not in restarted(experiment, run):
        return
    message = (
        f"epoch {gate_epoch}, where the gate decides, comes right after a restart: the learning "
        f"rate is at {rates[gate_epoch - 1]:.0%} of its peak there; annealed are epochs "
        f"{_low(rates)}"
    )
    yield finding(
        "note", "schedule_gate_after_restart", "", message,
        epoch=gate_epoch, shares=[round(rate, 4) for rate in rates],
    )  # fmt: skip


def _low(rates: Sequence[float]) -> str:
    epochs = [str(epoch) for epoch in annealed(rates)]
    return " and ".join(filter(None, (", ".join(epochs[:-1]), *epochs[-1:])))
