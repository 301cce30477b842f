"""bespoke.run with something that happens to it as it first opens a file whose path holds a text.

The phases of a run are told by what they write, so that no test needs to know which function does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIGNAL = "os.kill(os.getpid(), {})"
# Fills the disk that the file is on, but for what is given back to the file system in small parts.
FILL = """
filler = os.open({!r}, os.O_WRONLY | os.O_CREAT)
for size in (1 << 20, 1 << 12, 1):
    try:
        while True:
            os.write(filler, bytes(size))
    except OSError:
        pass
"""
PROGRAM = """
import os, runpy, sys
done = []
def aim(event, arguments):
    path = os.fsdecode(str(arguments[0])) if event in ("open", "sqlite3.connect") else ""
    if {text!r} in path and not done:
        done.append(True)
        {action}
sys.addaudithook(aim)
sys.argv[0] = "bespoke.run"
runpy.run_module("bespoke.run", run_name="__main__", alter_sys=True)
"""


def command(text: str, action: str, *arguments: str) -> list[str]:
    """A rehearsal with `action`, Python code, before the first file with `text` in its path."""
    indented = action.strip().replace("\n", "\n        ")
    program = PROGRAM.format(text=text, action=indented)
    return [sys.executable, "-c", program, "--rehearse", *arguments]


def rehearse(
    repository: Path, text: str, action: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(text, action, *arguments),
        cwd=repository,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
