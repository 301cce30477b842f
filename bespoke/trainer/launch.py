"""How kohya's train_network.py is started, and how its output is read.

Facts marked "tn" and "tu" were read in train_network.py and library/train_util.py at v0.10.1.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError, TrainerError
from bespoke.files import write_whole
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

SUBMODULE = "vendor/sd-scripts"

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

# What a failed run's last lines say, in the trainer's words and in what to do about it.
KNOWN_FAILURES = (
    (
        "CUDA out of memory|OutOfMemoryError",
        "the GPU's memory is full: stop what else runs on it, or set "
        "training.gradient_checkpointing=true or a smaller training.train_batch_size",
    ),
    (
        "No space left on device|I/O error: .*os error 28",
        "the disk is full: free some space in the workspace and start again",
    ),
    (
        "out of shared memory",
        "the container's shared memory is too small for the trainer's workers: docker run "
        "--shm-size=2g, or set training.max_data_loader_n_workers=0",
    ),
    (
        # The launcher says the first of the trainer, torch the second of a worker.
        r"died with <Signals\.SIGKILL|is killed by signal: Killed",
        "the system killed it, most often for want of RAM: look at the pod's memory",
    ),
    ("No data found", "the trainer found no pictures where its dataset file points"),
    ("fp16 mixed precision requires a GPU", "no NVIDIA GPU: check nvidia-smi and the driver"),
    ("xformers", "try --set training.xformers=false --set training.sdpa=true"),
)
EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)\b.*")


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


def require_submodule(repository: Path) -> Path:
    """The submodule's folder, or a ConfigError where it is not checked out."""
    folder = repository / SUBMODULE
    if not (folder / "train_network.py").is_file():
        raise ConfigError(
            f"{SUBMODULE}: the trainer is missing. ./start_training.sh, with the same arguments, "
            "fetches it first (or: git submodule update --init); --rehearse needs none"
        )
    return folder


def require_packages() -> None:
    """Raise a ConfigError where this interpreter lacks packages of the trainer; imports none."""
    wanted = ("torch", "accelerate", "diffusers", "transformers", "bitsandbytes", "open_clip")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the trainer's packages are missing ({', '.join(missing)}). ./start_training.sh, with "
            "the same arguments, installs them first; --rehearse needs none"
        )


def command(run: Path, training_file: Path, *, script: Path, precision: str) -> list[str]:
    """The launcher's command line, with a launcher file of its own in the run's folder.

    Without it the launcher would take the person's own, perhaps with several processes: each draws
    the same noise (facts, seen in tn). With two threads a CPU's last bits differ each time.
    """
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO"}
    launcher_file = run / "accelerate.json"
    write_whole(launcher_file, json.dumps(settings) + "\n")
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(launcher_file)),
        *("--num_processes", "1", "--num_machines", "1", "--mixed_precision", precision),
        *("--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"),
        str(script),
        *("--config_file", str(training_file)),
    ]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: lines at once and in UTF-8, nothing fetched, nothing guessed."""
    settings = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        # Off a terminal, bars and rich lines are as wide as this.
        "COLUMNS": "160",
        "TOKENIZERS_PARALLELISM": "false",
        # RunPod's images set it to 1, and huggingface-hub then fails without hf_transfer.
        "HF_HUB_ENABLE_HF_TRANSFER": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    kept = {key: value for key, value in inherited.items() if not key.startswith("ACCELERATE_")}
    return kept | settings


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


def ending(code: int) -> str:
    """An exit code in words; a negative one is the signal that ended the process."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


class OutOfMemoryError(TrainerError):
    """The GPU's memory was full."""


def failure(code: int, tail: Sequence[str], log_file: Path) -> TrainerError:
    """The error for a trainer that ended with `code`, in its own last words."""
    what = diagnosis(tail) or "its last lines are in the log"
    is_memory = any("CUDA out of memory" in line for line in tail)
    return (OutOfMemoryError if is_memory else TrainerError)(
        f"the trainer ended with {ending(code)}: {what}\nfull log: {log_file}; "
        "the same command resumes"
    )


def diagnosis(tail: Sequence[str]) -> str | None:
    """What the trainer's last lines say went wrong, and what to do where that is known."""
    # The launcher's own traceback follows the trainer's and says nothing.
    raised = (line for line in reversed(tail) if EXCEPTION.match(line))
    last = next((line for line in raised if "CalledProcessError" not in line), None)
    lines = list(tail) if last is None else [last]
    known = (text for pattern, text in KNOWN_FAILURES if any(re.search(pattern, x) for x in lines))
    advice = next(known, None)
    return ": ".join(text for text in (last, advice) if text) or None
