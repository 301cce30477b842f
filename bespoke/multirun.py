"""Several runs: one a GPU, one after another, each a `python -m bespoke.run` with its own folder.

Never several GPUs for one run: every rank would draw the same noise (facts, seen in the trainer).
"""

from __future__ import annotations

import os
import queue
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
from bespoke.signals import signal_count
from bespoke.trainer import checkpoints, hardware, monitor
from bespoke.trainer.failures import ending
from bespoke.trainer.job import open_job
from bespoke.trainer.process import Group, patience, signals_held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bespoke.request import Request
    from bespoke.trainer.job import Job
    from bespoke.trainer.journal import Journal

TICK_S = 0.5
# A run that is told to stop ends what must not be cut, the test of an epoch, before it is killed.
LAST_TEST_S = 300.0
ENDINGS = {0: "done", 5: "stopped by its gate", 130: "interrupted"}


def train(request: Request, journal: Journal) -> int:
    """Train all that was asked for and say how each ended; returns the exit code for all of them.

    Raises:
        ConfigError: where it cannot be started as it was asked for.
        InterruptedRunError: once every run is stopped.
    """
    if request.dry_run:
        raise ConfigError("--dry-run shows one run: name one --experiment and one of --seeds")
    jobs = jobs_of(request, journal)
    journal.open(jobs[0].workspace / "logs", "side_by_side")
    journal.write("started", arguments=sys.argv[1:], runs=[job.name for job in jobs])
    gpus = [str(gpu.number) for gpu in hardware.gpus()][: len(jobs)]
    where = f"one on each of {len(gpus)} GPUs" if len(gpus) > 1 else "one after another"
    say(f"{len(jobs)} runs, {where}")
    if not request.rehearse:
        say(monitor.require_room([_bytes_to_come(job) for job in jobs], jobs[0].workspace))
    runs = [RunStatus(_label(job), _command(job)) for job in jobs]
    try:
        Schedule(runs, gpus or [None], journal).train()
    finally:
        for run in runs:
            say(f"{run.name}: {run.outcome}")
        journal.write("finished", codes={run.name: run.code for run in runs})
    return worst(runs)


def jobs_of(request: Request, journal: Journal) -> list[Job]:
    """Each run that was asked for, by seed and then by experiment, parents last.

    Raises:
        ConfigError: where one is not there, or two would write the same files.
    """
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
            raise ConfigError(
                f"{labels}: {count} of these runs would write {name}; name each once, and give "
                "each experiment its own output_name"
            )
    return jobs


def worst(runs: Iterable[RunStatus]) -> int:
    """0 if all are done, 5 if a gate stopped some and none failed, else the first failure's."""
    codes = [1 if each.code is None or each.code < 0 else each.code for each in runs]
    failed = [code for code in codes if code not in (0, 5)]
    return failed[0] if failed else max(codes)


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
            self._last = line.decode("utf-8", errors="replace").removeprefix("bespoke: ")
            yield self._last

    def end(self, code: int) -> None:
        """Take in the process's end; the last line of one that is not done says why."""
        self.code = code
        self.outcome = ENDINGS.get(code, f"failed ({ending(code)})")
        if code and self._last:
            self.outcome += f": {self._last}"


class Schedule:
    """Gives each run a GPU when one is free (None: the CPU), and sees all of them to their ends.

    One thread a run reads what it prints; everything else happens in one, from one queue. No signal
    comes between a process and its keeping: they are looked for once in a round.
    """

    def __init__(
        self, runs: Sequence[RunStatus], gpus: Sequence[str | None], journal: Journal
    ) -> None:
        self._waiting = deque(runs)
        self._free = list(gpus)
        self._running: dict[RunStatus, tuple[Group, str | None]] = {}
        self._journal = journal
        self._signals = 0
        # What a run printed, or its exit code.
        self._inbox: queue.SimpleQueue[tuple[RunStatus, bytes | int]] = queue.SimpleQueue()

    def train(self) -> None:
        """Until every run has ended.

        Raises:
            InterruptedRunError: where a signal ended them.
        """
        with signals_held():
            try:
                while self._running or (self._waiting and not self._signals):
                    while self._waiting and self._free and not self._signals:
                        self._start(self._waiting.popleft(), self._free.pop(0))
                    self._next_of_inbox()
                    self._pass_signals_on()
            finally:
                for group, _ in self._running.values():
                    group.stop()

    def _start(self, run: RunStatus, gpu: str | None) -> None:
        say(f"{run.name}: starts" + ("" if gpu is None else f" on GPU {gpu}"))
        alone = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        group = Group(
            run.command,
            environment={**os.environ, **alone},
            # Folders on the command line are taken from where the person stands.
            cwd=Path.cwd(),
            patience=patience() + LAST_TEST_S,
        )
        self._running[run] = group, gpu
        self._journal.write("run_started", run=run.name, gpu=gpu, pid=group.pid)
        threading.Thread(target=self._follow, args=(run, group), daemon=True).start()

    def _follow(self, run: RunStatus, group: Group) -> None:
        for chunk in group.output():
            self._inbox.put((run, chunk))
        self._inbox.put((run, group.wait()))

    def _next_of_inbox(self) -> None:
        try:
            run, item = self._inbox.get(timeout=TICK_S)
        except queue.Empty:
            return
        if isinstance(item, int):
            self._end(run, item)
        else:
            for text in run.take(item):
                say(f"{run.name}: {text}")

    def _pass_signals_on(self) -> None:
        """With the first signal each run ends when that is safe, with the second its trainer is
        killed, with the third the run is."""
        if signal_count() == self._signals:
            return
        if not self._signals:
            say(f"stopping {len(self._running)} runs; a test that goes on is finished first")
        self._signals = signal_count()
        for group, _ in self._running.values():
            group.signal(signal.SIGTERM if self._signals < 3 else signal.SIGKILL)

    def _end(self, run: RunStatus, code: int) -> None:
        """Take in a run's end; its GPU is free once no process of it or its trainer is left."""
        group, gpu = self._running.pop(run)
        group.stop()
        if code < 0:
            # A run that was killed leaves its trainer to a guard, which takes so long to end it.
            time.sleep(patience() + 1)
        run.end(code)
        self._journal.write("run_ended", run=run.name, exit_code=code)
        say(f"{run.name}: {run.outcome}")
        self._free.append(gpu)


def _label(job: Job) -> str:
    seed = f"_seed_{job.request.seed}"
    return job.experiment.name + (seed if seed in job.name else "")


def _command(job: Job) -> list[str]:
    data = tuple(text for text in job.request.data if subset_and_folder(text)[0] in _subsets(job))
    request = replace(job.request, data=data)
    return [sys.executable, "-m", "bespoke.run", *request.arguments()]


def _subsets(job: Job) -> set[str]:
    return set(job.experiment.by_folder())


def _bytes_to_come(job: Job) -> int:
    """What the run will still write, besides what an earlier start of it left."""
    there = [] if job.request.fresh else checkpoints.left_by(job.output, job.name)
    files = [file for path in there for file in (path, *path.rglob("*")) if file.is_file()]
    return max(0, job.sizes.total - sum(file.stat().st_size for file in files))
