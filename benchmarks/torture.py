"""Kill a run at random moments, many times over, and hold its end to an uninterrupted one's.

    python benchmarks/torture.py [--kills 200] [--seed 1]

The stand-in trainer, ten epochs a run; SIGKILL, SIGTERM or SIGINT to bespoke, at any moment from
before the trainer starts to the last save. A finished run is started anew until the kills are used.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.numpy import load_file

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
COMMAND = [sys.executable, "-m", "bespoke.run", "--rehearse", "--no-test", "--workspace"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": REPOSITORY}


def tensors(place: Path) -> dict[str, str]:
    found = {}
    for path in sorted((place / "rehearsal" / "output").glob(f"{NAME}-*.safetensors")):
        rows = load_file(path)
        whole = b"".join(key.encode() + rows[key].tobytes() for key in sorted(rows))
        found[path.name] = hashlib.sha256(whole).hexdigest()
    return found


def trainers(place: Path) -> int:
    shown = subprocess.run(
        ["ps", "-e", "-ww", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout
    return sum("stand_in.py" in line and str(place) in line for line in shown.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    os.environ["BESPOKE_STOP_PATIENCE_S"] = "0.2"
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        subprocess.run([*COMMAND, str(whole)], check=True, **QUIET)
        expected = tensors(whole)
        kills, runs, place = 0, 0, Path(name) / "run0"
        while True:
            child = subprocess.Popen([*COMMAND, str(place)], **QUIET)
            moment = chance.uniform(0.3, 5.0)
            try:
                code = child.wait(timeout=moment if kills < chosen.kills else 120)
            except subprocess.TimeoutExpired:
                child.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
                child.wait(timeout=30)
                kills += 1
                deadline = time.monotonic() + 10
                while trainers(place):
                    if time.monotonic() > deadline:
                        raise SystemExit("a trainer outlived bespoke") from None
                    time.sleep(0.02)
                continue
            if code != 0:
                raise SystemExit(f"exit code {code} after {kills} kills: see {place}")
            if tensors(place) != expected:
                raise SystemExit(f"run {runs} ended in other tensors after {kills} kills")
            runs += 1
            if kills >= chosen.kills:
                break
            place = Path(name) / f"run{runs}"
    print(f"{kills} kills over {runs} runs of {len(expected)} epochs: every one ended the same")


if __name__ == "__main__":
    main()
