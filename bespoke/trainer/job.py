"""One run: what was asked for, what it is, and its own folder with what bespoke did."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bespoke.experiment.experiment import Experiment
    from bespoke.request import Request

# Elements of the LoRA per unit of rank, over the UNet's and the text encoder's 264 modules, and
# over the UNet's 3x3 convolutions per unit of conv_dim: 37.9 MB at rank 32 in fp16, as measured.
ELEMENTS = 591_600
CONV_ELEMENTS = 544_000
LOGS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run once its experiment is known; `folder` is this start's own, for its logs."""

    request: Request
    experiment: Experiment
    workspace: Path
    folder: Path
    journal: Journal
    captures: bool = False
    tell: Callable[[str], None] = lambda _: None

    @property
    def name(self) -> str:
        return self.experiment.output_name

    @property
    def output(self) -> Path:
        return self.workspace / str(self.experiment.option("output_dir"))

    @property
    def models(self) -> Path:
        return self.workspace / "models"

    @property
    def adapts(self) -> bool:
        """Whether bespoke may change what needs less memory; `--plan as-written` forbids it."""
        return self.request.plan == "auto"

    @property
    def epochs(self) -> list[int]:
        """The epochs with a checkpoint: every so many, and the last (train_network.py:1694)."""
        last = int(self.experiment.option("max_train_epochs"))
        every = self.experiment.option("save_every_n_epochs") or last
        return [*range(every, last, every), last]

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes that it writes: at an epoch's end, before a state is deleted, and in all.

        A state holds the weights in fp32 and the optimizer's moments (sizes as read off real ones).
        """
        if self.request.rehearse:
            return LOGS, LOGS
        option = self.experiment.option
        elements = ELEMENTS * int(option("network_dim") or 4)
        for key, _, value in (str(pair).partition("=") for pair in option("network_args") or ()):
            elements += CONV_ELEMENTS * int(value) if key == "conv_dim" else 0
        moment = 1 if "8bit" in str(option("optimizer_type")).lower() else 4
        checkpoint = elements * (2 if option("save_precision") in ("fp16", "bf16") else 4)
        state = elements * (4 + 2 * moment) if option("save_state") else 0
        # Two states are kept, and one is being written; the final one takes the place of that.
        return checkpoint + state, checkpoint * len(self.epochs) + state * 3 + LOGS


class Journal:
    """`logs/<output name>/<start time>/`; nothing is kept until `open` makes that folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def open(self, logs: Path, output_name: str) -> Path:
        """Make the folder, named by the UTC time."""
        self.folder = logs / output_name / now().strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        self.folder.mkdir(parents=True)
        return self.folder

    def write(self, event: str, **facts: object) -> None:
        """Add one line to events.jsonl at once; on a full disk, what fails next says so."""
        row = {"time": now().isoformat(timespec="milliseconds"), "event": event, **facts}
        self._add("events.jsonl", json.dumps(row, default=str) + "\n")

    def keep_traceback(self, text: str) -> str | None:
        """Add a traceback to error.log, and name that file; None where it cannot be kept."""
        return self._add("error.log", text)

    def _add(self, file: str, text: str) -> str | None:
        if self.folder is not None:
            path = self.folder / file
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as stream:
                stream.write(veiled(text))
                return str(path)
        return None


def now() -> datetime:
    return datetime.now(timezone.utc)


def losses(logs: Path, steps_per_epoch: int, epoch: int) -> list[tuple[int, float]]:
    """The losses up to the end of `epoch` by step, as a run's starts noted them in `logs`: without
    what a later start trained again, and without an earlier run of the same name.
    """
    points: dict[int, float] = {}
    for file in sorted(logs.glob("*/events.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                match json.loads(line):
                    case {"event": "launched", "epoch": int(after)}:
                        known = after * steps_per_epoch
                        points = {step: loss for step, loss in points.items() if step <= known}
                    case {"event": "progress", "step": int(step), "loss": float(loss)}:
                        points[step] = loss
    end = epoch * steps_per_epoch
    return sorted(each for each in points.items() if each[0] <= end and math.isfinite(each[1]))
