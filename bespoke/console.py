"""The lines a person sees: each marked as ours, with no secret in it, coloured on a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from typing import TextIO

from bespoke.redact import veiled

# The first that a line holds gives its colour, by ANSI's numbers.
COLOURS = (
    (31, re.compile(r"\bSTOP\b|\bfailed\b|\bcannot start\b|^error\b")),
    (33, re.compile(r"\bwarning\b|^inconclusive\b")),
    (32, re.compile(r"\bGO\b|\bgate passed\b|^done\b|\bcan start\b", re.IGNORECASE)),
)


def say(text: str) -> None:
    """Our own lines, marked as ours; each in one piece, as a thread may say something too."""
    try:
        for line in text.splitlines():
            print(painted(line, line, sys.stdout) + "\n", end="", flush=True)
    except BrokenPipeError:
        # Whoever read our lines is gone; the training that a person pays for goes on.
        let_go(sys.stdout)


def let_go(stream: TextIO) -> None:
    """Write nowhere from now on: the interpreter would try again, and fail, as it ends."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def painted(line: str, tone: str, stream: TextIO) -> str:
    """`line` marked as ours, in the colour of `tone` where the stream shows colours."""
    marked = f"bespoke: {veiled(line)}"
    if not redraws(stream) or os.environ.get("NO_COLOR"):
        return marked
    code = next((code for code, pattern in COLOURS if pattern.search(tone)), None)
    return f"\x1b[{code}m{marked}\x1b[0m" if code else marked


def redraws(stream: TextIO) -> bool:
    """Whether the stream is a terminal that understands more than plain lines."""
    # What rich puts in stdout's place while something live is shown says of itself that it is none.
    terminal = getattr(stream, "rich_proxied_file", stream).isatty()
    return terminal and os.environ.get("TERM") not in ("dumb", "unknown")


def duration(seconds: float | None) -> str:
    """1:02:03, 2:03 or "?"."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
