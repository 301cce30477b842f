"""A run is well while it writes and once it has ended well; all else is told, with code 1."""

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
    from pathlib import Path


def run(workspace: Path, *events: tuple[str, dict[str, object]], **started: object) -> Path:
    """The folder of a run that this machine started, with these events."""
    folder = workspace / "logs" / "name" / f"start-{len(list(workspace.glob('logs/name/*')))}"
    folder.mkdir(parents=True)
    rows = [("started", {"machine": platform.node(), **started}), *events]
    text = "".join(json.dumps({"event": event, **facts}) + "\n" for event, facts in rows)
    (folder / "events.jsonl").write_text(text, encoding="utf-8")
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
    assert (code, text) == (1, f"bespoke: {tmp_path}: this machine has started no run")


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


def test_a_dry_run_does_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ago(run(tmp_path, ("finished", {})) / "events.jsonl", 60)
    ago(run(tmp_path, ("rendered", {}), arguments=["--dry-run"]) / "events.jsonl", 30)
    assert "finished, 1:00 ago" in answer(tmp_path, capsys)[1]


def test_a_line_that_is_being_written_is_none_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path, ("launched", {}))
    with (folder / "events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"event": "fail')
    assert answer(tmp_path, capsys)[1].startswith(f"{folder.name}: launched")
    for text in ("", "3\n", "[]\n", "{\n", "[" * 100_000 + "\n"):
        (folder / "events.jsonl").write_text(text, encoding="utf-8")
        code, said = answer(tmp_path, capsys)
        assert (code, "has started no run" in said) == (1, True)
