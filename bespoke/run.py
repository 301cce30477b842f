"""The main job, top to bottom: `python -m bespoke.run --experiment keep_tokens_3`."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    # A signal may come before all that this program needs is imported.
    from bespoke import signals

    signals.handle_signals(": run the same command again to resume")
    # The command line is above this module, and is how this module is entered.
    sys.exit(importlib.import_module("bespoke.cli").main(["run", *sys.argv[1:]]))

import functools
import platform
import shlex
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from bespoke import version
from bespoke.console import duration, say
from bespoke.errors import is_full
from bespoke.evaluation import gate, sampling
from bespoke.experiment import config, prompts
from bespoke.files import REPOSITORY, locked
from bespoke.record import copies, notify
from bespoke.rehearsal import FakeTrainer
from bespoke.trainer import gpu_fit, resume, training
from bespoke.trainer.sd_scripts import SdScripts

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.evaluation.evaluator import EpochEvaluator
    from bespoke.request import Request
    from bespoke.trainer.job import Job, Journal


def run(request: Request, journal: Journal) -> None:
    """Check, render, train, verify and summarise one experiment; errors are bespoke.errors'."""
    job = training.open_job(request, journal)
    if request.copied_from and not request.dry_run:
        copies.fetch(job)
        # Beside a run of other options that has come now, this one has a name of its own.
        job = training.open_job(request, journal)
        copies.fetch(job)
    if request.dry_run:
        # No start of a run: nothing is noted of it, and the next one takes its place.
        job = replace(job, folder=job.workspace / "logs" / job.name / "dry_run")
        shutil.rmtree(job.folder, ignore_errors=True)
        job.folder.mkdir(parents=True)
    else:
        job = replace(job, folder=journal.open(job.workspace / "logs", job.name))
    journal.write("started", arguments=sys.argv[1:], machine=platform.node())
    try:
        _carry_out(job, FakeTrainer() if request.rehearse else SdScripts(job))
    except BaseException as error:
        if is_full(error) and not error.filename:
            error.filename = str(job.workspace)
        code = getattr(error, "exit_code", None)
        journal.write("failed", error=type(error).__name__, message=str(error), exit_code=code)
        if isinstance(error, Exception) and "told" not in vars(error):
            notify.failed(job.experiment.run_name, error)
        raise


def _carry_out(job: Job, trainer: SdScripts | FakeTrainer) -> None:
    started = time.monotonic()
    _introduce(job, trainer)
    checked = training.check(job)
    tested = config.test_prompts(job.experiment, REPOSITORY / prompts.PROMPTS_FILE)
    samples = () if job.request.no_test else sampling.samples_of(tested)
    job = gpu_fit.fit(job, checked, len(samples))
    if samples:
        sampling.write_for_training(samples, job.folder / "prompts.json")
    trainer.require()
    commits = {"bespoke_commit": version.commits()["bespoke"], "trainer_commit": trainer.commit}
    model, tokenizer = trainer.base_model, trainer.tokenizer
    rendered = training.render(job, checked.data, model, tokenizer, commits)
    if job.request.dry_run:
        for shown in (rendered.training_file, rendered.dataset_file):
            print(f"# {shown}\n{shown.read_text(encoding='utf-8')}")
        print("# the command\n" + shlex.join(trainer.command(rendered)))
        say("dry run: stopped before the launch")
        return
    # What records, tests and shows takes a second to import: what ends before needs none of it.
    from bespoke.evaluation.evaluator import EpochEvaluator
    from bespoke.record import recorder

    with locked(job.output / f".{job.name}.lock", job.name):
        names = trainer.base_model_name, trainer.commit
        settings = resume.settings_of(rendered, checked.data, *names)
        start = training.begin(job, settings)
        row = recorder.run_of(job, rendered, settings, checked)
        with copies.copying(job, start.epoch) as copy:
            with recorder.recorded(job, row) as (record, tell):
                job = replace(job, tell=tell)
                arts = [art for each in checked.collections.values() for art in each.arts.values()]
                keep = functools.partial(recorder.keep, job, record)
                evaluator = EpochEvaluator(job, samples, arts, keep, copy)
                evaluator.take_up(start)
                copy(start.epoch)
                if not start.finished:
                    trainer.prepare()
                    training.train(job, trainer.command, rendered, settings, start, evaluator)
                verified = training.verified(job)
                if not start.finished:
                    evaluator.epoch(job.epochs[-1])
            resume.update(job.output, job.name, completed=True)
            # The page is named before: what a person does next comes last.
            took = 0 if start.finished else time.monotonic() - started
            _summarise(job, verified, evaluator, took)


def _introduce(job: Job, trainer: SdScripts | FakeTrainer) -> None:
    say(f"{job.experiment.run_name} ({job.experiment.name})")
    if job.request.rehearse:
        say("REHEARSAL: generated pictures and a fake trainer; nothing it makes is a result")
    elif trainer.lacks and not job.request.dry_run:
        say("warning: no NVIDIA GPU found. In Docker, add --gpus all")
    if job.experiment.hypothesis:
        say(f"hypothesis: {job.experiment.hypothesis}")
    for text in job.request.overrides:
        say(f"override: {text}")
    say(f"logs and settings: {job.folder}")


def _summarise(job: Job, verified: list[Path], evaluator: EpochEvaluator, seconds: float) -> None:
    """What there is now, and how to go on from it."""
    last = verified[-1]
    job.journal.write("finished", checkpoints=verified, seconds=seconds)
    result = f"{len(verified)} complete checkpoints"
    if seconds:
        say(f"done in {duration(seconds)}: {result}, {last.stat().st_size / 1e6:.1f} MB each")
    else:
        say(f"already trained: {result}; --fresh trains it again and keeps these")
    if job.experiment.subject == "machine":
        say("This machine can train.")
        return
    where = shlex.join(["--workspace", str(job.workspace)])
    best = gate.best(list(evaluator.results.values()))
    shown = f"Best: epoch {best.epoch}, {best.summary()}: {best.checkpoint}" if best else None
    say(shown or f"last checkpoint: {last}")
    say(f"next: bespoke next {job.experiment.run_name} {where}")
    say(f"see it: bespoke serve {where}")
