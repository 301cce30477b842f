"""Why the trainer failed: its own last words, and what to do where that is known."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

from bespoke.errors import TrainerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
