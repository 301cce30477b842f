"""What a person sees while a run goes on: our own lines, and the trainer's progress."""

from __future__ import annotations

import os
import sys
import time

from bespoke.trainer import EpochStarted, Event, Progress
from bespoke.veil import veiled

PLAIN_INTERVAL_S = 30.0


def say(text: str) -> None:
    """Our own lines, marked as ours."""
    try:
        for line in text.splitlines():
            print(f"bespoke: {veiled(line)}", flush=True)
    except BrokenPipeError:
        # Whoever read our lines is gone; the training that a person pays for goes on.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def display(epochs: int, *, silent: bool = False) -> Plain:
    """A live display on a terminal that can redraw a line, a plain line every 30 s elsewhere;
    neither where `silent`."""
    if silent:
        return Silent(epochs)
    redraws = sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return Live(epochs) if redraws else Plain(epochs)


def duration(seconds: float | None) -> str:
    """1:02:03, 2:03 or "?"."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Reading:
    """The newest progress, and what follows from it.

    Times left, in seconds, come from the trainer's own pace: they hold for training alone and not
    for the saving and sampling between epochs.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.epoch = 0
        self.progress: Progress | None = None

    def take(self, event: Event | None) -> None:
        if isinstance(event, EpochStarted):
            self.epoch, self.epochs = event.epoch, event.epochs
        elif isinstance(event, Progress):
            self.progress = event

    def told(self) -> str | None:
        """Epoch, step, pace, loss and time left in one line, once there is a loss."""
        at = self.progress
        if at is None or at.loss is None:
            return None
        epoch_left, run_left = self.left()
        pace = "?" if at.steps_per_second is None else f"{at.steps_per_second:.2f}"
        return (
            f"epoch {self.epoch}/{self.epochs}  step {at.step}/{at.total}  "
            f"{pace} it/s  loss {at.loss:.4f}  "
            f"left {duration(epoch_left)} of the epoch, {duration(run_left)} of the run"
        )

    def left(self) -> tuple[float | None, float | None]:
        """Seconds to the end of the epoch and of the run; None where the pace is not known."""
        at = self.progress
        if at is None or at.steps_per_second is None or not self.epoch:
            return None, None
        epoch_end = -(-at.total * self.epoch // self.epochs)
        pace = at.steps_per_second
        return max(0.0, (epoch_end - at.step) / pace), (at.total - at.step) / pace


class Plain:
    """A line every 30 s: for logs, pods and pipes."""

    def __init__(self, epochs: int) -> None:
        self._reading = Reading(epochs)
        self._next = time.monotonic()

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event | None) -> None:
        """Take in one event, or None for time that went by without one."""
        self._reading.take(event)
        told = self._reading.told()
        if told is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PLAIN_INTERVAL_S
        self.say(told)

    def say(self, text: str) -> None:
        """One of our own lines while the display is up."""
        say(text)


class Silent(Plain):
    """Our own lines alone: another process shows the progress, among that of others."""

    def show(self, event: Event | None) -> None:
        pass


class Live(Plain):
    """rich's progress bar, for a person at a terminal."""

    def __init__(self, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        super().__init__(epochs)
        self._bars = Bars(
            TextColumn("bespoke: epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(highlight=False, soft_wrap=True, emoji=False),
        )
        self._task = self._bars.add_task("run", total=None, start=True, epoch="-", facts="starting")

    def __enter__(self) -> Plain:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, event: Event | None) -> None:
        self._reading.take(event)
        at = self._reading.progress
        if at is None or event is None:
            return
        epoch_left, run_left = self._reading.left()
        pace = "" if at.steps_per_second is None else f"  {at.steps_per_second:.2f} it/s"
        loss = "" if at.loss is None else f"  loss {at.loss:.4f}"
        left = f"  left {duration(epoch_left)} epoch, {duration(run_left)} run"
        self._bars.update(
            self._task,
            total=at.total,
            completed=at.step,
            epoch=f"{self._reading.epoch}/{self._reading.epochs}",
            facts=f"{at.step}/{at.total}{pace}{loss}{left}",
        )

    def say(self, text: str) -> None:
        for line in text.splitlines():
            self._bars.console.print(f"bespoke: {veiled(line)}", markup=False)
