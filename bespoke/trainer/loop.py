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
from bespoke.experiment.settings import put
from bespoke.files import write_whole
from bespoke.trainer import checkpoints, hardware, launch, monitor, resume
from bespoke.trainer.journal import now
from bespoke.trainer.process import Group, patience, signals_held
from bespoke.trainer.progress import Display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
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
    cwd: Path
    offline: bool


class Evaluator(Protocol):
    """What is told of a run as it goes on; `evaluation.evaluator` tests, scores and decides."""

    def take(self, event: launch.Event | None) -> None:
        """One event of the trainer, or a moment without any."""

    def lacks_pictures(self, epoch: int) -> bool:
        """Whether the resumed epoch's pictures are still to be drawn."""

    def adopt_first(self, epoch: int, since: int) -> None:
        """The resumed epoch's pictures are drawn, none before `since` (ns of the files' clock)."""

    def epoch(self, epoch: int, tell: Callable[[str], None]) -> None:
        """An epoch has ended.

        Raises:
            GateStoppedError: where the run is not to go on.
        """


def train(job: Job, plan: Plan, start: Start, evaluator: Evaluator) -> None:
    """Train until all epochs are done, resuming once after a standstill, once where the number of
    steps was wrong, and after each want of memory with the next smaller plan.

    Raises:
        TrainerError: where the trainer fails otherwise, in its own words.
        GateStoppedError: where the hypothesis has failed.
    """
    resumed_after: set[type[TrainerError]] = set()
    while not start.finished:
        try:
            _once(job, plan, start, evaluator)
            return
        except (monitor.StalledError, StepsError) as error:
            if type(error) in resumed_after:
                raise
            resumed_after.add(type(error))
            say(f"{error}; resuming once from the last complete state")
        except launch.OutOfMemoryError as error:
            plan = _smaller(job, plan, error)
        start = go_on(job, plan.settings)


def go_on(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to resume, with the way there cleared and said.

    Raises:
        ConfigError: where what is there is of other settings.
    """
    # Those that need less memory may be others than the record's.
    adapted = set(resume.ADAPTED) - job.experiment.pinned if job.adapts else set()
    start = resume.decide(
        job.output, job.name, job.epochs, settings, free={*job.refitted, *adapted}
    )
    for line in resume.altered(job.output, job.name):
        say(f"warning: {line}")
    if start.finished:
        # A start may have been killed just before it was numbered.
        checkpoints.number_last(job.output, job.name, job.epochs[-1])
        return start
    for path in resume.clear_way(start, job.output, job.name, now()):
        say(f"moved incomplete files to {path}")
        job.journal.write("set_aside", file=path)
    before = resume.read_record(job.output, job.name)
    record = before or resume.RunFile(settings=settings, gate=job.gate)
    steps = start.steps_per_epoch
    record = replace(record, settings=settings, steps_per_epoch=steps, completed=False)
    resume.write_record(job.output, job.name, record)
    resume.keep_hashes(job.output, job.name, start.epoch)
    if start.state is not None:
        say(f"resuming after epoch {start.epoch}, from {start.state.name}")
        job.journal.write("resumed", epoch=start.epoch, state=start.state)
    return start


def _once(job: Job, plan: Plan, start: Start, evaluator: Evaluator) -> None:
    command = [*plan.command(plan.rendered), *start.arguments]
    draws = start.state is not None and evaluator.lacks_pictures(start.epoch)
    if draws:
        command.append("--sample_at_first")
    log_file = job.folder / "train.log"
    write_whole(job.folder / "command.txt", shlex.join(command) + "\n")
    launched = (job.folder / "command.txt").stat().st_mtime_ns
    say(f"the trainer starts; full log: {log_file}")
    options = {key: setting.value for key, setting in plan.rendered.training.items()}
    planned = monitor.sizes(options, len(job.epochs), resume.KEPT_STATES)
    begun = time.monotonic()
    with (
        # Testing and recording an epoch must not be cut: output() is where a signal ends the run.
        signals_held(),
        log_file.open("ab", buffering=0) as log,
        Group(
            command,
            environment=launch.environment(os.environ, offline=plan.offline),
            cwd=plan.cwd,
            patience=patience(),
        ) as group,
        Display(len(job.epochs)) as shown,
    ):
        job.journal.write("launched", pid=group.pid, command=command)
        reader = launch.Reader(log)
        watching = monitor.Watch(job.output, None if job.request.rehearse else planned)
        notes = _Notes(job, plan, start)
        for event in reader.events(group.output()):
            if isinstance(event, launch.Progress):
                event = replace(event, step=event.step + notes.behind)
                notes.progress(event)
            shown.show(event)
            watching.take(event)
            evaluator.take(event)
            if isinstance(event, launch.EpochStarted):
                ended = event.epoch - 1
                if draws and ended == start.epoch:
                    evaluator.adopt_first(ended, since=launched)
                    evaluator.epoch(ended, shown.say)
                if ended > start.epoch:
                    note_epoch(job, ended, shown.say)
                    evaluator.epoch(ended, shown.say)
                job.journal.write("epoch_started", epoch=event.epoch, epochs=event.epochs)
            elif isinstance(event, launch.Stage):
                job.journal.write("stage", name=event.name)
        code = group.wait()
    job.journal.write("ended", exit_code=code, seconds=round(time.monotonic() - begun, 1))
    if code != 0:
        raise launch.failure(code, reader.tail, log_file)


class StepsError(TrainerError):
    """The run's file and the trainer disagree on an epoch's steps: it resumed at a wrong epoch."""


class _Notes:
    """What is kept of the trainer's progress while it runs."""

    def __init__(self, job: Job, plan: Plan, start: Start) -> None:
        self._job, self._plan, self._start = job, plan, start
        self._steps_known = False
        # The trainer counts a resumed run's steps from 0 again (tn:1357).
        self.behind = start.epoch * (start.steps_per_epoch or 0)
        self._due = -math.inf

    def progress(self, at: launch.Progress) -> None:
        """Take in one reading, its steps counted from the run's first.

        Raises:
            StepsError: where the run's file said other steps than the trainer.
        """
        if not self._steps_known:
            self._steps_known = True
            self._keep_steps(at.total // int(self._job.experiment.option("max_train_epochs")))
        if at.step == self.behind + 1:
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
        record = resume.read_record(self._job.output, self._job.name)
        record = record or resume.RunFile(settings=self._plan.settings, gate=self._job.gate)
        record = replace(record, steps_per_epoch=steps)
        resume.write_record(self._job.output, self._job.name, record)
        if self._start.state is not None:
            name = resume.record_path(self._job.output, self._job.name).name
            raise StepsError(f"{name}: said {known} steps an epoch, the trainer says {steps}")


def note_epoch(job: Job, epoch: int, tell: Callable[[str], None]) -> None:
    """Say that an epoch's checkpoint is complete, or what is wrong with it, while it can help."""
    if epoch not in job.epochs:
        return
    path = checkpoints.checkpoint_path(job.output, job.name, epoch)
    try:
        checkpoint = checkpoints.read_checkpoint(path)
    except TrainerError as error:
        tell(f"epoch {epoch}: {error}")
        return
    scaled = job.experiment.option("mixed_precision") == "fp16"
    pruned = resume.prune(job.output, job.name, epoch, scaled=scaled)
    resume.keep_hashes(job.output, job.name, epoch)
    job.journal.write("checkpoint", epoch=epoch, file=path, size=checkpoint.size, pruned=pruned)
    tell(f"epoch {epoch}: {path.name}")


def _smaller(job: Job, plan: Plan, error: launch.OutOfMemoryError) -> Plan:
    """The next smaller plan, rendered and recorded.

    Raises:
        TrainerError: where nothing smaller would do, or a person wrote what would have to change.
    """
    options = {key: setting.value for key, setting in plan.rendered.training.items()}
    pinned = job.experiment.pinned if job.adapts else frozenset(resume.ADAPTED)
    changes = hardware.smaller(options, pinned)
    if not changes:
        needed = _words(hardware.smaller(options))
        raise TrainerError(
            f"{error}\nless memory would do with {needed}: the experiment, --set or --plan keeps "
            "them as they are"
            if needed
            else f"{error}\nno smaller plan keeps the effective batch: rent a GPU with more memory"
        )
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
