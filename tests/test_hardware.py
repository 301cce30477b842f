"""What the machine has is read from its driver, and nothing is read where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bespoke import hardware

if TYPE_CHECKING:
    from pathlib import Path


def driver(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an nvidia-smi on the path that answers as the real one would."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_each_gpu_is_read_with_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(
        tmp_path,
        'echo "NVIDIA GeForce RTX 4090, 24564, 550.54.15, 310, 8.9, GPU-aa"; '
        'echo "NVIDIA H200, 143771, 570.1, 0, 9.0, GPU-bb"',
        monkeypatch,
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    rtx = hardware.Gpu(
        name="NVIDIA GeForce RTX 4090",
        memory_mib=24564,
        driver="550.54.15",
        used_mib=310,
        capability=(8, 9),
        uuid="GPU-aa",
    )
    h200 = hardware.Gpu(
        name="NVIDIA H200",
        memory_mib=143771,
        driver="570.1",
        capability=(9, 0),
        number=1,
        uuid="GPU-bb",
    )
    assert hardware.gpus() == (rtx, h200)
    assert rtx.free_mib == 24254
    for chosen, seen in [("1", (h200,)), ("GPU-aa", (rtx,)), ("0,1", (rtx, h200)), ("", ())]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert hardware.gpus() == seen


def test_a_run_that_shares_a_gpu_has_its_part_however_much_the_others_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "RTX 4090, 24564, 550.1, 20000, 8.9, GPU-aa"', monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(hardware.SHARE, "12282")
    (gpu,) = hardware.gpus()
    assert (gpu.free_mib, gpu.used_mib) == (12282, 20000)


def test_what_the_driver_does_not_know_is_not_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "Old Card, 8192, 525.1, [N/A], [N/A], GPU-cc"', monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = hardware.gpus()
    assert (gpu.used_mib, gpu.capability) == (0, None)


@pytest.mark.parametrize(
    ("quota", "limit", "cores", "memory"),
    [("max 100000", "max", None, 4000), ("50000 100000", "1073741824", 1, 1024)],
)
def test_a_containers_limits_count_and_not_the_hosts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quota: str,
    limit: str,
    cores: int | None,
    memory: int,
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "meminfo").write_text("MemTotal:    4096000 kB\nMemFree: 1 kB\n")
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(hardware, "MEMINFO", tmp_path / "meminfo")
    assert hardware.cores() == (cores or len(os.sched_getaffinity(0)))
    assert hardware.memory_mib() == memory


def test_a_driver_that_fails_or_is_missing_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "NVIDIA-SMI has failed" >&2; exit 9', monkeypatch)
    assert hardware.gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert hardware.gpus() == ()
