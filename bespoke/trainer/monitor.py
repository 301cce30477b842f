"""What ends a run early: a loss that is no number, a trainer that stands still, a full disk."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, TrainerError
from bespoke.trainer.trainer_log import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bespoke.trainer.trainer_log import Event

BAD_REPORTS = 3
# Between epochs the trainer saves and samples without a step: seconds that are no standstill.
STALL_FLOOR_S = 600.0
STALL_STEPS = 50
# Before the first steps it imports, loads the model and caches latents: so many times the floor.
START_FLOORS = 6

# Elements of the LoRA per unit of rank, over the UNet's and the text encoder's 264 modules, and
# over the UNet's 3x3 convolutions per unit of conv_dim: 37.9 MB at rank 32 in fp16, as measured.
ELEMENTS = 591_600
CONV_ELEMENTS = 544_000
HEADER = 200_000
LOGS = 20_000_000
# Free space that is left alone: other programs write too.
MARGIN = 256_000_000


class StalledError(TrainerError):
    """The trainer stands still; the run may resume from its last state."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes that a run writes: at an epoch's end, before anything older is deleted, and in all."""

    epoch: int
    total: int


def sizes(options: Mapping[str, Any], epochs: int, kept_states: int) -> Sizes:
    """What a LoRA run of these training options writes.

    A state holds the weights in fp32 and the optimizer's moments: about one byte each for the
    8-bit ones, four for the others (facts, read off real state folders at rank 32).
    """
    elements = ELEMENTS * int(options.get("network_dim") or 4)
    for pair in options.get("network_args") or ():
        key, _, value = str(pair).partition("=")
        if key == "conv_dim" and value.isdecimal():
            elements += CONV_ELEMENTS * int(value)
    half = options.get("save_precision") in ("fp16", "bf16")
    moment = 1 if "8bit" in str(options.get("optimizer_type")).lower() else 4
    checkpoint = elements * (2 if half else 4) + HEADER
    state = elements * (4 + 2 * moment) + HEADER if options.get("save_state") else 0
    # Besides those kept there is the one being written; the final one takes the place of that.
    total = checkpoint * epochs + state * (kept_states + 1) + LOGS
    return Sizes(epoch=checkpoint + state, total=total)


def require_room(planned: Sequence[int], folder: Path) -> str:
    """Hold what one run or several will write, in bytes, against what is free, and say both."""
    free, needed = shutil.disk_usage(folder).free, sum(planned)
    runs = "the run" if len(planned) == 1 else f"{len(planned)} runs"
    text = f"{runs} will write {_gb(needed)}; {_gb(free)} free"
    if needed + MARGIN > free:
        raise ConfigError(f"{folder}: {text}: free some, or name another --workspace")
    return text


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


class Watch:
    """Takes in the trainer's events and the time between them, and ends what cannot end well.

    `needed` is what the disk must have free at any time, in bytes.
    """

    def __init__(self, output: Path, needed: int) -> None:
        self._output, self._needed = output, needed
        self._bad = 0
        self._step = -1
        self._first: tuple[float, int] | None = None
        self._last = time.monotonic()
        self._floor = float(os.environ.get("BESPOKE_STALL_FLOOR_S") or STALL_FLOOR_S)
        self._disk_at = 0.0

    def take(self, event: Event | None) -> None:
        """Look at one event, or at the time that went by without one."""
        now = time.monotonic()
        if isinstance(event, Progress):
            self._take_step(event, now)
        elif event is not None:
            self._last = now
        self._require_progress(now)
        if now >= self._disk_at:
            self._disk_at = now + 1.0
            self._require_room()

    def _take_step(self, at: Progress, now: float) -> None:
        if at.step != self._step:
            self._step, self._last = at.step, now
            if at.loss is not None and self._first is None:
                self._first = (now, at.step)
        if at.loss is None:
            return
        self._bad = 0 if math.isfinite(at.loss) else self._bad + 1
        if self._bad >= BAD_REPORTS:
            raise TrainerError(
                f"the loss is no longer a number (step {at.step}): training has diverged. Try "
                "--set training.mixed_precision=bf16, or half of training.unet_lr and "
                "training.text_encoder_lr; the states before are complete"
            )

    def _require_progress(self, now: float) -> None:
        limit = START_FLOORS * self._floor
        if self._first is not None and self._step > self._first[1]:
            pace = (self._last - self._first[0]) / (self._step - self._first[1])
            limit = max(self._floor, STALL_STEPS * pace)
        if now - self._last > limit:
            raise StalledError(f"the trainer stands still: nothing for {now - self._last:.0f} s")

    def _require_room(self) -> None:
        free = shutil.disk_usage(self._output).free
        if free < self._needed:
            raise TrainerError(
                f"{self._output}: {_gb(free)} free, and the end of the epoch writes "
                f"{_gb(self._needed)}: stopped while the last state is complete; free some and run "
                "the same command again"
            )
