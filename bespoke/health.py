"""`bespoke health`: whether this machine's newest run goes on or ended well, by its own events."""

from __future__ import annotations

import json
import platform
import time
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


class UnhealthyError(BespokeError):
    """No run, a failed one, or one that has gone quiet."""


def newest(workspace: Path, machine: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder and the last event of the run that `machine` started last.

    Several machines may share one volume.
    """
    found = [each for place in PLACES for each in workspace.glob(f"{place}/*/*/events.jsonl")]
    for events in sorted(found, key=_touched, reverse=True):
        rows = _rows(events)
        if rows and rows[0].get("machine") == machine:
            return events.parent, rows[-1]
    return None


def show(chosen: argparse.Namespace) -> None:
    """One line on the newest run.

    Raises:
        UnhealthyError: where there is none, it failed, or nothing came of it for half an hour.
    """
    place, _ = workspace_path(chosen.workspace)
    found = newest(place, platform.node())
    if found is None:
        raise UnhealthyError(f"{place}: no run was started by this machine")
    folder, last = found
    written = max(_touched(folder / name) for name in ("events.jsonl", "train.log"))
    quiet, event = max(0.0, time.time() - written), str(last.get("event"))
    if event == "failed" and last.get("exit_code") != GateStoppedError.exit_code:
        raise UnhealthyError(f"{folder.name}: failed: {last.get('message')}")
    if event not in ("finished", "failed") and quiet > QUIET_S:
        raise UnhealthyError(f"{folder.name}: {event}, then nothing for {duration(quiet)}")
    print(f"{folder.name}: {event}, {duration(quiet)} ago")


def _touched(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _rows(events: Path) -> list[dict[str, Any]]:
    """The first and the last event; a line that is being written is none yet."""
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [json.loads(line) for line in (whole[0], whole[-1])] if whole else []
