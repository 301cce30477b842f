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
    from collections.abc import Callable, Iterator, Mapping

    from bespoke.experiment.config import Experiment


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a run is, in optimizer steps."""

    steps_per_epoch: int
    epochs: int
    steps: int


def length(experiment: Experiment, pictures: Mapping[str, int]) -> Length:
    """The run's length by the pictures of each subset's image_dir (tn:800, tn:913).

    All pictures are taken to share one bucket; each further one can add a batch.
    """
    subsets = effective(experiment)
    seen = sum(pictures.get(str(o["image_dir"]), 0) * int(o["num_repeats"]) for o in subsets)
    together = experiment.option("gradient_accumulation_steps")
    size = experiment.option("train_batch_size")
    steps = max(1, math.ceil(math.ceil(seen / size) / together))
    epochs = int(experiment.option("max_train_epochs"))
    return Length(steps_per_epoch=steps, epochs=epochs, steps=steps * epochs)


def gate_findings(experiment: Experiment, run: Length) -> Iterator[Finding]:
    """A gate that would never decide."""
    gate = experiment.gate
    if gate is not None and gate.epoch > run.epochs:
        message = (
            f"the gate decides at epoch {gate.epoch}, and the run ends with epoch {run.epochs}: "
            "decide earlier, or train longer"
        )
        yield finding("warning", "gate_beyond_last_epoch", "", message)


COMPUTED = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts")


def shares(experiment: Experiment, run: Length) -> tuple[float, ...] | None:
    """The learning rate at each epoch's end as a share of its peak; None where none is computed.

    The schedules are those of transformers 4.54.1's optimization.py as tu:5264 calls them.
    """
    o = experiment.option
    if o("lr_scheduler") not in COMPUTED:
        return None
    if o("lr_scheduler_type") or str(o("optimizer_type")).lower().endswith("schedulefree"):
        return None
    ends = [min(run.steps, epoch * run.steps_per_epoch) for epoch in range(1, run.epochs + 1)]
    return tuple(_share(step, run.steps, o) for step in ends)


def _share(step: int, steps: int, o: Callable[[str], Any]) -> float:
    name, written = o("lr_scheduler"), o("lr_warmup_steps") or 0
    # A float is a ratio of the run (tu:5275).
    warmup = int(written * steps) if isinstance(written, float) else int(written)
    if name != "constant" and step < warmup:
        return step / warmup
    if name.startswith("constant"):
        return 1.0
    # The share of the steps after warm-up.
    done = (step - warmup) / max(1, steps - warmup)
    if name == "linear":
        return max(0.0, 1 - done)
    cycles = int(o("lr_scheduler_num_cycles")) if name == "cosine_with_restarts" else 1
    return 0.5 * (1 + math.cos(math.pi * (done * cycles % 1.0))) if done < 1 else 0.0
