"""The trainer's starts within one run: streamed, watched, gone on with where that can help."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bespoke import checkpoints, hardware, mps, resume, trainer, watch
from bespoke.display import display, say
from bespoke.errors import ConfigError, TrainerError
from bespoke.files import write_whole
from bespoke.journal import now
from bespoke.processes import Group, patience, signals_held
from bespoke.rendering import rewrite
from bespoke.settings import put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from bespoke.job import Job
    from bespoke.judge import Judge
    from bespoke.rendering import Rendered
    from bespoke.resume import Start

# Between two events that tell of progress.
PROGRESS_INTERVAL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one start of the trainer needs; `command` makes its command line from the options."""

    rendered: Rendered
    settings: Mapping[str, Any]
    command: Callable[[Rendered], list[str]]
    cwd: Path
    offline: bool


def train(job: Job, plan: Plan, start: Start, judge: Judge) -> None:
    """Train until all epochs are done, going on after a standstill once, and with `--adapt` after
    each want of memory with the next smaller plan.

    Raises:
        TrainerError: where the trainer fails otherwise, in its own words.
        GateStoppedError: where the hypothesis has failed.
    """
    stalled = False
    while not start.finished:
        try:
            _once(job, plan, start, judge)
            return
        except watch.StalledError as error:
            if stalled:
                raise
            stalled = True
            say(f"{error}: it goes on from its last whole state, this once")
        except trainer.OutOfMemoryError as error:
            plan = _smaller(job, plan, error)
        start = go_on(job, plan.settings)


def go_on(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to go on, with the way there cleared and said.

    Raises:
        ConfigError: where what is there is of other settings.
    """
    # Those that need less memory may be others than the record's.
    free = {*job.refitted, *(resume.ADAPTED if job.request.adapt else ())}
    start = resume.decide(job.output, job.name, job.epochs, settings, free=free)
    if start.finished:
        return start
    for path in resume.clear_way(start, job.output, job.name, now()):
        say(f"not whole, or beyond the newest whole state; kept as {path}")
        job.journal.write("set_aside", file=path)
    before = resume.read_record(job.output, job.name)
    record = resume.Record(
        settings=settings,
        steps_per_epoch=start.steps_per_epoch,
        gate=before.gate if before else job.gate,
    )
    resume.write_record(job.output, job.name, record)
    if start.state is not None:
        say(f"goes on after epoch {start.epoch}, from {start.state.name}")
        job.journal.write("resumed", epoch=start.epoch, state=start.state)
    return start


def _once(job: Job, plan: Plan, start: Start, judge: Judge) -> None:
    command = [*plan.command(plan.rendered), *start.arguments]
    log_file = job.folder / "train.log"
    write_whole(job.folder / "command.txt", shlex.join(command) + "\n")
    say(f"the trainer starts; its every line goes to {log_file}")
    options = {key: setting.value for key, setting in plan.rendered.training.items()}
    planned = watch.sizes(options, len(job.epochs), resume.KEPT_STATES)
    begun = time.monotonic()
    with (
        # Testing and recording an epoch must not be cut: output() is where a signal ends the run.
        signals_held(),
        log_file.open("ab", buffering=0) as log,
        Group(
            command,
            environment=trainer.environment(os.environ, offline=plan.offline),
            cwd=plan.cwd,
            patience=patience(),
            # A Python that meets INT lets go of the GPU in order; one that dies of TERM in mid-step
            # can leave those that share it through MPS in trouble.
            ask=signal.SIGINT if mps.PIPE in os.environ else signal.SIGTERM,
        ) as group,
        display(len(job.epochs), silent=job.request.events) as shown,
    ):
        job.journal.write("launched", pid=group.pid, command=command)
        reader = trainer.Reader(log)
        watching = watch.Watch(job.output, planned)
        notes = _Notes(job, plan, start)
        for event in reader.events(group.output()):
            if isinstance(event, trainer.Progress):
                event = replace(event, step=event.step + notes.behind)
                notes.progress(event)
            shown.show(event)
            watching.take(event)
            judge.take(event)
            if isinstance(event, trainer.EpochStarted):
                if event.epoch - 1 > start.epoch:
                    note_epoch(job, event.epoch - 1, shown.say)
                    judge.epoch(event.epoch - 1, shown.say)
                job.journal.write("epoch_started", epoch=event.epoch, epochs=event.epochs)
            elif isinstance(event, trainer.Stage):
                job.journal.write("stage", name=event.name)
        code = group.wait()
    job.journal.write("ended", exit_code=code, seconds=round(time.monotonic() - begun, 1))
    if code != 0:
        raise trainer.failure(code, reader.tail, log_file)


class _Notes:
    """What is kept of the trainer's progress while it runs."""

    def __init__(self, job: Job, plan: Plan, start: Start) -> None:
        self._job, self._plan = job, plan
        self._steps_known = start.steps_per_epoch is not None
        # The trainer counts a resumed run's steps from 0 again (tn:1357).
        self.behind = start.epoch * (start.steps_per_epoch or 0)
        self._told = -math.inf

    def progress(self, at: trainer.Progress) -> None:
        """Take in one reading, its steps counted from the run's first."""
        if not self._steps_known:
            # A later resume needs the steps an epoch: kept as soon as the trainer says them.
            self._steps_known = True
            job, settings = self._job, self._plan.settings
            steps = at.total // int(job.experiment.option("max_train_epochs"))
            record = resume.Record(settings=settings, steps_per_epoch=steps, gate=job.gate)
            resume.write_record(job.output, job.name, record)
        if at.step == self.behind + 1:
            self._job.journal.write("stage", name="first step")
        due = time.monotonic() > self._told + PROGRESS_INTERVAL_S or at.step == at.total
        if due and at.loss is not None:
            self._told = time.monotonic()
            self._job.journal.write("progress", **asdict(at))


def note_epoch(job: Job, epoch: int, tell: Callable[[str], None]) -> None:
    """Say that an epoch's checkpoint is whole, or what is wrong with it, while it can help."""
    if epoch not in job.epochs:
        return
    path = checkpoints.checkpoint_path(job.output, job.name, epoch)
    try:
        checkpoint = checkpoints.read_checkpoint(path)
    except TrainerError as error:
        tell(f"epoch {epoch}: {error}")
        return
    pruned = resume.prune(job.output, job.name, epoch)
    job.journal.write("checkpoint", epoch=epoch, file=path, size=checkpoint.size, pruned=pruned)
    tell(f"epoch {epoch}: {path.name}")


def as_adapted(job: Job, rendered: Rendered) -> Rendered:
    """With `--adapt`, the plan that an earlier start of this run came down to."""
    record = resume.read_record(job.output, job.name)
    if record is None or not job.request.adapt or job.request.fresh:
        return rendered
    known = {key: record.settings.get(f"training.{key}") for key in resume.ADAPTED}
    changes = {key: value for key, value in known.items() if value is not None}
    return _rewritten(job, rendered, changes, "as an earlier start came down to it")


def _rewritten(job: Job, rendered: Rendered, changes: Mapping[str, Any], why: str) -> Rendered:
    training = dict(rendered.training)
    for key, value in changes.items():
        put(training, key, value, "--adapt", why)
    return rewrite(replace(rendered, training=training), job.experiment)


def _smaller(job: Job, plan: Plan, error: trainer.OutOfMemoryError) -> Plan:
    """The next smaller plan, rendered and recorded.

    Raises:
        TrainerError: where nothing smaller would do, or `--adapt` is not given.
    """
    options = {key: setting.value for key, setting in plan.rendered.training.items()}
    changes = hardware.smaller(options)
    words = ", ".join(f"training.{key}={str(value).lower()}" for key, value in changes.items())
    if not changes:
        raise TrainerError(f"{error}\nno smaller plan keeps the effective batch: rent more memory")
    if not job.request.adapt:
        raise TrainerError(f"{error}\nthese would need less: {words}; --adapt goes on with them")
    say(f"out of memory: goes on with {words}")
    job.journal.write("adapted", changes=changes, error=str(error))
    why = "less memory, the same effective batch"
    rendered = _rewritten(job, plan.rendered, changes, why)
    settings = {**plan.settings, **{f"training.{key}": value for key, value in changes.items()}}
    if resume.read_record(job.output, job.name) is None:
        raise ConfigError(f"{job.output}: the run's record is gone: --fresh starts anew")
    return replace(plan, rendered=rendered, settings=settings)
