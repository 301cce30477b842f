"""The trainer's progress: shown to a person, and the run ended early where it cannot end well."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from bespoke.console import duration, redraws, say
from bespoke.errors import ConfigError, TrainerError
from bespoke.trainer.trainer_log import EpochStarted, Event, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

BAD_REPORTS = 3
# Between epochs the trainer saves and samples without a step: seconds that are no standstill.
STALL_FLOOR_S = 600.0
STALL_STEPS = 50
# Before the first steps it imports, loads the model and caches latents: so many times the floor.
START_FLOORS = 6
# Bytes of free space that are left alone: other programs write too.
MARGIN = 256_000_000


class Display:
    """Three lines at the bottom of a terminal while inside; elsewhere one line every 30 s."""

    def __init__(self, epochs: int) -> None:
        self._epoch, self._epochs = 0, epochs
        self._at: Progress | None = None
        self._due = time.monotonic()
        self._live = None
        if redraws(sys.stdout):
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False, soft_wrap=True, emoji=False)
            self._live = Live(console=console, transient=True, get_renderable=self._drawn)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event | None) -> None:
        """Take in one event, or None for time that went by without one."""
        if isinstance(event, EpochStarted):
            self._epoch, self._epochs = event.epoch, event.epochs
        elif isinstance(event, Progress):
            self._at = event
            is_known = event.loss is not None and event.steps_per_second is not None
            if self._live is None and is_known and time.monotonic() >= self._due:
                self._due = time.monotonic() + 30.0
                say("  ".join(self._facts(event)))

    def _facts(self, at: Progress) -> tuple[str, str]:
        """Which epoch and the time left, by the trainer's own pace; step, pace and loss."""
        of_epoch = of_run = "?"
        if at.steps_per_second and self._epoch and self._epochs:
            epoch_end = -(-at.total * self._epoch // self._epochs)
            ends = (max(0, end - at.step) for end in (epoch_end, at.total))
            of_epoch, of_run = (duration(steps / at.steps_per_second) for steps in ends)
        where = f"epoch {self._epoch or '-'}/{self._epochs}  left {of_run} (epoch {of_epoch})"
        pace = "" if at.steps_per_second is None else f"  {at.steps_per_second:.2f} it/s"
        loss = "" if at.loss is None else f"  loss {at.loss:.4f}"
        return where, f"step {at.step}/{at.total}{pace}{loss}"

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        if self._at is None:
            return Text("bespoke: the trainer starts")
        lines = (Text(f"bespoke: {text}", overflow="ellipsis") for text in self._facts(self._at))
        return Group(*lines, ProgressBar(self._at.total, self._at.step))


def require_room(needed: int, folder: Path) -> str:
    """Hold what will be written, in bytes, against what is free, and say both."""
    free = shutil.disk_usage(folder).free
    text = f"{needed / 1e9:.2f} GB will be written; {free / 1e9:.2f} GB free"
    if needed + MARGIN > free:
        raise ConfigError(f"{folder}: {text}: free some, or name another --workspace")
    return text


class RestartError(TrainerError):
    """What ends a start of the trainer, after which one from the last state may do better."""


class Watch:
    """Takes in the trainer's events and the time between them, and ends what cannot end well;
    `needed` is what the disk of `output` must have free at any time, in bytes.
    """

    def __init__(self, output: Path, needed: int) -> None:
        self._output, self._needed = output, needed
        self._bad, self._step, self._moved_at = 0, -1, time.monotonic()
        self._floor = float(os.environ.get("BESPOKE_STALL_FLOOR_S") or STALL_FLOOR_S)
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
