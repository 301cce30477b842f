"""A disk that is full at any phase ends a run with one line and 4, and room lets it go on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests import aimed
from tests.test_interrupted import arguments, outcome, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHASES = (
    "/logs/", "preflight.json", "receipt.toml", ".lock", ".run.json",
    "train.log", "/output/tests/", "record.sqlite", "/reports/",
)  # fmt: skip


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here: it takes root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("phase", PHASES)
def test_a_disk_that_is_full_is_one_line_and_the_same_command_resumes_once_there_is_room(
    repository: Path, drawn: Path, small_disk: Path, phase: str
) -> None:
    filler = small_disk / "filler"
    given = arguments(small_disk / "place", drawn)
    done = aimed.rehearse(repository, phase, aimed.FILL.format(str(filler)), *given)
    assert filler.exists(), f"nothing was opened whose path holds {phase}"
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert (
        last
        == (f"bespoke: no space left on {small_disk}; free some, then run the same command again")
        or "No space left on device" in done.stderr
    )
    filler.unlink()
    run(repository, small_disk / "place", drawn)
    assert [epoch for epoch, _ in outcome(small_disk / "place")["epochs"]] == [1, 2, 3]
