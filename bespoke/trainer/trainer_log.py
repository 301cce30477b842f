"""What the trainer prints: its lines for the log, and the events that bespoke reads in them.

Facts marked "tn" and "tu" were read in train_network.py and library/train_util.py at v0.10.1.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

PROGRESS = re.compile(
    r"(?:(?P<bar>[^:|\r\n]{0,40}):)?\s*\d+%\|[^|]*\|\s*(?P<step>\d{1,9})/(?P<total>\d{1,9}) "
    r"\[[\d:]+<[\d:?]+,\s*(?P<pace>[\d.]+|\?)(?P<unit>it/s|s/it)"
    r"(?:, (?P<postfix>[^\]]*))?\]",
    re.ASCII,
)
EPOCH = re.compile(r"epoch (\d{1,9})/(\d{1,9})$", re.ASCII)
LOSS = re.compile(r"avr_loss=([^\s,\]]{1,40})")

# What the trainer says when it has come so far (tn:519, tn:593, tu:1227, tn:643, tn:987).
STAGES: tuple[tuple[str, str], ...] = (
    ("imported", "Loading dataset config from"),
    ("dataset read", "preparing accelerator"),
    ("model loaded", "caching latents."),
    ("latents made", "import network module:"),
    ("prepared", "running training"),
)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The trainer's step bar: optimizer steps of the whole run, smoothed pace, moving average."""

    step: int
    total: int
    steps_per_second: float | None
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class EpochStarted:
    """An epoch has begun, and the one before it has ended."""

    epoch: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How far the trainer has got on its way to the first step: one of STAGES' names."""

    name: str


Event = Progress | EpochStarted | Stage


def parse(line: str) -> Event | None:
    """What one line of the trainer's output says, None where bespoke does not read it."""
    bar = PROGRESS.search(line)
    if bar:
        if (bar["bar"] or "").strip() != "steps" or int(bar["total"]) == 0:
            return None
        loss = LOSS.search(bar["postfix"] or "")
        pace = _number(bar["pace"])
        if pace and bar["unit"] == "s/it":
            pace = 1.0 / pace
        return Progress(
            step=int(bar["step"]),
            total=int(bar["total"]),
            steps_per_second=pace or None,
            loss=_number(loss[1]) if loss else None,
        )
    epoch = EPOCH.match(line)
    if epoch:
        return EpochStarted(epoch=int(epoch[1]), epochs=int(epoch[2]))
    return next((Stage(name=name) for name, words in STAGES if words in line), None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class Reader:
    """Turns the trainer's bytes into a log's lines, at once, and into events.

    A bar is redrawn after a carriage return, several times a step, and what is printed next may
    stand on the bar's own line: one line is kept for each count that a bar reaches.
    """

    def __init__(self, log: BinaryIO) -> None:
        self._log = log
        self._bars: dict[str, str] = {}
        self.tail: deque[str] = deque(maxlen=200)

    def events(self, chunks: Iterable[bytes]) -> Iterator[Event | None]:
        """Each event as it comes; None where a chunk is empty, for time that went by."""
        for line in self.lines(chunks):
            event = parse(line) if line else None
            if event is not None or not line:
                yield event

    def lines(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """Each line as it comes; an empty one where a chunk is empty."""
        rest = b""
        for chunk in chunks:
            if not chunk:
                yield ""
            *pieces, rest = re.split(rb"[\r\n]", rest + chunk)
            for piece in pieces:
                yield from map(self._kept, self._folded(piece))
        yield from map(self._kept, self._folded(rest))

    def _folded(self, piece: bytes) -> Iterator[str]:
        text = piece.decode("utf-8", errors="replace").rstrip()
        bar = PROGRESS.search(text)
        if bar is None:
            yield from [text] if text else []
            return
        before, after = text[: bar.start()].strip(), text[bar.end() :].strip()
        name = (bar["bar"] or "").strip()
        if before:
            yield before
        # By its name: between two draws of one bar others may come and go.
        if self._bars.get(name) != bar["step"]:
            self._bars[name] = bar["step"]
            yield bar[0].strip()
        if after:
            yield after

    def _kept(self, line: str) -> str:
        line = veiled(line)
        self._log.write(line.encode() + b"\n")
        self.tail.append(line)
        return line
