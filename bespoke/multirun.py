"""Several runs: one a GPU, one after another, each a `python -m bespoke.run` with its own folder.

Never several GPUs for one run: every rank would draw the same noise (facts, seen in the trainer).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.dataset.preflight import subset_and_folder
from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.experiment.validation import did_you_mean
from bespoke.files import REPOSITORY
from bespoke.record.notify import Messages
from bespoke.signals import signal_count, signals_held
from bespoke.trainer import hardware
from bespoke.trainer.child_process import Group, patience
from bespoke.trainer.trainer_log import ending
from bespoke.trainer.training import open_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bespoke.request import Request
    from bespoke.trainer.job import Job, Journal

# A run that is told to stop ends what must not be cut, the test of an epoch, before it is killed.
LAST_TEST_S = 300.0
ENDINGS = {0: "done", 5: "stopped by its gate", 130: "interrupted"}


def train(request: Request, journal: Journal) -> int:
    """Train all that was asked for and say how each ended; returns the exit code for all of them.

    Raises InterruptedRunError once all are stopped.
    """
    if request.dry_run:
        raise ConfigError("--dry-run shows one run: name one --experiment and one of --seeds")
    jobs = jobs_of(request, journal)
    gpus = [str(gpu.number) for gpu in hardware.gpus()][: len(jobs)]
    several = f"one on each of {len(gpus)} GPUs" if len(gpus) > 1 else "one after another"
    say(f"{len(jobs)} runs, {several}")
    runs = [RunStatus(_label(job), _command(job)) for job in jobs]
    try:
        Schedule(runs).train(gpus or [None])
    finally:
        outcomes = [f"{run.name}: {run.outcome}" for run in runs]
        for line in outcomes:
            say(line)
        sender = Messages()
        sender.send(f"{len(runs)} runs", "\n".join(outcomes))
        sender.wait()
    return worst(runs)


def jobs_of(request: Request, journal: Journal) -> list[Job]:
    """Each run that was asked for, by seed and then by experiment, parents last."""
    names = list(request.experiments)
    for name in request.experiments if request.with_parent else ():
        parent = config.load(name, repository=REPOSITORY).parent
        if parent is None:
            raise ConfigError(f"experiments/{name}.toml: no parent; leave --with-parent out")
        if parent not in names:
            names.append(parent)
    seeds = request.seeds or (None,)
    jobs = [open_job(request.one(name, seed), journal) for seed in seeds for name in names]
    # A parent may lack a subset of its child's; one that no run has is a mistake.
    subsets = set().union(*map(_subsets, jobs))
    for text in request.data:
        name, _ = subset_and_folder(text)
        if name not in subsets:
            raise ConfigError(f"--data {name}=…: {did_you_mean(name, subsets)}")
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            labels = ", ".join(_label(job) for job in jobs if job.name == name)
            remedy = "name each once, and give each experiment its own output_name"
            raise ConfigError(f"{labels}: {count} of these runs would write {name}; {remedy}")
    return jobs


def worst(runs: Iterable[RunStatus]) -> int:
    """0 if all are done, 5 if a gate stopped some and none failed, else the first failure's."""
    codes = [1 if each.code is None or each.code < 0 else each.code for each in runs]
    return next((code for code in codes if code not in (0, 5)), max(codes))


class RunStatus:
    """One run, from its place in the queue to its exit code; `command` trains it."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self.command = name, command
        self.outcome = "not started"
        self.code: int | None = None
        self._last, self._rest = "", b""

    def take(self, chunk: bytes) -> Iterator[str]:
        """Take in what the process printed; returns its lines."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._last = line.decode(errors="replace").removeprefix("bespoke: ")
            yield self._last

    def end(self, code: int) -> None:
        """Take in the process's end; the last line of one that is not done says why."""
        self.code = code
        self.outcome = ENDINGS.get(code, f"failed ({ending(code)})")
        if code and self._last:
            self.outcome += f": {self._last}"


class Schedule:
    """Sees all runs to their ends: a thread a GPU trains one after another, this one watches."""

    def __init__(self, runs: Sequence[RunStatus]) -> None:
        self._waiting = deque(runs)
        self._running: dict[RunStatus, Group] = {}
        self._signals = 0
        # Held to start, to end and to signal a run, and for each line that is shown.
        self._lock = threading.Lock()

    def train(self, gpus: Sequence[str | None]) -> None:
        """Until every run has ended; None for a GPU is the CPU."""
        threads = [threading.Thread(target=self._work, args=(gpu,), daemon=True) for gpu in gpus]
        with signals_held():
            for thread in threads:
                thread.start()
            while alive := [thread for thread in threads if thread.is_alive()]:
                alive[0].join(0.2)
                self._pass_signals_on()

    def _work(self, gpu: str | None) -> None:
        while run := self._start_next(gpu):
            group = self._running[run]
            for chunk in group.output():
                with self._lock:
                    for text in run.take(chunk):
                        say(f"{run.name}: {text}")
            code = group.wait()
            group.stop()
            if code < 0:
                # A run that was killed leaves its trainer to a guard, which takes that long.
                time.sleep(patience() + 1)
            with self._lock:
                del self._running[run]
                run.end(code)
                say(f"{run.name}: {run.outcome}")

    def _start_next(self, gpu: str | None) -> RunStatus | None:
        with self._lock:
            if self._signals or not self._waiting:
                return None
            run = self._waiting.popleft()
            say(f"{run.name}: starts" + ("" if gpu is None else f" on GPU {gpu}"))
            alone = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
            self._running[run] = Group(
                run.command,
                environment={**os.environ, **alone},
                # Folders on the command line are taken from where the person stands.
                cwd=Path.cwd(),
                patience=patience() + LAST_TEST_S,
            )
            return run

    def _pass_signals_on(self) -> None:
        """The first ends each run when that is safe, the second its trainer, the third itself."""
        with self._lock:
            if signal_count() == self._signals:
                return
            if not self._signals:
                say(f"stopping {len(self._running)} runs; a test that goes on is finished first")
            self._signals = signal_count()
            for group in self._running.values():
                group.signal(signal.SIGTERM if self._signals < 3 else signal.SIGKILL)


def _label(job: Job) -> str:
    seed = f"_seed_{job.request.seed}"
    return job.experiment.name + (seed if seed in job.name else "")


def _command(job: Job) -> list[str]:
    data = tuple(text for text in job.request.data if subset_and_folder(text)[0] in _subsets(job))
    request = replace(job.request, data=data)
    return [sys.executable, "-m", "bespoke.run", *request.arguments()]


def _subsets(job: Job) -> set[str]:
    return set(job.experiment.by_folder())
