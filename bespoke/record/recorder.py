"""What the record keeps of a run's start, its epochs and its end, and of tests by hand."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.errors import GateStoppedError, InterruptedRunError
from bespoke.evaluation import by_hand, epoch_result
from bespoke.experiment import config
from bespoke.files import REPOSITORY, document_path, workspace
from bespoke.record import notify, postgres, report, store
from bespoke.record.run_record import RunRecord, first_line
from bespoke.signals import signals_held
from bespoke.trainer import hardware
from bespoke.trainer.job import now

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.dataset.preflight import Preflight
    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.gate import Decision
    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job


def run_of(
    job: Job, rendered: Rendered, settings: Mapping[str, Any], preflight: Preflight
) -> RunRecord:
    """What is known of a run before it starts; `settings` are those that a resume is held to."""
    experiment, data = job.experiment, "data "
    facts = {
        **{key: value for key, value in rendered.facts.items() if key != "started"},
        "rehearsal": job.request.rehearse or None,
        "logs": str(job.folder),
        "output": str(job.output),
        "collections": [str(folder) for folder in preflight.data.values()],
        "base_model_hash": settings.get("base model"),
        "num_images": sum(len(each.pairs) for each in preflight.collections.values()),
        "data_hash": {k.removeprefix(data): settings[k] for k in settings if k.startswith(data)},
        "caption_version": {name: each.caption_version for name, each in experiment.specs.items()},
        "gpu_type": ", ".join(each.name for each in hardware.gpus()) or None,
        "price_per_hour": job.request.price_per_hour,
    }
    return RunRecord(
        name=experiment.run_name,
        experiment=experiment.name,
        parent=preflight.parent,
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
def recorded(job: Job, run: RunRecord) -> Iterator[tuple[store.RunFile, Callable[[str], None]]]:
    """The run's record, begun, and what sends a message on it; how the block ends is how it ends.

    Its page is written then, and the last message sent. A rehearsal is recorded in its own
    workspace alone: nothing of it can be taken for a result.
    """
    send = None if job.request.rehearse else postgres.from_environment()
    kept = store.RunFile(job.workspace, document_path(job.output, job.name), send)
    with signals_held():
        kept.begin(run)
    status, ending = "completed", "all epochs are trained"
    sender = notify.Messages()

    def tell(text: str) -> None:
        sheet = None
        # A message costs a run nothing: where the sheet cannot be drawn or kept, it goes without.
        with contextlib.suppress(OSError):
            sheet = notify.sheet(kept.run.epochs if kept.run else (), job.folder / "sheet.png")
        sender.send(run.name, text, sheet)

    try:
        yield kept, tell
    except BaseException as error:
        ending = first_line(error)
        vars(error)["told"] = True
        if not isinstance(error, GateStoppedError):
            status = "cancelled" if isinstance(error, InterruptedRunError) else "failed"
        raise
    finally:
        with signals_held():
            kept.end(status=status, ending=ending)
            try:
                say(f"the run's page is {show(job)}")
            except Exception as error:  # noqa: BLE001 - a page that fails is no run that fails
                say(f"the run's page could not be written: {error}")
            tell(notify.ending(kept.run or run))
            sender.wait()


def keep(
    job: Job,
    kept: store.RunFile,
    result: EpochResult,
    decision: Decision | None,
    losses: Sequence[tuple[int, float]],
) -> None:
    """Keep an epoch's result, the gate's decision and the losses so far, and write the page."""
    kept.epoch(result, decision, losses)
    show(job)


def show(job: Job) -> str:
    """Write the run's page anew, and the index; returns where the page is."""
    folder, name = job.workspace / report.FOLDER, job.experiment.run_name
    report.publish(store.runs(job.workspace), folder, name)
    return str(folder / report.page_name(name))


# --- Tests by hand --------------------------------------------------------------------------------


def test(chosen: argparse.Namespace) -> None:
    """`bespoke test`: what epoch_test does, and its scored tests recorded."""
    place = workspace(chosen.workspace)
    by_hand.test(chosen, lambda result: _keep_test(result, place))


def _keep_test(result: EpochResult, place: Path) -> None:
    """Keep a scored test with the run that its checkpoint is of.

    The run's own test of the epoch stays; a person's scores of the same checkpoint are put to it.
    """
    runs = (
        (file, run)
        for file, run in store.files(place)
        if result.run in (run.name, run.setting("training.output_name"))
    )
    file, run = next(runs, (document_path(place / "output", result.run), None))
    before = {each.epoch: each for each in run.epochs}.get(result.epoch) if run else None
    if result.epoch is None:
        return
    if before is not None and before.tested != result.tested:
        if before.checkpoint_sha256 != result.checkpoint_sha256 or result.scored_by != "person":
            say(f"not recorded: epoch {result.epoch} of {before.run} keeps its own test")
            return
        result = epoch_result.rescored(before, result.scores, "person")
    kept = store.RunFile(place, file, postgres.from_environment())
    if run is None:
        # Nothing is known of it but that its checkpoints are here.
        known = (each.name for each in config.known(REPOSITORY) if each.output_name == result.run)
        started = now().isoformat(timespec="seconds")
        kept.begin(RunRecord(name=result.run, experiment=next(known, ""), started=started))
        kept.end(status="completed", ending="trained elsewhere; its epochs are tested")
    kept.epoch(result, None)
    say(f"recorded as epoch {result.epoch} of {run.name if run else result.run}")
