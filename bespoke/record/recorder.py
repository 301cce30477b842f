"""What the record keeps of a run's start, its epochs and its end, and of tests by hand."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.errors import GateStoppedError, InterruptedRunError
from bespoke.evaluation import by_hand, epoch_result
from bespoke.experiment import config
from bespoke.files import REPOSITORY, document_path, workspace
from bespoke.record import report, store
from bespoke.record.postgres import VARIABLE, line
from bespoke.record.run_record import RunRecord
from bespoke.signals import signals_held
from bespoke.trainer import hardware
from bespoke.trainer.journal import now

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from bespoke.dataset.preflight import Preflight
    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.rendering import Rendered
    from bespoke.record.store import Record
    from bespoke.trainer.job import Job


def run_of(
    job: Job,
    rendered: Rendered,
    settings: Mapping[str, Any],
    preflight: Preflight,
    parent: str | None,
) -> RunRecord:
    """What is known of a run before it starts; `settings` are those that a resume is held to.

    `parent` is the parent's run name.
    """
    experiment = job.experiment
    hashes = {key: value for key, value in settings.items() if key.startswith("data ")}
    facts = {
        **{key: value for key, value in rendered.facts.items() if key != "started"},
        "rehearsal": job.request.rehearse or None,
        "logs": str(job.folder),
        "output": str(job.output),
        "base_model_hash": settings.get("base model"),
        "num_images": sum(len(each.pairs) for each in preflight.collections.values()),
        "data_hash": {key.removeprefix("data "): value for key, value in hashes.items()},
        "caption_version": {name: each.caption_version for name, each in experiment.specs.items()},
        "gpu_type": ", ".join(each.name for each in hardware.gpus()) or None,
        "price_per_hour": job.request.price_per_hour,
    }
    return RunRecord(
        name=experiment.run_name,
        experiment=experiment.name,
        parent=parent,
        started=now().isoformat(timespec="seconds"),
        hypothesis=experiment.hypothesis,
        expected=experiment.expected,
        settings={
            f"{title}.{key}": row
            for title, rows in rendered.receipt().items()
            for key, row in rows.items()
        },
        preflight=json.loads((job.folder / "preflight.json").read_text(encoding="utf-8")),
        facts={key: value for key, value in facts.items() if value is not None},
    )


@contextlib.contextmanager
def recorded(job: Job, run: RunRecord) -> Iterator[Record]:
    """The record, with this run begun in it; how the block ends is how the run's record ends.

    A rehearsal is recorded in its own workspace alone: nothing of it can be taken for a result.

    Raises:
        ConfigError: where the database's address is none.
        OSError: where the run's record cannot be written.
    """
    url = None if job.request.rehearse else os.environ.get(VARIABLE)
    with store.opened(job.workspace, url=url) as kept:
        with signals_held():
            kept.begin(run, document_path(job.output, job.name))
        status, ending = "completed", "all epochs are trained"
        try:
            yield kept
        except BaseException as error:
            ending = line(error)
            if isinstance(error, InterruptedRunError):
                status = "cancelled"
            elif not isinstance(error, GateStoppedError):
                status = "failed"
            raise
        finally:
            with signals_held():
                kept.end(run.name, status=status, ending=ending)
                try:
                    say(f"the run's page is {show(job, kept)}")
                except Exception as error:  # noqa: BLE001 - a page that fails is no run that fails
                    say(f"the run's page could not be written: {error}")


def show(job: Job, kept: Record) -> str:
    """Write the run's page anew, and the index; returns where the page is.

    Raises:
        OSError: where it cannot be written.
    """
    folder, name = job.workspace / report.FOLDER, job.experiment.run_name
    *_, _ = report.publish(kept, folder, name)
    return str(folder / report.page_name(name))


# --- Tests by hand --------------------------------------------------------------------------------


def test(chosen: argparse.Namespace) -> None:
    """`bespoke test`: what epoch_test does, and its scored tests recorded.

    Raises:
        ConfigError, TrainerError: where a checkpoint or a saved test cannot be tested.
    """
    place = workspace(chosen.workspace)
    by_hand.test(chosen, lambda result: _keep_test(result, place, anew=not chosen.again))


def _keep_test(result: EpochResult, place: Path, *, anew: bool) -> None:
    """Keep a scored test with the run that its checkpoint is of; a new one only where `anew`.

    What the record has of the epoch stays, unless it is of this very test; a person's scores of the
    same checkpoint are put to it.
    """
    if result.epoch is None:
        say(f"{Path(result.checkpoint).name}: carries no epoch, so its folder alone holds the test")
        return
    with store.opened(place, url=os.environ.get(VARIABLE)) as kept:
        runs = [run for run in kept.runs() if result.run in _names(run)]
        run = runs[-1] if runs else None
        known = {each.epoch: each for each in run.epochs} if run else {}
        before = known.get(result.epoch)
        if before is None and not anew:
            return
        if before is not None and before.test != result.test:
            if before.checkpoint_sha256 != result.checkpoint_sha256 or result.scored_by != "person":
                say(f"not recorded: epoch {result.epoch} of {before.run} keeps its own test")
                return
            result = epoch_result.rescored(before, result.scores, "person")
        name = run.name if run else _begin(kept, result.run)
        kept.epoch(name, result, None)
    say(f"recorded as epoch {result.epoch} of {name}")


def _names(run: RunRecord) -> tuple[object, ...]:
    return run.name, run.settings.get("training.output_name", {}).get("value")


def _begin(kept: Record, name: str) -> str:
    """A run of which nothing is known but that its checkpoints are here."""
    known = (each.name for each in config.known(REPOSITORY) if each.output_name == name)
    kept.begin(RunRecord(name=name, experiment=next(known, "")))
    kept.end(name, status="completed", ending="trained elsewhere; its epochs are tested")
    return name
