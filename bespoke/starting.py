"""How one start of a run begins and ends: where it resumes, and what it must leave."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from bespoke import checkpoints, resume, training, watch
from bespoke.display import say
from bespoke.errors import TrainerError
from bespoke.files import clear_parts, document_path
from bespoke.journal import now
from bespoke.processes import signals_held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.job import Job


def begin(job: Job, settings: Mapping[str, Any]) -> resume.Start:
    """Where to start, with an earlier run moved away where that is asked for.

    A rehearsal that was completed is rehearsed anew; one that was interrupted resumes.

    Raises:
        ConfigError: where an earlier start was of other settings, or there is no room.
    """
    request = job.request
    clear_parts(job.output, job.name)
    for folder in (job.output / "tests").glob(f"{glob.escape(job.name)}-*"):
        clear_parts(folder)
    _note_changed_gate(job)
    with signals_held():
        start = None if request.fresh else _resumed(job, settings)
        if start is None or (start.completed and request.rehearse):
            _set_aside(job)
            start = training.go_on(job, settings)
    if not start.finished and not request.rehearse:
        options = {key: setting.value for key, setting in job.experiment.training.items()}
        planned = watch.sizes(options, len(job.epochs), resume.KEPT_STATES)
        say(watch.require_room(planned, job.output))
    return start


def verified(job: Job) -> list[checkpoints.Checkpoint]:
    """The run's checkpoints, all of them there and complete.

    Raises:
        TrainerError: where they are not, whatever the trainer's exit code was.
    """
    try:
        checkpoints.number_last(job.output, job.name, job.epochs[-1])
        training.note_epoch(job, job.epochs[-1], say)
        return checkpoints.verify(job.output, job.name, job.epochs)
    except TrainerError as error:
        raise TrainerError(
            f"trainer exited 0, but checkpoints are missing or corrupt:\n{error}\n"
            f"full log: {job.folder / 'train.log'}"
        ) from error


def _resumed(job: Job, settings: Mapping[str, Any]) -> resume.Start | None:
    """Where to resume; None for a rehearsal of other settings, which starts again unasked."""
    try:
        return training.go_on(job, settings)
    except resume.OtherSettingsError as error:
        if not job.request.rehearse:
            raise
        say(f"{error.changed}\nso this rehearsal starts again")
        return None


def _set_aside(job: Job) -> None:
    files = checkpoints.left_by(job.output, job.name)
    records = (document_path(job.output, job.name), resume.record_path(job.output, job.name))
    files += [record for record in records if record.exists()]
    if files:
        aside = checkpoints.set_aside(files, job.output, job.name, now())
        say(f"moved {len(files)} files of an earlier run to {aside}")
        job.journal.write("set_aside", folder=aside, files=[path.name for path in files])


def _note_changed_gate(job: Job) -> None:
    """A gate that was changed after the start may have been moved to where it passes."""
    before = resume.read_record(job.output, job.name)
    if before is None or before.gate == job.gate or job.request.fresh:
        return
    say(f"warning: the gate was changed after the start: was {before.gate}, is {job.gate}")
    job.journal.write("gate_changed", before=before.gate, now=job.gate)
