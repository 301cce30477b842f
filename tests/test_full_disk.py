"""A disk that is full at any phase ends a run with one line and 4, and room lets it resume."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.rehearsals import aimed, command, run
from tests.test_interrupted import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PHASES = ("/logs/", "receipt.toml", ".run.json", "train.log", "/output/tests/", "record.sqlite")
# Fills the disk that the file is on, to its last byte.
FILL = """
filler = os.open({!r}, os.O_WRONLY | os.O_CREAT)
for size in (1 << 20, 1 << 12, 1):
    try:
        while True:
            os.write(filler, bytes(size))
    except OSError:
        pass
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: it takes root and the right to mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("phase", PHASES)
def test_a_disk_that_is_full_is_one_line_and_the_same_command_resumes_once_there_is_room(
    small_disk: Path, phase: str
) -> None:
    filler = small_disk / "filler"
    words = command(small_disk / "place")
    done = run(aimed(phase, FILL.format(str(filler)), words))
    assert filler.exists(), f"nothing was opened whose path holds {phase}"
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    remedy = f"no space left on the disk of {small_disk}/"
    assert remedy in done.stderr or "No space left on device" in done.stderr
    filler.unlink()
    assert run(words).returncode == 0
    assert [epoch for epoch, _ in outcome(small_disk / "place")["epochs"]] == [1, 2, 3]
