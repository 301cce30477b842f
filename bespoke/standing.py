"""How each of several runs stands, from what its process prints, and all of them in one display."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from bespoke.display import PLAIN_INTERVAL_S, Reading, duration, say
from bespoke.journal import PRINTED
from bespoke.trainer import EpochStarted, Progress, ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from bespoke.places import Place

# What a run does after each of its events, and how its exit code ends it.
DOING = {
    "started": "checking",
    "rendered": "preparing",
    "launched": "starting",
    "epoch_started": "training",
    "ended": "verifying",
}
ENDINGS = {0: "done", 5: "stopped by its gate", 130: "interrupted"}


class Standing:
    """One run, from its place in the queue to its exit code; `command` trains it."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self.command = name, command
        self.state = "waiting"
        self.place: Place | None = None
        self.reading = Reading(0)
        self.code: int | None = None
        self.reason = ""
        self.trainers: list[int] = []
        self._rest = b""

    @property
    def told(self) -> str:
        """The state in words, with what led to it."""
        return f"{self.state}: {self.reason}" if self.reason else self.state

    def take(self, chunk: bytes) -> Iterator[str]:
        """Take in what the process printed; returns the lines meant for a person."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode("utf-8", errors="replace")
            if text.startswith(PRINTED):
                self._happened(json.loads(text.removeprefix(PRINTED)))
            elif text.strip():
                yield text.removeprefix("bespoke: ")

    def end(self, code: int) -> None:
        """Take in the process's end."""
        self.code = code
        self.state = ENDINGS.get(code, f"failed ({ending(code)})")

    def _happened(self, row: dict[str, Any]) -> None:
        event = row["event"]
        self.state = DOING.get(event, self.state)
        if event == "launched":
            self.trainers.append(row["pid"])
        elif event == "epoch_started":
            self.reading.take(EpochStarted(epoch=row["epoch"], epochs=row["epochs"]))
        elif event == "progress":
            keys = ("step", "total", "steps_per_second", "loss")
            self.reading.take(Progress(**{key: row[key] for key in keys}))
        elif event == "failed":
            self.reason = row["message"].partition("\n")[0]

    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        at, on = self.reading.progress, "" if self.place is None else str(self.place)
        if at is None:
            return self.name, on, self.state
        epoch = f"{self.reading.epoch}/{self.reading.epochs}"
        pace = "" if at.steps_per_second is None else f"{at.steps_per_second:.2f}"
        loss = "" if at.loss is None else f"{at.loss:.4f}"
        left = duration(self.reading.left()[1]) if self.state == "training" else ""
        return self.name, on, self.state, epoch, f"{at.step}/{at.total}", pace, loss, left


class Board:
    """A live table on a terminal, which keeps what is printed above it; elsewhere a line for each
    run every 30 s.
    """

    def __init__(self, standings: Sequence[Standing]) -> None:
        self._standings = standings
        self._next = time.monotonic() + PLAIN_INTERVAL_S
        self._live: Any = None

    def __enter__(self) -> Board:
        if sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(highlight=False, soft_wrap=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refresh()
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Show how all stand now."""
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_INTERVAL_S
            for each in self._standings:
                if each.place is not None and each.code is None:
                    progress = each.reading.told() if each.state == "training" else None
                    say(f"{each.name}: {progress or each.state}")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for title in ("run", "on", "state"):
            table.add_column(title)
        for title in ("epoch", "step", "it/s", "loss", "left"):
            table.add_column(title, justify="right")
        training = [each for each in self._standings if each.state == "training"]
        for each in self._standings:
            table.add_row(*map(Text, each.cells()))
        newest = [each.reading.progress for each in training]
        together = sum(at.steps_per_second or 0.0 for at in newest if at is not None)
        table.caption = f"{together:.2f} it/s together" if len(training) > 1 else None
        return table
