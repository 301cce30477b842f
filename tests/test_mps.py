"""A daemon that several runs share a GPU through: it serves, or is left out, and never outlives."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bespoke import mps
from bespoke.places import VISIBLE, Place

if TYPE_CHECKING:
    from collections.abc import Callable

TRIAL = mps.TRIAL
SHARED = {"0": "GPU-aa", "3": "GPU-dd"}
CHOSEN = (
    *(Place(gpu="0", variables={"BESPOKE_GPU_SHARE_MIB": "9"}), Place(gpu="3"), Place(gpu="1")),
    *(Place(gpu="0", number=1), Place(gpu="3", number=1)),
)


@pytest.fixture
def book(mps_book: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # What a run does first on the GPU, on a machine that has none.
    monkeypatch.setattr(mps, "TRIAL", "import os; assert os.environ['CUDA_VISIBLE_DEVICES']")
    return mps_book


def daemons(book: Path) -> list[int]:
    return [int(line.split()[0]) for line in book.read_text().splitlines()]


def gone(pid: int) -> bool:
    """Ended, whether or not something has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(ready: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"nothing came of it in {seconds} s"
        time.sleep(0.05)


def test_it_is_at_hand_where_its_program_is_and_a_person_has_not_refused_it(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mps.at_hand()
    monkeypatch.setenv("BESPOKE_MPS", "0")
    assert not mps.at_hand()
    monkeypatch.setenv(mps.PIPE, "/a/daemon/of/theirs")
    assert mps.at_hand()
    monkeypatch.delenv(mps.PIPE)
    monkeypatch.delenv("BESPOKE_MPS")
    monkeypatch.setenv("PATH", "/nowhere")
    assert not mps.at_hand()


def test_runs_that_share_a_gpu_are_given_a_daemon_which_ends_with_them(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mps.through(CHOSEN, SHARED, tmp_path / "mps") as served:
        given = [place.environment({}) for place in served]
        assert book.read_text().split()[1] == "GPU-aa,GPU-dd"
        (pid,) = daemons(book)
        assert not gone(pid)
    pipe = Path(given[0][mps.PIPE])
    assert [each[VISIBLE] for each in given] == ["GPU-aa", "GPU-dd", "1", "GPU-aa", "GPU-dd"]
    assert given[0]["BESPOKE_GPU_SHARE_MIB"] == "9"
    assert [each.get(mps.PIPE) for each in given] == [str(pipe), str(pipe), None, *[str(pipe)] * 2]
    assert given[0][mps.LOG] == str(tmp_path / "mps")
    assert len(str(pipe / "control_privileged")) < 60
    assert capsys.readouterr().out == "bespoke: GPU 0, 3: shared through CUDA MPS\n"
    wait_for(lambda: gone(pid) and not pipe.exists())


@pytest.mark.parametrize(
    ("fake", "told"),
    [
        ("hangs", "it does not start (exit code 124)"),
        ("fails", "no such device: it does not start (exit code 3)"),
    ],
)
def test_a_daemon_that_does_not_start_is_named_and_left_out(
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fake: str,
    told: str,
) -> None:
    monkeypatch.setenv("FAKE", fake)
    begun = time.monotonic()
    with mps.through(CHOSEN, SHARED, tmp_path / "mps") as served:
        assert tuple(served) == CHOSEN
        assert time.monotonic() - begun < 15
    out = capsys.readouterr().out
    after = "the runs share a GPU without it, more slowly"
    assert out == f"bespoke: CUDA MPS: {mps.PROGRAM}: {told}: {after}\n"
    assert not book.exists()


def test_a_daemon_that_refuses_a_process_the_gpu_is_ended_and_left_out(
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mps, "TRIAL", TRIAL)
    # A driver's library that no process can load.
    (tmp_path / "libcuda.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with mps.through(CHOSEN, SHARED, tmp_path / "mps") as served:
        assert tuple(served) == CHOSEN
        (pid,) = daemons(book)
        wait_for(lambda: gone(pid))
    out = capsys.readouterr().out
    assert "file too short: GPU-aa cannot be used (exit code 1): the runs share" in out


def test_nothing_is_started_where_it_is_missing_not_wanted_or_another_is_there(
    book: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with mps.through(CHOSEN, {}, tmp_path / "mps") as served:
        assert served is CHOSEN
    for name, value in [("BESPOKE_MPS", "0"), (mps.PIPE, "/tmp/theirs")]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with mps.through(CHOSEN, SHARED, tmp_path / "mps") as served:
                assert served is CHOSEN
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PATH", "/nowhere")
    with mps.through(CHOSEN, SHARED, tmp_path / "mps") as served:
        assert served is CHOSEN
    assert f"there is no {mps.PROGRAM} on the PATH" in capsys.readouterr().out
    assert not book.exists()
    assert not (tmp_path / "mps").exists()


SERVING = """
import sys, time
from pathlib import Path
from bespoke import mps
mps.TRIAL = ""
with mps.through((), {"0": "GPU-aa"}, Path(sys.argv[1])):
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_bespoke_ends_no_daemon_is_left(
    book: Path, tmp_path: Path, number: signal.Signals
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SERVING, str(tmp_path / "mps")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert b"shared through" in child.stdout.readline()
    (pid,) = daemons(book)
    child.send_signal(number)
    child.communicate()
    wait_for(lambda: gone(pid))


def test_a_daemon_that_does_not_quit_is_killed(
    book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "deaf")
    monkeypatch.setattr(mps, "SERVE", mps.SERVE.replace(f"left={mps.QUIT_S}", "left=0.3"))
    with mps.through(CHOSEN, SHARED, tmp_path / "mps"):
        (pid,) = daemons(book)
        assert not gone(pid)
    assert gone(pid)
