"""The main job, top to bottom: `python -m bespoke.run --experiment keep_tokens_3`."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import (
    base_model,
    checkpoints,
    config,
    dataset,
    hardware,
    origin,
    plan,
    preflight,
    prompts,
    rendering,
    resume,
    sample,
    schedule,
    trainer,
    training,
    watch,
)
from bespoke.display import duration, say
from bespoke.errors import BespokeError, ConfigError, InterruptedRunError, TrainerError
from bespoke.files import held, workspace, write_whole
from bespoke.job import Job, Request
from bespoke.journal import Journal, now
from bespoke.options import table
from bespoke.processes import on_signals
from bespoke.seeds import with_seed

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).resolve().parent.parent
REHEARSAL = "REHEARSAL"


def run(request: Request, journal: Journal) -> None:
    """Check, render, train, verify and summarise one experiment.

    Raises:
        ConfigError, DatasetError, TrainerError, InterruptedRunError: see bespoke.errors.
    """
    started = time.monotonic()
    experiment, place = opened(request)
    folder = journal.open(place / "logs", experiment.output_name)
    job = Job(
        request=request, experiment=experiment, workspace=place, folder=folder, journal=journal
    )
    journal.write(
        "started",
        experiment=experiment.name,
        arguments=sys.argv[1:],
        machine=platform.node(),
    )
    try:
        with on_signals(_interrupt):
            _carry_out(job, started)
    except BaseException as error:
        code = error.exit_code if isinstance(error, BespokeError) else None
        journal.write("failed", error=type(error).__name__, message=str(error), exit_code=code)
        raise
    finally:
        journal.close()


def opened(request: Request) -> tuple[config.Experiment, Path]:
    """The experiment under the names that this start gives it, and the workspace it is made in.

    Raises:
        ConfigError: where one of them is not as it must be.
    """
    experiment = config.load(request.experiment, repository=REPOSITORY, overrides=request.overrides)
    experiment = with_seed(experiment, request.seed)
    place = workspace(request.workspace)
    if request.rehearse:
        place = workspace(place / "rehearsal")
        experiment = config.renamed(experiment, REHEARSAL)
    return experiment, place


def _carry_out(job: Job, started: float) -> None:
    _introduce(job)
    data, flight, parent = _checked_data(job)
    job = _planned(job)
    asked = _asked(job)
    shots = sample.write_for_training(asked, job.folder / "prompts.json") if asked else ()
    rendered = _render(job, data)
    if job.request.dry_run:
        _show(rendered, _command(job, rendered))
        return
    # What keeps, judges and shows takes a second to import: what ends before needs none of it.
    from bespoke import recording
    from bespoke.judge import Judge

    with held(job.output / f".{job.name}.lock", job.name):
        rendered = training.as_adapted(job, rendered)
        settings = resume.settings_of(rendered, data, _base_model_name(job), table().commit)
        start, fresh = _start(job, settings)
        run_row = recording.run_of(job, rendered, settings, flight, parent)
        with recording.recorded(job, run_row, fresh=fresh) as record:
            rates = schedule.shares(job.experiment, flight.length)
            judge = Judge(job, record, prompts=asked, shots=shots, rates=rates)
            judge.take_up(start.epoch, finished=start.finished)
            if start.finished:
                say(f"already trained: {len(job.epochs)} whole checkpoints in {job.output}")
                say("--fresh trains it again and moves these to a dated folder")
            else:
                launch = training.Plan(
                    rendered=rendered,
                    settings=settings,
                    command=functools.partial(_command, job),
                    cwd=REPOSITORY,
                    offline=_provide(job),
                )
                training.train(job, launch, start, judge)
            found = _verified(job)
            if not start.finished:
                judge.epoch(job.epochs[-1], say)
            _summarise(job, found, judge.best(), time.monotonic() - started)


def _asked(job: Job) -> tuple[prompts.Prompt, ...]:
    """The prompts that each epoch is tested with, as the experiment's `[test]` has them."""
    if job.request.no_test:
        return ()
    told = job.experiment.test
    found = prompts.load(REPOSITORY / prompts.PROMPTS_FILE)
    names = [prompt.name for prompt in found]
    wanted = told.get("prompts", names)
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"experiments/{job.experiment.name}.toml: [test]: prompts: "
                f"{config.nearest(str(name), names)}"
            )
    chosen = [prompt for prompt in found if prompt.name in wanted]
    return prompts.resized(chosen, size=told.get("size"), steps=told.get("steps"))


def _start(job: Job, settings: Mapping[str, Any]) -> tuple[resume.Start, bool]:
    """Where to start, with an earlier run moved away where that is asked for; and whether anew.

    A rehearsal that was finished is rehearsed anew; one that was interrupted goes on.
    """
    request = job.request
    _mind_the_gate(job)
    record = resume.record_path(job.output, job.name)
    fresh = not record.exists()
    start = None if request.fresh else training.go_on(job, settings)
    if start is None or (start.finished and request.rehearse):
        files = checkpoints.left_by(job.output, job.name)
        files += [record] if record.exists() else []
        if files:
            aside = checkpoints.set_aside(files, job.output, job.name, now())
            say(f"{len(files)} files of an earlier run moved to {aside}")
            job.journal.write("set_aside", folder=aside, files=[path.name for path in files])
        fresh = True
        start = training.go_on(job, settings)
    if not start.finished:
        planned = watch.sizes(_options(job), len(job.epochs), resume.KEPT_STATES)
        say(watch.require_room(planned, job.output))
    return start, fresh


def _mind_the_gate(job: Job) -> None:
    """Flag a gate that was changed after the start: it may have been moved to where it passes."""
    before = resume.read_record(job.output, job.name)
    if before is None or before.gate == job.gate or job.request.fresh:
        return
    say(f"the gate was changed after the start: was {before.gate}, is {job.gate}")
    job.journal.write("gate_changed", before=before.gate, now=job.gate)


def _options(job: Job) -> dict[str, Any]:
    return {key: setting.value for key, setting in job.experiment.training.items()}


def _introduce(job: Job) -> None:
    experiment = job.experiment
    say(f"{experiment.run_name} ({experiment.name})")
    if job.request.rehearse:
        say("REHEARSAL: generated pictures and a fake trainer; nothing it makes is a result")
    if not (job.request.rehearse or job.request.dry_run) and _lacks_gpu(job):
        say("no GPU here, and this run needs one: a container is given it with --gpus all")
    if experiment.hypothesis:
        say(f"hypothesis: {experiment.hypothesis}")
    for text in job.request.overrides:
        say(f"for this run alone: {text}")
    say(f"everything about this run is in {job.folder}")


def _checked_data(job: Job) -> tuple[dict[str, Path], preflight.Preflight, str | None]:
    """The folder of each subset, once nothing found before the start speaks against it.

    With what was found, and the parent's run name.
    """
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
    # At another seed, so is what it is held beside: a seed is no change between the two.
    known = [with_seed(each, request.seed) for each in config.known(REPOSITORY)]
    parent = next((each for each in known if each.name == experiment.parent), None)
    flight = preflight.examine(
        experiment,
        data,
        parent=parent,
        known=known,
        inert="warning" if request.allow_inert else "error",
        parent_data=preflight.parents_folders(parent, request.parent_data),
        prompts=_asked(job),
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
            there = len(collection.pairs)
            say(f"{name}: {min(experiment.pictures_taken, there)} of {there} pictures taken")
    return data, flight, parent.run_name if parent else None


def _planned(job: Job) -> Job:
    """The run with its throughput options fitted to this machine; an interrupted one keeps its."""
    if job.request.plan == plan.AS_WRITTEN:
        return job
    found = hardware.machine(job.workspace)
    made = fitted(job, found)
    for line in made.lines:
        say(line)
    job.journal.write("planned", machine=asdict(found), changes=made.changes, lines=made.lines)
    return replace(job, experiment=plan.apply(made, job.experiment), refitted=made.refitted)


def fitted(job: Job, machine: hardware.Machine) -> plan.Plan:
    """The plan of this run on a machine; one that was interrupted keeps what it began with."""
    if job.request.plan == plan.AS_WRITTEN:
        return plan.Plan()
    record = resume.read_record(job.output, job.name)
    interrupted = record is not None and checkpoints.left_by(job.output, job.name)
    begun = record.settings if record and interrupted and not job.request.fresh else None
    return plan.make(machine, job.experiment, begun)


def _drawn(job: Job, name: str) -> Path:
    from bespoke.rehearsal.drawing import draw

    promised = job.experiment.promises.get(name, dataset.Promise()).fewest
    count = max(promised, job.experiment.pictures_taken or 1)
    folder = job.workspace / "drawn" / f"{name}_{count}"
    if not folder.is_dir():
        drawn = "1 picture is" if count == 1 else f"{count} pictures are"
        say(f"{name}: no collection is asked for or found, so {drawn} drawn")
        # Killed while drawing, a folder of fewer pictures would be there for good.
        part = folder.with_name(f".{folder.name}.{os.getpid()}")
        draw(part, count)
        try:
            part.rename(folder)
        except OSError:
            # A run beside this one has drawn the same pictures meanwhile.
            if not folder.is_dir():
                raise
            shutil.rmtree(part)
    return folder


def _base_model_name(job: Job) -> str:
    """What the base model is, wherever this machine keeps it."""
    base = REHEARSAL if job.request.rehearse else _base_model(job)
    return base if isinstance(base, str) else base.sha256 or Path(base.path).name


def _base_model(job: Job) -> base_model.BaseModel:
    wanted = str(job.experiment.option("pretrained_model_name_or_path"))
    return base_model.locate(wanted, models=job.models)


def _render(job: Job, data: dict[str, Path]) -> rendering.Rendered:
    base, tokenizer = REHEARSAL, None
    if not job.request.rehearse:
        base = _base_model(job).path
        tokenizer = base_model.tokenizer_folder(job.models)
    places = rendering.Places(
        workspace=job.workspace,
        run=job.folder,
        data=data,
        base_model=base,
        tokenizer=tokenizer,
        prompts=file if (file := job.folder / "prompts.json").exists() else None,
    )
    facts = {
        "started": now().isoformat(timespec="seconds"),
        "bespoke_commit": origin.commits(REPOSITORY)["bespoke"],
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
    )


def _provide(job: Job) -> bool:
    """See to all that the real trainer needs here; returns whether it may stay offline.

    What is missing is said before anything large is fetched.
    """
    if job.request.rehearse:
        return True
    trainer.require_submodule(REPOSITORY)
    trainer.require_packages()
    reason = _lacks_gpu(job)
    if reason:
        raise ConfigError(
            f"{reason} needs an NVIDIA GPU and nvidia-smi shows none here: rent one, or try "
            "--experiment smoke (the real trainer, small) or --rehearse on this machine"
        )
    return not base_model.provide(_base_model(job), models=job.models, announce=say).hub


def _lacks_gpu(job: Job) -> str | None:
    """The option that needs the GPU which is not here."""
    reason = trainer.needs_gpu(_options(job))
    return reason if reason and not hardware.gpus() else None


def _show(rendered: rendering.Rendered, command: list[str]) -> None:
    for file in (rendered.training_file, rendered.dataset_file):
        print(f"# {file}\n{file.read_text(encoding='utf-8')}")
    print("# the command\n" + shlex.join(command))
    say("dry run: stopped before the launch")


def _verified(job: Job) -> list[checkpoints.Checkpoint]:
    name = job.name
    try:
        checkpoints.number_last(job.output, name, job.epochs[-1])
        training.note_epoch(job, job.epochs[-1], say)
        return checkpoints.verify(job.output, name, job.epochs)
    except TrainerError as error:
        raise TrainerError(
            f"the trainer ended as if all were well, but the checkpoints are not:\n{error}\n"
            f"the whole log is {job.folder / 'train.log'}"
        ) from error


def _summarise(
    job: Job, found: list[checkpoints.Checkpoint], best: str | None, seconds: float
) -> None:
    first, last = found[0], found[-1]
    job.journal.write("finished", checkpoints=[each.path for each in found], seconds=seconds)
    say(
        f"done in {duration(seconds)}: {len(found)} whole checkpoints, rank {last.rank}, "
        f"alpha {last.alpha}, {last.size / 1e6:.1f} MB each"
    )
    if best:
        say(best)
    say(f"from {first.path}")
    say(f"to   {last.path}")


def _interrupt(number: int, _: object) -> None:
    """End the run at TERM and HUP as at ^C: through the clean-up, with its own exit code."""
    raise InterruptedRunError(
        f"stopped by {signal.Signals(number).name}: the same command goes on from here"
    )


if __name__ == "__main__":
    from bespoke import cli

    sys.exit(cli.run_main())
