"""What this machine has for training, found without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.processes import answer

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as its driver reports it; memory in MiB."""

    name: str
    memory_mib: int
    driver: str


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the driver shows this process; none where there is no driver."""
    query = "--query-gpu=name,memory.total,driver_version"
    printed = answer(["nvidia-smi", query, "--format=csv,noheader,nounits"])
    found = []
    for line in (printed or "").splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and cells[1].isdigit():
            found.append(Gpu(name=cells[0], memory_mib=int(cells[1]), driver=cells[2]))
    return tuple(found)


def smaller(options: Mapping[str, Any]) -> dict[str, Any]:
    """The training options to change for less memory at the same effective batch; {} at the end.

    Checkpointing first, which recomputes instead of keeping; then half the batch with twice the
    accumulation.
    """
    if not options.get("gradient_checkpointing"):
        return {"gradient_checkpointing": True}
    batch = int(options.get("train_batch_size", 1))
    if batch % 2:
        return {}
    steps = int(options.get("gradient_accumulation_steps", 1))
    return {"train_batch_size": batch // 2, "gradient_accumulation_steps": steps * 2}
