"""Where a run goes on: what an earlier start left, whether it is whole, and whether it is this run.

The recipe is `--resume {name}-{E:06d}-state --initial_step E*S`, with S the optimizer steps of an
epoch, and nothing else: the trainer's other options for it skip or repeat epochs (seen by running).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bespoke import checkpoints
from bespoke.errors import ConfigError, TrainerError
from bespoke.files import digest, write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from bespoke.rendering import Rendered

# Where this machine keeps things, and what each start names anew: not what the run is.
PLACES = frozenset((
    "dataset_config", "output_dir", "logging_dir", "tokenizer_cache_dir", "image_dir",
    "pretrained_model_name_or_path", "sample_prompts", "sample_every_n_epochs",
))  # fmt: skip
# A plan for less memory changes these and keeps the mathematics of a step: see hardware.py.
ADAPTED = ("train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
KEPT_STATES = 2


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run is, kept beside its checkpoints as `{name}.run.json`.

    `settings` names every option and every folder's content; `steps_per_epoch` is known once the
    trainer has said how many steps it will take. `gate` is the policy that the run began with.
    """

    settings: Mapping[str, Any]
    steps_per_epoch: int | None = None
    gate: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start: from epoch 0, from a whole state after `epoch`, or not at all (`finished`)."""

    epoch: int = 0
    state: Path | None = None
    steps_per_epoch: int | None = None
    finished: bool = False

    @property
    def arguments(self) -> list[str]:
        """What the trainer's command line needs besides, to go on from here."""
        if self.state is None or self.steps_per_epoch is None:
            return []
        done = str(self.epoch * self.steps_per_epoch)
        return ["--resume", str(self.state), "--initial_step", done]


def record_path(output: Path, name: str) -> Path:
    """The run's record."""
    return output / f"{name}.run.json"


def read_record(output: Path, name: str) -> Record | None:
    """The record of an earlier start, or None where there is none that can be read."""
    try:
        told = json.loads(record_path(output, name).read_text(encoding="utf-8"))
        settings, steps = told["settings"], told["steps_per_epoch"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    gate = told.get("gate")
    if not isinstance(settings, dict) or not (steps is None or isinstance(steps, int)):
        return None
    return Record(
        settings=settings, steps_per_epoch=steps, gate=gate if isinstance(gate, dict) else None
    )


def write_record(output: Path, name: str, record: Record) -> None:
    """Keep the record, whole.

    Raises:
        OSError: where it cannot be written.
    """
    told = json.dumps(asdict(record), indent=1, sort_keys=True)
    write_whole(record_path(output, name), told + "\n")


def settings_of(
    rendered: Rendered, data: Mapping[str, Path], base: str, commit: str | None
) -> dict[str, Any]:
    """Everything that makes this run the run it is, by name."""
    found: dict[str, Any] = {"base model": base, "trainer": commit}
    levels = [("training", rendered.training), ("dataset", rendered.general)]
    for number, block in enumerate(rendered.blocks, start=1):
        levels.append((f"dataset {number}", block.settings))
        levels += [
            (f"dataset {number} subset {count}", subset)
            for count, subset in enumerate(block.subsets, start=1)
        ]
    for section, settings in levels:
        found |= {
            f"{section}.{key}": setting.value
            for key, setting in settings.items()
            if key not in PLACES
        }
    for name, folder in data.items():
        found[f"data {name}"] = digest(folder, lambda path: not path.name.startswith("."))
    # What was written as a tuple or a path comes back from JSON as a list or text.
    return dict(json.loads(json.dumps(found, default=str)))


def decide(
    output: Path,
    name: str,
    epochs: Sequence[int],
    settings: Mapping[str, Any],
    *,
    free: Collection[str] = (),
) -> Start:
    """Where to go on, by what is in `output`; nothing there is changed.

    `epochs` are those whose checkpoints the run must leave, in order; `free` the training options
    that may be others than an earlier start's.

    Raises:
        ConfigError: where an earlier start had other settings, left files without a record, or
            left a whole state without the checkpoints before it.
    """
    left = checkpoints.left_by(output, name)
    record = read_record(output, name)
    if record is None:
        if left:
            raise ConfigError(
                f"{output}: {len(left)} files of {name} are there ({left[0].name}, …) without a "
                "record of how they were made: --fresh moves them to a dated folder"
            )
        return Start()
    changed = _changed(record.settings, settings, free)
    if changed and left:
        lines = "\n".join(f"  {line}" for line in changed)
        raise ConfigError(
            f"{name}: an earlier start had other settings, so it is not resumed:\n{lines}\n"
            "set them back to go on, or --fresh to start anew (earlier files are kept)"
        )
    steps = record.steps_per_epoch
    whole = [epoch for epoch in epochs if _whole(output, name, epoch, epochs[-1])]
    if whole == list(epochs):
        return Start(epoch=epochs[-1], steps_per_epoch=steps, finished=True)
    for epoch, state in checkpoints.states(output, name):
        if steps is None or epoch >= epochs[-1] or checkpoints.torn(state) is not None:
            continue
        if lacking := [each for each in epochs if each <= epoch and each not in whole]:
            files = ", ".join(checkpoints.checkpoint_path(output, name, e).name for e in lacking)
            raise ConfigError(
                f"{output}: {state.name} is whole, but {files} is missing or not whole: put it "
                "back to go on from there, or --fresh to start anew (earlier files are kept)"
            )
        return Start(epoch=epoch, state=state, steps_per_epoch=steps)
    if len(whole) > 1:
        raise ConfigError(
            f"{output}: {len(whole)} checkpoints of {name} are whole, and no state to go on from: "
            "--fresh starts anew (earlier files are kept)"
        )
    return Start(steps_per_epoch=steps)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str]) -> list[str]:
    keys = sorted({*before, *now} - {f"training.{key}" for key in free})
    return [
        f"{key}: its pictures or captions are others now"
        if key.startswith("data ")
        else f"{key}: was {before.get(key, 'not written')}, is {now.get(key, 'not written')}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _whole(output: Path, name: str, epoch: int, last: int) -> bool:
    """Whether this epoch's checkpoint is there and whole.

    The last epoch's may still be without its number: a start may have ended just before that.
    """
    path = checkpoints.checkpoint_path(output, name, epoch)
    if epoch == last and not path.exists():
        path = checkpoints.last_path(output, name)
    try:
        return checkpoints.read_checkpoint(path).epoch == epoch
    except TrainerError:
        return False


def clear_way(start: Start, output: Path, name: str, when: datetime) -> list[Path]:
    """Set aside whatever lies beyond `start`: torn files, and those whose state did not get whole.

    They are kept in `torn/`, under their names and the time. Returns where they went.

    Raises:
        OSError: where they cannot be moved.
    """
    moved = []
    for path in checkpoints.left_by(output, name):
        if path.parent != output or checkpoints.epoch_of(path, name) in range(1, start.epoch + 1):
            continue
        target = output / "torn" / f"{path.name}-{when.strftime('%Y-%m-%dT%H-%M-%S-%fZ')}"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        moved.append(target)
    return moved


def prune(output: Path, name: str, newest: int) -> list[str]:
    """Delete states but the two newest, once the one after epoch `newest` is proved whole.

    Returns the names of what was deleted; nothing is while the newest is not whole.
    """
    there = [(epoch, path) for epoch, path in checkpoints.states(output, name) if epoch <= newest]
    if not there or there[0][0] != newest or checkpoints.torn(there[0][1]) is not None:
        return []
    old = [path for _, path in there[KEPT_STATES:]]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]
