"""The record: what goes in comes out, once; the index can be lost or damaged without harm."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bespoke import files
from bespoke.errors import ConfigError
from bespoke.record import store
from tests.records import HOSTILE, a_decision, a_file, a_recorded, a_result, a_run, scores

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.record.run_record import RunRecord

START, LATER = "2026-11-25T10:00:00+00:00", "2026-11-26T10:00:00+00:00"


def file_of(workspace: Path, name: str = "KEEP_3") -> Path:
    return files.document_path(workspace / "output", name)


def names(workspace: Path) -> list[str]:
    return [each.name for each in store.runs(workspace)]


def only(workspace: Path) -> RunRecord:
    (run,) = store.runs(workspace)
    return run


def move_away(workspace: Path) -> None:
    """As `--fresh` does with all of a run's files."""
    folder = workspace / "output" / "earlier" / "KEEP_3"
    folder.mkdir(parents=True)
    file_of(workspace).rename(folder / file_of(workspace).name)


def test_a_run_comes_out_as_it_went_in(tmp_path: Path) -> None:
    run = a_run(interruptions=({"time": "t", "event": "stalled"},), parent="elder")
    results = tuple(a_result(epoch=epoch) for epoch in (1, 2))
    decisions = tuple(a_decision(epoch) for epoch in (1, 2))
    kept = a_recorded(tmp_path, run)
    for result, decision in zip(results, decisions, strict=True):
        kept.epoch(result, decision, [(1, 0.5)])
    given = replace(run, epochs=results, decisions=decisions, curves={"loss": [(1, 0.5)]})
    assert replace(only(tmp_path), uid="", starts={}) == given
    assert only(tmp_path).best_score == 7.3


def test_hostile_names_and_texts_come_out_as_they_went_in_and_secrets_never(tmp_path: Path) -> None:
    kept = a_recorded(tmp_path, a_run(HOSTILE, hypothesis=HOSTILE))
    kept.epoch(a_result(HOSTILE), a_decision(reason=HOSTILE))
    kept.end(status="failed", ending="postgres://me:hunter22@host/x refused")
    run = only(tmp_path)
    assert run.ending == "postgres://me:***@host/x refused"
    assert (run.name, run.hypothesis, run.decisions[0].reason) == (HOSTILE,) * 3
    assert run.epochs == (a_result(HOSTILE),)


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    def all_of_it() -> str:
        for _ in range(2):
            kept.epoch(a_result(), a_decision(), [(1, 0.5), (2, 0.4)])
            kept.end(status="completed")
        return file_of(tmp_path).read_text()

    kept = a_recorded(tmp_path, a_run())
    assert all_of_it() == all_of_it()


def test_a_run_that_goes_on_keeps_what_it_has_and_adds_its_time(tmp_path: Path) -> None:
    first = a_recorded(tmp_path, a_run(starts={START: {"total": 3600.0}}))
    first.epoch(a_result(), a_decision(), [(1, 0.9), (2, 0.8)])
    first.end(status="cancelled", ending="^C")
    second = a_recorded(tmp_path, a_run(started=LATER, facts={"gpu_type": "A40"}))
    second.epoch(a_result(epoch=2), None, [(1, 0.9), (3, 0.6)])
    second.end(status="completed")
    run = only(tmp_path)
    assert (run.started, run.status, run.ending) == (START, "completed", "")
    assert (len(run.epochs), len(run.decisions)) == (2, 1)
    assert (run.facts["gpu_type"], run.facts["num_images"]) == ("A40", 203)
    assert run.curves["loss"] == [(1, 0.9), (3, 0.6)]
    assert list(run.starts) == [START, LATER]
    assert [row["event"] for row in run.interruptions] == ["^C"]


def test_the_time_of_a_start_that_was_killed_counts(tmp_path: Path) -> None:
    a_recorded(tmp_path, a_run(starts={START: {"total": 3600.0}}))
    a_recorded(tmp_path, a_run(started=LATER), a_result())
    run = only(tmp_path)
    assert run.cost == pytest.approx(0.5, abs=0.01)
    assert run.interruptions[0]["event"] == f"the start of {START} ended without a word"


def test_a_run_that_was_moved_away_goes_by_its_start(tmp_path: Path) -> None:
    a_recorded(tmp_path, a_run(), a_result())
    move_away(tmp_path)
    a_recorded(tmp_path, a_run(started=LATER))
    older, newer = store.runs(tmp_path)
    assert (older.name, newer.name) == (f"KEEP_3 ({START})", "KEEP_3")
    assert (older.epochs, older.status) == ((a_result(),), "cancelled")
    assert newer.status == "in_progress"


def test_a_persons_scores_outlast_the_metrics_of_the_same_checkpoint(tmp_path: Path) -> None:
    by_hand = a_result(given=scores(9, 9, 9), scored_by="person")
    kept = a_recorded(tmp_path, a_run(), by_hand, a_result(given=scores(3, 3, 3)))
    (result,) = only(tmp_path).epochs
    assert (result.scores, result.scored_by) == (scores(9, 9, 9), "person")
    kept.epoch(a_result(given=scores(3, 3, 3), checkpoint_sha256="f" * 64), None)
    assert only(tmp_path).epochs[0].scored_by == "metrics"


# --- What can be lost -----------------------------------------------------------------------------


def test_the_index_has_a_row_a_run_whatever_was_there_before(tmp_path: Path) -> None:
    a_recorded(tmp_path, a_run("OTHER"))
    kept = a_recorded(tmp_path, a_run())
    for content in (b"no database at all", b"", None):
        file = tmp_path / store.FILE
        file.unlink() if content is None else file.write_bytes(content)
        kept.epoch(a_result(tested=str(content)), None)
        with sqlite3.connect(file) as index:
            rows = index.execute("SELECT name, best_epoch, best_score FROM runs ORDER BY name")
            assert rows.fetchall() == [("KEEP_3", 1, 7.3), ("OTHER", None, None)]
    assert not list(tmp_path.glob(".*.part"))


def test_an_index_that_cannot_be_written_stops_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / store.FILE).mkdir()
    a_recorded(tmp_path, a_run(), a_result())
    assert f"{tmp_path / store.FILE}: not written" in capsys.readouterr().out
    assert len(only(tmp_path).epochs) == 1


@pytest.mark.parametrize("text", ["", "[]", '{"uid": 1}', "[" * 100_000])
def test_a_runs_file_that_cannot_be_read_is_said_and_kept(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a_recorded(tmp_path, a_run(), a_result())
    file_of(tmp_path).write_text(text)
    assert store.runs(tmp_path) == []
    assert f"{file_of(tmp_path)}: cannot be read" in capsys.readouterr().err
    a_recorded(tmp_path, a_run(), a_result())
    assert len(only(tmp_path).epochs) == 1
    assert [each.read_text() for each in (tmp_path / "output").glob("*.json-2*")] == [text]


def test_what_a_full_disk_kept_from_the_file_is_there_with_the_next_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, output = a_recorded(tmp_path, a_run()), tmp_path / "output"
    output.rename(tmp_path / "gone")
    kept.epoch(a_result(), None)
    (tmp_path / "gone").rename(output)
    kept.epoch(a_result(epoch=2), None)
    assert "not written yet" in capsys.readouterr().out
    assert [each.epoch for each in only(tmp_path).epochs] == [1, 2]


def test_two_processes_lose_nothing_of_one_run(tmp_path: Path) -> None:
    kept, other = a_recorded(tmp_path, a_run()), a_file(tmp_path)
    other.epoch(a_result(epoch=1), None)
    kept.epoch(a_result(epoch=2), None)
    other.epoch(a_result(epoch=3), None)
    kept.end(status="completed")
    run = only(tmp_path)
    assert ([each.epoch for each in run.epochs], run.status) == ([1, 2, 3], "completed")


# --- Names ----------------------------------------------------------------------------------------


def test_what_the_record_does_not_know_is_named(tmp_path: Path) -> None:
    a_recorded(tmp_path, a_run())
    runs = store.runs(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'KEEP_3'"):
        store.pick("KEEP_4", runs, tmp_path)
    (tmp_path / "rehearsal").mkdir()
    with pytest.raises(ConfigError, match=f"{tmp_path}: no run 'X'.*--workspace .*/rehearsal"):
        store.pick("X", runs, tmp_path)


def test_an_experiment_names_its_latest_tested_run_at_its_first_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed, day in (("A", 42, 10), ("A_43", 43, 11), ("AGAIN", 42, 12), ("LAST", 42, 13)):
        settings = {"training.seed": {"value": seed, "from": "x"}}
        run = a_run(name, settings=settings, started=f"2026-11-{day}T10:00:00+00:00")
        a_recorded(tmp_path, run, *([] if name == "LAST" else [a_result()]))
    runs = store.runs(tmp_path)
    assert store.pick("keep_tokens_3", runs, tmp_path).name == "AGAIN"
    assert "keep_tokens_3: AGAIN, of 4 runs" in capsys.readouterr().err
    assert store.pick("A_43", runs, tmp_path).name == "A_43"
