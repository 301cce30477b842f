"""A stand-in for vendor/sd-scripts/train_network.py: same options, log, files; nothing is trained.

    python stand_in.py --config_file FILE.toml [--OPTION VALUE ...]

It needs no GPU, no torch and no model. It reads the rendered TOMLs with the trainer's own meaning,
prints those of its lines that are looked for, as console_log_simple gives them, and writes LoRA
checkpoints, state folders and sample pictures that open where the trainer's do. All say REHEARSAL.
Pictures are counted but not opened, the network is a small part of the real one, and there is no
TensorBoard file.

Environment:
    BESPOKE_STAND_IN_SECONDS_PER_STEP  pace of an optimizer step, 0.0008 if unset, or PACE@STEP from
                                       that step on
    BESPOKE_STAND_IN_FAULT             KIND or KIND@STEP: see KINDS
    BESPOKE_STAND_IN_FAULT_IN          the one output_name that the fault is for, of several runs
    BESPOKE_STAND_IN_BACKGROUND        what the samples show: see samples.py

Line numbers in these modules are those of sd-scripts v0.10.1.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy

if __name__ == "__main__":
    # Run by its path, as the trainer is: the package's folder, not this one, has to be found.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from bespoke.rehearsal import checkpoints, samples, settings

if TYPE_CHECKING:
    import argparse

FAULT_VARIABLE = "BESPOKE_STAND_IN_FAULT"
USUAL_PACE_S = 0.0008

# The step of KIND@STEP counts optimizer steps from the run's first, also after a resume, and a
# fault strikes at that one step only, so a run resumed beyond it succeeds. Faults of saving strike
# in the save that follows the step. Without a step it is the first of the second epoch (of the
# only one, if there is no second).
KINDS: dict[str, str] = {
    "fail": "a Python traceback, exit code 1",
    "hang": "no further word; SIGTERM and SIGINT are ignored, only SIGKILL ends it",
    "stall": "no further step, but SIGTERM ends it",
    "die": "SIGKILL to itself between two steps",
    "die_saving": "SIGKILL in the middle of writing a checkpoint, which stays truncated",
    "die_saving_state": "SIGKILL in the middle of a state's optimizer.bin",
    "nan": "avr_loss=nan from the step on; trains to the end, exit code 0",
    "disk_full": "no space left in the middle of writing a checkpoint; traceback, exit code 1",
    "oom": "torch.OutOfMemoryError with the text of torch 2.10, exit code 1",
    "oom_above_1": "the same, unless the batch is 1",
    "nothing": "the trainer's 'No data found' line and exit code 0, nothing trained",
    "short": "exit code 0, but the last checkpoint is cut in half",
    "missing_epoch": "exit code 0, but the step's epoch never got its checkpoint",
    "child": "a grandchild (sleep) in the process group that outlives the trainer",
}

NO_DATA = (
    "No data found. Please verify arguments (train_data_dir must be the parent of folders with"
    " images) / 画像がありません。引数指定を確認してください（train_data_dirには画像があるフォルダ"
    "ではなく、画像があるフォルダの親フォルダを指定する必要があります）"
)


def say(text: str) -> None:
    print(text, flush=True)


class Bar:
    """tqdm's bar of optimizer steps on stderr: a carriage return, then the line."""

    # tqdm writes at most 10 times a second; a stand-in's whole epoch may last no longer than that.
    INTERVAL_S = 0.05

    def __init__(self, total: int) -> None:
        self.total, self.done, self.loss, self.started = total, 0, "", time.monotonic()
        self.show()

    def update(self, loss: float) -> None:
        """Count a step; the line is written again when the last one is old enough."""
        self.done += 1
        self.loss = f", avr_loss={loss:.3g}"
        if time.monotonic() - self.shown >= self.INTERVAL_S:
            self.show()

    def show(self, end: str = "") -> None:
        self.shown = time.monotonic()
        line = meter(self.done, self.total, self.shown - self.started, self.loss)
        sys.stderr.write(f"\rsteps: {line}{end}")
        sys.stderr.flush()


def meter(done: int, total: int, elapsed_s: float, postfix: str = "") -> str:
    """tqdm.format_meter(done, total, elapsed_s) of tqdm 4.67, unit it, without a description."""
    rate = done / elapsed_s if elapsed_s else 0.0
    speed, left = "?it/s", "?"
    if rate:
        speed = f"{1 / rate:5.2f}s/it" if rate < 1 else f"{rate:5.2f}it/s"
        left = _interval((total - done) / rate)
    full, part = divmod(int(done / total * 10 * 8), 8)
    cells = ("█" * full + " ▏▎▍▌▋▊▉"[part]).ljust(10)[:10]
    percent = f"{done / total * 100:3.0f}%"
    return f"{percent}|{cells}| {done}/{total} [{_interval(elapsed_s)}<{left}, {speed}{postfix}]"


def _interval(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes:02d}:{left:02d}"


class Training:
    """One process's run. `done` counts its own steps, as the trainer's global_step does."""

    def __init__(
        self, args: argparse.Namespace, fault: str, datasets: tuple[settings.Dataset, ...]
    ) -> None:
        self.args = args
        self.images = sum(dataset.images for dataset in datasets)
        self.batches = sum(dataset.batches for dataset in datasets)
        self.steps_per_epoch = math.ceil(self.batches / args.gradient_accumulation_steps)
        if args.max_train_epochs is not None:
            args.max_train_steps = args.max_train_epochs * self.steps_per_epoch
        self.epochs = math.ceil(args.max_train_steps / self.steps_per_epoch)
        self.fault, _, step = fault.partition("@")
        self.fault_step = int(step or (self.steps_per_epoch + 1 if self.epochs > 1 else 1))
        self.network = checkpoints.Network(args)
        self.scaled = args.mixed_precision == "fp16"
        self.output = Path(args.output_dir)
        self.losses: deque[float] = deque(maxlen=self.steps_per_epoch)
        self.began = time.time()
        self.done = 0

    def run(self) -> None:
        args = self.args
        self._introduce()
        first = self._resume() // self.steps_per_epoch
        if args.sample_at_first:
            # The weights are those of epoch `first`, and the name says 0 (train_network.py:1332).
            self._sample(0, first)
        bar = Bar(args.max_train_steps)
        for epoch in range(first + 1, self.epochs + 1):
            say(f"\nepoch {epoch}/{self.epochs}\n")
            self._train_epoch(epoch, bar)
            every = args.save_every_n_epochs
            if every is not None and epoch % every == 0 and epoch < self.epochs:
                self._save_epoch(epoch)
            if args.sample_every_n_epochs and epoch % args.sample_every_n_epochs == 0:
                self._sample(epoch, epoch)
        if args.save_state or args.save_state_on_train_end:
            say("\nsaving last state.")
            self._save_state(self.output / f"{args.output_name or 'last'}-state", self.epochs)
        self._save_model(self.output / f"{args.output_name or 'last'}.safetensors", self.epochs)
        say("model saved.")
        bar.show("\n")

    def _sample(self, named: int, epoch: int) -> None:
        say(f"\ngenerating sample images at step / サンプル画像生成 ステップ: {self.done}")
        samples.write_samples(self.args, named, epoch)

    def _introduce(self) -> None:
        """The network and the totals (train_network.py:593 to 1000)."""
        args = self.args
        say(f"import network module: {args.network_module}")
        if (epochs := args.max_train_epochs) is not None:
            steps = f"指定エポックまでのステップ数: {args.max_train_steps}"
            say(f"override steps. steps for {epochs} epochs is / {steps}")
        accumulation = args.gradient_accumulation_steps
        say("running training / 学習開始")
        say(f"  num train images * repeats / 学習画像の数×繰り返し回数: {self.images}")
        say(f"  num batches per epoch / 1epochのバッチ数: {self.batches}")
        say(f"  num epochs / epoch数: {self.epochs}")
        say(f"  gradient accumulation steps / 勾配を合計するステップ数 = {accumulation}")
        say(f"  total optimization steps / 学習ステップ数: {args.max_train_steps}")

    def _resume(self) -> int:
        """The step that training starts from (train_network.py:1210 to 1270)."""
        first = 0
        if self.args.resume:
            folder = Path(self.args.resume)
            say(f"resume training from local state: {folder}")
            told = checkpoints.load_state(folder, self.network, scaled=self.scaled)
            first = told["current_step"]
        if self.args.initial_step is not None:
            first = self.args.initial_step
        total = self.args.max_train_steps
        assert first == 0 or total > first, (
            "max_train_steps should be greater than initial step / "
            f"max_train_stepsは初期ステップより大きい必要があります: {total} vs {first}"
        )
        return first

    def _train_epoch(self, epoch: int, bar: Bar) -> None:
        told, _, since = os.environ.get("BESPOKE_STAND_IN_SECONDS_PER_STEP", "").partition("@")
        pace, slow_from = float(told or USUAL_PACE_S), int(since or 0)
        due = time.monotonic()
        last = epoch * self.steps_per_epoch
        for step in range(last - self.steps_per_epoch + 1, last + 1):
            if step == self.fault_step:
                if self.fault == "oom_above_1" and self.args.train_batch_size > 1:
                    strike("oom")
                strike(self.fault)
            due += pace if step >= slow_from else USUAL_PACE_S
            # Sleeping for each of a few thousand short steps would take longer than they do.
            if (ahead := due - time.monotonic()) > 0.005:
                time.sleep(ahead)
            spoilt = self.fault == "nan" and step >= self.fault_step
            self.losses.append(math.nan if spoilt else loss(self.args.seed, step))
            self.done += 1
            # The mean of an epoch's length, as the trainer's (train_util.py:6668).
            bar.update(sum(self.losses) / len(self.losses))
        self.network.walk(self.steps_per_epoch)

    def _save_epoch(self, epoch: int) -> None:
        """Checkpoint, then state, then what save_last_n_... says is old (train_network.py:1690)."""
        args = self.args
        self._save_model(self._numbered(epoch, ".safetensors"), epoch)
        before = args.save_every_n_epochs * (args.save_last_n_epochs or self.epochs)
        if (old := self._numbered(epoch - before, ".safetensors")).exists():
            say(f"removing old checkpoint: {old}")
            old.unlink()
        if not args.save_state:
            return
        say(f"\nsaving state at epoch {epoch}")
        self._save_state(self._numbered(epoch, "-state"), epoch)
        kept = args.save_last_n_epochs_state or args.save_last_n_epochs or self.epochs
        if (old := self._numbered(epoch - args.save_every_n_epochs * kept, "-state")).exists():
            say(f"removing old state: {old}")
            shutil.rmtree(old)

    def _numbered(self, epoch: int, ending: str) -> Path:
        return self.output / f"{self.args.output_name or 'epoch'}-{epoch:06d}{ending}"

    def _save_model(self, path: Path, epoch: int) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        say(f"\nsaving checkpoint: {path}")
        facts = {
            "epoch": epoch,
            "steps": self.done,
            "num_epochs": self.epochs,
            "training_started_at": self.began,
            "num_batches_per_epoch": self.batches,
            "num_train_images": self.images,
        }
        data = checkpoints.checkpoint_bytes(self.network, self.args, facts)
        last = self.fault == "short" and epoch == self.epochs
        if last or self._due("die_saving", epoch) or self._due("disk_full", epoch):
            cut_short(path, data, self.fault)
        elif not self._due("missing_epoch", epoch):
            path.write_bytes(data)

    def _save_state(self, folder: Path, epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told = {"current_epoch": epoch, "current_step": self.done}
        files = checkpoints.state_files(self.network, told, scaled=self.scaled)
        for name, data in files.items():
            if name == "optimizer.bin" and self._due("die_saving_state", epoch):
                cut_short(folder / name, data, self.fault)
            (folder / name).write_bytes(data)

    def _due(self, kind: str, epoch: int) -> bool:
        """Whether the fault is of this kind and its step is one of the epoch's."""
        return self.fault == kind and math.ceil(self.fault_step / self.steps_per_epoch) == epoch


def loss(seed: int, step: int) -> float:
    """A loss that falls from 0.15 to 0.09 with noise, the same for the same seed and step."""
    noise = random.Random(seed * 1_000_003 + step).random() - 0.5  # noqa: S311 - not a secret
    return 0.09 + 0.06 / (1 + step / 400) + 0.04 * noise


def strike(kind: str) -> None:
    """What a fault between two steps does. `nan` and the faults of saving are not here."""
    if kind == "fail":
        raise RuntimeError(f"stand-in: {FAULT_VARIABLE}=fail")
    if kind == "oom":
        # Shown in a traceback under torch's name for it.
        error = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
        raise error(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 23.64 "
            "GiB of which 11.06 MiB is free. Of the allocated memory 22.90 GiB is allocated by "
            "PyTorch, and 241.90 MiB is reserved by PyTorch but unallocated."
        )
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if kind in ("hang", "stall"):
        while True:
            time.sleep(60)
    if kind == "child":
        child = subprocess.Popen(["sleep", "600"])  # noqa: S607
        say(f"stand-in: grandchild {child.pid} sleeps")
        # Left running on purpose; without this Python would warn that it still runs.
        child.returncode = 0


def cut_short(path: Path, data: bytes, kind: str) -> None:
    """Write half of `data`, then fail as `kind` says, or not at all for "short"."""
    path.write_bytes(data[: len(data) // 2])
    if kind in ("die_saving", "die_saving_state"):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "disk_full":
        # The library's own error in its own words, from a device that is always full.
        safetensors.numpy.save_file({"rest": np.zeros(1 << 16, dtype=np.float32)}, "/dev/full")


def main(argv: list[str]) -> None:
    fault = os.environ.get(FAULT_VARIABLE, "")
    kind, at, step = fault.partition("@")
    if (fault and kind not in KINDS) or (at and not step.isdigit()):
        sys.exit(f"{FAULT_VARIABLE}={fault}: the kinds are {', '.join(KINDS)}, with @STEP or not")
    args = settings.read_arguments(argv)
    if os.environ.get(f"{FAULT_VARIABLE}_IN", args.output_name) != args.output_name:
        fault = kind = ""
    say("REHEARSAL: a stand-in for train_network.py, nothing is trained")
    if args.seed is None:
        args.seed = random.randint(0, 2**32)  # noqa: S311 - the trainer's own default
    datasets = settings.read_datasets(args)
    for dataset in datasets:
        for subset in dataset.subsets:
            say(f"found directory {subset.folder} contains {subset.images} image files")
            if count := subset.uncaptioned:
                say(f"No caption file found for {count} images. Training will continue")
        say(f"{dataset.images} train images with repeats.")
    if kind == "nothing" or not any(dataset.images for dataset in datasets):
        say(NO_DATA)
        return
    Training(args, fault, datasets).run()


if __name__ == "__main__":
    main(sys.argv[1:])
