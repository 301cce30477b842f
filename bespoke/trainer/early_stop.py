"""What ends a run early: a disk too small, a loss that is no number, a trainer that hangs."""

from __future__ import annotations

import math
import shutil
import time
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError, TrainerError
from bespoke.files import seconds
from bespoke.trainer.trainer_log import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bespoke.trainer.trainer_log import Event

BAD_REPORTS = 3
# Between epochs the trainer saves and samples without a step: seconds that are no standstill.
STALL_FLOOR_S = 600.0
STALL_STEPS = 50
# Before the first steps it imports, loads the model and caches latents: so many times the floor.
START_FLOORS = 6
# Bytes of free space that are left alone: other programs write too.
MARGIN = 256_000_000


def require_room(planned: Sequence[int], folder: Path) -> str:
    """Hold what one run or several will write, in bytes, against what is free, and say both."""
    free, needed = shutil.disk_usage(folder).free, sum(planned)
    runs = "the run" if len(planned) == 1 else f"{len(planned)} runs"
    text = f"{runs} will write {needed / 1e9:.2f} GB; {free / 1e9:.2f} GB free"
    if needed + MARGIN > free:
        raise ConfigError(f"{folder}: {text}: free some, or name another --workspace")
    return text


class RestartError(TrainerError):
    """What ends a start of the trainer, after which one from the last state may do better."""


class Watch:
    """Takes in the trainer's events and the time between them, and ends what cannot end well.

    `needed` is what the disk of `output` must have free at any time, in bytes.
    """

    def __init__(self, output: Path, needed: int) -> None:
        self._output, self._needed = output, needed
        self._bad, self._step, self._moved_at = 0, -1, time.monotonic()
        self._floor = seconds("BESPOKE_STALL_FLOOR_S", STALL_FLOOR_S)
        self._limit = START_FLOORS * self._floor
        self._disk_at = 0.0

    def take(self, event: Event | None) -> None:
        """Look at one event, or at the time that went by without one; TrainerError ends the run."""
        now = time.monotonic()
        if isinstance(event, Progress):
            self._take_step(event, now)
        elif event is not None:
            self._moved_at = now
        if (still := now - self._moved_at) > self._limit:
            raise RestartError(f"the trainer stands still: nothing for {still:.0f} s")
        if now >= self._disk_at:
            self._disk_at = now + 1.0
            self._require_room()

    def _take_step(self, at: Progress, now: float) -> None:
        if at.step != self._step:
            self._step, self._moved_at = at.step, now
        if at.steps_per_second:
            self._limit = max(self._floor, STALL_STEPS / at.steps_per_second)
        if at.loss is None:
            return
        self._bad = 0 if math.isfinite(at.loss) else self._bad + 1
        if self._bad >= BAD_REPORTS:
            raise TrainerError(
                f"the loss is no longer a number (step {at.step}): training has diverged. Try "
                "--set training.mixed_precision=bf16, or half of training.unet_lr and "
                "training.text_encoder_lr; the states before are complete"
            )

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._output).free
        if free < self._needed:
            raise TrainerError(
                f"{self._output}: {free / 1e9:.2f} GB free, and the end of the epoch writes "
                f"{self._needed / 1e9:.2f} GB: stopped while the last state is complete; free some "
                "and run the same command again"
            )
