"""The steps of one start of a run: checked, rendered, begun or resumed, and verified."""

from __future__ import annotations

import functools
import glob
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.dataset import loading, preflight
from bespoke.errors import TrainerError
from bespoke.experiment import rendering
from bespoke.experiment.experiment import DatasetSpec
from bespoke.files import REPOSITORY, clear_parts, document_path, write_whole
from bespoke.trainer import checkpoints, loop, monitor, resume
from bespoke.trainer.journal import now
from bespoke.trainer.process import signals_held

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bespoke.trainer.job import Job
    from bespoke.trainer.sd_scripts import Trainer


def check(job: Job) -> preflight.Preflight:
    """The pictures' folders, once nothing found before the start speaks against them.

    A rehearsal, and what tries the machine, draws a subset's pictures where there are none.
    """
    experiment, request = job.experiment, job.request
    draws = request.rehearse or experiment.drawn_if_missing
    report = preflight.check(
        experiment,
        data=request.data,
        parent_data=request.parent_data,
        seed=request.seed,
        allow_no_op=request.allow_no_op,
        # A rehearsal without --data is of the pipeline alone: the real pictures are left alone.
        roots=(job.workspace,) if request.rehearse else (REPOSITORY, job.workspace),
        draw=functools.partial(_draw, job) if draws else None,
    )
    for line in report.report(notes=False):
        say(line)
    job.journal.write("checked", data=report.data, verdict=report.verdict, counts=report.counts)
    write_whole(job.folder / "preflight.json", report.as_json())
    refusal = report.refusal(strict=request.strict)
    if refusal is not None:
        raise refusal
    if experiment.pictures_taken is not None:
        for name, collection in report.collections.items():
            into = job.folder / "pictures" / name
            report.data[name] = loading.take(collection, experiment.pictures_taken, into)
            there = len(collection.pairs)
            say(f"{name}: {min(experiment.pictures_taken, there)} of {there} pictures taken")
    return report


def _draw(job: Job, name: str) -> Path:
    from bespoke.rehearsal import drawing

    fewest = job.experiment.specs.get(name, DatasetSpec()).fewest
    return drawing.collection(name, max(fewest, job.experiment.pictures_taken or 1), job.workspace)


def render(
    job: Job, trainer: Trainer, data: dict[str, Path], bespoke_commit: str
) -> rendering.Rendered:
    """The two files that the trainer reads, and the receipt, in the run's folder."""
    trainer.require()
    places = rendering.Places(
        workspace=job.workspace,
        run=job.folder,
        data=data,
        base_model=trainer.base_model,
        tokenizer=trainer.tokenizer,
        prompts=file if (file := job.folder / "prompts.json").exists() else None,
    )
    facts = {
        "started": now().isoformat(timespec="seconds"),
        "bespoke_commit": bespoke_commit,
        "trainer_commit": trainer.commit,
        "captured_step": job.captures,
    }
    rendered = rendering.render(job.experiment, places, facts)
    job.journal.write("rendered", receipt=rendered.receipt_file)
    return rendered


def begin(job: Job, settings: Mapping[str, Any]) -> resume.Start:
    """Where to start, with an earlier run moved away where that is asked for.

    A rehearsal that was completed, or is of other settings now, is rehearsed anew.
    """
    request, start = job.request, None
    clear_parts(job.output, job.name)
    for folder in (job.output / "tests").glob(f"{glob.escape(job.name)}-*"):
        clear_parts(folder)
    with signals_held():
        try:
            start = None if request.fresh else loop.prepare(job, settings)
        except resume.OtherSettingsError as error:
            if not request.rehearse:
                raise
            say(f"{error.changed}\nso this rehearsal starts again")
        if start is None or (start.completed and request.rehearse):
            _set_aside(job)
            start = loop.prepare(job, settings)
    if not start.finished and not request.rehearse:
        say(monitor.require_room([job.sizes.total], job.output))
    return start


def verified(job: Job) -> list[Path]:
    """The run's checkpoints, all of them there and complete."""
    try:
        checkpoints.number_last(job.output, job.name, job.epochs[-1])
        loop.note_epoch(job, job.epochs[-1])
        return checkpoints.verify(job.output, job.name, job.epochs)
    except TrainerError as error:
        raise TrainerError(
            f"trainer exited 0, but checkpoints are missing or corrupt:\n{error}\n"
            f"full log: {job.folder / 'train.log'}"
        ) from error


def _set_aside(job: Job) -> None:
    files = checkpoints.left_by(job.output, job.name)
    records = (document_path(job.output, job.name), resume.record_path(job.output, job.name))
    files += [record for record in records if record.exists()]
    if files:
        aside = checkpoints.set_aside(files, job.output, "earlier", job.name)
        say(f"moved {len(files)} files of an earlier run to {aside}")
        job.journal.write("set_aside", folder=aside, files=[path.name for path in files])
