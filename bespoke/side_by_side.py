"""Several runs at once, each in a process of its own, all of them in one display.

Each is a `python -m bespoke.run`, so that its checks, folder, log, lock, gate and record are those
of any run; here is only who goes where, and when. One process a GPU, and never several GPUs for one
run: every rank would draw the same noise (facts, seen in the trainer).
"""

from __future__ import annotations

import functools
import os
import queue
import signal
import sys
import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import checkpoints, config, hardware, mps, plan, resume, watch
from bespoke.display import say
from bespoke.errors import ConfigError
from bespoke.job import Job
from bespoke.places import crowding, places
from bespoke.preflight import subset_and_folder
from bespoke.processes import Group, emptied, patience, signals_held
from bespoke.run import REPOSITORY, fitted, opened
from bespoke.settings import effective
from bespoke.signals import signal_count
from bespoke.standing import Board, Standing
from bespoke.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bespoke.hardware import Machine
    from bespoke.job import Request
    from bespoke.journal import Journal
    from bespoke.places import Place

TICK_S = 0.5
# A run whose parent is gone has this much more than it leaves its trainer, for what it is testing.
CLEAN_UP_S = 300.0
# A rehearsal uses nothing up: as many as on a GPU.
REHEARSED_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Several:
    """What a person asked for.

    `request` is what the runs share and `passed_on` the same as it was written; without `seeds`
    each experiment has its own.
    """

    request: Request
    experiments: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    with_parent: bool = False
    at_once: int | None = None
    passed_on: tuple[str, ...] = ()


def train(several: Several, journal: Journal) -> int:
    """Train all that was asked for and say how each ended; returns the exit code for all of them.

    Raises:
        ConfigError: where it cannot be started as it was asked for.
        InterruptedRunError: once every run is stopped.
    """
    request = several.request
    if request.dry_run:
        raise ConfigError("--dry-run shows one run: name one --experiment, with --seed if need be")
    jobs = asked_for(several, journal)
    place = jobs[0].workspace
    folder = journal.open(place / "logs", "side_by_side")
    journal.write("started", arguments=sys.argv[1:], runs=[job.name for job in jobs])
    machine = hardware.machine(place)
    usual = REHEARSED_AT_ONCE if request.rehearse and not machine.gpus else None
    needed = functools.partial(_needed_mib, jobs)
    at_once = several.at_once or usual
    chosen = places(machine, needed, runs=len(jobs), at_once=at_once, mps=mps.at_hand())
    shares = [f"{count} on {where}" for where, count in Counter(map(str, chosen)).items()]
    say(f"{len(jobs)} runs, at once: {', '.join(shares)}")
    for warning in [] if request.rehearse else crowding(chosen, machine, needed):
        say(f"warning: {warning}")
    say(watch.require_room_for_all([_to_come(job) for job in jobs], place))
    standings = [Standing(_label(job), _command(job, several.passed_on)) for job in jobs]
    try:
        with mps.through(chosen, _shared(chosen, machine), folder / "mps") as reached:
            Schedule(standings, reached, journal).train()
    finally:
        for each in standings:
            say(f"{each.name}: {each.told}")
        journal.write("finished", codes={each.name: each.code for each in standings})
    return worst(standings)


def asked_for(several: Several, journal: Journal) -> list[Job]:
    """Each run that was asked for, by seed and then by experiment, a parent after its children.

    Raises:
        ConfigError: where one is not there, or two would write the same files.
    """
    names = list(several.experiments)
    for name in several.experiments if several.with_parent else ():
        parent = config.load(name, repository=REPOSITORY).parent
        if parent is None:
            raise ConfigError(f"experiments/{name}.toml: it has no parent: leave --with-parent out")
        if parent not in names:
            names.append(parent)
    jobs = []
    for seed in several.seeds or (several.request.seed,):
        for name in names:
            request = replace(several.request, experiment=name, seed=seed)
            named, place = opened(request)
            jobs.append(
                Job(
                    request=request,
                    experiment=named,
                    journal=journal,
                    workspace=place,
                    folder=place,
                )
            )
    # A parent may lack a subset of its child's; one that no run has is a mistake.
    wanted = set().union(*map(_subsets, jobs))
    for text in several.request.data:
        name, _ = subset_and_folder(text)
        if name not in wanted:
            raise ConfigError(f"--data {name}=…: {did_you_mean(name, wanted)}")
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            who = ", ".join(_label(job) for job in jobs if job.name == name)
            raise ConfigError(
                f"{who}: {count} of the runs asked for would write {name}: ask for each once, and "
                "give each experiment an output_name of its own"
            )
    return jobs


def worst(standings: Iterable[Standing]) -> int:
    """0 if all are done, 5 if a gate stopped some and none failed, else the first failure's."""
    codes = [1 if each.code is None or each.code < 0 else each.code for each in standings]
    failed = [code for code in codes if code not in (0, 5)]
    return failed[0] if failed else max(codes)


class Schedule:
    """Gives each run a place when one is free, and sees all of them to their ends.

    One thread a run reads what it prints; everything else happens in one, from one queue, signals
    included: none of them can come between a process and its keeping.
    """

    def __init__(
        self, standings: Sequence[Standing], chosen: Sequence[Place], journal: Journal
    ) -> None:
        self._standings = standings
        self._waiting = deque(standings)
        self._free = list(chosen)
        self._running: dict[Standing, Group] = {}
        self._journal = journal
        self._signals = 0
        self._patience = patience() + CLEAN_UP_S
        # What a run printed, or its exit code.
        self._inbox: queue.SimpleQueue[tuple[Standing, bytes | int]] = queue.SimpleQueue()

    def train(self) -> None:
        """Until every run has ended.

        Raises:
            InterruptedRunError: where a signal ended them.
        """
        with signals_held(), Board(self._standings) as board:
            try:
                while self._running or (self._waiting and not self._signals):
                    while self._waiting and self._free and not self._signals:
                        self._start(self._waiting.popleft(), self._free.pop(0))
                    self._next_of_inbox()
                    self._pass_signals_on()
                    board.refresh()
            finally:
                for group in self._running.values():
                    group.stop()

    def _start(self, run: Standing, place: Place) -> None:
        run.place, run.state = place, "starting"
        say(f"{run.name}: starts on {place}")
        group = Group(
            run.command,
            environment=place.environment(os.environ),
            # Folders on the command line are taken from where the person stands.
            cwd=Path.cwd(),
            patience=self._patience,
        )
        self._running[run] = group
        self._journal.write("run_started", run=run.name, place=str(place), pid=group.pid)
        threading.Thread(target=self._follow, args=(run, group), daemon=True).start()

    def _follow(self, run: Standing, group: Group) -> None:
        for chunk in group.output():
            self._inbox.put((run, chunk))
        self._inbox.put((run, group.wait()))

    def _next_of_inbox(self) -> None:
        try:
            run, what = self._inbox.get(timeout=TICK_S)
        except queue.Empty:
            pass
        else:
            if isinstance(what, int):
                self._end(run, what)
            else:
                for text in run.take(what):
                    say(f"{run.name}: {text}")

    def _pass_signals_on(self) -> None:
        """Told once, each run ends when that is safe; a second time, its trainer is killed; a third
        time, the run is."""
        if signal_count() == self._signals:
            return
        if not self._signals:
            say(f"stopping {len(self._running)} runs; each ends what must not be cut first")
            for run in self._waiting:
                run.state = "not started"
        self._signals = signal_count()
        for group in self._running.values():
            group.signal(signal.SIGTERM if self._signals < 3 else signal.SIGKILL)

    def _end(self, run: Standing, code: int) -> None:
        """Take in a run's end; its place is free once no process of it or its trainer is left."""
        group = self._running[run]
        group.stop()
        for pgid in run.trainers:
            # Already so, unless the run was killed: its trainer's guard then needs this long.
            if not emptied(pgid, within=self._patience):
                say(f"{run.name}: warning: its trainer's process group {pgid} is still there")
        del self._running[run]
        run.end(code)
        self._journal.write("run_ended", run=run.name, exit_code=code)
        say(f"{run.name}: {run.told}")
        if run.place is not None:
            self._free.append(run.place)
            self._free.sort(key=lambda place: place.number)


def _label(job: Job) -> str:
    seed = f"_seed_{job.request.seed}"
    return job.experiment.name + (seed if job.name.endswith(seed) else "")


def _command(job: Job, passed_on: Sequence[str]) -> list[str]:
    seed = () if job.request.seed is None else ("--seed", str(job.request.seed))
    run = (sys.executable, "-m", "bespoke.run", "--experiment", job.request.experiment)
    data = [text for text in job.request.data if subset_and_folder(text)[0] in _subsets(job)]
    named = [word for text in data for word in ("--data", text)]
    return [*run, *seed, *named, "--events", *passed_on]


def _subsets(job: Job) -> set[str]:
    return {str(options["image_dir"]) for options in effective(job.experiment)}


def _to_come(job: Job) -> int:
    """Bytes that the run will still write, besides what an earlier start of it left."""
    options = {key: setting.value for key, setting in job.experiment.training.items()}
    planned = watch.sizes(options, len(job.epochs), resume.KEPT_STATES).total
    there = [] if job.request.fresh else checkpoints.left_by(job.output, job.name)
    files = [file for path in there for file in (path, *path.rglob("*")) if file.is_file()]
    return max(0, planned - sum(file.stat().st_size for file in files))


def _shared(chosen: Sequence[Place], machine: Machine) -> dict[str, str]:
    """The UUIDs, by number, of the GPUs that several runs share."""
    count = Counter(place.gpu for place in chosen)
    uuids = {str(gpu.number): gpu.uuid for gpu in machine.gpus}
    return {number: uuid for number, uuid in uuids.items() if count[number] > 1}


def _needed_mib(jobs: Sequence[Job], machine: Machine) -> int | None:
    """The most that one of the runs takes of a GPU's memory as it will be planned there.

    None where that was not measured for one of them.
    """
    planned = [plan.apply(fitted(job, machine), job.experiment) for job in jobs]
    found = [plan.needed_mib(experiment) for experiment in planned]
    known = [mib for mib in found if mib is not None]
    return max(known) if len(known) == len(jobs) else None
