"""Rehearsals of the smallest experiment, as a person starts them: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "REHEARSAL_bespoke_baby_sd15_lora_smoke"
# For a run with something that happens to it as it first opens a file whose path holds a text. Its
# phases are told by what they write, so that no test needs to know which function does.
AIMED = """
import os, runpy, sys
done = []
def aim(event, arguments):
    path = os.fsdecode(str(arguments[0])) if event in ("open", "sqlite3.connect") else ""
    if {text!r} in path and not done:
        done.append(True)
        {action}
sys.addaudithook(aim)
sys.argv[0] = {module!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
SIGNAL = "os.kill(os.getpid(), {})"


def command(place: Path, *arguments: str) -> list[str]:
    """Of a rehearsal whose workspace is place/rehearsal."""
    smoke = ("--rehearse", "--experiment", "smoke", "--workspace", str(place))
    return [sys.executable, "-m", "bespoke.run", *smoke, *arguments]


def aimed(text: str, action: str, words: list[str]) -> list[str]:
    """`words`, a `python -m MODULE …`, with Python code before the first file with that text."""
    indented = action.strip().replace("\n", "\n        ")
    program = AIMED.format(text=text, action=indented, module=words[2])
    return [sys.executable, "-c", program, *words[3:]]


def run(
    words: list[str], *, timeout: float = 120, cwd: Path = REPOSITORY, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment, how = {**os.environ, **variables}, {"capture_output": True, "text": True}
    return subprocess.run(words, cwd=cwd, env=environment, check=False, timeout=timeout, **how)


def start(words: list[str], **variables: str) -> subprocess.Popen[str]:
    """In a session of its own, with little patience for trainers that ignore TERM."""
    environment = {**os.environ, "BESPOKE_STOP_PATIENCE_S": "0.5", **variables}
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(words, cwd=REPOSITORY, env=environment, text=True, **how)


def events(place: Path) -> list[dict[str, Any]]:
    """What all starts of all runs did, by the starts' times."""
    files = sorted((place / "rehearsal" / "logs").glob("REHEARSAL*/*/events.jsonl"))
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def trainers(place: Path) -> list[int]:
    """The process groups of all trainers that were started."""
    return [row["pid"] for row in events(place) if row["event"] == "launched"]


def is_empty(pgid: int) -> bool:
    """Whether no process of a group lives; an orphan may stay a zombie where nothing buries it."""
    shown = subprocess.check_output(["ps", "-e", "-o", "pgid=,stat="], text=True)
    rows = [line.split() for line in shown.splitlines()]
    return not [state for group, state in rows if group == str(pgid) and state[0] != "Z"]


def wait_for(ready: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"nothing came of it in {seconds} s"
        time.sleep(0.05)
