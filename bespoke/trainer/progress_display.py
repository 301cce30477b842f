"""A run's progress as a person sees it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from bespoke.console import duration, redraws, say
from bespoke.trainer.trainer_log import EpochStarted, Event, Progress

if TYPE_CHECKING:
    from typing_extensions import Self

PLAIN_INTERVAL_S = 30.0


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
            if self._live is None and event.loss is not None and time.monotonic() >= self._due:
                self._due = time.monotonic() + PLAIN_INTERVAL_S
                say("  ".join(self._facts(event)))

    def seconds_left(self) -> tuple[float | None, float | None]:
        """To the end of the epoch and of the run; None where the pace is not known.

        By the trainer's own pace: for training alone, not for saving and sampling between epochs.
        """
        at = self._at
        if at is None or not at.steps_per_second or not self._epoch or not self._epochs:
            return None, None
        epoch_end = -(-at.total * self._epoch // self._epochs)
        pace = at.steps_per_second
        return max(0.0, (epoch_end - at.step) / pace), max(0.0, at.total - at.step) / pace

    def _facts(self, at: Progress) -> tuple[str, str]:
        """Which epoch and the time left; step, pace and loss."""
        of_epoch, of_run = map(duration, self.seconds_left())
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
