"""A run's folder is its own, and what happened stands in it as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.trainer.journal import Journal, losses

if TYPE_CHECKING:
    from pathlib import Path


def test_two_starts_in_one_second_get_two_folders(tmp_path: Path) -> None:
    first, second = Journal(), Journal()
    one, two = first.open(tmp_path, "a"), second.open(tmp_path, "a")
    assert one != two
    assert one.parent == two.parent == tmp_path / "a"
    first.close()
    second.close()


def test_each_event_is_one_json_line_at_once(tmp_path: Path) -> None:
    journal = Journal()
    journal.write("too early", lost=True)
    folder = journal.open(tmp_path, "a")
    journal.write("checkpoint", epoch=3, file=folder / "x")
    rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [(row["event"], row["epoch"], row["file"]) for row in rows] == [
        ("checkpoint", 3, str(folder / "x"))
    ]
    assert rows[0]["time"].endswith("+00:00")
    journal.close()


def test_tracebacks_are_added_to_one_file_once_there_is_a_folder(tmp_path: Path) -> None:
    journal = Journal()
    assert journal.keep_traceback("lost\n") is None
    folder = journal.open(tmp_path, "a")
    journal.keep_traceback("one\n")
    assert journal.keep_traceback("two\n") == str(folder / "error.log")
    assert (folder / "error.log").read_text() == "one\ntwo\n"
    journal.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        Journal().open(tmp_path, "a")


def events(folder: Path, *rows: object) -> None:
    folder.mkdir(parents=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "events.jsonl").write_text("\n".join(lines))


def progress(step: int, loss: float) -> dict[str, object]:
    return {"event": "progress", "step": step, "loss": loss}


def test_the_losses_of_earlier_starts_are_those_that_led_to_the_resumed_epoch(
    tmp_path: Path,
) -> None:
    launched = {"event": "launched"}
    events(tmp_path / "1", launched, progress(5, 9.0))
    events(tmp_path / "2", launched, progress(4, 0.4), progress(12, 0.3), progress(19, 7.0))
    resumed = {"event": "resumed", "epoch": 1}
    broken = ("[" * 100_000, "3", '{"event": "progress"}', '{"event": "progr')
    events(
        tmp_path / "3", resumed, launched, progress(13, 0.2), progress(14, float("nan")), *broken
    )
    assert losses(tmp_path, 10, 2) == [(4, 0.4), (13, 0.2)]
    assert losses(tmp_path, 10, 1) == [(4, 0.4)]
