"""A run is well while it writes and once it has ended well; all else is told, with code 1."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

import pytest

from bespoke import cli, health
from bespoke.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path


def run(workspace: Path, *events: tuple[str, dict[str, object]], machine: str = "") -> Path:
    journal = Journal()
    folder = journal.open(workspace / "logs", "name")
    journal.write("started", machine=machine or platform.node())
    for event, facts in events:
        journal.write(event, **facts)
    journal.close()
    return folder


def ago(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def answer(workspace: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    try:
        code = cli.main(["health", "--workspace", str(workspace)])
    except SystemExit as end:
        code = int(end.code or 0)
    shown = capsys.readouterr()
    return code, (shown.out + shown.err).strip()


def test_no_run_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = answer(tmp_path, capsys)
    assert (code, text) == (1, f"bespoke: {tmp_path}: no run was started by this machine")


def test_a_run_is_well_while_its_events_or_the_trainers_log_are_young(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, ("launched", {}))
    assert answer(tmp_path, capsys) == (0, f"{folder.name}: launched, 0:00 ago")
    ago(folder / "events.jsonl", health.QUIET_S + 60)
    code, text = answer(tmp_path, capsys)
    assert (code, text) == (1, f"bespoke: {folder.name}: launched, then nothing for 31:00")
    (folder / "train.log").touch()
    assert answer(tmp_path, capsys)[0] == 0


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (("finished", {}), 0),
        (("failed", {"exit_code": 5, "message": "the gate stopped it"}), 0),
        (("failed", {"exit_code": 4, "message": "it failed"}), 1),
        (("failed", {"exit_code": None, "message": "unexpected"}), 1),
    ],
)
def test_once_it_has_ended_how_it_ended_counts_and_not_when(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    last: tuple[str, dict[str, object]],
    code: int,
) -> None:
    folder = run(tmp_path, last)
    ago(folder / "events.jsonl", 1e6)
    assert answer(tmp_path, capsys)[0] == code


def test_the_run_of_another_machine_on_the_same_volume_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = run(tmp_path, ("finished", {}))
    ago(mine / "events.jsonl", 60)
    run(tmp_path, ("failed", {"exit_code": 4}), machine="another")
    assert answer(tmp_path, capsys)[1].startswith(f"{mine.name}: finished")


def test_a_line_that_is_being_written_is_none_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, ("launched", {}))
    with (folder / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "fail')
    assert answer(tmp_path, capsys)[1].startswith(f"{folder.name}: launched")
    (folder / "events.jsonl").write_text("", encoding="utf-8")
    assert answer(tmp_path, capsys)[0] == 1
