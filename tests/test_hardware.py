"""What the machine has is read from its driver, and nothing is read where there is none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bespoke import hardware

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def driver(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an nvidia-smi on the path that answers as the real one would."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_each_gpu_is_read_with_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(
        tmp_path,
        'echo "NVIDIA GeForce RTX 4090, 24564, 550.54.15"; echo "NVIDIA H200, 143771, 570.1"',
        monkeypatch,
    )
    assert hardware.gpus() == (
        hardware.Gpu(name="NVIDIA GeForce RTX 4090", memory_mib=24564, driver="550.54.15"),
        hardware.Gpu(name="NVIDIA H200", memory_mib=143771, driver="570.1"),
    )


def test_a_driver_that_fails_or_is_missing_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, 'echo "NVIDIA-SMI has failed" >&2; exit 9', monkeypatch)
    assert hardware.gpus() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert hardware.gpus() == ()
