"""What this machine has for training, found without importing torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bespoke.processes import answer


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


def cores() -> int:
    """The processor cores that this process may use, which a container may have cut down."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
