"""Kill a run at random moments, many times over, and hold its end to an uninterrupted one's.

    python benchmarks/torture.py [--kills 300] [--seed 1]

A rehearsal of five epochs with its tests and its gate. KILL, TERM, INT, HUP and pairs of them, to
bespoke, to the trainer and to both, at any moment from the start to the last line. A finished run
is followed by a new one until the kills are used. Compared are the checkpoints' tensors, the
record, the decisions, the pictures of each epoch's test, and the page. Left out is what no two
undisturbed runs share: times and durations, paths, the hash of a checkpoint's file (its metadata
hold times), what interrupted it, and the curve of the loss (read off a progress bar).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import hashlib
import html
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
RUN = "REHEARSAL_SD15_KEEP_TOKENS_3_EXPERIMENT"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TARGETS = ("bespoke", "trainer", "both")
LENGTH_S = 8.0
PATIENCE_S = 0.5


def command(place: Path) -> list[str]:
    short = ("--set", "training.max_train_epochs=5", "--set", "dataset.num_repeats=3")
    return [sys.executable, "-m", "bespoke.run", "--rehearse", *short, "--workspace", str(place)]


# --- What a run leaves ----------------------------------------------------------------------------


def outcome(place: Path) -> dict[str, Any]:
    """All that must be the same however often a run was killed."""
    from safetensors.numpy import load_file

    tensors = {}
    for path in sorted((place / "rehearsal" / "output").glob(f"{NAME}-*.safetensors")):
        rows = load_file(path)
        content = b"".join(key.encode() + rows[key].tobytes() for key in sorted(rows))
        tensors[path.name] = hashlib.sha256(content).hexdigest()
    return {"tensors": tensors, **recorded(place), "page": page(place)}


def recorded(place: Path) -> dict[str, Any]:
    """The run as the record has it, and the pictures that it leads to."""
    from bespoke.record import store

    names = sorted(each.name for each in store.runs(place / "rehearsal"))
    row = json.loads((place / "rehearsal" / "output" / f"{NAME}.record.json").read_text())
    row["curves"].pop("loss", None)
    for key in ("uid", "started", "ended", "interruptions", "starts"):
        del row[key]
    for key in ("logs", "output"):
        del row["facts"][key]
    pictures = {}
    for epoch in row["epochs"]:
        folder = Path(epoch["folder"])
        for key in ("checkpoint", "checkpoint_sha256", "checkpoint_size", "folder", "tested"):
            del epoch[key]
        for each in epoch["pictures"]:
            data = (folder / each["file"]).read_bytes()
            pictures[f"{epoch['epoch']} {each['file']}"] = hashlib.sha256(data).hexdigest()
    text = json.dumps(row, sort_keys=True).replace(str(place), "PLACE")
    pages = sorted(path.name for path in (place / "rehearsal" / "reports").glob("*.html"))
    return {
        "runs": names,
        "pages": pages,
        "record": json.loads(re.sub(r"\d{4}-\d\d-\d\dT[\d-]+Z", "TIME", text)),
        "pictures": pictures,
    }


def page(place: Path) -> list[str]:
    """The page's text and pictures, a line each, without times, durations and hashes of files."""
    file = place / "rehearsal" / "reports" / f"{RUN}.html"
    text = file.read_text(encoding="utf-8").replace(str(place), "PLACE")
    text = re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
    text = re.sub(
        r"data:image/[^\"']*", lambda found: hashlib.sha256(found[0].encode()).hexdigest(), text
    )
    text = re.sub(r"<p>Nothing interrupted it.</p>", "", text)
    text = re.sub(r"<h3>Interruptions</h3>.*?</ol>", "", text, flags=re.DOTALL)
    text = re.sub(r"<figure>\s*<h3>Loss</h3>.*?</figure>", "", text, flags=re.DOTALL)
    text = re.sub(r"<details><summary>Loss as a table.*?</details>", "", text, flags=re.DOTALL)
    text = html.unescape(re.sub(r"(?s)<(?:style|script).*?</(?:style|script)>", "", text))
    text = re.sub(
        r"\d{4}-\d\d-\d\d[T ]\d\d[:-]\d\d(?:[:-]\d\d)?(?:(?:-\d{6})?Z|\+00:00| UTC)?", "TIME", text
    )
    text = re.sub(r"\b\d+:\d\d(?::\d\d)?\b|\b\d+(?:\.\d+)? ?(?:s|min|h|hours)\b", "DURATION", text)
    text = re.sub(r"-[0-9a-f]{8}\b|\b[0-9a-f]{12,64}\b", "HASH", text)
    return [
        line.strip() for line in re.sub(r"(<[^>]+>)", r"\n\1\n", text).splitlines() if line.strip()
    ]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Where two outcomes differ, a line each."""
    lines = []
    for part, before in expected.items():
        texts = [
            json.dumps(each, indent=1, sort_keys=True).splitlines()
            for each in (before, found[part])
        ]
        changed = list(difflib.unified_diff(*texts, "undisturbed", "killed", n=0, lineterm=""))
        lines += [f"{part}: {line}" for line in changed[:20]]
    return lines


# --- Killing --------------------------------------------------------------------------------------


def processes(place: Path, script: str = "") -> list[int]:
    """Those that work for this workspace."""
    shown = subprocess.run(
        ["ps", "-e", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 1) for line in shown.splitlines()]
    return [int(pid) for pid, text in rows if str(place) in text and script in text]


def strike(
    child: subprocess.Popen[str], place: Path, chance: random.Random
) -> tuple[str, set[int]]:
    """One signal or two, to one process or two; returns what was done and the codes it may have."""
    target = chance.choice(TARGETS)
    numbers = [chance.choice(SIGNALS) for _ in range(chance.choice((1, 1, 1, 2)))]
    for at, number in enumerate(numbers):
        if at:
            time.sleep(chance.uniform(0, 0.4))
        pids = processes(place, "fake_trainer.py") if target != "bespoke" else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if target != "trainer":
            child.send_signal(number)
    codes = {4} if target == "trainer" else {130} if target == "bespoke" else {4, 130}
    if target != "trainer" and signal.SIGKILL in numbers:
        codes.add(-signal.SIGKILL)
        if len(set(numbers)) == 1:
            codes = {-signal.SIGKILL}
    # What is over before it is struck, and a trainer that has not begun, ends as it would have.
    if over(place) or (target == "trainer" and not pids):
        codes.add(0)
    return f"{'+'.join(number.name for number in numbers)} to {target}", codes


def completed(place: Path) -> bool:
    """Whether bespoke has nothing left to do for this run."""
    file = place / "rehearsal" / "output" / f"{NAME}.run.json"
    return file.exists() and json.loads(file.read_text())["completed"]


def over(place: Path) -> bool:
    """Whether the last checkpoint is there: soon after that, no process is left to strike."""
    return any(
        (place / "rehearsal" / "output" / f"{NAME}{end}.safetensors").exists()
        for end in ("", "-000005")
    )


@dataclasses.dataclass
class Torture:
    """Runs killed again and again until the kills are used; `report` counts what happened."""

    folder: Path
    chance: random.Random
    kills: int
    report: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        """Kill runs until the kills are used, and compare each one's end."""
        undisturbed = self.folder / "undisturbed"
        code, said = self._start(undisturbed, kill=False)
        assert code == 0, said
        expected = outcome(undisturbed)
        number = known = 0
        while self.kills > 0:
            place = self.folder / f"run{number}"
            number += 1
            self._to_its_end(place)
            different = differences(expected, outcome(place))
            self.report["runs"] += 1
            self.problems += [f"{place.name}: {line}" for line in different]
            print(f"{place.name}: {self.kills} kills left", flush=True)
            print("".join(f"{line}\n" for line in self.problems[known:]), end="", flush=True)
            known = len(self.problems)

    def _to_its_end(self, place: Path) -> None:
        for _ in range(60):
            _, said = self._start(place, kill=self.kills > 0)
            if completed(place):
                return
        self.problems.append(f"{place.name}: not done after 60 starts: {said[-2000:]}")

    def _start(self, place: Path, *, kill: bool) -> tuple[int, str]:
        log = self.folder / "log"
        with log.open("w") as stream:
            child = subprocess.Popen(
                command(place),
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                text=True,
                env={
                    **os.environ,
                    "BESPOKE_STOP_PATIENCE_S": str(PATIENCE_S),
                    "BESPOKE_FAKE_TRAINER_HOOK": str(REPOSITORY / "tests" / "trainer_faults.py"),
                    "BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": self.chance.choice(
                        ("0.0002", "0.004")
                    ),
                },
            )
            try:
                child.wait(timeout=self.chance.uniform(0.1, LENGTH_S) if kill else 120)
            except subprocess.TimeoutExpired:
                self._kill(child, place, log)
        said = log.read_text()
        if "Traceback" in said:
            self.problems.append(f"{place.name}: a traceback: {said[-2000:]}")
        return child.returncode, said

    def _kill(self, child: subprocess.Popen[str], place: Path, log: Path) -> None:
        self.kills -= 1
        what, codes = strike(child, place, self.chance)
        try:
            code = child.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{place.name}: {what}: swallowed: {log.read_text()[-1000:]}")
            child.kill()
            code = child.wait()
        self.report[what] += 1
        if code not in codes:
            self.problems.append(
                f"{place.name}: {what}: exit code {code}: {log.read_text()[-1000:]}"
            )
        deadline = time.monotonic() + 10
        while left := processes(place):
            if time.monotonic() > deadline:
                self.problems.append(f"{place.name}: {what}: processes {left} are still there")
                break
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    # Started with nohup, every run would ignore HUP as nohup means it to.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as name:
        torture = Torture(folder=Path(name), chance=random.Random(chosen.seed), kills=chosen.kills)
        torture.run()
    for what, count in sorted(torture.report.items()):
        print(f"{count:5} {what}")
    print("\n".join(torture.problems) or "every run ended as the undisturbed one")
    sys.exit(bool(torture.problems))


if __name__ == "__main__":
    main()
