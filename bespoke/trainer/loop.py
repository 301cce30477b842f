"""The trainer's starts within one run: streamed, watched, resumed where that can help."""

from __future__ import annotations

import math
import os
import shlex
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

from bespoke.console import say
from bespoke.errors import TrainerError
from bespoke.experiment.rendering import rewrite
from bespoke.experiment.trainer_options import put
from bespoke.files import REPOSITORY, write_whole
from bespoke.trainer import checkpoints, failures, hardware, launch, monitor, resume, trainer_log
from bespoke.trainer.process import Group, patience, signals_held
from bespoke.trainer.progress import Display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job
    from bespoke.trainer.resume import Start

# Between two events that tell of progress.
PROGRESS_INTERVAL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one start of the trainer needs; `command` makes its command line from the options."""

    rendered: Rendered
    settings: Mapping[str, Any]
    command: Callable[[Rendered], list[str]]


class Evaluator(Protocol):
    """What is told of a run as it goes on; `evaluation.evaluator` tests, scores and decides."""

    def take(self, event: trainer_log.Event | None) -> None: ...
    def lacks_pictures(self, epoch: int) -> bool: ...
    def adopt_first(self, epoch: int, since: int) -> None: ...
    def epoch(self, epoch: int, tell: Callable[[str], None]) -> None: ...


class StepsError(TrainerError):
    """The run's file and the trainer disagree on an epoch's steps: it resumed at a wrong epoch."""


def train(job: Job, plan: Plan, start: Start, evaluator: Evaluator) -> None:
    """Train until all epochs are done, resuming once after a standstill, once where the number of
    steps was wrong, and after each want of memory with the next smaller plan.
    """
    resumed_after: set[type[TrainerError]] = set()
    while not start.finished:
        try:
            _Training(job, plan, start, evaluator).run()
            return
        except (monitor.StalledError, StepsError) as error:
            if type(error) in resumed_after:
                raise
            resumed_after.add(type(error))
            say(f"{error}; resuming once from the last complete state")
        except failures.OutOfMemoryError as error:
            plan = _smaller(job, plan, error)
        start = prepare(job, plan.settings)


def prepare(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to resume, with the way there cleared and said."""
    free = set(resume.ADAPTED) - job.experiment.pinned if job.adapts else set()
    start = resume.decide(job.output, job.name, job.epochs, settings, free=free)
    for line in resume.altered(job.output, job.name):
        say(f"warning: {line}")
    if start.finished:
        # A start may have been killed just before it was numbered.
        checkpoints.number_last(job.output, job.name, job.epochs[-1])
        return start
    if files := resume.beyond(start, job.output, job.name):
        aside = checkpoints.set_aside(files, job.output, "incomplete", job.name)
        say(f"moved incomplete files to {aside}")
        job.journal.write("set_aside", folder=aside, files=[path.name for path in files])
    if resume.read_record(job.output, job.name) is None:
        resume.write_record(job.output, job.name, resume.RunFile(settings=settings))
    facts = {"settings": settings, "steps_per_epoch": start.steps_per_epoch, "completed": False}
    resume.update(job.output, job.name, **facts)
    resume.keep_hashes(job.output, job.name, start.epoch)
    if start.state is not None:
        say(f"resuming after epoch {start.epoch}, from {start.state.name}")
        job.journal.write("resumed", epoch=start.epoch, state=start.state)
    return start


class _Training:
    """One start of the trainer, to its end."""

    def __init__(self, job: Job, plan: Plan, start: Start, evaluator: Evaluator) -> None:
        self._job, self._plan, self._start, self._evaluator = job, plan, start, evaluator
        # The trainer counts a resumed run's steps from 0 again (tn:1357).
        self._behind = start.epoch * (start.steps_per_epoch or 0)
        self._steps_known = False
        self._due = -math.inf
        self._draws = start.state is not None and evaluator.lacks_pictures(start.epoch)
        self._launched_ns = 0

    def run(self) -> None:
        job = self._job
        command = [*self._plan.command(self._plan.rendered), *self._start.arguments]
        command += ["--sample_at_first"] if self._draws else []
        write_whole(job.folder / "command.txt", shlex.join(command) + "\n")
        self._launched_ns = (job.folder / "command.txt").stat().st_mtime_ns
        log_file = job.folder / "train.log"
        say(f"the trainer starts; full log: {log_file}")
        began = time.monotonic()
        with (
            # Testing and recording an epoch must not be cut: in output() a signal ends the run.
            signals_held(),
            log_file.open("ab", buffering=0) as log,
            Group(
                command,
                environment=launch.environment(os.environ),
                cwd=REPOSITORY,
                patience=patience(),
            ) as group,
            Display(len(job.epochs)) as shown,
        ):
            job.journal.write("launched", pid=group.pid, command=command)
            reader = trainer_log.Reader(log)
            # A rehearsal's files are small.
            needed = monitor.LOGS if job.request.rehearse else job.sizes.epoch
            watching = monitor.Watch(job.output, needed)
            for event in reader.events(group.output()):
                self._take(event, shown, watching)
            code = group.wait()
        job.journal.write("ended", exit_code=code, seconds=round(time.monotonic() - began, 1))
        if code != 0:
            raise failures.failure(code, reader.tail, log_file)

    def _take(
        self, event: trainer_log.Event | None, shown: Display, watching: monitor.Watch
    ) -> None:
        if isinstance(event, trainer_log.Progress):
            event = replace(event, step=event.step + self._behind)
            self._note_progress(event)
        shown.show(event)
        watching.take(event)
        self._evaluator.take(event)
        if isinstance(event, trainer_log.EpochStarted):
            self._end_epoch(event.epoch - 1)
            self._job.journal.write("epoch_started", epoch=event.epoch, epochs=event.epochs)
        elif isinstance(event, trainer_log.Stage):
            self._job.journal.write("stage", name=event.name)

    def _end_epoch(self, epoch: int) -> None:
        if self._draws and epoch == self._start.epoch:
            self._evaluator.adopt_first(epoch, since=self._launched_ns)
            self._evaluator.epoch(epoch, say)
        elif epoch > self._start.epoch:
            note_epoch(self._job, epoch)
            self._evaluator.epoch(epoch, say)

    def _note_progress(self, at: trainer_log.Progress) -> None:
        if not self._steps_known:
            self._steps_known = True
            self._keep_steps(at.total // int(self._job.experiment.option("max_train_epochs")))
        if at.step == self._behind + 1:
            self._job.journal.write("stage", name="first step")
        due = time.monotonic() > self._due or at.step == at.total
        if due and at.loss is not None:
            self._due = time.monotonic() + PROGRESS_INTERVAL_S
            self._job.journal.write("progress", **asdict(at))

    def _keep_steps(self, steps: int) -> None:
        """Keep an epoch's steps, which a resume needs, as soon as the trainer says them.

        The trainer's own number is believed: bespoke's own takes all pictures for one bucket.
        """
        known = self._start.steps_per_epoch
        if steps == known:
            return
        resume.update(self._job.output, self._job.name, steps_per_epoch=steps)
        if self._start.state is not None:
            name = resume.record_path(self._job.output, self._job.name).name
            raise StepsError(f"{name}: said {known} steps an epoch, the trainer says {steps}")


def note_epoch(job: Job, epoch: int) -> None:
    """Say that an epoch's checkpoint is complete, or what is wrong with it, while it can help."""
    if epoch not in job.epochs:
        return
    path = checkpoints.checkpoint_path(job.output, job.name, epoch)
    try:
        checkpoints.read_epoch(path)
    except TrainerError as error:
        say(f"epoch {epoch}: {error}")
        return
    scaled = job.experiment.option("mixed_precision") == "fp16"
    pruned = resume.prune(job.output, job.name, epoch, scaled=scaled)
    resume.keep_hashes(job.output, job.name, epoch)
    size = path.stat().st_size
    job.journal.write("checkpoint", epoch=epoch, file=path, size=size, pruned=pruned)
    say(f"epoch {epoch}: {path.name}")


def _smaller(job: Job, plan: Plan, error: failures.OutOfMemoryError) -> Plan:
    """The next smaller plan, rendered and recorded; the error where there is none."""
    options = {key: setting.value for key, setting in plan.rendered.training.items()}
    pinned = job.experiment.pinned if job.adapts else frozenset(resume.ADAPTED)
    changes = hardware.smaller(options, pinned)
    if not changes:
        needed = _words(hardware.smaller(options)) or "a GPU with more memory"
        raise TrainerError(f"{error}\nno smaller plan is allowed here; it would take {needed}")
    say(f"out of memory: resuming with {_words(changes)}")
    job.journal.write("adapted", changes=changes, error=str(error))
    training = dict(plan.rendered.training)
    for key, value in changes.items():
        put(training, key, value, "memory", "less memory, the same effective batch")
    rendered = rewrite(replace(plan.rendered, training=training), job.experiment)
    settings = {**plan.settings, **{f"training.{key}": value for key, value in changes.items()}}
    return replace(plan, rendered=rendered, settings=settings)


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"training.{key}={str(value).lower()}" for key, value in changes.items())
