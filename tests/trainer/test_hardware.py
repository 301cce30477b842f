"""What the machine has is read from its driver, and nothing is read where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bespoke.trainer import hardware

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
        'echo "NVIDIA GeForce RTX 4090, 24564, 310, 8.9, GPU-aa"; '
        'echo "NVIDIA H200, 143771, 0, 9.0, GPU-bb"',
        monkeypatch,
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    rtx = hardware.Gpu(
        name="NVIDIA GeForce RTX 4090",
        memory_mib=24564,
        used_mib=310,
        capability=(8, 9),
        uuid="GPU-aa",
    )
    h200 = hardware.Gpu(
        name="NVIDIA H200",
        memory_mib=143771,
        capability=(9, 0),
        number=1,
        uuid="GPU-bb",
    )
    assert hardware.gpus() == (rtx, h200)
    assert rtx.free_mib == 24254
    for chosen, seen in [("1", (h200,)), ("GPU-aa", (rtx,)), ("0,1", (rtx, h200)), ("", ())]:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert hardware.gpus() == seen


def test_what_the_driver_does_not_know_is_not_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "Old Card, 8192, [N/A], [N/A], GPU-cc"', monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = hardware.gpus()
    assert (gpu.used_mib, gpu.capability) == (0, None)


@pytest.mark.parametrize(
    ("capability", "said"), [("6.1", "6.1, and torch 2.10 needs 7.0"), ("7.0", ""), ("[N/A]", "")]
)
def test_a_gpu_that_torch_has_no_kernels_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, said: str
) -> None:
    driver(tmp_path, f'echo "GTX 1060, 6144, 0, {capability}, GPU-dd"', monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (gpu,) = hardware.gpus()
    assert said in (gpu.too_old or "")
    assert bool(gpu.too_old) == bool(said)


def test_a_driver_that_fails_or_is_missing_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "NVIDIA-SMI has failed" >&2; exit 9', monkeypatch)
    assert hardware.gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert hardware.gpus() == ()
