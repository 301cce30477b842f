"""What this machine has for training, found without importing torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.trainer.child_process import answer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

QUERY = ("name", "memory.total", "memory.used", "compute_cap", "uuid")
# Compute capabilities: the least that torch 2.10's kernels are built for, and bf16's first.
TORCH_NEEDS, AMPERE = (7, 0), (8, 0)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as nvidia-smi reports it; memory in MiB, `capability` as (8, 6)."""

    name: str
    memory_mib: int
    used_mib: int = 0
    capability: tuple[int, int] | None = None
    number: int = 0
    uuid: str = ""

    @property
    def free_mib(self) -> int:
        return self.memory_mib - self.used_mib

    @property
    def too_old(self) -> str | None:
        """Why the trainer's torch cannot use it, or None where it can or nobody knows."""
        if self.capability is None or self.capability >= TORCH_NEEDS:
            return None
        has, needs = (".".join(map(str, each)) for each in (self.capability, TORCH_NEEDS))
        return f"{self.name} has compute capability {has}, and torch 2.10 needs {needs} or newer"


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the trainer would see; none where there is no driver."""
    query = f"--query-gpu={','.join(QUERY)}"
    printed = answer(["nvidia-smi", query, "--format=csv,noheader,nounits"]) or ""
    rows = [[cell.strip() for cell in line.split(",")] for line in printed.splitlines()]
    seen = [
        _gpu(number, row)
        for number, row in enumerate(rows)
        if len(row) == len(QUERY) and row[1].isdigit()
    ]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return tuple(seen)
    wanted = [name.strip() for name in chosen.split(",")]
    return tuple(gpu for gpu in seen if str(gpu.number) in wanted or gpu.uuid in wanted)


def _gpu(number: int, row: list[str]) -> Gpu:
    name, total, used, capability, uuid = row
    major, _, minor = capability.partition(".")
    return Gpu(
        name=name,
        memory_mib=int(total),
        used_mib=int(used) if used.isdigit() else 0,
        capability=(int(major), int(minor)) if major.isdigit() and minor.isdigit() else None,
        number=number,
        uuid=uuid,
    )


def xformers_loads() -> bool:
    """Whether xformers is here with the torch that its kernels were built for."""
    from importlib import metadata

    try:
        versions = [metadata.version(name).partition("+")[0] for name in ("xformers", "torch")]
    except metadata.PackageNotFoundError:
        return False
    return versions == ["0.0.35", "2.10.0"]


def smaller(options: Mapping[str, Any], pinned: Collection[str] = frozenset()) -> dict[str, Any]:
    """The training options to change for less memory at the same effective batch; {} at the end.

    Checkpointing first, which recomputes instead of keeping; then half the batch with twice the
    accumulation. What is `pinned` stays.
    """
    if not options.get("gradient_checkpointing") and "gradient_checkpointing" not in pinned:
        return {"gradient_checkpointing": True}
    batch = int(options.get("train_batch_size", 1))
    if batch % 2 or {"train_batch_size", "gradient_accumulation_steps"} & {*pinned}:
        return {}
    steps = int(options.get("gradient_accumulation_steps", 1))
    return {"train_batch_size": batch // 2, "gradient_accumulation_steps": steps * 2}
