"""Where a run resumes: what an earlier start left, whether it is complete, whether it is this run.

The recipe is `--resume {name}-{E:06d}-state --initial_step E*S`, with S the optimizer steps of an
epoch, and nothing else: the trainer's other options for it skip or repeat epochs (seen by running).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.files import digest, sha256, write_whole
from bespoke.trainer import checkpoints
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job

# Where this machine keeps things, and what each start names anew: not what the run is.
PLACES = frozenset((
    "dataset_config", "output_dir", "logging_dir", "tokenizer_cache_dir", "image_dir",
    "pretrained_model_name_or_path", "sample_prompts", "sample_every_n_epochs",
))  # fmt: skip
# What a plan may change of an interrupted run: the mathematics of a step stay. See hardware.py.
ADAPTED = (
    *("train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing"),
    *("highvram", "vae_batch_size"),
)
KEEPS = "use --fresh to start again (earlier files are kept)"


class RunFile(BaseModel, frozen=True):
    """What a run is, kept beside its checkpoints as `{name}.run.json`: a resume is held to it.

    `settings` names every option and every folder's content; `hashes` are of the states' weights;
    `completed` where the last epoch is tested, with no STOP; `stopped` is what its gate said then.
    """

    settings: dict[str, Any]
    steps_per_epoch: int | None = Field(default=None, gt=0)
    hashes: dict[str, str] = {}
    completed: bool = False
    stopped: str = ""


def record_path(output: Path, name: str) -> Path:
    """The run's file."""
    return output / f"{name}.run.json"


def read_record(output: Path, name: str) -> RunFile | None:
    """What an earlier start wrote, or None where there is nothing that can be read."""
    try:
        return RunFile.model_validate_json(record_path(output, name).read_bytes())
    except (OSError, ValidationError):
        return None


def update(output: Path, name: str, **changes: Any) -> None:
    """Change some of what the run's file keeps, complete or not at all."""
    record = read_record(output, name) or RunFile(settings={})
    text = record.model_copy(update=changes).model_dump_json(indent=1)
    write_whole(record_path(output, name), text + "\n")


def settings_of(
    rendered: Rendered, data: Mapping[str, Path], base: str, commit: str | None
) -> dict[str, Any]:
    """Everything that makes this run the run it is, by name."""
    settings: dict[str, Any] = {"base model": base, "trainer": commit}
    levels = {"training": rendered.training, "dataset": rendered.general}
    for number, subset in enumerate(rendered.subsets, start=1):
        levels[f"dataset 1 subset {number}"] = subset
    for section, options in levels.items():
        for key in options.keys() - PLACES:
            settings[f"{section}.{key}"] = options[key].value
    for name, folder in data.items():
        settings[f"data {name}"] = digest(folder, lambda path: not path.name.startswith("."))
    # What was written as a tuple or a path comes back from JSON as a list or text.
    return dict(json.loads(json.dumps(settings, default=str)))


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start: at epoch 0, from a complete state after `epoch`, or not at all (`finished`)."""

    epoch: int = 0
    state: Path | None = None
    steps_per_epoch: int | None = None
    finished: bool = False
    completed: bool = False


def decide(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to resume, by what is in the run's output, which stays as it is; else ConfigError."""
    output, name, last = job.output, job.name, job.epochs[-1]
    left, record = checkpoints.left_by(output, name), read_record(output, name)
    if not left:
        return Start()
    if record is None:
        raise ConfigError(
            f"{record_path(output, name)}: missing or unreadable, but {len(left)} files of {name} "
            f"are there ({left[0].name}, …); {KEEPS}"
        )
    free = {f"training.{key}" for key in ADAPTED if job.adapts and key not in job.experiment.pinned}
    before = record.settings
    changed = [
        f"{key}: the pictures or captions have changed"
        if key.startswith("data ")
        else f"{key}: was {before.get(key, 'not written')}, is {settings.get(key, 'not written')}"
        for key in sorted({*before, *settings} - free)
        if before.get(key) != settings.get(key)
    ]
    if changed:
        lines = "\n  ".join((f"{name}: cannot resume, these settings have changed:", *changed))
        raise ConfigError(f"{lines}\nset them back to resume, or {KEEPS}")
    steps = record.steps_per_epoch
    lacking = [each for each in job.epochs if checkpoints.problem(output, name, each)]
    if not lacking:
        return Start(epoch=last, steps_per_epoch=steps, finished=True, completed=record.completed)
    usable = (
        (epoch, state)
        for epoch, state in checkpoints.states(output, name)
        if steps is not None and epoch < last and _can_resume(state, record)
    )
    newest, state = next(usable, (0, None))
    earlier = [each for each in lacking if each <= newest]
    if earlier or (state is None and len(lacking) < len(job.epochs) - 1):
        files = [checkpoints.checkpoint_path(output, name, each).name for each in earlier]
        raise ConfigError(
            f"{output}: cannot resume {name}: {', '.join(files) or 'every state'} is missing or "
            f"incomplete; put it back, or {KEEPS}"
        )
    return Start(epoch=newest, state=state, steps_per_epoch=steps)


def _can_resume(state: Path, record: RunFile) -> bool:
    """Whether this state is complete by its own files, and by the hash that was kept."""
    scaled = record.settings.get("training.mixed_precision") == "fp16"
    if checkpoints.corruption(state, scaled=scaled):
        return False
    known = record.hashes.get(state.name)
    return known is None or known == sha256(state / checkpoints.WEIGHTS)


def prepare(job: Job, settings: Mapping[str, Any]) -> Start:
    """Where to resume, with the way there cleared and said."""
    output, name = job.output, job.name
    start = decide(job, settings)
    if start.finished:
        checkpoints.number_last(output, name, start.epoch)
        return start
    kept = range(1, start.epoch + 1)
    files = [path for path in checkpoints.left_by(output, name) if path.parent == output]
    later = [path for path in files if checkpoints.epoch_of(path.name, name) not in kept]
    set_aside(job, later, "incomplete")
    known = record.hashes if (record := read_record(output, name)) else {}
    hashes = {file: known[file] for file in known if checkpoints.epoch_of(file, name) in kept}
    facts = {"settings": settings, "steps_per_epoch": start.steps_per_epoch, "hashes": hashes}
    update(output, name, **facts, completed=False)
    if start.state is not None:
        say(f"resuming after epoch {start.epoch}, from {start.state.name}")
    return start


def set_aside(job: Job, files: Sequence[Path], kind: str) -> None:
    """Move files of a run's output to `{kind}/{name}-{time}/` there, and say so."""
    if not (files := [path for path in files if path.exists()]):
        return
    aside = job.output / kind / f"{job.name}-{now():%Y-%m-%dT%H-%M-%S-%fZ}"
    for path in files:
        target = aside / path.relative_to(job.output)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    say(f"moved {len(files)} {kind} files to {aside}")
    job.journal.write("set_aside", folder=aside, files=[path.name for path in files])


def note_epoch(job: Job, epoch: int) -> None:
    """Say that an epoch's checkpoint is complete, or what is wrong with it, while it can help."""
    if epoch not in job.epochs:
        return
    if problem := checkpoints.problem(job.output, job.name, epoch):
        say(f"epoch {epoch}: {problem}")
        return
    path = checkpoints.checkpoint_path(job.output, job.name, epoch)
    pruned, size = _prune(job.output, job.name, epoch), path.stat().st_size
    job.journal.write("checkpoint", epoch=epoch, file=path, size=size, pruned=pruned)
    say(f"epoch {epoch}: {path.name}")


def _prune(output: Path, name: str, newest: int) -> list[str]:
    """Delete states but the two newest, once the one after epoch `newest` is proved complete."""
    record = read_record(output, name)
    there = {epoch: path for epoch, path in checkpoints.states(output, name) if epoch <= newest}
    state = there.get(newest)
    if record is None or state is None or not _can_resume(state, record):
        return []
    weights = {state.name: sha256(state / checkpoints.WEIGHTS)}
    update(output, name, hashes=record.hashes | weights)
    old = [*there.values()][2:]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]
