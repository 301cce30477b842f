"""One clear line and an exit code for whatever goes wrong."""

from __future__ import annotations

import errno
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from bespoke import errors
from tests.rehearsals import run

if TYPE_CHECKING:
    from pathlib import Path


def test_an_error_prints_its_lines_and_ends_with_its_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind, code in ((errors.DatasetError, 3), (errors.InterruptedRunError, 130)):
        with pytest.raises(SystemExit) as caught, errors.reported():
            raise kind("first\nsecond")
        assert caught.value.code == code
        assert capsys.readouterr().err == "bespoke: first\nbespoke: second\n"


def test_the_unexpected_is_named_and_its_traceback_kept_in_a_file_or_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught, errors.reported(lambda _: "/w/error.log"):
        raise KeyError("lost")
    assert caught.value.code == 1
    shown = capsys.readouterr().err
    assert shown == "bespoke: unexpected KeyError: 'lost'\nbespoke: traceback: /w/error.log\n"
    with pytest.raises(SystemExit), errors.reported():
        raise KeyError("lost")
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_full_disk_is_one_line_that_names_it_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, errors.reported():
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "not" / "there"))
    assert caught.value.code == 4
    disk = f"the disk of {tmp_path}/not/there"
    assert f"bespoke: no space left on {disk}; free some, then run" in capsys.readouterr().err


def test_what_goes_to_a_full_disk_or_a_closed_pipe_fails_no_second_time() -> None:
    fails = "from bespoke.errors import reported\nwith reported():\n    print('x' * 9)\n"
    program = shlex.join([sys.executable, "-c", fails])
    for shell, code in ((f"{program} >/dev/full 2>&1", 4), (f"{program} | true", 0)):
        done = run(["bash", "-o", "pipefail", "-c", shell])
        assert (done.returncode, done.stderr) == (code, "")
