"""A run is well while it writes and once it has ended well; all else is said, with code 1."""

from __future__ import annotations

import json
import os
import platform
import time
from typing import TYPE_CHECKING

from bespoke import cli
from bespoke.deploy import health

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def start(place: Path, name: str, age: float, **last: object) -> Path:
    """The events of a run that this machine started, written so many seconds ago."""
    file = place / "logs" / "name" / name / "events.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"event": "started", "machine": platform.node()}, last]
    # A line that is still being written does not count.
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"event": "fail'
    file.write_text(text, encoding="utf-8")
    os.utime(file, (time.time() - age,) * 2)
    return file


def answer(place: Path, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    code: object = 0
    try:
        cli.main(["health", "--workspace", str(place)])
    except SystemExit as end:
        code = end.code
    return code, "".join(capsys.readouterr()).strip()


def test_a_run_is_well_while_its_events_or_the_trainers_log_are_young_and_once_it_ended_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(tmp_path, capsys) == (1, f"bespoke: {tmp_path}: this machine has started no run")
    start(tmp_path, "a", 0, event="launched")
    assert answer(tmp_path, capsys) == (0, "a: launched, 0:00 ago")
    file = start(tmp_path, "a", health.QUIET_S + 60, event="launched")
    assert answer(tmp_path, capsys) == (1, "bespoke: a: launched, then nothing for 31:00")
    (file.parent / "train.log").touch()
    assert answer(tmp_path, capsys)[0] == 0
    # Once it has ended, how counts and not when; another machine's is on the same volume.
    start(tmp_path, "b", 0).write_text('{"machine": "another"}\n')
    for event, exit_code, code in (("finished", 0, 0), ("failed", 5, 0), ("failed", None, 1)):
        start(tmp_path, "a", 1e6, event=event, exit_code=exit_code, message="why")
        assert answer(tmp_path, capsys)[0] == code
