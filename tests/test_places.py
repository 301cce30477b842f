"""Runs are spread over the GPUs, and no more go onto one than its memory and its speed allow."""

from __future__ import annotations

import pytest

from bespoke.hardware import Gpu
from bespoke.places import Place, crowding, devices, places

H200, RTX_4090, OLD = 143_771, 24_564, 8_192
RAM = 64_000


def machine(*memory: int) -> tuple[Gpu, ...]:
    return tuple(Gpu(name="a GPU", memory_mib=mib, driver="570.1") for mib in memory)


def spread(*memory: int, visible: str | None = None, at_once: int | None = None) -> list[str]:
    found = places(devices(machine(*memory), visible, RAM), at_once=at_once)
    return [str(place).removeprefix("GPU ") for place in found]


@pytest.mark.parametrize(("memory", "count"), [(H200, 4), (RTX_4090, 2), (16_384, 1), (OLD, 1)])
def test_a_gpu_takes_what_its_memory_holds_and_no_more_than_fill_its_time(
    memory: int, count: int
) -> None:
    assert spread(memory) == ["0"] * count


def test_every_gpu_has_its_first_run_before_any_has_its_second() -> None:
    assert spread(H200, H200) == ["0", "1"] * 4
    assert spread(RTX_4090, H200) == ["0", "1", "0", "1", "1", "1"]
    assert spread(H200, H200, H200, H200, at_once=2) == ["0", "1"]


def test_a_larger_measured_peak_leaves_fewer_places() -> None:
    assert len(places(devices(machine(RTX_4090), None, RAM), peak_mib=20_000)) == 1


def test_gpus_that_a_person_left_out_of_sight_are_left_alone() -> None:
    assert spread(H200, OLD, H200, visible="2") == ["2"] * 4
    assert spread(H200, OLD, visible="GPU-5a1") == ["GPU-5a1"]
    assert spread(H200, visible="") == ["the CPU"]


def test_without_a_gpu_it_is_one_at_a_time_unless_a_person_says_more() -> None:
    assert spread() == ["the CPU"]
    assert spread(at_once=3) == ["the CPU"] * 3


def test_more_than_fit_are_warned_of_with_the_gpu_and_both_numbers() -> None:
    memory = devices(machine(RTX_4090), None, RAM)
    assert crowding(places(memory), memory) == []
    (warning,) = crowding(places(memory, at_once=3), memory)
    assert warning.startswith("3 runs at once on GPU 0 may need 28 GiB, and it has 24")
    memory = devices((), None, 16_000)
    (warning,) = crowding(places(memory, at_once=2), memory)
    assert "on the CPU" in warning


def test_a_process_in_a_place_sees_that_gpu_alone_as_nvidia_smi_numbers_it() -> None:
    inherited = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert Place(gpu="1").environment(inherited) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    assert Place(gpu=None).environment(inherited) == inherited
