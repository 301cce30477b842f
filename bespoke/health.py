"""`bespoke health`: whether this machine's newest run goes on or ended well, by its own events."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.display import duration
from bespoke.errors import BespokeError, GateStoppedError
from bespoke.files import workspace_path

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

# Longer than a trainer may stand still before bespoke itself ends it (watch.STALL_FLOOR_S).
QUIET_S = 1800.0
PLACES = ("logs", "rehearsal/logs")
GATE_STOPPED = GateStoppedError.exit_code


class UnhealthyError(BespokeError):
    """No run, a failed one, or one that has gone quiet."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's folder with its first and last event, and the seconds since it last wrote."""

    folder: Path
    first: dict[str, Any]
    last: dict[str, Any]
    quiet: float


def newest(workspace: Path, machine: str) -> Run | None:
    """The run that `machine` started last: several may share one volume."""
    found = [each for place in PLACES for each in workspace.glob(f"{place}/*/*/events.jsonl")]
    for events in sorted(found, key=_touched, reverse=True):
        rows = _rows(events)
        if rows and rows[0].get("machine") == machine:
            written = max(_touched(events), _touched(events.with_name("train.log")))
            quiet = max(0.0, time.time() - written)
            return Run(folder=events.parent, first=rows[0], last=rows[-1], quiet=quiet)
    return None


def show(chosen: argparse.Namespace) -> None:
    """One line on the newest run.

    Raises:
        UnhealthyError: where there is none, it failed, or nothing came of it for half an hour.
    """
    place, _ = workspace_path(chosen.workspace)
    run = newest(place, platform.node())
    if run is None:
        raise UnhealthyError(f"{place}: no run was started by this machine")
    event, code = str(run.last.get("event")), run.last.get("exit_code")
    if event == "failed" and code != GATE_STOPPED:
        raise UnhealthyError(f"{run.folder.name}: failed: {run.last.get('message')}")
    if event not in ("finished", "failed") and run.quiet > QUIET_S:
        raise UnhealthyError(f"{run.folder.name}: {event}, then nothing for {duration(run.quiet)}")
    print(f"{run.folder.name}: {event}, {duration(run.quiet)} ago")


def _touched(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _rows(events: Path) -> list[dict[str, Any]]:
    """The first and the last event; a line that is being written is none yet."""
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [json.loads(line) for line in (whole[0], whole[-1])] if whole else []
