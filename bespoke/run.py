"""The main job, top to bottom: `python -m bespoke.run --experiment keep_tokens_3`."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import (
    base_model,
    checkpoints,
    config,
    dataset,
    hardware,
    preflight,
    rendering,
    trainer,
)
from bespoke.display import display, duration, say
from bespoke.errors import (
    BespokeError,
    ConfigError,
    InterruptedRunError,
    TrainerError,
)
from bespoke.files import workspace, write_whole
from bespoke.journal import Journal, now
from bespoke.options import table
from bespoke.processes import Group, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
REHEARSAL = "REHEARSAL"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for on the command line."""

    experiment: str
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    workspace: Path | None = None
    dry_run: bool = False
    fresh: bool = False
    rehearse: bool = False
    strict: bool = False
    allow_inert: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run once its experiment is known: what it is, and where it keeps its things."""

    request: Request
    experiment: config.Experiment
    workspace: Path
    folder: Path
    journal: Journal

    @property
    def output(self) -> Path:
        return self.workspace / str(self.experiment.option("output_dir"))

    @property
    def models(self) -> Path:
        return self.workspace / "models"

    @property
    def epochs(self) -> list[int]:
        """The epochs whose checkpoints the run must leave."""
        every = self.experiment.option("save_every_n_epochs")
        last = int(self.experiment.option("max_train_epochs"))
        return checkpoints.saved_epochs(last, last if every is None else int(every))


def run(request: Request, journal: Journal) -> None:
    """Check, render, train, verify and summarise one experiment.

    Raises:
        ConfigError, DatasetError, TrainerError, InterruptedRunError: see bespoke.errors.
    """
    started = time.monotonic()
    experiment = config.load(request.experiment, repository=REPOSITORY, overrides=request.overrides)
    place = workspace(request.workspace)
    if request.rehearse:
        place = workspace(place / "rehearsal")
        experiment = config.renamed(experiment, REHEARSAL)
    folder = journal.open(place / "logs", experiment.output_name)
    job = Job(
        request=request, experiment=experiment, workspace=place, folder=folder, journal=journal
    )
    journal.write("started", experiment=experiment.name, arguments=sys.argv[1:])
    try:
        with _signals_raise():
            _carry_out(job, started)
    except BaseException as error:
        code = error.exit_code if isinstance(error, BespokeError) else None
        journal.write("failed", error=type(error).__name__, message=str(error), exit_code=code)
        raise
    finally:
        journal.close()


def _carry_out(job: Job, started: float) -> None:
    _introduce(job)
    finished = _finished_before(job)
    if finished is not None:
        say(f"already trained: {len(finished)} whole checkpoints in {job.output}")
        say("--fresh trains it again and moves these to a dated folder")
        return
    data = _checked_data(job)
    rendered = _render(job, data)
    command = _command(job, rendered)
    if job.request.dry_run:
        _show(rendered, command)
        return
    offline = _provide(job, rendered)
    _train(job, command, offline=offline)
    _summarise(job, _verified(job), time.monotonic() - started)


def _introduce(job: Job) -> None:
    experiment = job.experiment
    say(f"{experiment.run_name} ({experiment.name})")
    if job.request.rehearse:
        say("REHEARSAL: drawn pictures and a stand-in trainer; nothing it makes is a result")
    if experiment.hypothesis:
        say(f"hypothesis: {experiment.hypothesis}")
    for text in job.request.overrides:
        say(f"for this run alone: {text}")
    say(f"everything about this run is in {job.folder}")


def _finished_before(job: Job) -> list[checkpoints.Checkpoint] | None:
    """The checkpoints of an earlier, whole run of this name, or None where there is none.

    Raises:
        ConfigError: where an earlier run left a part: nothing of it is overwritten unasked.
    """
    earlier = checkpoints.left_by(job.output, job.experiment.output_name)
    if not earlier or job.request.dry_run:
        return None
    if job.request.fresh or job.request.rehearse:
        aside = checkpoints.set_aside(earlier, job.output, job.experiment.output_name, now())
        say(f"{len(earlier)} files of an earlier run moved to {aside}")
        job.journal.write("set_aside", folder=aside, files=[path.name for path in earlier])
        return None
    with contextlib.suppress(TrainerError):
        return checkpoints.verify(job.output, job.experiment.output_name, job.epochs)
    raise ConfigError(
        f"{job.output}: an earlier run of {job.experiment.output_name} left "
        f"{len(earlier)} files ({earlier[0].name}, …): --fresh moves them to a dated folder and "
        "starts anew"
    )


def _checked_data(job: Job) -> dict[str, Path]:
    """The folder of each subset, once nothing found before the start speaks against it."""
    experiment, request = job.experiment, job.request
    draws = request.rehearse or experiment.drawn_if_missing
    data = preflight.folders(
        experiment,
        request.data,
        # A rehearsal without --data is of the pipeline alone: the real pictures are left alone.
        repository=job.workspace if request.rehearse else REPOSITORY,
        workspace=job.workspace,
        drawn=functools.partial(_drawn, job) if draws else None,
    )
    known = [config.load(name, repository=REPOSITORY) for name in config.names(REPOSITORY)]
    flight = preflight.examine(
        experiment,
        data,
        parent=next((each for each in known if each.name == experiment.parent), None),
        known=known,
        inert="warning" if request.allow_inert else "error",
    )
    for line in flight.report(examples=1, notes=False):
        say(line)
    job.journal.write("checked", data=data, verdict=flight.verdict, counts=flight.counts)
    write_whole(job.folder / "preflight.json", flight.as_json())
    refusal = flight.refusal(strict=request.strict)
    if refusal is not None:
        raise refusal
    if experiment.pictures_taken is not None:
        for name, collection in flight.collections.items():
            into = job.folder / "pictures" / name
            data[name] = dataset.take(collection, experiment.pictures_taken, into)
            say(f"{name}: {experiment.pictures_taken} of {len(collection.pairs)} pictures taken")
    return data


def _drawn(job: Job, name: str) -> Path:
    from bespoke.rehearsal.drawing import draw

    count = job.experiment.promises.get(name, dataset.Promise()).fewest
    folder = job.workspace / "drawn" / f"{name}_{count}"
    if not folder.is_dir():
        say(f"{name}: no collection is asked for or found, so {count} pictures are drawn")
        draw(folder, count)
    return folder


def _base_model(job: Job) -> base_model.BaseModel:
    wanted = str(job.experiment.option("pretrained_model_name_or_path"))
    return base_model.locate(wanted, models=job.models)


def _render(job: Job, data: dict[str, Path]) -> rendering.Rendered:
    base, tokenizer = REHEARSAL, None
    if not job.request.rehearse:
        base = _base_model(job).path
        tokenizer = base_model.tokenizer_folder(job.models)
    places = rendering.Places(
        workspace=job.workspace, run=job.folder, data=data, base_model=base, tokenizer=tokenizer
    )
    facts = {
        "started": now().isoformat(timespec="seconds"),
        "bespoke_commit": answer(["git", "rev-parse", "HEAD"], cwd=REPOSITORY),
        "trainer_commit": None if job.request.rehearse else table().commit,
    }
    rendered = rendering.render(job.experiment, places, facts)
    job.journal.write("rendered", receipt=rendered.receipt_file)
    return rendered


def _command(job: Job, rendered: rendering.Rendered) -> list[str]:
    if job.request.rehearse:
        stand_in = Path(__file__).parent / "rehearsal" / "stand_in.py"
        return [sys.executable, str(stand_in), "--config_file", str(rendered.training_file)]
    return trainer.command(
        job.folder,
        rendered.training_file,
        script=trainer.require_submodule(REPOSITORY) / "train_network.py",
        precision=str(rendered.option("mixed_precision", "no")),
        threads=hardware.cores(),
    )


def _provide(job: Job, rendered: rendering.Rendered) -> bool:
    """See to all that the real trainer needs here; returns whether it may stay offline.

    What is missing is said before anything large is fetched.
    """
    if job.request.rehearse:
        return True
    trainer.require_packages()
    reason = trainer.needs_gpu({key: row.value for key, row in rendered.training.items()})
    if reason and not hardware.gpus():
        raise ConfigError(
            f"{reason} needs an NVIDIA GPU and nvidia-smi shows none here: rent one, or try "
            "--experiment smoke (the real trainer, small) or --rehearse on this machine"
        )
    return not base_model.provide(_base_model(job), models=job.models, announce=say).hub


def _show(rendered: rendering.Rendered, command: list[str]) -> None:
    for file in (rendered.training_file, rendered.dataset_file):
        print(f"# {file}\n{file.read_text(encoding='utf-8')}")
    print("# the command\n" + trainer.shell(command))
    say("dry run: stopped before the launch")


def _train(job: Job, command: list[str], *, offline: bool) -> None:
    """Start the trainer, stream it, and hold it to its exit code; its results are verified after.

    Raises:
        TrainerError: where it ends with another code than 0, in its own words.
    """
    job.output.mkdir(parents=True, exist_ok=True)
    environment = trainer.environment(os.environ, offline=offline)
    write_whole(job.folder / "command.txt", trainer.shell(command) + "\n")
    say(f"the trainer starts; its every line goes to {job.folder / 'train.log'}")
    patience = float(os.environ.get("BESPOKE_STOP_PATIENCE_S", "10"))
    begun = time.monotonic()
    with (
        (job.folder / "train.log").open("ab", buffering=0) as log,
        Group(command, environment=environment, cwd=REPOSITORY, patience=patience) as group,
        display(len(job.epochs)) as shown,
    ):
        job.journal.write("launched", pid=group.pid, command=command)
        reader = trainer.Reader(log)
        for event in reader.events(group.output()):
            shown.show(event)
            if isinstance(event, trainer.EpochStarted):
                _note_epoch(job, event.epoch - 1, shown.say)
                job.journal.write("epoch_started", epoch=event.epoch)
        code = group.wait()
    job.journal.write("ended", exit_code=code, seconds=round(time.monotonic() - begun, 1))
    if code != 0:
        what = trainer.diagnosis(reader.tail) or "its last lines are in the log"
        raise TrainerError(
            f"the trainer ended with {trainer.ending(code)}: {what}\n"
            f"the whole log is {job.folder / 'train.log'}"
        )


def _note_epoch(job: Job, epoch: int, tell: Callable[[str], None]) -> None:
    """Say that an epoch's checkpoint is whole, or what is wrong with it, while it can help."""
    if epoch not in job.epochs:
        return
    path = checkpoints.checkpoint_path(job.output, job.experiment.output_name, epoch)
    try:
        checkpoint = checkpoints.read_checkpoint(path)
    except TrainerError as error:
        tell(f"epoch {epoch}: {error}")
        return
    job.journal.write("checkpoint", epoch=epoch, file=path, size=checkpoint.size)
    tell(f"epoch {epoch}: {path.name}")


def _verified(job: Job) -> list[checkpoints.Checkpoint]:
    name = job.experiment.output_name
    try:
        checkpoints.number_last(job.output, name, job.epochs[-1])
        _note_epoch(job, job.epochs[-1], say)
        return checkpoints.verify(job.output, name, job.epochs)
    except TrainerError as error:
        raise TrainerError(
            f"the trainer ended as if all were well, but the checkpoints are not:\n{error}\n"
            f"the whole log is {job.folder / 'train.log'}"
        ) from error


def _summarise(job: Job, found: list[checkpoints.Checkpoint], seconds: float) -> None:
    first, last = found[0], found[-1]
    job.journal.write("finished", checkpoints=[each.path for each in found], seconds=seconds)
    say(
        f"done in {duration(seconds)}: {len(found)} whole checkpoints, rank {last.rank}, "
        f"alpha {last.alpha}, {last.size / 1e6:.1f} MB each"
    )
    say(f"from {first.path}")
    say(f"to   {last.path}")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Make TERM and HUP end the run as ^C does: through the clean-up, with its own exit code."""

    def interrupt(number: int, _: object) -> None:
        raise InterruptedRunError(f"stopped by {signal.Signals(number).name}")

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    from bespoke import cli

    sys.exit(cli.run_main())
