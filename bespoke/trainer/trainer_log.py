"""What the trainer prints: lines for the log, events that bespoke reads in them, why it failed."""

from __future__ import annotations

import re
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bespoke.errors import TrainerError
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

PROGRESS = re.compile(
    r"(?:(?P<bar>[^:|\r\n]{0,40}):)?\s*\d+%\|[^|]*\|\s*(?P<step>\d{1,9})/(?P<total>\d{1,9}) "
    r"\[[\d:]+<[\d:?]+,\s*[\d.?]+(?:it/s|s/it)"
    r"(?:, (?P<postfix>[^\]]*))?\]",
    re.ASCII,
)
EPOCH = re.compile(r"epoch (\d{1,9})/(\d{1,9})$", re.ASCII)
PACE_S = 30.0
LOSS = re.compile(r"avr_loss=(nan|-?inf|-?\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The trainer's step bar: optimizer steps of the whole run, and the loss's moving average.

    The pace is of the last half minute of an epoch, by the clock: the bar's own is up to ten times
    too high above ten steps a second, since it leaves out what lies between its draws (tn:1494).
    """

    step: int
    total: int
    loss: float | None
    steps_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class EpochStarted:
    """An epoch has begun, and the one before it has ended."""

    epoch: int
    epochs: int


Event = Progress | EpochStarted


def parse(line: str) -> Event | None:
    """What one line of the trainer's output says, None where bespoke does not read it."""
    if bar := PROGRESS.search(line):
        if (bar["bar"] or "").strip() != "steps" or int(bar["total"]) == 0:
            return None
        loss = LOSS.search(bar["postfix"] or "")
        return Progress(
            step=int(bar["step"]),
            total=int(bar["total"]),
            loss=float(loss[1]) if loss else None,
        )
    epoch = EPOCH.match(line)
    return EpochStarted(epoch=int(epoch[1]), epochs=int(epoch[2])) if epoch else None


class Reader:
    """Turns the trainer's bytes into a log's lines, at once, and into events.

    A bar is redrawn after a carriage return, several times a step, and what is printed next may
    stand on the bar's own line: one line is kept for each count that a bar reaches.
    """

    def __init__(self, log: BinaryIO) -> None:
        self._log = log
        self._bars: dict[str, str] = {}
        self._steps: deque[tuple[float, int]] = deque()
        self.tail: deque[str] = deque(maxlen=200)

    def events(self, chunks: Iterable[bytes]) -> Iterator[Event | None]:
        """Each event as it comes; None where a chunk is empty, for time that went by."""
        for line in self.lines(chunks):
            event = parse(line) if line else None
            if isinstance(event, EpochStarted):
                self._steps.clear()
            if isinstance(event, Progress):
                event = replace(event, steps_per_second=self._pace(event.step))
            if event is not None or not line:
                yield event

    def _pace(self, step: int) -> float | None:
        now = time.monotonic()
        self._steps.append((now, step))
        while now - self._steps[0][0] > PACE_S:
            self._steps.popleft()
        began, first = self._steps[0]
        # A first moment's burst says nothing.
        return (step - first) / (now - began) if now - began >= 0.5 else None

    def lines(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """Each line as it comes; an empty one where a chunk is empty."""
        rest = b""
        for chunk in chunks:
            if not chunk:
                yield ""
            *pieces, rest = re.split(rb"[\r\n]", rest + chunk)
            for piece in pieces:
                yield from self._kept(piece)
        yield from self._kept(rest)

    def _kept(self, piece: bytes) -> Iterator[str]:
        text = piece.decode("utf-8", errors="replace").rstrip()
        parts = [text]
        if bar := PROGRESS.search(text):
            # By its name: between two draws of one bar others may come and go.
            name = (bar["bar"] or "").strip()
            drawn = "" if self._bars.get(name) == bar["step"] else bar[0]
            self._bars[name] = bar["step"]
            parts = [each.strip() for each in (text[: bar.start()], drawn, text[bar.end() :])]
        for line in map(veiled, filter(None, parts)):
            self._log.write(line.encode() + b"\n")
            self.tail.append(line)
            yield line


# What a failed run's last lines say, in the trainer's words and in what to do about it.
KNOWN_FAILURES = {
    "CUDA out of memory|OutOfMemoryError": (
        "the GPU's memory is full: stop what else runs on it, or set "
        "training.gradient_checkpointing=true or a smaller training.train_batch_size"
    ),
    "No space left on device|I/O error: .*os error 28": (
        "the disk is full: free some space in the workspace and start again"
    ),
    "out of shared memory": (
        "the container's shared memory is too small for the trainer's workers: docker run "
        "--shm-size=2g, or set training.max_data_loader_n_workers=0"
    ),
    # The launcher says the first of the trainer, torch the second of a worker.
    r"died with <Signals\.SIGKILL|is killed by signal: Killed": (
        "the system killed it, most often for want of RAM: look at the pod's memory"
    ),
    "xformers": "try --set training.xformers=false --set training.sdpa=true",
}
EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)\b.*")


class OutOfMemoryError(TrainerError):
    """The GPU's memory was full."""


def ending(code: int) -> str:
    """An exit code in words; a negative one is the signal that ended the process."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def failure(code: int, tail: Sequence[str], log_file: Path) -> TrainerError:
    """The error for a trainer that ended with `code`, in its own last words, with what to do."""
    # The launcher's own traceback follows the trainer's and says nothing.
    raised = (line for line in reversed(tail) if EXCEPTION.match(line))
    last = next((line for line in raised if "CalledProcessError" not in line), None)
    text = "\n".join(tail) if last is None else last
    advice = next((what for words, what in KNOWN_FAILURES.items() if re.search(words, text)), None)
    what = ": ".join(filter(None, (last, advice))) or "its last lines are in the log"
    is_memory = any("CUDA out of memory" in line for line in tail)
    return (OutOfMemoryError if is_memory else TrainerError)(
        f"the trainer ended with {ending(code)}: {what}\nfull log: {log_file}; "
        "the same command resumes"
    )
