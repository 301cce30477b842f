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
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# A state's file of the LoRA's weights in fp32: the only one without a checksum inside.
WEIGHTS = "model.safetensors"
_NAMED = re.compile(r"(.+?)(?:-(\d{6}))?(-step\d{8})?", re.DOTALL)
# What networks/lora.py makes for Stable Diffusion 1.x.
_TENSOR = re.compile(
    r"lora_(?:te_text_model|unet_(?:down|mid|up)_blocks?)_\w+\.(?:lora_(?:down|up)\.weight|alpha)"
)
# In each type of number, the bits that are all set in infinity and NaN, and in nothing else.
_NOT_FINITE = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}


def checkpoint_path(output: Path, name: str, epoch: int) -> Path:
    """The trainer's name for an epoch's checkpoint (tu:5771)."""
    return output / f"{name}-{epoch:06d}.safetensors"


def epoch_of(file: str, name: str) -> int:
    """The epoch of a checkpoint or state of the run `name` by its file's name; 0 for any other."""
    match = re.fullmatch(re.escape(name) + r"-(\d{6})(-state|\.safetensors)", file)
    return int(match[1]) if match else 0


def left_by(output: Path, name: str) -> list[Path]:
    """Every checkpoint, state folder and sample that a run of this name left in `output`."""
    files = re.compile(re.escape(name) + r"(-\d{6}|-step\d{8})?(-state|\.safetensors)")
    samples = re.compile(re.escape(name) + r"_e?\d{6}_\d{2}_.*\.png")
    left = [path for path in output.glob("*") if files.fullmatch(path.name)]
    left += [path for path in (output / "sample").glob("*") if samples.fullmatch(path.name)]
    return sorted(left)


def number_last(output: Path, name: str, epoch: int) -> None:
    """Give the last epoch's file, which the trainer leaves without one (tu:5781), its number."""
    unnumbered, numbered = output / f"{name}.safetensors", checkpoint_path(output, name, epoch)
    if unnumbered.exists() and not numbered.exists():
        unnumbered.rename(numbered)


def opened(path: Path) -> tuple[list[str], dict[str, str]]:
    """A complete safetensors file's tensors by name, and its metadata."""
    # Compiled, and without types for what it exports.
    library: Any = importlib.import_module("safetensors")
    try:
        with library.safe_open(path, framework="numpy") as file:
            return list(file.keys()), file.metadata() or {}
    except FileNotFoundError as error:
        raise TrainerError(f"{path.name}: there is no such file") from error
    except (library.SafetensorError, OSError) as error:
        raise TrainerError(f"{path.name}: incomplete or damaged: {error}") from error


def read_epoch(path: Path) -> int:
    """The epoch of a complete checkpoint, by its header."""
    epoch = _epoch_in(opened(path)[1])
    if epoch is None:
        raise TrainerError(f"{path.name}: no epoch in its metadata: the trainer did not write it")
    return epoch


def _epoch_in(metadata: Mapping[str, str]) -> int | None:
    """The epoch that the trainer wrote into a file, if it is one that a run can have."""
    text = metadata.get("ss_epoch", "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def problem(output: Path, name: str, epoch: int) -> str | None:
    """Why an epoch's checkpoint, with its number or still without, is not complete; else None."""
    path, unnumbered = checkpoint_path(output, name, epoch), output / f"{name}.safetensors"
    path = path if path.exists() or not unnumbered.exists() else unnumbered
    try:
        carried = read_epoch(path)
    except TrainerError as error:
        return str(error)
    return None if carried == epoch else f"{path.name}: carries epoch {carried}"


def states(output: Path, name: str) -> list[tuple[int, Path]]:
    """The numbered state folders, newest first; the final one is written too early for a resume."""
    numbered = ((epoch_of(path.name, name), path) for path in output.glob("*-state"))
    return sorted((each for each in numbered if each[0]), reverse=True)


def corruption(state: Path, *, scaled: bool = False) -> str | None:
    """Why a state cannot be resumed from, or None where it is complete.

    Torch's own files are zip archives: their checksums need no torch. `scaled`: a run in fp16, of
    which the trainer would pass over a missing scaler.pt and scale the loss anew.
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


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA by the name of its run; `epoch` is None where it is not known, or between epochs."""

    path: Path
    name: str
    epoch: int | None
    clip_skip: int | None
    sha256: str
    size: int


def identify(path: Path) -> Lora:
    """What a checkpoint is, by its content; ConfigError where it cannot be tested here."""
    try:
        names, metadata = opened(path)
        # A whole model of several GB is not read: its names tell.
        strange = [name for name in names or ["no weights"] if not _TENSOR.fullmatch(name)]
        if strange:
            wanted = "a LoRA of networks.lora for Stable Diffusion 1.5"
            raise ConfigError(f"{path}: not {wanted}: it holds {strange[0]}")
        content = path.read_bytes()
    except (TrainerError, OSError) as error:
        raise ConfigError(f"{path.parent}/{error}") from error
    if spoilt := _not_finite(content):
        raise ConfigError(f"{path}: training diverged: {spoilt} holds NaN or infinity")
    match = _NAMED.fullmatch(path.stem)
    name, number, step = match.groups() if match else (path.stem, "", None)
    # The trainer writes None where nothing was asked for.
    said = {key: text for key, text in metadata.items() if text != "None"}
    clip_skip = said.get("ss_clip_skip", "")
    return Lora(
        path=path,
        name=said.get("ss_output_name", name),
        epoch=None if step else _epoch_in({"ss_epoch": number or "", **metadata}),
        clip_skip=int(clip_skip) if re.fullmatch(r"[0-9]{1,3}", clip_skip) else None,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
    )


def _not_finite(content: bytes) -> str | None:
    """A tensor that holds NaN or infinity; by the bits, since numpy has no bfloat16."""
    import numpy as np

    library: Any = importlib.import_module("safetensors")
    for name, row in library.deserialize(content):
        kind, bits = _NOT_FINITE.get(row["dtype"], ("", 0))
        if kind and ((np.frombuffer(row["data"], kind) & bits) == bits).any():
            return str(name)
    return None
