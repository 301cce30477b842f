"""The trainer's progress as a person sees it, of one run or of several."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from bespoke.console import duration, redraws, say
from bespoke.trainer.trainer_log import EpochStarted, Event, Progress

if TYPE_CHECKING:
    from typing_extensions import Self

PLAIN_INTERVAL_S = 30.0


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

    def line(self) -> str | None:
        """All of it in one line, once there is a loss."""
        has_loss = self.progress is not None and self.progress.loss is not None
        return "  ".join(self.facts()) if has_loss else None

    def facts(self) -> tuple[str, str, str]:
        """Which epoch; the time left; step, pace and loss."""
        at = self.progress
        where = f"epoch {self.epoch or '-'}/{self.epochs}"
        if at is None:
            return where, "", ""
        of_epoch, of_run = map(duration, self.left())
        pace = "" if at.steps_per_second is None else f"  {at.steps_per_second:.2f} it/s"
        loss = "" if at.loss is None else f"  loss {at.loss:.4f}"
        time_left = f"left {of_run} (epoch {of_epoch})"
        return where, time_left, f"step {at.step}/{at.total}{pace}{loss}"

    def left(self) -> tuple[float | None, float | None]:
        """Seconds to the end of the epoch and of the run; None where the pace is not known."""
        at = self.progress
        if at is None or not at.steps_per_second or not self.epoch or not self.epochs:
            return None, None
        epoch_end = -(-at.total * self.epoch // self.epochs)
        pace = at.steps_per_second
        return max(0.0, (epoch_end - at.step) / pace), max(0.0, at.total - at.step) / pace


class Display:
    """One run's progress: two lines redrawn at the bottom of a terminal, below whatever is printed
    meanwhile, and gone in the end; where nothing can be redrawn a line every 30 s.
    """

    def __init__(self, epochs: int) -> None:
        self._reading = Reading(epochs)
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
        self._reading.take(event)
        line = self._reading.line()
        if self._live is not None or line is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PLAIN_INTERVAL_S
        say(line)

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        where, time_left, facts = self._reading.facts()
        at = self._reading.progress
        if at is None:
            return Text("bespoke: the trainer starts")
        below = Table.grid(padding=(0, 1), expand=True)
        below.add_column(ratio=1)
        below.add_column(no_wrap=True)
        below.add_row(ProgressBar(at.total, at.step), Text(facts))
        return Group(Text(f"bespoke: {where}  {time_left}", overflow="ellipsis"), below)
