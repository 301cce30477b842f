"""`bespoke health`: whether this machine's newest run goes on or ended well, by its own events."""

from __future__ import annotations

import json
import platform
import time
from typing import TYPE_CHECKING

from bespoke.console import duration
from bespoke.errors import BespokeError, GateStoppedError
from bespoke.files import workspace_path

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

# Longer than a trainer may stand still before bespoke itself ends it.
QUIET_S = 1800.0


def show(chosen: argparse.Namespace) -> None:
    """One line on the run that this machine started last: several may share one volume.

    Raises a BespokeError where there is none, it failed, or nothing was written for half an hour.
    """
    place = workspace_path(chosen.workspace)
    files = [*place.glob("logs/*/*/events.jsonl"), *place.glob("rehearsal/logs/*/*/events.jsonl")]
    for file in sorted(files, key=_modified, reverse=True):
        # A line that is still being written does not count.
        lines = file.read_bytes().rpartition(b"\n")[0].splitlines() or [b"{}"]
        first, last = json.loads(lines[0]), json.loads(lines[-1])
        if first.get("machine") == platform.node():
            break
    else:
        raise BespokeError(f"{place}: this machine has started no run")
    run, event = file.parent.name, last["event"]
    quiet = max(0.0, time.time() - max(_modified(file), _modified(file.with_name("train.log"))))
    if event == "failed" and last.get("exit_code") != GateStoppedError.exit_code:
        raise BespokeError(f"{run}: failed: {last.get('message')}")
    if event not in ("finished", "failed") and quiet > QUIET_S:
        raise BespokeError(f"{run}: {event}, then nothing for {duration(quiet)}")
    print(f"{run}: {event}, {duration(quiet)} ago")


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
