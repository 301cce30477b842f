"""All that can go wrong with a trainer: run in the place of the fake one, as conftest.py sees to.

Environment:
    BESPOKE_FAKE_TRAINER_FAULT             KIND or KIND@STEP: see KINDS
    BESPOKE_FAKE_TRAINER_FAULT_IN          of several runs, the one output_name with the fault
    BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP  pace of a step, or PACE@STEP from that step on
    BESPOKE_FAKE_TRAINER_BACKGROUND        green_at:EPOCH, never, or flip (in even epochs): when
                                       the samples show the background that their prompt asks for

A step counts from the run's first, also after a resume, and a fault strikes at that step alone: a
run resumed beyond it succeeds. Faults of saving strike in the save that follows the step. Without a
step it is the first of the second epoch, or of the only one.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

from bespoke.rehearsal import fake_trainer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection
    from pathlib import Path

FAULT = "BESPOKE_FAKE_TRAINER_FAULT"
KINDS = (
    "fail",  # a Python traceback, exit code 1
    "hang",  # no further word; SIGTERM and SIGINT are ignored, only SIGKILL ends it
    "stall",  # no further step, but SIGTERM ends it
    "die",  # SIGKILL to itself between two steps
    "die_saving",  # SIGKILL in the middle of writing a checkpoint, which stays truncated
    "die_saving_state",  # SIGKILL in the middle of a state's optimizer.bin
    "nan",  # avr_loss=nan from the step on; trains to the end, exit code 0
    "disk_full",  # no space left in the middle of writing a checkpoint; traceback, exit code 1
    "oom",  # torch.OutOfMemoryError with the text of torch 2.10, exit code 1
    "oom_above_1",  # the same, unless the batch is 1
    "nothing",  # the trainer's "No data found" line and exit code 0, nothing trained
    "short",  # exit code 0, but the last checkpoint is cut in half
    "missing_epoch",  # exit code 0, but the step's epoch never got its checkpoint
    "child",  # a grandchild (sleep) in the process group that outlives the trainer
)


class Faulty(fake_trainer.Training):
    def __init__(self, args: argparse.Namespace, batches: int) -> None:
        super().__init__(args, batches)
        self.fault, _, step = os.environ.get(FAULT, "").partition("@")
        assert self.fault in ("", *KINDS), self.fault
        if os.environ.get(f"{FAULT}_IN", args.output_name) != args.output_name:
            self.fault = ""
        self.fault_step = int(step or (self.steps_per_epoch + 1 if self.epochs > 1 else 1))
        pace, _, since = os.environ.get("BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP", "").partition("@")
        self.told_pace = float(pace or fake_trainer.SECONDS_PER_STEP)
        self.slow_from = int(since or 0)
        self.background = os.environ.get("BESPOKE_FAKE_TRAINER_BACKGROUND", "")

    def run(self) -> None:
        if self.fault == "nothing":
            fake_trainer.say("No data found. Please verify arguments")
        else:
            super().run()

    def begin_step(self, step: int) -> None:
        if self.fault == "oom_above_1":
            self.fault = "oom" if self.args.train_batch_size > 1 else ""
        if step == self.fault_step:
            strike(self.fault)

    def pace(self, step: int) -> float:
        return self.told_pace if step >= self.slow_from else super().pace(step)

    def loss(self, step: int) -> float:
        spoilt = self.fault == "nan" and step >= self.fault_step
        return math.nan if spoilt else super().loss(step)

    def learned(self, epoch: int) -> Collection[str]:
        if not self.background:
            return super().learned(epoch)
        at = re.fullmatch(r"green_at:(\d+)", self.background)
        right = epoch >= int(at[1]) if at else self.background == "flip" and epoch % 2 == 0
        return ("background",) if right else ()

    def write(self, path: Path, data: bytes, epoch: int) -> None:
        due = math.ceil(self.fault_step / self.steps_per_epoch) == epoch
        checkpoint = path.suffix == ".safetensors" and path.parent == self.output
        state = path.name == "optimizer.bin"
        if checkpoint and due and self.fault == "missing_epoch":
            return
        torn = (
            (checkpoint and due and self.fault in ("die_saving", "disk_full"))
            or (state and due and self.fault == "die_saving_state")
            or (checkpoint and self.fault == "short" and epoch == self.epochs)
        )
        super().write(path, data[: len(data) // 2] if torn else data, epoch)
        if torn and self.fault.startswith("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if torn and self.fault == "disk_full":
            # The library's own error in its own words, from a device that is always full.
            safetensors.numpy.save_file({"rest": np.zeros(1 << 16, np.float32)}, "/dev/full")


def strike(kind: str) -> None:
    """What a fault between two steps does; the others do nothing here."""
    if kind == "fail":
        raise RuntimeError(f"fake trainer: {FAULT}=fail")
    if kind == "oom":
        # Shown in a traceback under torch's name for it.
        error = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
        raise error(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.64 "
            "GiB of which 11.06 MiB is free. Of the allocated memory 22.90 GiB is allocated by "
            "PyTorch, and 241.90 MiB is reserved by PyTorch but unallocated."
        )
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if kind in ("hang", "stall"):
        time.sleep(3600)
    if kind == "child":
        child = subprocess.Popen(["sleep", "600"])
        fake_trainer.say(f"fake trainer: grandchild {child.pid} sleeps")
        # Left running on purpose; without this Python would warn that it still runs.
        child.returncode = 0


if __name__ == "__main__":
    fake_trainer.main(sys.argv[1:], Faulty)
