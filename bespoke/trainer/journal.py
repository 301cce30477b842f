"""One run's own folder: the trainer's log, what bespoke did as JSON lines, and its tracebacks."""

from __future__ import annotations

import contextlib
import json
import math
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from bespoke.errors import ConfigError, is_full
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def now() -> datetime:
    return datetime.now(timezone.utc)


def losses(logs: Path, steps_per_epoch: int, epoch: int) -> list[tuple[int, float]]:
    """The losses that earlier starts of a run noted on their way to the end of `epoch`, by step.

    `logs` holds the folders of its starts. What a start trained that a later one trained again, and
    an earlier run of the same name, are left out.
    """
    points: dict[int, float] = {}
    for file in sorted(logs.glob("*/events.jsonl")):
        resumed = 0
        for row in _rows(file):
            if row.get("event") == "resumed":
                resumed = row["epoch"] * steps_per_epoch
            elif row.get("event") == "launched":
                points = {step: loss for step, loss in points.items() if step <= resumed}
                resumed = 0
            elif row.get("event") == "progress" and math.isfinite(row.get("loss", math.nan)):
                points[row["step"]] = row["loss"]
    return sorted(each for each in points.items() if each[0] <= epoch * steps_per_epoch)


def _rows(events: Path) -> Iterator[dict[str, Any]]:
    """What a start wrote, without a line that is cut off."""
    for line in events.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


class Journal:
    """`logs/<output name>/<start time>/`; nothing is kept until `open` makes that folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._events: IO[str] | None = None

    def open(self, logs: Path, output_name: str) -> Path:
        """Make the folder, named by the UTC time; a second start in one second gets a suffix."""
        started = now().strftime("%Y-%m-%dT%H-%M-%SZ")
        folder, number = logs / output_name / started, 1
        try:
            while folder.exists():
                number += 1
                folder = folder.with_name(f"{started}-{number}")
            folder.mkdir(parents=True)
        except OSError as error:
            if is_full(error):
                raise
            raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from error
        self.folder = folder
        self._events = (folder / "events.jsonl").open("a", encoding="utf-8")
        return folder

    def write(self, event: str, **facts: object) -> None:
        """Add one line to events.jsonl at once; on a full disk, what fails next says so."""
        if self._events is not None:
            row = {"time": now().isoformat(timespec="milliseconds"), "event": event, **facts}
            line = veiled(json.dumps(row, default=str))
            with contextlib.suppress(OSError):
                self._events.write(line + "\n")
                self._events.flush()

    def keep_traceback(self, text: str) -> str | None:
        """Add a traceback to error.log, and name that file; None where it cannot be kept."""
        if self.folder is None:
            return None
        file = self.folder / "error.log"
        with contextlib.suppress(OSError), file.open("a", encoding="utf-8") as stream:
            stream.write(veiled(text))
            return str(file)
        return None

    def close(self) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):
                self._events.close()
            self._events = None
