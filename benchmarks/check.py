"""How long the audit of a collection takes, and how much memory: once, and a hundred times over.

    python benchmarks/check.py DATA [--peer PATH_TO/caption-audit] [--runs 7] [--times 100]

DATA is a folder of pictures and captions. Each run is a process of its own: `seconds` is from its
first line, imports included, to the last finding; `whole` is the process from outside, interpreter
start included. The peer reads the same captions (and no pictures) in turn with ours, in the same
minutes; the ratio is of the two whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--peer", type=Path, help="the program caption-audit, where installed")
    parser.add_argument("--runs", type=int, default=7, help="of the collection as it is")
    parser.add_argument("--times", type=int, default=100, help="how many times over it is linked")
    parser.add_argument("--long-runs", type=int, default=3, help="of the collection linked")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        audit(chosen.data)
        return
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}")
    print(f"{'':24}{'pictures':>9}{'runs':>6}{'median s':>10}{'from':>8}{'to':>8}{'peak MB':>9}")
    ours, peers = once(chosen.data, chosen.peer, chosen.runs)
    if chosen.times > 1:
        with tempfile.TemporaryDirectory() as folder:
            linked(chosen.data, Path(folder), chosen.times)
            long = [measured(Path(folder)) for _ in range(chosen.long_runs)]
        show(f"audit, {chosen.times} times over", long, "seconds")
        growth = median(long, "seconds") / median(ours, "seconds")
        print(f"time grows {growth:.0f} times, pictures {chosen.times} times")
    if peers:
        ratio = median(ours, "whole") / median(peers, "whole")
        print(f"ours with the pictures takes {ratio:.1f} times what the peer takes for captions")


def once(
    data: Path, peer: Path | None, runs: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Ours and the peer in turn, so that both meet the same machine."""
    ours, peers = [], []
    for _ in range(runs):
        ours.append(measured(data))
        if peer is not None:
            command = [str(peer), str(data), "--format", "json", "--no-color"]
            peers.append(process(command)[1] | {"pictures": ours[-1]["pictures"]})
    show("audit", ours, "seconds")
    show("audit, whole process", ours, "whole")
    if peers:
        show("caption-audit, whole", peers, "whole")
    return ours, peers


def audit(folder: Path) -> None:
    """In a child: one audit, its seconds and its peak of memory as JSON."""
    started = time.perf_counter()
    sys.path.insert(0, str(REPOSITORY))
    from bespoke.dataset.preflight import check_folder as check
    from bespoke.experiment.experiment import DatasetSpec

    spec = DatasetSpec(size=512, cells=24, hex_codes_min=12, names=("lips",))
    collection = check(folder, spec)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "pictures": len(collection.pairs)}))


def measured(folder: Path) -> dict[str, float]:
    output, outside = process([sys.executable, str(Path(__file__)), str(folder), "--child"])
    inside: dict[str, float] = json.loads(output)
    return outside | inside


def process(command: list[str]) -> tuple[str, dict[str, float]]:
    """Run `command`; its output, its seconds from outside and its own peak of memory in MB."""
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        output = child.stdout.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    # The peer's exit code says what it found; only a crash must stop the benchmark.
    if child.returncode not in (0, 1, 2) or not output:
        raise SystemExit(f"{command[0]} ended with {child.returncode}")
    return output, {"whole": time.perf_counter() - started, "peak": usage.ru_maxrss / 1024}


def linked(data: Path, folder: Path, times: int) -> None:
    """Every file of `data` under `times` names."""
    for path in sorted(data.iterdir()):
        for number in range(times):
            (folder / f"{path.stem}-copy{number:03}{path.suffix}").symlink_to(path.resolve())


def show(name: str, runs: list[dict[str, float]], key: str) -> None:
    values = sorted(run[key] for run in runs)
    print(
        f"{name:24}{runs[0]['pictures']:9.0f}{len(runs):6}{statistics.median(values):10.3f}"
        f"{values[0]:8.3f}{values[-1]:8.3f}{max(run['peak'] for run in runs):9.0f}"
    )


def median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


if __name__ == "__main__":
    main()
