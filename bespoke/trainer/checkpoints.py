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
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path


# A state's file of the LoRA's weights in fp32: the only one without a checksum inside.
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a complete LoRA file says of itself; `epoch` counts from 1."""

    path: Path
    epoch: int
    rank: str
    alpha: str
    tensors: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA for Stable Diffusion 1.5, whatever its file is called.

    `name` is what its run called it. `epoch` counts from 1; None where neither the file's content
    nor its name says one, and for one taken at a `step` between epochs. `notes` are for a person.
    """

    path: Path
    name: str
    epoch: int | None
    step: int | None
    rank: int
    clip_skip: int | None
    sha256: str
    size: int
    notes: tuple[str, ...] = ()


# The trainer's names (tu:5771-5790), and what a browser adds to a second copy of a download.
_NAMED = re.compile(
    r"(?P<name>.+?)(?:-(?P<epoch>\d{6}))?(?:-step(?P<step>\d{8}))?(?: ?\(\d+\))?\.safetensors"
)
# What networks/lora.py makes for Stable Diffusion 1.x; what other files' tensors are called.
_OURS = re.compile(
    r"lora_(?:te_text_model|unet_(?:down|mid|up)_blocks?)_\w+\.(?:lora_(?:down|up)\.weight|alpha)"
)
_FOREIGN: tuple[tuple[str, str], ...] = (
    (r"lora_unet_(double|single)_blocks_", "a LoRA for Flux"),
    (r"lora_unet_joint_blocks_", "a LoRA for Stable Diffusion 3"),
    (r"lora_te[12]_|lora_unet_(in|out)put_blocks_", "a LoRA for Stable Diffusion XL"),
    (r".*\.(hada_|lokr_|oft_|dora_scale|diff$)", "a LoRA of another kind"),
    (r"(unet|text_encoder|transformer|base_model)\..*lora", "a LoRA of diffusers' form"),
    (
        r"(model\.diffusion_model|conditioner|cond_stage_model|down_blocks|text_model)\.",
        "a whole model or a part of one, and no LoRA",
    ),
)
# Inputs of the text encoder and of the UNet's attention to it: they tell the base model.
_WIDE = re.compile(r".*(?:attn2_to_[kv]|layers_\d+_self_attn_[qkv]_proj)\.lora_down\.weight")
_WIDTHS = {768: "", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
# In each type of number, the bits that are all set in infinity and NaN, and in nothing else.
_NOT_FINITE = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}


def checkpoint_path(output: Path, name: str, epoch: int) -> Path:
    """`{name}-000004.safetensors`: the trainer's name for epoch 4 (tu:5771)."""
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
    pattern = re.compile(re.escape(name) + r"(-\d{6}|-step\d{8})?(-state|\.safetensors)")
    picture = re.compile(re.escape(name) + r"_e?\d{6}_\d{2}_.*\.png")
    found = [path for path in output.glob("*") if pattern.fullmatch(path.name)]
    found += [path for path in (output / "sample").glob("*") if picture.fullmatch(path.name)]
    return sorted(found)


def epoch_of(file: str, name: str) -> int | None:
    """The number of a checkpoint's or state's epoch, by its file's name."""
    match = re.fullmatch(re.escape(name) + r"-(\d{6})(-state|\.safetensors)", file)
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


def opened(path: Path) -> tuple[list[str], dict[str, str]]:
    """A safetensors file's tensors by name and its metadata; the library holds sizes to the file.

    Raises:
        TrainerError: where the file is missing or cut off.
    """
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
    """What a checkpoint is, by its content first and its name second.

    Raises:
        ConfigError: where it is missing, cut off, of another model, or no LoRA, saying which.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        names, told = opened(path)
        # A whole model of several GB is not read: its names tell.
        if wrong := _foreign(names):
            raise ConfigError(f"{path}: is {wrong}")
        content = path.read_bytes()
    except (TrainerError, OSError) as error:
        why = str(error).removeprefix(f"{path.name}: ")
        raise ConfigError(f"{path}: {why}; copy it again, if it is a .safetensors file") from error
    library: Any = importlib.import_module("safetensors")
    tensors = dict(library.deserialize(content))
    if wrong := _unusable(tensors, told):
        raise ConfigError(f"{path}: {wrong}")
    match = _NAMED.fullmatch(path.name)
    named: dict[str, Any] = match.groupdict() if match else {}
    step = int(named["step"]) if named.get("step") else None
    by_name = int(named["epoch"]) if named.get("epoch") else None
    inside = _epoch_in(told)
    epoch = by_name if inside is None else inside
    notes = []
    if step is None and by_name is not None and epoch != by_name:
        notes.append(f"{path.name}: is of epoch {epoch} by its content, which counts")
    output_name = told.get("ss_output_name", "None")
    clip_skip = told.get("ss_clip_skip", "None")
    return Lora(
        path=path,
        name=named.get("name", path.stem) if output_name == "None" else output_name,
        epoch=None if step is not None else epoch,
        step=step,
        rank=max(row["shape"][0] for name, row in tensors.items() if "lora_down" in name),
        clip_skip=int(clip_skip) if re.fullmatch(r"[0-9]{1,3}", clip_skip) else None,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        notes=tuple(notes),
    )


def _foreign(names: Sequence[str]) -> str | None:
    """What else a file of these tensors is, or None where it is a LoRA of networks.lora."""
    for pattern, what in _FOREIGN:
        if any(re.match(pattern, name) for name in names):
            return f"{what}; a LoRA of networks.lora for Stable Diffusion 1.5 is needed"
    strange = next((name for name in names if not _OURS.fullmatch(name)), None)
    if strange is not None or not any("lora_down" in name for name in names):
        return f"no LoRA that the trainer writes: it holds {strange or 'no weights'}"
    return None


def _unusable(tensors: Mapping[str, Mapping[str, Any]], told: Mapping[str, str]) -> str | None:
    """Why these weights cannot be tested here, or None where they can."""
    import numpy as np

    version = told.get("ss_base_model_version", "sd_v1")
    widths = {row["shape"][1] for name, row in tensors.items() if _WIDE.fullmatch(name)}
    other = next((_WIDTHS.get(width, f"width {width}") for width in sorted(widths - {768})), None)
    if other is not None or not version.startswith("sd_v1"):
        return f"is a LoRA for {other or version}, and not for Stable Diffusion 1.5"
    for name, row in tensors.items():
        # By the bits: numpy has no bfloat16.
        kind, bits = _NOT_FINITE.get(row["dtype"], ("", 0))
        if kind and ((np.frombuffer(row["data"], kind) & bits) == bits).any():
            return f"{name} holds values that are no numbers: training diverged"
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Open a LoRA file's header.

    Raises:
        TrainerError: where the file is missing, cut off, or carries no epoch.
    """
    names, metadata = opened(path)
    epoch = _epoch_in(metadata)
    if epoch is None:
        raise TrainerError(f"{path.name}: no epoch in its metadata: the trainer did not write it")
    return Checkpoint(
        path=path,
        epoch=epoch,
        rank=metadata.get("ss_network_dim", "?"),
        alpha=metadata.get("ss_network_alpha", "?"),
        tensors=len(names),
        size=path.stat().st_size,
    )


def _epoch_in(metadata: Mapping[str, str]) -> int | None:
    """The epoch that the trainer wrote into a file, if it is one that a run can have."""
    text = metadata.get("ss_epoch", "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def verify(output: Path, name: str, epochs: Sequence[int]) -> list[Checkpoint]:
    """The run's checkpoints, once all are there, complete, and carry the epochs asked for.

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
    found = ((epoch_of(path.name, name), path) for path in output.glob("*-state"))
    return sorted(((epoch, path) for epoch, path in found if epoch is not None), reverse=True)


def corruption(state: Path, *, scaled: bool = False) -> str | None:
    """Why a state cannot be resumed from, or None where it is complete.

    It is written file by file, random_states_0.pkl last, and nothing of it is atomic. Torch's own
    files are zip archives, so their checksums can be read without torch. `scaled` where the run is
    in fp16: the trainer would pass over a scaler.pt that is missing, and scale its loss anew.
    """
    if not (state / "random_states_0.pkl").is_file():
        return "random_states_0.pkl, which is written last, is missing"
    names = ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"]
    if scaled or (state / "scaler.pt").exists():
        names.append("scaler.pt")
    name = "train_state.json"
    # Whatever damaged bytes lead to in a library, the state before this one may still be good.
    try:
        if not isinstance(json.loads((state / name).read_bytes())["current_epoch"], int):
            return f"{name}: names no epoch"
        name = WEIGHTS
        opened(state / name)
        for name in names:
            with zipfile.ZipFile(state / name) as archive:
                if broken := archive.testzip():
                    return f"{name}: {broken} does not match its checksum"
    except Exception as error:  # noqa: BLE001
        return f"{name}: {type(error).__name__}: {error}"
    return None
