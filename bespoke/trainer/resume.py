"""Where a run resumes: what an earlier start left, whether it is complete, whether it is this run.

The recipe is `--resume {name}-{E:06d}-state --initial_step E*S`, with S the optimizer steps of an
epoch, and nothing else: the trainer's other options for it skip or repeat epochs (seen by running).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the fields' types
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from bespoke.errors import ConfigError, TrainerError
from bespoke.files import digest, sha256, write_whole
from bespoke.trainer import checkpoints

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from bespoke.experiment.rendering import Rendered

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
KEPT_STATES = 2


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """What a run is, kept beside its checkpoints as `{name}.run.json`: a resume is held to it.

    `settings` names every option and every folder's content; `steps_per_epoch` is the trainer's
    own. `decisions` are the gate's, by the epoch's number as text. `hashes` holds a sha256 by file
    name for each checkpoint and for each state's weights. A run is `completed` once its last epoch
    is tested and no gate has stopped it.
    """

    settings: Mapping[str, Any]
    steps_per_epoch: Annotated[int, Field(gt=0)] | None = None
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    completed: bool = False


_RUN_FILE = TypeAdapter(RunFile)


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start: at epoch 0, from a complete state after `epoch`, or not at all (`finished`).

    What is finished may yet lack its last test or be stopped by its gate, unless `completed`.
    """

    epoch: int = 0
    state: Path | None = None
    steps_per_epoch: int | None = None
    finished: bool = False
    completed: bool = False

    @property
    def arguments(self) -> list[str]:
        """What the trainer's command line needs besides, to resume from here."""
        if self.state is None or self.steps_per_epoch is None:
            return []
        done = str(self.epoch * self.steps_per_epoch)
        return ["--resume", str(self.state), "--initial_step", done]


def record_path(output: Path, name: str) -> Path:
    """The run's file."""
    return output / f"{name}.run.json"


def read_record(output: Path, name: str) -> RunFile | None:
    """What an earlier start wrote, or None where there is nothing that can be read."""
    try:
        return _RUN_FILE.validate_json(record_path(output, name).read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(output: Path, name: str, record: RunFile) -> None:
    """Keep the record, complete or not at all."""
    text = json.dumps(asdict(record), indent=1, sort_keys=True, default=str)
    write_whole(record_path(output, name), text + "\n")


def update(output: Path, name: str, **changes: Any) -> None:
    """Change some of what the run's file keeps; nothing where there is no such file."""
    record = read_record(output, name)
    if record is not None and record != (changed := replace(record, **changes)):
        write_record(output, name, changed)


def keep_decision(output: Path, name: str, epoch: int, decision: Mapping[str, Any]) -> None:
    """Keep what the gate decided at `epoch`, whatever becomes of the test that it rests on."""
    if record := read_record(output, name):
        update(output, name, decisions={**record.decisions, str(epoch): decision})


def keep_hashes(output: Path, name: str, epoch: int) -> None:
    """Keep the hashes of the checkpoints and states of all epochs up to `epoch`."""
    if record := read_record(output, name):
        hashes = {}
        for path in output.glob("*"):
            file = path / checkpoints.WEIGHTS if path.name.endswith("-state") else path
            if 1 <= _epoch(path.name, name) <= epoch and file.is_file():
                hashes[path.name] = record.hashes.get(path.name) or sha256(file)
        update(output, name, hashes=hashes)


def _epoch(file: str, name: str) -> int:
    return checkpoints.epoch_of(file, name) or 0


def altered(output: Path, name: str) -> list[str]:
    """A line for each checkpoint that is not the file that was trained, by its hash."""
    record = read_record(output, name)
    hashes = record.hashes if record else {}
    return [
        f"{path.name}: changed since it was trained; its scores are those of the trained file"
        for path in sorted(output.glob("*.safetensors"))
        if path.name in hashes and sha256(path) != hashes[path.name]
    ]


def settings_of(
    rendered: Rendered, data: Mapping[str, Path], base: str, commit: str | None
) -> dict[str, Any]:
    """Everything that makes this run the run it is, by name."""
    settings: dict[str, Any] = {"base model": base, "trainer": commit}
    levels = [("training", rendered.training), ("dataset", rendered.general)]
    levels += [
        (f"dataset 1 subset {number}", subset)
        for number, subset in enumerate(rendered.subsets, start=1)
    ]
    for section, options in levels:
        for key in options.keys() - PLACES:
            settings[f"{section}.{key}"] = options[key].value
    for name, folder in data.items():
        settings[f"data {name}"] = digest(folder, lambda path: not path.name.startswith("."))
    # What was written as a tuple or a path comes back from JSON as a list or text.
    return dict(json.loads(json.dumps(settings, default=str)))


def decide(
    output: Path,
    name: str,
    epochs: Sequence[int],
    settings: Mapping[str, Any],
    *,
    free: Collection[str] = (),
) -> Start:
    """Where to resume, by what is in `output`; nothing there is changed.

    `epochs` are those whose checkpoints the run must leave, in order; `free` the training options
    that may be others than an earlier start's.
    """
    left = checkpoints.left_by(output, name)
    record = read_record(output, name)
    if record is None:
        if left:
            raise ConfigError(
                f"{record_path(output, name)}: missing or unreadable, but {len(left)} files of "
                f"{name} are there ({left[0].name}, …); --fresh moves them to a dated folder and "
                "starts again"
            )
        return Start()
    changed = _changed(record.settings, settings, free)
    if changed and left:
        raise OtherSettingsError(name, changed)
    steps, last = record.steps_per_epoch, epochs[-1]
    complete = [epoch for epoch in epochs if _is_complete(output, name, epoch, last)]
    if complete == list(epochs):
        return Start(epoch=last, steps_per_epoch=steps, finished=True, completed=record.completed)
    usable = [
        (epoch, state)
        for epoch, state in checkpoints.states(output, name)
        if steps is not None and epoch < last and _can_resume(state, record, settings)
    ]
    newest, state = usable[0] if usable else (0, None)
    lacking = [each for each in epochs if each <= newest and each not in complete]
    if lacking or (state is None and len(complete) > 1):
        files = [checkpoints.checkpoint_path(output, name, each).name for each in lacking]
        raise ConfigError(
            f"{output}: cannot resume {name}: {', '.join(files) or 'every state'} is missing or "
            "incomplete; put it back, or use --fresh to start again (earlier files are kept)"
        )
    return Start(epoch=newest, state=state, steps_per_epoch=steps)


class OtherSettingsError(ConfigError):
    """What an earlier start left was trained with other settings; `changed` says with which."""

    def __init__(self, name: str, lines: Sequence[str]) -> None:
        self.changed = "\n  ".join((f"{name}: cannot resume, these settings have changed:", *lines))
        super().__init__(
            f"{self.changed}\n"
            "set them back to resume, or use --fresh to start again (earlier files are kept)"
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str]) -> list[str]:
    keys = sorted({*before, *now} - {f"training.{key}" for key in free})
    return [
        f"{key}: the pictures or captions have changed"
        if key.startswith("data ")
        else f"{key}: was {before.get(key, 'not written')}, is {now.get(key, 'not written')}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def _can_resume(state: Path, record: RunFile, settings: Mapping[str, Any]) -> bool:
    """Whether this state is complete by its own files, and by the hash that was kept."""
    scaled = settings.get("training.mixed_precision") == "fp16"
    if checkpoints.corruption(state, scaled=scaled):
        return False
    weights = state / checkpoints.WEIGHTS
    return state.name not in record.hashes or record.hashes[state.name] == sha256(weights)


def _is_complete(output: Path, name: str, epoch: int, last: int) -> bool:
    """Whether this epoch's checkpoint is there and complete.

    The last epoch's may still be without its number: a start may have ended just before that.
    """
    path = checkpoints.checkpoint_path(output, name, epoch)
    if epoch == last and not path.exists():
        path = checkpoints.last_path(output, name)
    try:
        return checkpoints.read_epoch(path) == epoch
    except TrainerError:
        return False


def beyond(start: Start, output: Path, name: str) -> list[Path]:
    """The checkpoints and states in `output` that are later than `start`, or without a number."""
    return [
        path
        for path in checkpoints.left_by(output, name)
        if path.parent == output and not 1 <= _epoch(path.name, name) <= start.epoch
    ]


def prune(output: Path, name: str, newest: int, *, scaled: bool = False) -> list[str]:
    """Delete states but the two newest, once the one after epoch `newest` is proved complete.

    Returns the names of what was deleted; nothing is while the newest is not complete.
    """
    there = [(epoch, path) for epoch, path in checkpoints.states(output, name) if epoch <= newest]
    if not there or there[0][0] != newest or checkpoints.corruption(there[0][1], scaled=scaled):
        return []
    old = [path for _, path in there[KEPT_STATES:]]
    for path in old:
        shutil.rmtree(path)
    return [path.name for path in old]
