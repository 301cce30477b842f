"""What ends a run early: a loss that is no number, a trainer that stands still, a full disk."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, TrainerError
from bespoke.files import seconds
from bespoke.trainer.launch import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bespoke.trainer.launch import Event

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
    """The trainer stands still; the run may go on from its last state."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes that a run writes, computed from its options."""

    checkpoint: int
    state: int
    checkpoints: int
    states: int

    @property
    def epoch(self) -> int:
        """What the end of one epoch writes before anything older is deleted."""
        return self.checkpoint + self.state

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.state * self.states + LOGS


def sizes(options: Mapping[str, Any], epochs: int, kept_states: int) -> Sizes:
    """What a LoRA run of these training options leaves, in bytes.

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
    saves = bool(options.get("save_state"))
    return Sizes(
        checkpoint=elements * (2 if half else 4) + HEADER,
        state=elements * (4 + 2 * moment) + HEADER,
        checkpoints=epochs,
        # Those kept, and the one being written; the final one takes the place of that.
        states=kept_states + 1 if saves else 0,
    )


def require_room(planned: Sizes, output: Path) -> str:
    """Hold what the run will write against what is free, and say both.

    Raises:
        ConfigError: where it does not fit.
    """
    parts = (
        f"{_gb(planned.checkpoint * planned.checkpoints)} of checkpoints "
        f"({planned.checkpoints} x {planned.checkpoint / 1e6:.1f} MB), "
        f"{_gb(planned.state * planned.states)} of states, {_gb(LOGS)} of logs"
    )
    text = f"the run will write {_gb(planned.total)}: {parts}"
    free = shutil.disk_usage(output).free
    if planned.total + MARGIN > free:
        raise ConfigError(
            f"{output}: {text}; {_gb(free)} free: free some, or name another --workspace"
        )
    return f"{text}; {_gb(free)} free"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


class Watch:
    """Takes in the trainer's events and the time between them, and ends what cannot end well."""

    def __init__(self, output: Path, planned: Sizes | None) -> None:
        self._output = output
        # A rehearsal's files are small.
        self._needed = planned.epoch if planned else LOGS
        self._bad = 0
        self._step = -1
        self._first: tuple[float, int] | None = None
        self._last = time.monotonic()
        self._floor = seconds("BESPOKE_STALL_FLOOR_S", STALL_FLOOR_S)
        self._disk_at = 0.0

    def take(self, event: Event | None) -> None:
        """Look at one event, or at the time that went by without one.

        Raises:
            StalledError: no step for as long as fifty take, and ten minutes at least.
            TrainerError: a loss that is no number, three reports running; a disk nearly full.
        """
        now = time.monotonic()
        if isinstance(event, Progress):
            self._progressed(event, now)
        elif event is not None:
            self._last = now
        self._stands_still(now)
        if now >= self._disk_at:
            self._disk_at = now + 1.0
            self._fills_disk()

    def _progressed(self, at: Progress, now: float) -> None:
        if at.step != self._step:
            self._step, self._last = at.step, now
            if at.loss is not None and self._first is None:
                self._first = (now, at.step)
        if at.loss is None:
            return
        self._bad = 0 if math.isfinite(at.loss) else self._bad + 1
        if self._bad >= BAD_REPORTS:
            raise TrainerError(
                f"the loss is no longer a number (step {at.step}): the weights are ruined from "
                "here on. Likely a learning rate too high, or fp16 overflowing: try "
                "--set training.mixed_precision=bf16, or half of training.unet_lr and "
                "training.text_encoder_lr; the states before are complete"
            )

    def _stands_still(self, now: float) -> None:
        limit = START_FLOORS * self._floor
        if self._first is not None and self._step > self._first[1]:
            pace = (self._last - self._first[0]) / (self._step - self._first[1])
            limit = max(self._floor, STALL_STEPS * pace)
        if now - self._last > limit:
            raise StalledError(f"the trainer stands still: nothing for {now - self._last:.0f} s")

    def _fills_disk(self) -> None:
        free = shutil.disk_usage(self._output).free
        if free < self._needed:
            raise TrainerError(
                f"{self._output}: {_gb(free)} free, and the end of the epoch writes "
                f"{_gb(self._needed)}: stopped while the last state is complete; free some and run "
                "the same command again"
            )
