"""How fast the real trainer goes through bespoke on this machine, and whether its losses stay.

    python benchmarks/train.py --data DIR --out FILE.jsonl as-written:300 own:500 own:500 captured

Each word is a run of keep_tokens_3 on one GPU, one after another: NAME:STEPS is stopped after so
many optimizer steps, without pictures; NAME alone goes to its tenth checkpoint, with the pictures
after each epoch, the gate off. NAME is a row of VARIANTS. The base model is random (built once in
the workspace). A row is written and printed as each run ends, then the mean losses of each hundred
steps of all runs of FILE beside each other. Step times and losses are those of the trainer's own
TensorBoard file; memory is the driver's, for the process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENT = "keep_tokens_3"
SDPA = ("--set", "training.xformers=false", "--set", "training.sdpa=true")
# By name the options, and BESPOKE_CAPTURE.
VARIANTS: dict[str, tuple[tuple[str, ...], str]] = {
    "as-written": (("--plan", "as-written", *SDPA), "0"),
    "own": (SDPA, "0"),
    "captured": ((), "1"),
}
WARM_UP = 15


class Memory:
    """The most memory, in MiB, that a process of a GPU took while the benchmark went on."""

    def __init__(self) -> None:
        self.peak, self._ended = 0, threading.Event()
        if shutil.which("nvidia-smi"):
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        card = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
        query = ("--query-gpu=memory.used", "--format=csv,noheader,nounits")
        while not self._ended.wait(0.5):
            done = subprocess.run(
                ["nvidia-smi", f"--id={card}", *query], capture_output=True, text=True
            )
            self.peak = max([self.peak, *map(int, done.stdout.split())])

    def close(self) -> int:
        self._ended.set()
        return self.peak


def scalars(place: Path) -> list[tuple[float, float]]:
    """Time and loss of every micro-batch, from TensorBoard's files, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows: list[tuple[float, float]] = []
    for file in sorted(place.rglob("events.out.tfevents*"), key=lambda each: each.stat().st_mtime):
        read = EventAccumulator(str(file), size_guidance={"scalars": 0})
        read.Reload()
        if "loss/current" in read.Tags()["scalars"]:
            rows += [(each.wall_time, each.value) for each in read.Scalars("loss/current")]
    return rows


def events(place: Path, name: str) -> list[dict[str, Any]]:
    lines = [
        json.loads(line)
        for file in sorted(place.glob("logs/*/*/events.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [line for line in lines if line["event"] == name]


def stamp(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def train(word: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run, to its end or to so many steps; its row."""
    name, _, steps = word.partition(":")
    options, capture = VARIANTS[name]
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=chosen.workspace))
    (place / "models").symlink_to(chosen.workspace / "models")
    command = [sys.executable, "-m", "bespoke.run", "--experiment", EXPERIMENT, "--no-gate"]
    command += ["--workspace", str(place), "--set", "training.pretrained_model_name_or_path=random"]
    command += ["--data", str(chosen.data)] if chosen.data else []
    command += ["--no-test"] if steps else []
    began, memory = time.time(), Memory()
    with (place / "bench.log").open("wb") as log:
        child = subprocess.Popen(
            [*command, *options, *chosen.option],
            cwd=REPOSITORY,
            env={**os.environ, "BESPOKE_CAPTURE": capture},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while steps and child.poll() is None and log_step(place) < int(steps):
            time.sleep(0.5)
        if steps and child.poll() is None:
            child.send_signal(signal.SIGINT)
        code = child.wait()
    row = {"variant": word, "code": code, "seconds": round(time.time() - began, 1)}
    row |= measured(place, scalars(place), began) | {"mib": memory.close()}
    checkpoints = events(place, "checkpoint")
    row["checkpoints_s"] = [round(stamp(each) - began, 1) for each in checkpoints]
    row["stages_s"] = {
        str(each.get("name", each["event"])): round(stamp(each) - began, 1)
        for kind in ("checked", "launched")
        for each in events(place, kind)
    }
    row["log"] = (place / "bench.log").read_text(errors="replace").splitlines()[-6:]
    if not chosen.keep_runs:
        shutil.rmtree(place / "output", ignore_errors=True)
    return row


def log_step(place: Path) -> int:
    from bespoke.trainer import trainer_log

    (log,) = list(place.glob("logs/*/*/train.log")) or (None,)
    if log is None:
        return 0
    read = [trainer_log.parse(line) for line in log.read_text(errors="replace").splitlines()[-40:]]
    return max([each.step for each in read if isinstance(each, trainer_log.Progress)], default=0)


def measured(place: Path, rows: list[tuple[float, float]], began: float) -> dict[str, Any]:
    """Pace by the times of optimizer steps; the losses are means over a step's micro-batches."""
    import toml

    files = sorted(place.glob("logs/*/*/training.toml"))
    options = toml.loads(files[-1].read_text(encoding="utf-8")) if files else {}
    together = int(options.get("gradient_accumulation_steps", 1))
    steps = [rows[at : at + together] for at in range(0, len(rows) - together + 1, together)]
    times = [step[-1][0] for step in steps]
    gaps = sorted(1e3 * (late - early) for early, late in itertools.pairwise(times[WARM_UP:])) or [
        0
    ]
    return {
        "steps": len(steps),
        "ms": [round(gaps[int(len(gaps) * share)], 1) for share in (0.5, 0.1, 0.9)],
        "ms_mean": round(statistics.fmean(gaps), 1),
        "first_step_s": round(times[0] - began, 1) if times else None,
        "last_step_s": round(times[-1] - began, 1) if times else None,
        "batch": options.get("train_batch_size"),
        "losses": [round(statistics.fmean(loss for _, loss in step), 6) for step in steps],
    }


def compare(rows: list[dict[str, Any]]) -> None:
    """Print the mean loss of each hundred steps, run by run."""
    print(
        f"{'mean loss of steps':24}" + "".join(f"{first + 1:>11}-" for first in range(0, 500, 100))
    )
    for row in rows:
        hundreds = [row["losses"][first : first + 100] for first in range(0, 500, 100)]
        means = [f"{statistics.fmean(each):>12.6f}" for each in hundreds if len(each) == 100]
        print(f"{row['variant']:24}" + "".join(means))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="+", metavar="NAME[:STEPS]")
    parser.add_argument("--data", type=Path, help="a collection of 203; drawn ones without it")
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--out", type=Path, default=Path("train.jsonl"))
    parser.add_argument("--option", action="append", default=[], help="for bespoke.run, as it is")
    parser.add_argument("--keep-runs", action="store_true", help="keep checkpoints and states")
    chosen = parser.parse_args()
    chosen.workspace = chosen.workspace.absolute()
    chosen.data = chosen.data and chosen.data.absolute()
    (chosen.workspace / "models").mkdir(parents=True, exist_ok=True)
    for word in chosen.words:
        row = train(word, chosen)
        with chosen.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print({key: value for key, value in row.items() if key != "losses"}, flush=True)
    compare([json.loads(line) for line in chosen.out.read_text(encoding="utf-8").splitlines()])


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    main()
