"""How long the record takes at a size that no artist reaches: its index, a comparison, and a write.

    python benchmarks/record.py [--runs 1000] [--epochs 10] [--pictures 12] [--times 5]

The record is filled first. `list` is `store.runs()`, `compare` is `bespoke compare` of five runs,
and `list, whole process` is `bespoke record list` from outside, interpreter start included; `epoch`
is one more result committed to the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from bespoke import cli  # noqa: E402 - the path comes first
from bespoke.files import document_path  # noqa: E402
from bespoke.record import run_record, store  # noqa: E402
from tests.records import a_decision, a_file, a_result, a_run, scores  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pictures", type=int, default=12, help="an epoch")
    parser.add_argument("--times", type=int, default=5, help="how often each is measured")
    chosen = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        fill(workspace, chosen.runs, chosen.epochs, chosen.pictures)
        size = (workspace / store.FILE).stat().st_size / 1e6
        print(f"{chosen.runs} runs x {chosen.epochs} epochs x {chosen.pictures}: {size:.0f} MB")
        print(f"{'':22}{'wall s: median':>16}{'from':>8}{'to':>8}{'processor s':>13}")
        names = [f"RUN_{number:05}" for number in range(5)]
        told = ["compare", *names]
        listing = [sys.executable, "-m", "bespoke", "record", "list", "--workspace", folder]
        measure("list", lambda: store.runs(workspace), chosen.times)
        kept = a_file(workspace, names[0])
        measure(
            "epoch",
            lambda: kept.epoch(a_result(names[0], 99, tested=str(time.time())), None),
            chosen.times,
        )
        measure("compare", lambda: quietly([*told, "--workspace", folder]), chosen.times)
        measure(
            "list, whole process",
            lambda: subprocess.run(listing, cwd=REPOSITORY, check=True, capture_output=True),
            chosen.times,
        )


def fill(workspace: Path, runs: int, epochs: int, pictures: int) -> None:
    """One run through the front door, and its file again under other names."""
    grounds = tuple("match" if number % 3 else "mismatch" for number in range(pictures))
    first, output = "RUN_00000", workspace / "output"
    kept = a_file(workspace, first)
    kept.begin(a_run(first))
    losses = [(step, 1 / (step + 1)) for step in range(500)]
    for epoch in range(1, epochs + 1):
        result = a_result(first, epoch, scores(epoch % 10, 7, 8), backgrounds=grounds)
        kept.epoch(result, a_decision(epoch), losses)
    kept.end(status="completed")
    (run,) = store.runs(workspace)
    for number in range(1, runs):
        name = f"RUN_{number:05}"
        document_path(output, name).write_text(run_record.dumps(replace(run, name=name, uid=name)))
    measure("index made again", lambda: store.write_index(workspace), 1)


def quietly(arguments: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(arguments)


def measure(name: str, work: Callable[[], object], times: int) -> None:
    wall, processor = [], []
    for _ in range(times):
        started, used = time.perf_counter(), sum(os.times()[:4])
        work()
        wall.append(time.perf_counter() - started)
        processor.append(sum(os.times()[:4]) - used)
    print(
        f"{name:22}{statistics.median(wall):16.3f}{min(wall):8.3f}{max(wall):8.3f}"
        f"{statistics.median(processor):13.3f}"
    )


if __name__ == "__main__":
    main()
