"""How fast the real trainer goes through bespoke, variant by variant, on this machine.

    python benchmarks/train.py --data DIR --out FILE.jsonl as-written a100 auto auto*2 auto@24

Each word is a group that runs at once: NAME, NAME*4 (four of it), NAME@24 (with 24 GiB of the
GPU's memory, imposed on torch and shown to the plan), joined by + for different ones side by side.
NAME is a row of VARIANTS. The base model is random (built once in the workspace), the pictures
those of --data or drawn ones. A variant runs until --steps steps after --warm-up, or with --whole
to its end, and its row is written at once.

Steps are stamped when their line reaches the log. Peak memory: torch's own, read in the trainer
twenty times a second by a sitecustomize.py on PYTHONPATH, and the driver's, for the process and its
CUDA context. Nothing is fetched: packages may lie in a folder on PYTHONPATH.
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

TFLOP_PER_IMAGE = 1.7
RUN_STEPS = 5080

PROBE = """
import json, os, sys, threading, time

def _watch():
    file, limit = os.environ["BENCH_PROBE"], float(os.environ.get("BENCH_LIMIT_MIB", "0"))
    out, peak = None, -1
    while True:
        time.sleep(0.05)
        torch = sys.modules.get("torch")
        try:
            if not torch.cuda.is_initialized():
                continue
            if out is None:
                out = open(f"{file}.{os.getpid()}", "a")
                if limit:
                    total = torch.cuda.get_device_properties(0).total_memory >> 20
                    torch.cuda.set_per_process_memory_fraction(limit / total)
            now = torch.cuda.max_memory_reserved() >> 20, torch.cuda.max_memory_allocated() >> 20
        except (AttributeError, RuntimeError):
            continue
        if now != peak:
            peak = now
            print(json.dumps([time.time(), *now]), file=out, flush=True)

os.environ.update(json.loads(os.environ.get("BENCH_SET", "{}")))
if "BENCH_PROBE" in os.environ:
    threading.Thread(target=_watch, daemon=True).start()
"""

MATRIX = """
import statistics, time, torch
for kind in (torch.bfloat16, torch.float16):
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=kind) for _ in "ab")
    times = []
    for turn in range(30):
        torch.cuda.synchronize(); start = time.perf_counter()
        a @ b
        torch.cuda.synchronize(); times.append(time.perf_counter() - start)
    print(2 * 8192**3 / statistics.median(times[10:]) / 1e12)
"""


def written(**options: object) -> tuple[str, ...]:
    """As written, with these training options; sdpa, which every machine has."""
    rows = {"xformers": False, "sdpa": True} | options
    sets = [f"training.{key}={json.dumps(value)}" for key, value in rows.items()]
    return ("--plan", "as-written", *(word for each in sets for word in ("--set", each)))


def memory(batch: int, checkpointing: bool, precision: str, vae: int = 1) -> tuple[str, ...]:
    return written(
        train_batch_size=batch,
        gradient_accumulation_steps=max(1, 4 // batch),
        gradient_checkpointing=checkpointing,
        mixed_precision=precision,
        highvram=True,
        vae_batch_size=vae,
    )


def best(**options: object) -> tuple[str, ...]:
    """What the plan chooses on a large card, with one lever moved."""
    chosen: dict[str, object] = {
        "train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "mixed_precision": "bf16",
        "highvram": True,
        "vae_batch_size": 16,
    }
    return written(**(chosen | options))


VARIANTS: dict[str, tuple[str, ...]] = {
    "as-written": written(),
    "a100": written(train_batch_size=4, gradient_accumulation_steps=1, mixed_precision="bf16"),
    "auto": ("--plan", "auto"),
    # With a picture of each test prompt after every epoch, scored and judged, as a run has them.
    "tested": ("--plan", "auto"),
    "smoke": ("--experiment", "smoke"),
    "rehearse": ("--rehearse",),
    **{
        f"b{batch}-{'ckpt' if checkpointing else 'plain'}-{precision}": memory(
            batch, checkpointing, precision
        )
        for batch in (1, 2, 4, 8)
        for checkpointing in (True, False)
        for precision in ("fp16", "bf16")
    },
    **{f"vae-{size}": memory(1, True, "bf16", size) for size in (1, 2, 4, 8, 16)},
    "workers-0": best(max_data_loader_n_workers=0),
    "workers-1": best(max_data_loader_n_workers=1),
    "workers-8": best(max_data_loader_n_workers=8),
    "persistent": best(persistent_data_loader_workers=True),
    "fp16": best(mixed_precision="fp16"),
    "adamw": best(optimizer_type="AdamW"),
    "no-clip": best(max_grad_norm=0.0),
    "control": best(),
    "expandable": best(),
    "threads-8": best(),
    "lora-bf16": best(full_bf16=True),
    "compile-inductor": best(torch_compile=True),
    "compile-reduce-overhead": best(torch_compile=True),
    "compile-cudagraphs": best(torch_compile=True, dynamo_backend="cudagraphs"),
}
# What the trainer's process finds in its environment besides, past what bespoke sets there.
SETTINGS = {
    "expandable": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
    "threads-8": {"OMP_NUM_THREADS": "8"},
    "compile-reduce-overhead": {"ACCELERATE_DYNAMO_MODE": "reduce-overhead"},
}
# What the trainer says when it has come so far on its way to the first step.
STAGES = {
    "imported": "Loading dataset config from",
    "dataset read": "preparing accelerator",
    "model loaded": "caching latents.",
    "latents made": "import network module:",
    "prepared": "running training",
}


@dataclass(kw_only=True)
class Running:
    """One run of a variant, started; its steps as they come."""

    name: str
    limit_gib: float | None
    place: Path
    child: subprocess.Popen[bytes]
    started: float
    steps: list[tuple[float, int]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    read: int = 0
    ended: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    _between: bool = False

    @property
    def step(self) -> int:
        return self.steps[-1][1] if self.steps else 0

    def poll(self) -> None:
        """Take in what the trainer's log has grown by."""
        from bespoke.trainer import trainer_log

        log = next(iter(self.place.glob("**/train.log")), None)
        if log is not None:
            with log.open("rb") as stream:
                stream.seek(self.read)
                grown = stream.read()
            whole = grown[: grown.rfind(b"\n") + 1]
            self.read += len(whole)
            now = time.monotonic()
            for line in whole.decode(errors="replace").splitlines():
                for name, words in STAGES.items():
                    if words in line:
                        self.stages.setdefault(name, round(now - self.started, 2))
                event = trainer_log.parse(line)
                if isinstance(event, trainer_log.EpochStarted) and self.steps:
                    self._between = True
                elif isinstance(event, trainer_log.Progress) and event.step > self.step:
                    if self._between:
                        self.gaps.append(now - self.steps[-1][0])
                    self._between = False
                    self.steps.append((now, event.step))
        if self.ended is None and self.child.poll() is not None:
            self.ended = time.monotonic()

    def rows(self, file: str) -> list[dict[str, Any]]:
        found = next(iter(self.place.glob(f"**/{file}")), None)
        lines = found.read_text(encoding="utf-8").splitlines() if found else []
        return [json.loads(line) for line in lines]


class Gpu:
    """What the driver says of one GPU while the benchmark goes on: [] where there is none."""

    def __init__(self, index: int) -> None:
        self.busy: list[tuple[float, float, float]] = []
        self.processes: list[tuple[float, int, float]] = []
        self.card = ""
        self._children: list[subprocess.Popen[str]] = []
        if shutil.which("nvidia-smi") is None:
            return
        smi = ["nvidia-smi", f"--id={index}", "--format=csv,noheader,nounits"]
        told = subprocess.run([*smi, "--query-gpu=name"], capture_output=True, text=True)
        self.card = told.stdout.strip()
        self._follow([*smi, "--query-gpu=utilization.gpu,memory.used", "-lms", "200"], self._gpu)
        self._follow([*smi, "--query-compute-apps=pid,used_memory", "-lms", "500"], self._process)

    def _follow(self, command: list[str], take: Any) -> None:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._children.append(child)

        def read() -> None:
            assert child.stdout is not None
            for line in child.stdout:
                cells = [cell.strip() for cell in line.split(",")]
                if len(cells) == 2 and all(cell.isdigit() for cell in cells):
                    take(time.monotonic(), *map(int, cells))

        threading.Thread(target=read, daemon=True).start()

    def _gpu(self, at: float, busy: int, used: int) -> None:
        self.busy.append((at, busy / 100, used))

    def _process(self, at: float, pid: int, used: int) -> None:
        try:
            self.processes.append((at, os.getpgid(pid), used))
        except ProcessLookupError:
            return

    def close(self) -> None:
        for child in self._children:
            child.terminate()
            child.wait()


class Benchmark:
    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.place: Path = chosen.workspace.absolute()
        self.gpu = Gpu(chosen.gpu)
        self.matrix: list[float] = []
        (self.place / "probe").mkdir(parents=True, exist_ok=True)
        (self.place / "probe" / "sitecustomize.py").write_text(PROBE)

    def prepare(self) -> None:
        """The base model, and the card's own rate at matrix products."""
        from bespoke.trainer import base_model

        started = time.monotonic()
        base_model.random_sd15(self.place / "models" / base_model.RANDOM_FOLDER, print)
        self.keep({"what": "model", "seconds": round(time.monotonic() - started, 1)})
        if self.gpu.card:
            told = subprocess.run(
                [sys.executable, "-c", MATRIX],
                env=self.environment(None, self.place / "matrix"),
                capture_output=True,
                text=True,
            )
            self.matrix = [round(float(word), 1) for word in told.stdout.split()]
            self.keep({"what": "matrix", "tflops": self.matrix, "said": told.stderr[-300:]})

    def keep(self, row: dict[str, Any]) -> None:
        with self.chosen.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"card": self.gpu.card, **row}) + "\n")

    def environment(self, limit: float | None, place: Path) -> dict[str, str]:
        paths = [str(self.place / "probe"), os.environ.get("PYTHONPATH", "")]
        settings = {
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "CUDA_VISIBLE_DEVICES": str(self.chosen.gpu),
            "BENCH_PROBE": f"{place}.probe",
        }
        if limit is not None:
            # CUDA's own context is outside what torch counts.
            settings["BENCH_LIMIT_MIB"] = str(int(limit * 1024) - 600)
            settings["PATH"] = f"{self.smaller_card(limit)}:{os.environ['PATH']}"
        return {**os.environ, **settings}

    def smaller_card(self, limit: float) -> Path:
        """A folder whose nvidia-smi shows each GPU with so much memory, none of it used."""
        folder = self.place / f"card-{limit:g}"
        folder.mkdir(exist_ok=True)
        real = shutil.which("nvidia-smi")
        file = folder / "nvidia-smi"
        change = f"s/^([^,]*), [0-9]+, ([^,]*), [0-9]+,/\\1, {int(limit * 1024)}, \\2, 0,/"
        file.write_text(f"#!/bin/sh\n{real} \"$@\" | sed -E '{change}'\n")
        file.chmod(0o755)
        return folder

    def start(self, item: str) -> Running:
        name, _, limit = item.partition("@")
        gib = float(limit) if limit else None
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.place))
        (place / "models").symlink_to(self.place / "models")
        command = [sys.executable, "-m", "bespoke.run", "--workspace", str(place)]
        if name not in ("smoke", "rehearse"):
            command += ["--set", "training.pretrained_model_name_or_path=random"]
        if self.chosen.epochs:
            command += ["--set", f"training.max_train_epochs={self.chosen.epochs}"]
        for each in self.chosen.set:
            command += ["--set", each]
        if self.chosen.data:
            command += ["--data", str(self.chosen.data.absolute())]
        if name not in ("tested", "smoke", "rehearse"):
            command.append("--no-test")
        environment = self.environment(gib, place)
        environment["BENCH_SET"] = json.dumps(SETTINGS.get(name, {}))
        with (place / "bench.log").open("wb") as log:
            child = subprocess.Popen(
                [*command, *VARIANTS[name]],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return Running(name=item, limit_gib=gib, place=place, child=child, started=time.monotonic())

    def group(self, word: str) -> None:
        items = []
        for part in word.split("+"):
            name, _, count = part.partition("*")
            items += [name] * int(count or 1)
        runs = [self.start(item) for item in items]
        wanted = self.chosen.warm_up + self.chosen.steps
        limit = time.monotonic() + self.chosen.limit
        while time.monotonic() < limit:
            for run in runs:
                run.poll()
            going = [run for run in runs if run.ended is None]
            if not going or (not self.chosen.whole and all(run.step >= wanted for run in going)):
                break
            time.sleep(0.01)
        stopped = time.monotonic()
        for run in runs:
            if run.ended is None:
                run.child.send_signal(signal.SIGINT)
        for run in runs:
            run.child.wait()
        # All of a group are measured over the same seconds: those in which all were at work.
        warmed = [[at for at in run.steps if at[1] > self.chosen.warm_up] for run in runs]
        warm = [steps[0][0] for steps in warmed if steps]
        since = max(warm, default=stopped)
        until = min([stopped, *(run.ended for run in runs if run.ended and run.steps)])
        for run in runs:
            row = self.row(run, since, until)
            row |= {"group": word, "together": len(runs)}
            self.keep(row)
            shown(row)

    def row(self, run: Running, since: float, until: float) -> dict[str, Any]:
        inside = [at for at in run.steps if since <= at[0] <= until]
        row: dict[str, Any] = {"what": "variant", "variant": run.name, "steps": len(run.steps)}
        if len(inside) > 5:
            paces = [
                (late[1] - early[1]) / (late[0] - early[0])
                for early, late in zip(inside, inside[5:], strict=False)
            ]
            pace = (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])
            row |= {
                "median": statistics.median(paces),
                "mean": pace,
                "from": min(paces),
                "to": max(paces),
            }
            images = row["median"] * self.product(run)
            row["images"] = images
            if self.matrix:
                row["share"] = images * TFLOP_PER_IMAGE / self.matrix[0]
        if run.steps:
            first = run.steps[0][0] - run.started
            row["first_step"] = first
            if "median" in row:
                row["run_s"] = first + (RUN_STEPS - 1) / row["median"]
        if run.gaps:
            row["epoch_gap"] = statistics.median(run.gaps)
        row["busy"] = mean([busy for at, busy, _ in self.gpu.busy if since <= at <= until])
        row["stages"] = self.stages(run)
        row |= self.memory(run)
        if self.chosen.whole:
            row["whole_s"] = (run.ended or time.monotonic()) - run.started
            row["losses"] = losses(run.place)
        if run.child.returncode not in (0, 130) or not run.steps:
            said = (run.place / "bench.log").read_text(errors="replace").splitlines()
            row["ended"] = [run.child.returncode, *said[-4:]]
            log = next(iter(run.place.glob("**/train.log")), None)
            row["log"] = log.read_text(errors="replace").splitlines()[-12:] if log else []
        if not self.chosen.keep_runs:
            for folder in run.place.glob("output"):
                shutil.rmtree(folder)
        return row

    def stages(self, run: Running) -> dict[str, float]:
        """Seconds from the command to each point on the way to the first step."""
        from datetime import datetime

        begun = time.time() - (time.monotonic() - run.started)
        named = ("started", "checked", "planned", "rendered", "launched")
        events = {
            row["event"]: round(datetime.fromisoformat(row["time"]).timestamp() - begun, 2)
            for row in run.rows("events.jsonl")
            if row["event"] in named
        }
        return events | run.stages

    def memory(self, run: Running) -> dict[str, float]:
        launched = [row for row in run.rows("events.jsonl") if row["event"] == "launched"]
        group = launched[0]["pid"] if launched else None
        seen = [used for _, pgid, used in self.gpu.processes if pgid == group]
        probes = [
            json.loads(line)
            for file in run.place.parent.glob(f"{run.place.name}.probe.*")
            for line in file.read_text().splitlines()
        ]
        begun = time.time() - (time.monotonic() - run.started)
        prepared = self.stages(run).get("latents made", 1e9) + begun
        before = [row[1] for row in probes if row[0] <= prepared]
        return {
            "mib": max(seen, default=0),
            "reserved": max((row[1] for row in probes), default=0),
            "allocated": max((row[2] for row in probes), default=0),
            "latents_reserved": max(before, default=0),
        }

    def product(self, run: Running) -> int:
        import toml

        found = next(iter(run.place.glob("**/training.toml")))
        options = toml.loads(found.read_text(encoding="utf-8"))
        accumulated = options.get("gradient_accumulation_steps", 1)
        return int(options.get("train_batch_size", 1)) * int(accumulated)


def losses(place: Path) -> list[float]:
    """Every micro-batch's loss in order, from TensorBoard's file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted(place.rglob("events.out.tfevents*"))
    if not files:
        return []
    read = EventAccumulator(str(files[-1]), size_guidance={"scalars": 0})
    read.Reload()
    if "loss/current" not in read.Tags()["scalars"]:
        return []
    return [round(event.value, 5) for event in read.Scalars("loss/current")]


def mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def shown(row: dict[str, Any]) -> None:
    def cell(key: str, form: str) -> str:
        value = row.get(key)
        return f"{'-':>9}" if value is None else f"{format(value, form):>9}"

    print(
        f"{row['variant']:20}{row['together']:3}"
        + cell("median", ".3f") + cell("from", ".2f") + cell("to", ".2f") + cell("images", ".2f")
        + cell("share", ".1%") + cell("busy", ".0%") + cell("mib", ".0f") + cell("reserved", ".0f")
        + cell("latents_reserved", ".0f") + cell("first_step", ".1f") + cell("epoch_gap", ".2f")
        + cell("run_s", ".0f") + cell("whole_s", ".1f")
        + (f"  {row['ended']}" if "ended" in row else ""),
        flush=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="+", metavar="GROUP")
    parser.add_argument("--data", type=Path, help="a collection of 203; drawn ones without it")
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.mkdtemp()))
    parser.add_argument("--out", type=Path, default=Path("train.jsonl"))
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50, help="measured, after the warm-up")
    parser.add_argument("--warm-up", type=int, default=15)
    parser.add_argument("--limit", type=float, default=200, help="seconds for one group")
    parser.add_argument("--whole", action="store_true", help="to the end, with every loss")
    parser.add_argument("--epochs", type=int, help="instead of the experiment's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep-runs", action="store_true", help="keep checkpoints and states")
    chosen = parser.parse_args()
    benchmark = Benchmark(chosen)
    try:
        benchmark.prepare()
        print(f"{benchmark.gpu.card or 'no GPU'}, matrix products {benchmark.matrix} TFLOP/s")
        print(
            f"{'variant':20}{'at':>3}{'steps/s':>9}{'from':>9}{'to':>9}{'images/s':>9}{'share':>9}"
            f"{'busy':>9}{'MiB':>9}{'torch':>9}{'latents':>9}{'first s':>9}{'gap s':>9}{'run s':>9}"
            f"{'whole s':>9}"
        )
        for word in chosen.groups:
            benchmark.group(word)
    finally:
        benchmark.gpu.close()


if __name__ == "__main__":
    main()
