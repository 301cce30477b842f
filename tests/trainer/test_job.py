"""A run's folder is its own, and what happened stands in it as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bespoke.request import Request
from bespoke.trainer.job import Journal, losses
from bespoke.trainer.training import open_job

if TYPE_CHECKING:
    from pathlib import Path


def test_two_starts_in_one_second_get_two_folders(tmp_path: Path) -> None:
    first, second = Journal(), Journal()
    one, two = first.open(tmp_path, "a"), second.open(tmp_path, "a")
    assert one != two
    assert one.parent == two.parent == tmp_path / "a"


def test_events_are_json_lines_at_once_and_tracebacks_have_a_file_of_their_own(
    tmp_path: Path,
) -> None:
    journal = Journal()
    journal.write("too early", lost=True)
    assert journal.keep_traceback("lost\n") is None
    folder = journal.open(tmp_path, "a")
    journal.write("checkpoint", epoch=3, file=folder / "x")
    (row,) = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    assert (row["event"], row["epoch"], row["file"]) == ("checkpoint", 3, str(folder / "x"))
    assert row["time"].endswith("+00:00")
    journal.keep_traceback("one\n")
    assert journal.keep_traceback("two\n") == str(folder / "error.log")
    assert (folder / "error.log").read_text() == "one\ntwo\n"


def events(folder: Path, *rows: object) -> None:
    folder.mkdir(parents=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "events.jsonl").write_text("\n".join(lines))


def progress(step: int, loss: float) -> dict[str, object]:
    return {"event": "progress", "step": step, "loss": loss}


def test_the_losses_of_earlier_starts_are_those_that_led_to_the_resumed_epoch(
    tmp_path: Path,
) -> None:
    def launched(after: int) -> dict[str, object]:
        return {"event": "launched", "epoch": after}

    events(tmp_path / "1", launched(0), progress(5, 9.0))
    events(tmp_path / "2", launched(0), progress(4, 0.4), progress(12, 0.3), progress(19, 7.0))
    broken = ("[" * 100_000, "3", '{"event": "progress"}', '{"event": "progr')
    good = (launched(1), progress(13, 0.2), progress(14, float("nan")))
    events(tmp_path / "3", *good, *broken)
    assert losses(tmp_path, 10, 2) == [(4, 0.4), (13, 0.2)]
    assert losses(tmp_path, 10, 1) == [(4, 0.4)]


def test_the_epochs_with_a_checkpoint_are_every_nth_and_the_last(tmp_path: Path) -> None:
    def epochs(*overrides: str) -> list[int]:
        return open_job(Request(workspace=tmp_path, overrides=overrides), Journal()).epochs

    assert epochs() == list(range(1, 11))
    every_second = "training.save_every_n_epochs=2"
    assert epochs("training.max_train_epochs=5", every_second) == [2, 4, 5]
