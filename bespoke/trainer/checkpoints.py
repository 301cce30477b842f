"""The files that the trainer leaves: checkpoints and states, and whether they are complete.

Facts marked "tn" and "tu" were read in train_network.py and library/train_util.py at v0.10.1.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import zipfile
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


# A state's file of the LoRA's weights in fp32: the only one without a checksum inside.
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA for Stable Diffusion 1.5, whatever its file is called.

    `name` is what its run called it. `epoch` counts from 1; None where neither the file's content
    nor its name says one, and for one taken between epochs.
    """

    path: Path
    name: str
    epoch: int | None
    clip_skip: int | None
    sha256: str
    size: int


# The trainer's names (tu:5771-5790), and what a browser adds to a second copy of a download.
_NAMED = re.compile(
    r"(?P<name>.+?)(?:-(?P<epoch>\d{6}))?(?:-step(?P<step>\d{8}))?(?: ?\(\d+\))?\.safetensors"
)
# What networks/lora.py makes for Stable Diffusion 1.x.
_TENSOR = re.compile(
    r"lora_(?:te_text_model|unet_(?:down|mid|up)_blocks?)_\w+\.(?:lora_(?:down|up)\.weight|alpha)"
)
# Inputs of the text encoder and of the UNet's attention to it: their width tells the base model.
_WIDE = re.compile(r".*(?:attn2_to_[kv]|layers_\d+_self_attn_[qkv]_proj)\.lora_down\.weight")
_WIDTH = 768
# In each type of number, the bits that are all set in infinity and NaN, and in nothing else.
_NOT_FINITE = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}


def checkpoint_path(output: Path, name: str, epoch: int) -> Path:
    """The trainer's name for an epoch's checkpoint (tu:5771)."""
    return output / f"{name}-{epoch:06d}.safetensors"


def last_path(output: Path, name: str) -> Path:
    """The last epoch's file, which the trainer leaves without a number (tu:5781)."""
    return output / f"{name}.safetensors"


def saved_epochs(epochs: int, every: int | None) -> list[int]:
    """The epochs after which a checkpoint is written: every `every`th, and the last (tn:1694)."""
    every = epochs if every is None else every
    return [*range(every, epochs, every), epochs]


def left_by(output: Path, name: str) -> list[Path]:
    """Every checkpoint, state folder and sample that a run of this name left in `output`."""
    files = re.compile(re.escape(name) + r"(-\d{6}|-step\d{8})?(-state|\.safetensors)")
    samples = re.compile(re.escape(name) + r"_e?\d{6}_\d{2}_.*\.png")
    left = [path for path in output.glob("*") if files.fullmatch(path.name)]
    left += [path for path in (output / "sample").glob("*") if samples.fullmatch(path.name)]
    return sorted(left)


def epoch_of(file: str, name: str) -> int | None:
    """The number of a checkpoint's or state's epoch, by its file's name."""
    match = re.fullmatch(re.escape(name) + r"-(\d{6})(-state|\.safetensors)", file)
    return int(match[1]) if match else None


def set_aside(files: Sequence[Path], output: Path, kind: str, name: str) -> Path:
    """Move a run's files in `output` to `{kind}/{name}-{time}/` there, and return that folder."""
    when = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
    aside = output / kind / f"{name}-{when}"
    for path in files:
        target = aside / path.relative_to(output)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return aside


def number_last(output: Path, name: str, epochs: int) -> None:
    """Give the last epoch's file its number like all the others."""
    unnumbered, numbered = last_path(output, name), checkpoint_path(output, name, epochs)
    if not unnumbered.exists():
        return
    if numbered.exists():
        raise TrainerError(f"{numbered}: exists, and so does {unnumbered.name}; move one away")
    unnumbered.rename(numbered)


def opened(path: Path) -> tuple[list[str], dict[str, str]]:
    """A safetensors file's tensors by name, and its metadata."""
    # Compiled, and without types for what it exports.
    library: Any = importlib.import_module("safetensors")
    try:
        with library.safe_open(path, framework="numpy") as file:
            return list(file.keys()), file.metadata() or {}
    except FileNotFoundError as error:
        raise TrainerError(f"{path.name}: was not written") from error
    except (library.SafetensorError, OSError) as error:
        raise TrainerError(f"{path.name}: incomplete or damaged: {error}") from error


def identify(path: Path) -> Lora:
    """What a checkpoint is, by its content first and its name second."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        names, metadata = opened(path)
        # A whole model of several GB is not read: its names tell.
        strange = next((name for name in names if not _TENSOR.fullmatch(name)), None)
        if strange or not names:
            raise ConfigError(
                f"{path}: not a LoRA of networks.lora for Stable Diffusion 1.5: it holds "
                f"{strange or 'no weights'}"
            )
        content = path.read_bytes()
    except (TrainerError, OSError) as error:
        raise ConfigError(f"{path.parent}: {error}") from error
    library: Any = importlib.import_module("safetensors")
    if problem := _problem(dict(library.deserialize(content)), metadata):
        raise ConfigError(f"{path}: {problem}")
    match = _NAMED.fullmatch(path.name)
    by_name: Mapping[str, Any] = match.groupdict() if match else {}
    epoch = _epoch_in(metadata)
    if epoch is None and by_name.get("epoch"):
        epoch = int(by_name["epoch"])
    output_name = metadata.get("ss_output_name", "None")
    clip_skip = metadata.get("ss_clip_skip", "None")
    return Lora(
        path=path,
        name=by_name.get("name", path.stem) if output_name == "None" else output_name,
        epoch=None if by_name.get("step") else epoch,
        clip_skip=int(clip_skip) if re.fullmatch(r"[0-9]{1,3}", clip_skip) else None,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


def _problem(tensors: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, str]) -> str | None:
    """Why these weights cannot be tested here, or None where they can."""
    import numpy as np

    version = metadata.get("ss_base_model_version", "sd_v1")
    widths = {row["shape"][1] for name, row in tensors.items() if _WIDE.fullmatch(name)}
    if widths - {_WIDTH} or not version.startswith("sd_v1"):
        return f"not a LoRA for Stable Diffusion 1.5 (base model {version}, widths {widths})"
    for name, row in tensors.items():
        # By the bits: numpy has no bfloat16.
        kind, bits = _NOT_FINITE.get(row["dtype"], ("", 0))
        if kind and ((np.frombuffer(row["data"], kind) & bits) == bits).any():
            return f"training diverged: {name} holds NaN or infinity"
    return None


def read_epoch(path: Path) -> int:
    """The epoch of a complete checkpoint, by its header."""
    names, metadata = opened(path)
    epoch = _epoch_in(metadata)
    if epoch is None:
        raise TrainerError(f"{path.name}: no epoch in its metadata: the trainer did not write it")
    if not names:
        raise TrainerError(f"{path.name}: holds no weights")
    return epoch


def _epoch_in(metadata: Mapping[str, str]) -> int | None:
    """The epoch that the trainer wrote into a file, if it is one that a run can have."""
    text = metadata.get("ss_epoch", "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def verify(output: Path, name: str, epochs: Sequence[int]) -> list[Path]:
    """The run's checkpoints; TrainerError where one is missing, corrupt or of another epoch."""
    paths = {epoch: checkpoint_path(output, name, epoch) for epoch in epochs}
    problems = [problem for epoch, path in paths.items() if (problem := _problem_of(path, epoch))]
    if problems:
        raise TrainerError("\n".join(problems))
    return list(paths.values())


def _problem_of(path: Path, epoch: int) -> str | None:
    try:
        carried = read_epoch(path)
    except TrainerError as error:
        return str(error)
    return None if carried == epoch else f"{path.name}: carries epoch {carried}"


def states(output: Path, name: str) -> list[tuple[int, Path]]:
    """The numbered state folders, newest first. The final one, without a number, is no use for a
    resume: it is written before the last checkpoint (facts, seen in tn).
    """
    numbered = ((epoch_of(path.name, name), path) for path in output.glob("*-state"))
    return sorted(((epoch, path) for epoch, path in numbered if epoch is not None), reverse=True)


def corruption(state: Path, *, scaled: bool = False) -> str | None:
    """Why a state cannot be resumed from, or None where it is complete.

    It is written file by file, random_states_0.pkl last, and nothing of it is atomic. Torch's own
    files are zip archives, so their checksums can be read without torch. `scaled` where the run is
    in fp16: the trainer would pass over a scaler.pt that is missing, and scale its loss anew.
    """
    archives = ["random_states_0.pkl", "optimizer.bin", "scheduler.bin"]
    if scaled or (state / "scaler.pt").exists():
        archives.append("scaler.pt")
    name = "train_state.json"
    # Whatever damaged bytes lead to in a library, the state before this one may still be good.
    try:
        if not isinstance(json.loads((state / name).read_bytes())["current_epoch"], int):
            return f"{name}: names no epoch"
        name = WEIGHTS
        opened(state / name)
        for name in archives:
            with zipfile.ZipFile(state / name) as archive:
                if broken := archive.testzip():
                    return f"{name}: {broken} does not match its checksum"
    except Exception as error:  # noqa: BLE001
        return f"{name}: {type(error).__name__}: {error}"
    return None
