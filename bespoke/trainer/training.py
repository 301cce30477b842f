"""One run, step by step: opened, checked, rendered, begun or resumed, trained, verified."""

from __future__ import annotations

import functools
import math
import os
import shlex
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Protocol

from bespoke.console import say
from bespoke.dataset import preflight
from bespoke.errors import ConfigError, TrainerError
from bespoke.experiment import config, rendering
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.trainer_options import put
from bespoke.files import REPOSITORY, document_path, workspace, write_whole
from bespoke.signals import signals_held
from bespoke.trainer import checkpoints, hardware, progress, resume, sd_scripts, trainer_log
from bespoke.trainer.child_process import Group, patience
from bespoke.trainer.job import Job, Journal, now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from bespoke.experiment.rendering import Rendered
    from bespoke.request import Request
    from bespoke.trainer.resume import Start


def open_job(request: Request, journal: Journal) -> Job:
    """The one run of a request, under the names that this start gives it."""
    loaded = config.load(request.experiment, repository=REPOSITORY, overrides=request.overrides)
    experiment = loaded.with_seed(request.seed)
    place = workspace(request.workspace)
    if request.rehearse:
        place = workspace(place / "rehearsal")
        experiment = experiment.renamed(prefix="REHEARSAL_")
    job = Job(
        request=request, experiment=experiment, workspace=place, folder=place, journal=journal
    )
    before = None if request.fresh or request.rehearse else resume.read_record(job.output, job.name)
    if before is None or not checkpoints.left_by(job.output, job.name):
        return job
    levels = {"training": experiment.training, "dataset": experiment.general}
    is_another = any(
        setting.origin == "--set" and before.settings.get(f"{section}.{key}") != setting.value
        for section, settings in levels.items()
        for key, setting in settings.items()
        if key not in resume.PLACES
    )
    # One that was made with other values is left alone.
    return replace(job, experiment=experiment.named_by_overrides()) if is_another else job


def check(job: Job) -> preflight.Preflight:
    """The pictures' folders, once nothing found before the start speaks against them."""
    experiment, request = job.experiment, job.request
    # A rehearsal, and what tries the machine, leaves the real pictures alone without --data.
    draws = request.rehearse or experiment.drawn_pictures
    roots = (job.workspace,) if request.rehearse else (REPOSITORY, job.workspace)
    report = preflight.check(
        experiment,
        data=request.data,
        parent_data=request.parent_data,
        seed=request.seed,
        allow_no_op=request.allow_no_op,
        roots=() if experiment.drawn_pictures else roots,
        draw=functools.partial(_draw, job) if draws else None,
    )
    for line in report.report(notes=False):
        say(line)
    job.journal.write("checked", data=report.data, verdict=report.verdict, counts=report.counts)
    write_whole(job.folder / "preflight.json", report.as_json())
    if (refusal := report.refusal(strict=request.strict)) is not None:
        raise refusal
    return report


def _draw(job: Job, name: str) -> Path:
    from bespoke.rehearsal import drawing

    spec = job.experiment.specs.get(name, DatasetSpec())
    count = job.experiment.drawn_pictures or spec.pictures or spec.pictures_min or 1
    return drawing.collection(name, count, job.workspace)


def render(
    job: Job, data: dict[str, Path], model: str, tokenizer: Path | None, commits: dict[str, Any]
) -> Rendered:
    """The two files that the trainer reads, and the receipt, in the run's folder."""
    prompts = job.folder / "prompts.json"
    places = rendering.Places(
        workspace=job.workspace,
        run=job.folder,
        data=data,
        base_model=model,
        tokenizer=tokenizer,
        prompts=prompts if prompts.exists() else None,
    )
    started = now().isoformat(timespec="seconds")
    facts = {"started": started, **commits, "captured_step": job.captures}
    rendered = rendering.render(job.experiment, places, facts)
    job.journal.write("rendered", receipt=rendered.receipt_file)
    return rendered


def begin(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to start, with an earlier run moved away for --fresh, or after a whole rehearsal."""
    request, start = job.request, None
    with signals_held():
        try:
            start = None if request.fresh else resume.prepare(job, settings)
        except ConfigError as error:
            if not request.rehearse:
                raise
            say(f"{error}\nso this rehearsal starts again")
        if start is None or (start.completed and request.rehearse):
            files = [each(job.output, job.name) for each in (document_path, resume.record_path)]
            resume.set_aside(job, checkpoints.left_by(job.output, job.name) + files, "earlier")
            start = resume.prepare(job, settings)
    if not start.finished and not request.rehearse:
        say(progress.require_room(job.sizes[1], job.output))
    return start


class Evaluator(Protocol):
    """What is told of a run as it goes on; `evaluation.evaluator` tests, scores and decides."""

    def lacks_pictures(self, epoch: int) -> bool: ...
    def epoch(self, epoch: int) -> None: ...


def train(
    job: Job,
    command: Callable[[Rendered], list[str]],
    rendered: Rendered,
    settings: Mapping[str, Any],
    start: Start,
    evaluator: Evaluator,
) -> None:
    """Train until all epochs are done, resuming where that can help."""
    restarted = False
    while not start.finished:
        try:
            _Training(job, start, evaluator).run(command(rendered))
            return
        except progress.RestartError as error:
            if restarted:
                raise
            restarted = True
            say(f"{error}; resuming once from the last complete state")
            job.tell(f"{error}; resuming once from the last complete state")
        except trainer_log.OutOfMemoryError as error:
            rendered, changes = _with_less_memory(job, rendered, error)
            settings = {**settings, **changes}
        start = resume.prepare(job, settings)


class _Training:
    """One start of the trainer, to its end."""

    def __init__(self, job: Job, start: Start, evaluator: Evaluator) -> None:
        self._job, self._start, self._evaluator = job, start, evaluator
        self._steps = start.steps_per_epoch
        # The trainer counts a resumed run's steps from 0 again (tn:1357).
        self._behind = start.epoch * (start.steps_per_epoch or 0)
        self._due = -math.inf
        self._draws = evaluator.lacks_pictures(start.epoch)

    def run(self, command: list[str]) -> None:
        job, start = self._job, self._start
        if start.state is not None:
            command += ["--resume", str(start.state), "--initial_step", str(self._behind)]
        command += ["--sample_at_first"] if self._draws else []
        write_whole(job.folder / "command.txt", shlex.join(command) + "\n")
        log_file = job.folder / "train.log"
        say(f"the trainer starts; full log: {log_file}")
        began = time.monotonic()
        environment = sd_scripts.environment(os.environ)
        with (
            # Testing and recording an epoch must not be cut: in output() a signal ends the run.
            signals_held(),
            log_file.open("ab", buffering=0) as log,
            Group(command, environment=environment, cwd=REPOSITORY, patience=patience()) as group,
            progress.Display(len(job.epochs)) as shown,
        ):
            job.journal.write("launched", epoch=start.epoch, pid=group.pid, command=command)
            reader = trainer_log.Reader(log)
            watch = progress.Watch(job.output, job.sizes[0])
            for event in reader.events(group.output()):
                if isinstance(event, trainer_log.Progress):
                    event = replace(event, step=event.step + self._behind)
                for each in (shown.show, watch.take, self._take):
                    each(event)
            code = group.wait()
        job.journal.write("ended", exit_code=code, seconds=round(time.monotonic() - began, 1))
        if code != 0:
            raise trainer_log.failure(code, reader.tail, log_file)

    def _take(self, event: trainer_log.Event | None) -> None:
        if isinstance(event, trainer_log.Progress):
            self._keep_steps(event.total // self._job.epochs[-1])
            due = time.monotonic() > self._due or event.step == event.total
            if due and event.loss is not None:
                self._due = time.monotonic() + 0.5
                self._job.journal.write("progress", **asdict(event))
        elif isinstance(event, trainer_log.EpochStarted):
            self._end_epoch(event.epoch - 1)
            self._job.journal.write("epoch_started", epoch=event.epoch, epochs=event.epochs)

    def _end_epoch(self, epoch: int) -> None:
        if epoch > self._start.epoch:
            resume.note_epoch(self._job, epoch)
        elif not self._draws or epoch < self._start.epoch:
            return
        self._evaluator.epoch(epoch)

    def _keep_steps(self, steps: int) -> None:
        """Keep an epoch's steps, which a resume needs, as soon as the trainer says them.

        The trainer's own number is believed: bespoke's own takes all pictures for one bucket.
        """
        known, self._steps = self._steps, steps
        if steps == known:
            return
        resume.update(self._job.output, self._job.name, steps_per_epoch=steps)
        if self._start.state is not None:
            problem = f"{self._job.name}.run.json: said {known} steps an epoch, the trainer says"
            raise progress.RestartError(f"{problem} {steps}")


def _with_less_memory(
    job: Job, rendered: Rendered, error: TrainerError
) -> tuple[Rendered, dict[str, Any]]:
    """The next smaller plan, rendered and recorded, and the settings that it changes."""
    options = {key: setting.value for key, setting in rendered.training.items()}
    pinned = job.experiment.pinned if job.adapts else frozenset(resume.ADAPTED)
    changes = hardware.smaller(options, pinned)
    wanted = (changes or hardware.smaller(options)).items()
    words = ", ".join(f"training.{key}={str(value).lower()}" for key, value in wanted)
    if not changes:
        needed = words or "a GPU with more memory"
        raise TrainerError(f"{error}\nno smaller plan is allowed here; it would take {needed}")
    say(f"out of memory: resuming with {words}")
    job.journal.write("adapted", changes=changes, error=str(error))
    training = dict(rendered.training)
    for key, value in changes.items():
        put(training, key, value, "memory", "less memory, the same effective batch")
    rendered = rendering.rewrite(replace(rendered, training=training), job.experiment)
    return rendered, {f"training.{key}": value for key, value in changes.items()}


def verified(job: Job) -> list[Path]:
    """The run's checkpoints, all of them there and complete."""
    found = (checkpoints.problem(job.output, job.name, epoch) for epoch in job.epochs)
    if problems := "\n".join(filter(None, found)):
        raise TrainerError(
            f"trainer exited 0, but checkpoints are missing or corrupt:\n{problems}\n"
            f"full log: {job.folder / 'train.log'}"
        )
    checkpoints.number_last(job.output, job.name, job.epochs[-1])
    resume.note_epoch(job, job.epochs[-1])
    return [checkpoints.checkpoint_path(job.output, job.name, epoch) for epoch in job.epochs]
