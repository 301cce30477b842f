"""A group of processes is read to its end and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bespoke.errors import InterruptedRunError, TrainerError
from bespoke.signals import raising
from bespoke.trainer.child_process import Group, answer


def group(script: str, cwd: Path, patience: float = 10.0) -> Group:
    command = [sys.executable, "-u", "-c", script]
    return Group(command, environment=os.environ, cwd=cwd, patience=patience)


def members(pgid: int) -> list[int]:
    """The processes of a group that are not zombies, as the kernel lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pgid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_all_output_is_read_in_order_and_the_exit_code_kept(tmp_path: Path) -> None:
    with group("print('one'); import sys; sys.stderr.write('two'); sys.exit(7)", tmp_path) as it:
        assert b"".join(it.output()) == b"one\ntwo"
        assert it.wait() == 7


def test_silence_is_reported_as_time_that_went_by(tmp_path: Path) -> None:
    with group("import time; time.sleep(0.5); print('late')", tmp_path) as it:
        chunks = list(it.output(tick=0.1))
    assert chunks.count(b"") >= 2
    assert b"".join(chunks) == b"late\n"


def test_reading_ends_with_the_child_though_a_grandchild_holds_the_pipe(tmp_path: Path) -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60']); print('done')"
    started = time.monotonic()
    with group(script, tmp_path) as it:
        assert b"".join(it.output(tick=0.1)) == b"done\n"
        assert members(it.pid)
    assert time.monotonic() - started < 15
    assert members(it.pid) == []


def test_leaving_stops_children_and_grandchildren_alike(tmp_path: Path) -> None:
    script = (
        "import subprocess, time; subprocess.Popen(['sleep', '60']); print('up'); time.sleep(60)"
    )
    with group(script, tmp_path) as it:
        next(chunk for chunk in it.output() if chunk)
        assert len(members(it.pid)) == 2
    assert members(it.pid) == []
    assert it.wait() == -signal.SIGTERM


def test_a_child_that_ignores_term_is_killed_when_patience_ends(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf'); time.sleep(60)"
    )
    it = group(script, tmp_path, patience=0.5)
    next(chunk for chunk in it.output() if chunk)
    started = time.monotonic()
    it.stop()
    assert 0.5 <= time.monotonic() - started < 5
    assert it.wait() == -signal.SIGKILL


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"/no/such/program: cannot be started: No such file"):
        Group(["/no/such/program"], environment={}, cwd=tmp_path)


def test_an_answer_is_stripped_and_a_failure_is_none(tmp_path: Path) -> None:
    assert answer(["echo", " hello "]) == "hello"
    assert answer(["false"]) is None
    assert answer(["/no/such/program"]) is None
    assert answer(["sleep", "5"], timeout=0.1) is None
    assert answer(["pwd"], cwd=tmp_path) == str(tmp_path)


def test_a_signal_while_a_group_is_being_started_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caught_signals: None
) -> None:
    started = []
    popen = subprocess.Popen

    def interrupted(*arguments: object, **settings: object) -> subprocess.Popen[bytes]:
        signal.raise_signal(signal.SIGTERM)
        started.append(popen(*arguments, **settings))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr("subprocess.Popen", interrupted)
    with raising(), pytest.raises(InterruptedRunError, match="stopped by SIGTERM"):
        group("import time; time.sleep(60)", tmp_path, patience=0.2)
    child, guard = started
    # The second process of the pair was started after a second signal: nothing was waited for.
    assert child.returncode in (-signal.SIGTERM, -signal.SIGKILL)
    assert guard.returncode == -signal.SIGKILL
    assert members(child.pid) == []
