"""A run is well while it writes and once it has ended well; all else is said, with code 1."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING

import pytest

from bespoke import cli
from bespoke.deploy import health

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def start(workspace: Path, name: str, *events: dict[str, object], age: float = 0) -> Path:
    """The events of a run that this machine started so many seconds ago."""
    file = workspace / "logs" / "name" / name / "events.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"event": "started", "machine": platform.node()}, *events]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.utime(file, (time.time() - age,) * 2)
    return file


@pytest.fixture
def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[object, str]]:
    def ask() -> tuple[object, str]:
        code: object = 0
        try:
            cli.main(["health", "--workspace", str(tmp_path)])
        except SystemExit as end:
            code = end.code
        shown = capsys.readouterr()
        return code, (shown.out + shown.err).strip()

    return ask


def test_a_run_is_well_while_its_events_or_the_trainers_log_are_young(
    tmp_path: Path, answer: Callable[[], tuple[object, str]]
) -> None:
    assert answer() == (1, f"bespoke: {tmp_path}: this machine has started no run")
    start(tmp_path, "a", {"event": "launched"})
    assert answer() == (0, "a: launched, 0:00 ago")
    file = start(tmp_path, "a", {"event": "launched"}, age=health.QUIET_S + 60)
    assert answer() == (1, "bespoke: a: launched, then nothing for 31:00")
    (file.parent / "train.log").touch()
    assert answer()[0] == 0


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ({"event": "finished"}, 0),
        ({"event": "failed", "exit_code": 5, "message": "the gate stopped it"}, 0),
        ({"event": "failed", "exit_code": 4, "message": "it failed"}, 1),
        ({"event": "failed", "exit_code": None, "message": "unexpected"}, 1),
    ],
)
def test_once_it_has_ended_how_it_ended_counts_and_not_when(
    tmp_path: Path, answer: Callable[[], tuple[object, str]], last: dict[str, object], code: int
) -> None:
    start(tmp_path, "a", last, age=1e6)
    # On the same volume.
    start(tmp_path, "b", {"event": "failed"}).write_text('{"machine": "another"}\n')
    assert answer()[0] == code


def test_a_line_that_is_being_written_is_none_yet(
    tmp_path: Path, answer: Callable[[], tuple[object, str]]
) -> None:
    file = start(tmp_path, "a", {"event": "launched"})
    file.write_text(file.read_text(encoding="utf-8") + '{"event": "fail', encoding="utf-8")
    assert answer()[1].startswith("a: launched")
    for text in ("", "3\n", "[]\n", "{\n"):
        file.write_text(text, encoding="utf-8")
        assert "has started no run" in answer()[1]
