"""Where several runs can train at once: on each GPU as many as its memory and its speed allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bespoke import plan
from bespoke.hardware import SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bespoke.hardware import Gpu, Machine

    # The peak in MiB of the largest run as it is planned for a machine; None where unmeasured.
    Needed = Callable[[Machine], int | None]

VISIBLE = "CUDA_VISIBLE_DEVICES"
# So many runs fill an H100's time, and more bring little. In turns, 4 kept it 98% busy at 5 steps a
# second together; through CUDA MPS, 4 kept it 77% busy at 10.2, and 6 kept it 92% busy at 13.2.
SATURATED_BY, SATURATED_BY_MPS = 4, 6


@dataclass(frozen=True, kw_only=True)
class Place:
    """Room for one run: `gpu` as nvidia-smi numbers it, None where there is no GPU.

    `variables` tell the process what of the GPU is its own, and by which way it reaches it.
    """

    gpu: str | None
    number: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "the CPU" if self.gpu is None else f"GPU {self.gpu}"

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """What a process needs to see this GPU alone, numbered as nvidia-smi numbers them."""
        if self.gpu is None:
            return dict(inherited)
        alone = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", VISIBLE: self.gpu}
        return {**inherited, **alone, **self.variables}


def places(
    machine: Machine,
    needed: Needed,
    *,
    runs: int,
    at_once: int | None = None,
    mps: bool = False,
) -> tuple[Place, ...]:
    """At most `runs` places, the first of each GPU before the second of any; one without a GPU.

    `at_once` is a person's own number, which may be more than fit; `mps` says whether runs that
    share a GPU will reach it through CUDA MPS. They are told how much of it is theirs: what is free
    now, in equal parts, however much the others use later.
    """
    gpus = {str(gpu.number): gpu for gpu in machine.gpus}
    most = SATURATED_BY_MPS if mps else SATURATED_BY
    fits: dict[str | None, int] = {
        # A run in a place on this GPU sees no other.
        name: _holds(gpu, needed(replace(machine, gpus=(gpu,))), most)
        for name, gpu in gpus.items()
    }
    fits = fits or {None: 1}
    levels = range(at_once or most)
    every = [Place(gpu=name, number=level) for level in levels for name in fits]
    fitting = [place for place in every if place.number < fits[place.gpu]]
    beyond = [place for place in every if place not in fitting] if at_once else []
    chosen = [*fitting, *beyond][:at_once][:runs]
    count = Counter(place.gpu for place in chosen)
    return tuple(
        place
        if place.gpu is None or count[place.gpu] == 1
        else replace(place, variables={SHARE: str(gpus[place.gpu].free_mib // count[place.gpu])})
        for place in chosen
    )


def crowding(chosen: Sequence[Place], machine: Machine, needed: Needed) -> list[str]:
    """A warning for each GPU, or machine without one, whose memory these places outgrow."""
    found = []
    gpus = {str(gpu.number): gpu for gpu in machine.gpus}
    for name, count in Counter(place.gpu for place in chosen).items():
        free, on = machine.memory_mib, machine
        if name is not None:
            free = gpus[name].free_mib
            on = replace(machine, gpus=(replace(gpus[name], share_mib=free // count),))
        mib = needed(on)
        if count > 1 and mib is not None and count * plan.room_mib(mib) > free:
            found.append(
                f"{count} runs at once on {Place(gpu=name)} may need {count * mib / 1024:.0f} GiB "
                f"and a margin, and it has {free / 1024:.0f}: lower --at-once if one runs out of "
                "memory"
            )
    return found


def _holds(gpu: Gpu, needed_mib: int | None, most: int) -> int:
    """So many runs fit at once, one at least; not more than one where what they need is unknown."""
    if needed_mib is None:
        return 1
    return min(most, max(1, gpu.free_mib // plan.room_mib(needed_mib)))
