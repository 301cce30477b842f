"""Runs are spread over the GPUs, and no more go onto one than its memory and its speed allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bespoke.hardware import SHARE, Gpu, Machine
from bespoke.places import Place, crowding, places

if TYPE_CHECKING:
    from bespoke.places import Needed

H200, RTX_4090, OLD = 143_771, 24_564, 8_192


def machine(*memory: int, used: int = 0) -> Machine:
    gpus = tuple(
        Gpu(name="a GPU", memory_mib=mib, driver="570.1", used_mib=used, number=number)
        for number, mib in enumerate(memory)
    )
    return Machine(gpus=gpus, memory_mib=16_000)


def needs(mib: int | None) -> Needed:
    """What a run of the fastest way needs, or a smaller one where that would not fit."""
    return lambda on: mib if mib is None or not on.gpus or on.gpus[0].free_mib > mib else mib // 2


def spread(
    on: Machine,
    *,
    mib: int | None = 9342,
    runs: int = 99,
    at_once: int | None = None,
    mps: bool = False,
) -> list[str]:
    found = places(on, needs(mib), runs=runs, at_once=at_once, mps=mps)
    return [str(place).removeprefix("GPU ") for place in found]


def shares(on: Machine, *, runs: int = 99, at_once: int | None = None) -> list[str | None]:
    found = places(on, needs(9342), runs=runs, at_once=at_once)
    return [place.variables.get(SHARE) for place in found]


@pytest.mark.parametrize(("memory", "count"), [(H200, 4), (RTX_4090, 2), (16_384, 1), (OLD, 1)])
def test_a_gpu_takes_what_its_memory_holds_and_no_more_than_fill_its_time(
    memory: int, count: int
) -> None:
    assert spread(machine(memory)) == ["0"] * count


def test_through_mps_more_runs_fill_a_gpu_and_its_memory_still_decides() -> None:
    assert spread(machine(H200), mps=True) == ["0"] * 6
    assert spread(machine(RTX_4090), mps=True) == ["0"] * 2


def test_every_gpu_has_its_first_run_before_any_has_its_second() -> None:
    assert spread(machine(H200, H200)) == ["0", "1"] * 4
    assert spread(machine(RTX_4090, H200)) == ["0", "1", "0", "1", "1", "1"]
    assert spread(machine(H200, H200, H200, H200), at_once=2) == ["0", "1"]
    assert spread(machine(H200, H200), runs=3) == ["0", "1", "0"]


def test_what_runs_need_and_what_others_use_decide_how_many_fit() -> None:
    assert spread(machine(RTX_4090), mib=20_000) == ["0"]
    assert spread(machine(RTX_4090), mib=3394) == ["0"] * 4
    assert spread(machine(RTX_4090, used=3000)) == ["0"]


def test_what_was_never_measured_goes_alone_unless_a_person_says_more() -> None:
    assert spread(machine(H200), mib=None) == ["0"]
    assert spread(machine(H200), mib=None, at_once=2) == ["0", "0"]


def test_runs_that_share_a_gpu_are_told_their_part_and_one_alone_is_not() -> None:
    assert shares(machine(RTX_4090, used=564)) == ["12000", "12000"]
    assert shares(machine(RTX_4090), at_once=3) == ["8188"] * 3
    assert shares(machine(RTX_4090, H200), runs=3) == ["12282", None, "12282"]
    assert shares(machine(), at_once=2) == [None, None]


def test_without_a_gpu_it_is_one_at_a_time_unless_a_person_says_more() -> None:
    assert spread(machine()) == ["the CPU"]
    assert spread(machine(), at_once=3) == ["the CPU"] * 3


def test_more_than_fit_are_warned_of_with_the_gpu_and_both_numbers() -> None:
    on = machine(RTX_4090)
    assert crowding(places(on, needs(9342), runs=9), on, needs(9342)) == []
    # Each would be planned smaller on its part: what is warned of is what does not fit even then.
    assert crowding(places(on, needs(9342), runs=9, at_once=3), on, needs(9342)) == []
    (warning,) = crowding(places(on, needs(9342), runs=9, at_once=5), on, needs(9342))
    assert warning.startswith("5 runs at once on GPU 0 may need 23 GiB and a margin, and it has 24")
    on = machine()
    (warning,) = crowding(places(on, needs(9342), runs=9, at_once=2), on, needs(9342))
    assert "on the CPU may need 18 GiB and a margin, and it has 16" in warning


def test_a_process_in_a_place_sees_that_gpu_alone_as_nvidia_smi_numbers_it() -> None:
    inherited = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert Place(gpu="1", variables={SHARE: "5"}).environment(inherited) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        SHARE: "5",
    }
    assert Place(gpu=None).environment(inherited) == inherited
