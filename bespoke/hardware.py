"""What this machine has for training, found without importing torch."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.processes import answer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
# MiB of a GPU's memory that are a run's own, where several runs share it.
SHARE = "BESPOKE_GPU_SHARE_MIB"
QUERY = ("name", "memory.total", "driver_version", "memory.used", "compute_cap", "uuid")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as its driver reports it; memory in MiB, `capability` as (8, 6).

    `number` and `uuid` are nvidia-smi's. `share_mib` is what this process was told to keep to.
    """

    name: str
    memory_mib: int
    driver: str
    used_mib: int = 0
    capability: tuple[int, int] | None = None
    number: int = 0
    uuid: str = ""
    share_mib: int | None = None

    @property
    def free_mib(self) -> int:
        """What this process may use: its share, whatever those that it is shared with use now."""
        return self.memory_mib - self.used_mib if self.share_mib is None else self.share_mib


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan is made for; memory and disk in MiB, `cores` those this process may use."""

    gpus: tuple[Gpu, ...] = ()
    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    xformers: bool = False


def machine(workspace: Path) -> Machine:
    """The machine as this process may use it: a container's limits count, not the host's."""
    return Machine(
        gpus=gpus(),
        cores=cores(),
        memory_mib=memory_mib(),
        disk_mib=shutil.disk_usage(workspace).free >> 20,
        xformers=xformers_loads(),
    )


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that the trainer would see; none where there is no driver."""
    printed = answer(
        ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    )
    rows = [[cell.strip() for cell in line.split(",")] for line in (printed or "").splitlines()]
    numbered = list(enumerate(rows))
    numbered = [(at, row) for at, row in numbered if len(row) == len(QUERY) and row[1].isdigit()]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        wanted = [name.strip() for name in chosen.split(",")]
        numbered = [(at, row) for at, row in numbered if str(at) in wanted or row[5] in wanted]
    share = os.environ.get(SHARE, "")
    return tuple(
        Gpu(
            name=name,
            memory_mib=int(total),
            driver=driver,
            used_mib=int(used) if used.isdigit() else 0,
            capability=_capability(capability),
            number=at,
            uuid=uuid,
            share_mib=int(share) if share.isdigit() else None,
        )
        for at, (name, total, driver, used, capability, uuid) in numbered
    )


def _capability(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def cores() -> int:
    """Processors that this process may use, by its affinity and its container's quota."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = _told(CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        allowed = min(allowed, -(-int(quota) // int(period)))
    return max(1, allowed)


def memory_mib() -> int:
    """The machine's memory, or the container's limit where that is less."""
    rows = [line.split() for line in _told(MEMINFO).splitlines() if line.startswith("MemTotal:")]
    total = int(rows[0][1]) >> 10 if rows else 0
    limit = _told(CGROUP / "memory.max")
    return min(total, int(limit) >> 20) if limit.isdigit() else total


def _told(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


# The torch that xformers' kernels were built for; with another one they do not load.
XFORMERS_TORCH = {"0.0.35": "2.10.0"}


def xformers_loads() -> bool:
    """Whether xformers is here beside the torch that its kernels were built for."""
    from importlib import metadata

    versions = {}
    for name in ("torch", "xformers"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name).partition("+")[0]
    wanted = XFORMERS_TORCH.get(versions.get("xformers", ""))
    return wanted is not None and versions.get("torch") == wanted


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
