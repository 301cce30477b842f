"""What bespoke costs: the real trainer bare against the same through bespoke, in turn.

    python benchmarks/overhead.py [--data DIR] [--rounds 3] [--epochs 6]

Steps per second come from the wall-clock times that the trainer itself writes to TensorBoard, so
both are measured by the same hand; the first step is left out. Also: `--help`, checking and
rendering 203 pictures, and the orchestrator's peak memory. Needs the trainer's packages.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENT = "smoke"


def bespoke(workspace: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "bespoke.run", "--workspace", str(workspace), *arguments]


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=quiet, stderr=quiet)
    return time.perf_counter() - started


def peak_mib(command: list[str]) -> float:
    """The largest resident memory of the orchestrator itself, as the kernel kept it."""
    child = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    peak = 0
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
        except OSError:
            break
        rows = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        peak = max([peak, *(int(row.split()[1]) for row in rows)])
        time.sleep(0.02)
    if child.wait() != 0:
        raise SystemExit(f"{shlex.join(command)} failed")
    return peak / 1024


def steps_per_second(logs: Path, since: float) -> float:
    """Optimizer steps a second, from the newest TensorBoard file's own times."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = [path for path in logs.rglob("events.out.tfevents*") if path.stat().st_mtime >= since]
    read = EventAccumulator(str(max(files, key=lambda path: path.stat().st_mtime)))
    read.Reload()
    times: dict[int, float] = {}
    for event in read.Scalars("loss/current"):
        times[event.step] = event.wall_time
    steps = sorted(times)
    return (steps[-1] - steps[0]) / (times[steps[-1]] - times[steps[0]])


def once(command: list[str], logs: Path) -> float:
    since = time.time()
    seconds(command)
    return steps_per_second(logs, since)


def shown(values: list[float], unit: str) -> str:
    middle = statistics.median(values)
    return f"{middle:.3f} {unit} (from {min(values):.3f} to {max(values):.3f}, {len(values)} times)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a collection of 203; drawn ones without it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.mkdtemp()))
    chosen = parser.parse_args()
    data = ["--data", str(chosen.data)] if chosen.data else []

    print(f"machine: {len(os.sched_getaffinity(0))} cores, Python {sys.version.split()[0]}")
    helped = [seconds([sys.executable, "-m", "bespoke", "--help"]) for _ in range(9)]
    print(f"--help: {shown(helped, 's')}")
    dry = bespoke(chosen.workspace, "--experiment", "keep_tokens_3", "--dry-run", *data)
    if chosen.data:
        checked = [seconds(dry) for _ in range(9)]
        print(f"check and render of the collection: {shown(checked, 's')}")
    rehearsal = bespoke(chosen.workspace, "--rehearse")
    print(f"orchestrator's peak memory: {peak_mib(rehearsal):.0f} MiB")

    longer = ["--set", f"training.max_train_epochs={chosen.epochs}", "--fresh"]
    through = bespoke(chosen.workspace, "--experiment", EXPERIMENT, *longer, *data)
    logs = chosen.workspace / "logs"
    once(through, logs)  # builds the model and warms the disk's cache
    newest = max((logs / f"bespoke_baby_sd15_lora_{EXPERIMENT}").iterdir())
    bare = shlex.split((newest / "command.txt").read_text(encoding="utf-8"))
    pairs = [(once(bare, logs), once(through, logs)) for _ in range(chosen.rounds)]
    print(f"bare:            {shown([pair[0] for pair in pairs], 'steps/s')}")
    print(f"through bespoke: {shown([pair[1] for pair in pairs], 'steps/s')}")
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    print(f"through / bare:  {ratio:.4f} (median of {len(pairs)} pairs)")


if __name__ == "__main__":
    main()
