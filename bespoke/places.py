"""Where several runs can train at once: on each GPU as many as its memory and its speed allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bespoke.hardware import Gpu

# The most that one run takes of a GPU: 9.4 GB were measured at batch 4 in bf16 without
# checkpointing, and 37 GB for four at once.
PEAK_MIB = 9_600
# So many runs filled an H200's time (100% busy, 11 steps a second together): more bring nothing.
SATURATED_BY = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """Room for one run: `gpu` as CUDA_VISIBLE_DEVICES names it, None where there is no GPU."""

    gpu: str | None
    number: int = 0

    def __str__(self) -> str:
        return "the CPU" if self.gpu is None else f"GPU {self.gpu}"

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What a process needs to see this GPU alone, numbered as nvidia-smi numbers them."""
        if self.gpu is None:
            return dict(inherited)
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return {**inherited, **order, "CUDA_VISIBLE_DEVICES": self.gpu}


def devices(
    gpus: Sequence[Gpu], visible: str | None, machine_mib: int
) -> dict[str, int] | dict[None, int]:
    """What can be trained on, each with its memory in MiB: the GPUs, or the machine itself (None).

    `visible` is CUDA_VISIBLE_DEVICES where a person set it: other GPUs are left alone. One that it
    names by its UUID counts with the least memory there is.
    """
    memory = {str(index): gpu.memory_mib for index, gpu in enumerate(gpus)}
    if memory and visible is not None:
        named = [name.strip() for name in visible.split(",") if name.strip()]
        memory = {name: memory.get(name, min(memory.values())) for name in named}
    return memory or {None: machine_mib}


def places(
    memory: Mapping[str, int] | Mapping[None, int],
    *,
    at_once: int | None = None,
    peak_mib: int = PEAK_MIB,
) -> tuple[Place, ...]:
    """Every place on `devices`, the first of each before the second of any; one without a GPU.

    `at_once` is a person's own number, which may be more than fit.
    """
    fits = {
        gpu: 1 if gpu is None else min(SATURATED_BY, max(1, mib // peak_mib))
        for gpu, mib in memory.items()
    }
    levels = range(at_once or SATURATED_BY)
    every = [Place(gpu=gpu, number=level) for level in levels for gpu in memory]
    fitting = [place for place in every if place.number < fits[place.gpu]]
    beyond = [place for place in every if place not in fitting] if at_once else []
    return tuple([*fitting, *beyond][:at_once])


def crowding(
    chosen: Sequence[Place],
    memory: Mapping[str, int] | Mapping[None, int],
    *,
    peak_mib: int = PEAK_MIB,
) -> list[str]:
    """A warning for each device whose memory these places outgrow."""
    found = []
    for gpu, mib in memory.items():
        count = sum(place.gpu == gpu for place in chosen)
        if count > 1 and count * peak_mib > mib:
            found.append(
                f"{count} runs at once on {Place(gpu=gpu)} may need {count * peak_mib / 1024:.0f} "
                f"GiB, and it has {mib / 1024:.0f}: lower --at-once if one runs out of memory"
            )
    return found
