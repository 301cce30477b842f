"""The files that the trainer leaves: checkpoints and states, and whether they are whole.

Facts marked "tn" and "tu" were read in train_network.py and library/train_util.py at v0.10.1.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.errors import TrainerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a whole LoRA file says of itself; `epoch` counts from 1."""

    path: Path
    epoch: int
    rank: str
    alpha: str
    tensors: int
    size: int


def checkpoint_path(output: Path, name: str, epoch: int) -> Path:
    """`{name}-000004.safetensors`: the trainer's name for epoch 4 (tu:5771)."""
    return output / f"{name}-{epoch:06d}.safetensors"


def last_path(output: Path, name: str) -> Path:
    """The last epoch's file, which the trainer leaves without a number (tu:5781)."""
    return output / f"{name}.safetensors"


def saved_epochs(epochs: int, every: int) -> list[int]:
    """The epochs after which a checkpoint is written: every `every`th, and the last (tn:1694)."""
    return [epoch for epoch in range(1, epochs + 1) if epoch % every == 0 or epoch == epochs]


def left_by(output: Path, name: str) -> list[Path]:
    """Every checkpoint, state folder and sample that a run of this name left in `output`."""
    pattern = re.compile(re.escape(name) + r"(-\d{6}|-step\d{8})?(-state|\.safetensors)")
    picture = re.compile(re.escape(name) + r"_e?\d{6}_\d{2}_.*\.png")
    found = [path for path in output.glob("*") if pattern.fullmatch(path.name)]
    found += [path for path in (output / "sample").glob("*") if picture.fullmatch(path.name)]
    return sorted(found)


def epoch_of(path: Path, name: str) -> int | None:
    """The number of a checkpoint's or state's epoch, by its file's name."""
    match = re.fullmatch(re.escape(name) + r"-(\d{6})(-state|\.safetensors)", path.name)
    return int(match[1]) if match else None


def set_aside(files: Sequence[Path], output: Path, name: str, when: datetime) -> Path:
    """Move an earlier run's files to `earlier/{name}-{time}/`, and name that folder.

    Raises:
        OSError: where they cannot be moved.
    """
    folder = output / "earlier" / f"{name}-{when.strftime('%Y-%m-%dT%H-%M-%SZ')}"
    folder.mkdir(parents=True)
    for path in files:
        target = folder / path.relative_to(output)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    return folder


def number_last(output: Path, name: str, epochs: int) -> None:
    """Give the last epoch's file its number like all the others.

    Raises:
        TrainerError: where a numbered file is there already: it is not overwritten.
    """
    unnumbered, numbered = last_path(output, name), checkpoint_path(output, name, epochs)
    if not unnumbered.exists():
        return
    if numbered.exists():
        raise TrainerError(
            f"{numbered}: is there already, so {unnumbered.name} keeps its name; move one away"
        )
    unnumbered.rename(numbered)


def _opened(path: Path) -> tuple[int, dict[str, str]]:
    """A safetensors file's number of tensors and metadata; the library holds sizes to the file."""
    import safetensors

    # Compiled, and without types for what it exports.
    library: Any = safetensors
    try:
        with library.safe_open(path, framework="numpy") as opened:
            return len(opened.keys()), opened.metadata() or {}
    except FileNotFoundError as error:
        raise TrainerError(f"{path.name}: was not written") from error
    except (library.SafetensorError, OSError) as error:
        raise TrainerError(f"{path.name}: is not whole: {error}") from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a LoRA file's header.

    Raises:
        TrainerError: where the file is missing, cut off, or carries no epoch.
    """
    tensors, metadata = _opened(path)
    epoch = metadata.get("ss_epoch", "")
    if not epoch.isdecimal():
        raise TrainerError(f"{path.name}: carries no epoch: it was not written by the trainer")
    return Checkpoint(
        path=path,
        epoch=int(epoch),
        rank=metadata.get("ss_network_dim", "?"),
        alpha=metadata.get("ss_network_alpha", "?"),
        tensors=tensors,
        size=path.stat().st_size,
    )


def verify(output: Path, name: str, epochs: Sequence[int]) -> list[Checkpoint]:
    """The run's checkpoints, once all are there, whole, and carry the epochs asked for.

    Raises:
        TrainerError: naming every file that is missing, cut off, empty or of another epoch.
    """
    found: list[Checkpoint] = []
    problems: list[str] = []
    for epoch in epochs:
        try:
            checkpoint = read_checkpoint(checkpoint_path(output, name, epoch))
        except TrainerError as error:
            problems.append(str(error))
            continue
        if checkpoint.epoch != epoch:
            problems.append(f"{checkpoint.path.name}: carries epoch {checkpoint.epoch}")
        if checkpoint.tensors == 0:
            problems.append(f"{checkpoint.path.name}: holds no weights")
        found.append(checkpoint)
    if problems:
        raise TrainerError("\n".join(problems))
    return found


def states(output: Path, name: str) -> list[tuple[int, Path]]:
    """The numbered state folders, newest first. The final one, without a number, is no use for a
    resume: it is written before the last checkpoint (facts, seen in tn).
    """
    pattern = re.compile(re.escape(name) + r"-(\d{6})-state")
    matches = [(pattern.fullmatch(path.name), path) for path in output.glob("*-state")]
    return sorted(((int(m[1]), path) for m, path in matches if m), reverse=True)


def torn(state: Path) -> str | None:
    """Why a state cannot be resumed from, or None where it is whole.

    It is written file by file, random_states_0.pkl last, and nothing of it is atomic. Torch's own
    files are zip archives, so their checksums can be read without torch.
    """
    last = state / "random_states_0.pkl"
    if not last.is_file():
        return "random_states_0.pkl, which is written last, is missing"
    try:
        told = json.loads((state / "train_state.json").read_text(encoding="utf-8"))
        if not isinstance(told.get("current_epoch"), int):
            return "train_state.json names no epoch"
        _opened(state / "model.safetensors")
    except (OSError, ValueError, AttributeError, TrainerError) as error:
        return str(error)
    archives = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl")
    for path in (*(state / name for name in archives), *state.glob("scaler.pt")):
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (OSError, zipfile.BadZipFile) as error:
            return f"{path.name}: {error}"
        if broken is not None:
            return f"{path.name}: {broken} does not match its checksum"
    return None
