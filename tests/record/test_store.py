"""The record: what goes in comes out, once; the runs' own files are the truth, and the index can
be lost, damaged, locked or behind without harm."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bespoke import files
from bespoke.errors import ConfigError
from bespoke.record import index, report, store
from tests.records import HOSTILE, a_decision, a_result, a_run, scores

START, LATER = "2026-11-25T10:00:00+00:00", "2026-11-26T10:00:00+00:00"


def file_of(workspace: Path, name: str = "KEEP_3") -> Path:
    return files.document_path(workspace / "output", name)


def own(record: store.Record) -> list[str]:
    return [each.name for each in record.runs()]


def everything(workspace: Path) -> list[store.RunRecord]:
    with store.opened(workspace) as record:
        return record.runs()


def move_away(workspace: Path, name: str = "KEEP_3") -> None:
    """As `--fresh` does with all of a run's files."""
    folder = workspace / "output" / "earlier" / name
    folder.mkdir(parents=True)
    file_of(workspace, name).rename(folder / file_of(workspace, name).name)


def test_a_run_comes_out_as_it_went_in(tmp_path: Path) -> None:
    run = a_run(interruptions=({"time": "t", "event": "stalled"},), parent="elder")
    results = tuple(a_result(epoch=epoch) for epoch in (1, 2))
    decisions = tuple(a_decision(epoch) for epoch in (1, 2))
    with store.opened(tmp_path) as record:
        record.begin(run)
        for result, decision in zip(results, decisions, strict=True):
            record.epoch(run.name, result, decision, [(1, 0.5)])
    (kept,) = (each for each in everything(tmp_path) if each.name == run.name)
    given = replace(run, epochs=results, decisions=decisions, curves={"loss": [(1, 0.5)]})
    assert replace(kept, uid="", starts={}) == given
    assert kept.best_score == 7.3


def test_hostile_names_and_texts_come_out_as_they_went_in(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run(HOSTILE, hypothesis=HOSTILE))
        record.epoch(HOSTILE, a_result(HOSTILE), a_decision(reason=HOSTILE))
    run = everything(tmp_path)[-1]
    assert (run.name, run.hypothesis, run.decisions[0].reason) == (HOSTILE,) * 3
    assert run.epochs == (a_result(HOSTILE),)


def test_no_secret_is_kept(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.end("KEEP_3", status="failed", ending="postgres://me:hunter22@host/x refused")
        assert record.run("KEEP_3").ending == "postgres://me:***@host/x refused"


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    def all_of_it() -> str:
        for _ in range(2):
            record.epoch("KEEP_3", a_result(), a_decision(), [(1, 0.5), (2, 0.4)])
            record.end("KEEP_3", status="completed")
        return file_of(tmp_path).read_text()

    with store.opened(tmp_path) as record:
        record.begin(a_run())
        before = all_of_it()
        assert all_of_it() == before


def test_a_run_that_goes_on_keeps_what_it_has_and_adds_its_time(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run(starts={START: {"total": 3600.0}}))
        record.epoch("KEEP_3", a_result(), a_decision(), [(1, 0.9), (2, 0.8), (3, 0.7)])
        record.end("KEEP_3", status="cancelled", ending="^C")
    with store.opened(tmp_path) as record:
        record.begin(a_run(started=LATER, facts={"gpu_type": "A40"}))
        record.epoch("KEEP_3", a_result(epoch=2), None, [(1, 0.9), (3, 0.6), (4, 0.5)])
        record.end("KEEP_3", status="completed")
        run = record.run("KEEP_3")
    assert own(record) == ["KEEP_3"]
    assert (run.started, run.status, run.ending) == (START, "completed", "")
    assert (len(run.epochs), len(run.decisions)) == (2, 1)
    assert (run.facts["gpu_type"], run.facts["num_images"]) == ("A40", 203)
    assert run.curves["loss"] == [(1, 0.9), (3, 0.6), (4, 0.5)]
    assert list(run.starts) == [START, LATER]
    assert [row["event"] for row in run.interruptions] == ["^C"]


def test_the_time_of_a_start_that_was_killed_counts(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run(starts={START: {"total": 3600.0}}))
    with store.opened(tmp_path) as record:
        record.begin(a_run(started=LATER))
        time.sleep(0.15)
        record.epoch("KEEP_3", a_result(), None)
    run = everything(tmp_path)[-1]
    assert 3600 * (run.hours or 0) >= 3600.1
    assert run.cost == pytest.approx(0.5, abs=0.001)
    assert [row["event"] for row in run.interruptions] == [
        f"the start of {START} ended without a word"
    ]


def test_a_run_that_was_moved_away_goes_by_its_start(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", a_result(), None)
    move_away(tmp_path)
    with store.opened(tmp_path) as record:
        record.begin(a_run(started=LATER))
        assert own(record) == [f"KEEP_3 ({START})", "KEEP_3"]
        older = record.run(f"KEEP_3 ({START})")
        assert (older.epochs, older.status) == ((a_result(),), "cancelled")
        assert record.run("KEEP_3").status == "in_progress"


def test_a_persons_scores_outlast_the_metrics_of_the_same_checkpoint(tmp_path: Path) -> None:
    by_hand = a_result(given=scores(9, 9, 9), scored_by="person")
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", by_hand, None)
        record.epoch("KEEP_3", a_result(given=scores(3, 3, 3)), None)
        kept = record.run("KEEP_3").epochs[0]
        assert (kept.scores, kept.scored_by) == (scores(9, 9, 9), "person")
        assert kept.suggested == scores(3, 3, 3)
        record.epoch("KEEP_3", a_result(given=scores(3, 3, 3), checkpoint_sha256="f" * 64), None)
        assert record.run("KEEP_3").epochs[0].scored_by == "metrics"


# --- The index can be lost ------------------------------------------------------------------------


def filled(workspace: Path) -> list[store.RunRecord]:
    """A record of an older run, one that was moved away and one that goes on."""
    with store.opened(workspace) as record:
        record.begin(a_run("OTHER"))
        record.begin(a_run())
    move_away(workspace)
    with store.opened(workspace) as record:
        record.begin(a_run(started=LATER))
        for epoch in (1, 2, 3):
            record.epoch("KEEP_3", a_result(epoch=epoch), a_decision(epoch))
    return everything(workspace)


def test_a_record_that_is_held_by_another_stops_no_run_and_has_all_of_it_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
    monkeypatch.setattr(index, "BUSY_S", 0.5)
    other = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        for epoch in (1, 2, 3):
            record.epoch("KEEP_3", a_result(epoch=epoch), None)
        assert own(record) == ["KEEP_3"]
        assert len(list(report.publish(record, tmp_path / "reports", "KEEP_3"))) == 2
        # It is waited for once.
        assert time.monotonic() - begun < 5
        with pytest.raises(ConfigError, match="locked by another"):
            everything(tmp_path)
        other.execute("ROLLBACK")
        other.close()
        assert capsys.readouterr().out.count("locked by another process") == 1
        record.epoch("KEEP_3", a_result(epoch=4), None)
    assert [each.epoch for each in everything(tmp_path)[-1].epochs] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"no database at all" * 100,
        lambda data: data[: len(data) // 2],
        lambda data: data[:4096] + b"\xff" * 4096 + data[8192:],
        lambda data: data.replace(b'"epochs"', b'"epoxxs"'),
        lambda data: data.replace(b'"starts"', b'"st\xff\xferts'),
        lambda data: data.replace(b"unsent", b"unsint"),
        lambda data: b"",
        lambda data: None,
    ],
)
def test_an_index_that_cannot_be_read_is_made_again_from_the_runs_own_files(
    tmp_path: Path, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, file = filled(tmp_path), tmp_path / store.FILE
    capsys.readouterr()
    data = damage(file.read_bytes())  # type: ignore[operator]
    file.unlink() if data is None else file.write_bytes(data)
    assert everything(tmp_path) == runs
    aside = list(tmp_path.glob("record-*.sqlite"))
    assert [each.read_bytes() for each in aside] == ([data] if data else [])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(aside)
    assert all("Moved to record-2" in text for text in said)


def test_bits_flipped_anywhere_in_the_index_end_no_verb(tmp_path: Path) -> None:
    runs, file = filled(tmp_path), tmp_path / store.FILE
    sound, chance = file.read_bytes(), random.Random(13)
    for _ in range(60):
        data = bytearray(sound)
        for _ in range(20):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        assert len(everything(tmp_path)) >= len(runs) - 1
        for aside in tmp_path.glob("record-*"):
            aside.unlink()


def test_rebuilding_takes_the_files_alone(tmp_path: Path) -> None:
    runs = filled(tmp_path)
    file_of(tmp_path, "OTHER").unlink()
    assert everything(tmp_path) == runs
    assert index.Index(tmp_path).rebuild() == 2
    assert everything(tmp_path) == [each for each in runs if each.name != "OTHER"]


@pytest.mark.parametrize("text", ["", "[]", '{"uid": 1}', "[" * 100_000])
def test_a_runs_file_that_cannot_be_read_is_set_aside_and_the_index_has_its_content(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", a_result(), a_decision())
    file_of(tmp_path).write_text(text)
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        assert record.run("KEEP_3").epochs == (a_result(),)
    assert "cannot be read" in capsys.readouterr().out
    assert [each.read_text() for each in (tmp_path / "output").glob("*.json-2*")] == [text]


def test_what_a_full_disk_kept_from_the_file_is_there_with_the_next_event(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        output = tmp_path / "output"
        output.rename(tmp_path / "gone")
        record.epoch("KEEP_3", a_result(), None)
        (tmp_path / "gone").rename(output)
        record.epoch("KEEP_3", a_result(epoch=2), None)
    assert "epoch 1 not kept yet" in capsys.readouterr().out
    assert [each.epoch for each in everything(tmp_path)[-1].epochs] == [1, 2]


STARTED = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from bespoke.record import store
from tests.records import a_result, a_run
print("ready", flush=True)
sys.stdin.readline()
with store.opened(Path(sys.argv[1])) as record:
    record.begin(a_run())
    for epoch in range(1, 4):
        record.epoch("KEEP_3", a_result(epoch=epoch), None)
"""


def test_a_start_killed_in_its_first_moments_leaves_a_record_whole_or_none(
    tmp_path: Path,
) -> None:
    code = STARTED.format(repository=str(Path(__file__).parents[2]))
    chance = random.Random(7)
    for number in range(8):
        place = tmp_path / str(number)
        command = [sys.executable, "-c", code, str(place)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as killed:
            assert killed.stdin is not None
            assert killed.stdout is not None
            killed.stdout.readline()
            killed.stdin.write("\n")
            killed.stdin.flush()
            time.sleep(chance.uniform(0, 0.1))
            os.kill(killed.pid, signal.SIGKILL)
        with store.opened(place) as record:
            record.begin(a_run())
            for epoch in range(1, 4):
                record.epoch("KEEP_3", a_result(epoch=epoch), None)
        assert own(record) == ["KEEP_3"]
        assert [each.epoch for each in everything(place)[-1].epochs] == [1, 2, 3]
        assert not list(place.glob("record-*"))


def test_two_processes_lose_nothing_of_one_run(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        with store.opened(tmp_path) as other:
            other.epoch("KEEP_3", a_result(epoch=1), None)
            record.epoch("KEEP_3", a_result(epoch=2), None)
            other.epoch("KEEP_3", a_result(epoch=3), None)
            record.end("KEEP_3", status="completed")
    run = everything(tmp_path)[-1]
    assert ([each.epoch for each in run.epochs], run.status) == ([1, 2, 3], "completed")


def test_what_the_record_does_not_know_is_named(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        with pytest.raises(ConfigError, match="was never begun"):
            record.epoch("KEEP_4", a_result(), None)
        with pytest.raises(ConfigError, match="did you mean 'KEEP_3'"):
            record.run("KEEP_4")
        with pytest.raises(ConfigError, match="carries no epoch"):
            record.epoch("KEEP_3", a_result(epoch=None), None)
        with pytest.raises(ConfigError, match=rf"{tmp_path}/record.sqlite: has no run 'X'"):
            record.run("X")
        assert everything(tmp_path / "rehearsal") == []
        with pytest.raises(ConfigError, match=f"add --workspace {tmp_path}/rehearsal"):
            record.run("X")


def test_an_experiment_names_its_latest_tested_run_at_its_first_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.opened(tmp_path) as record:
        for name, seed, day in (
            ("A", 42, 10),
            ("A_seed_43", 43, 11),
            ("A_again", 42, 12),
            ("A_failed", 42, 13),
        ):
            settings = {"training.seed": {"value": seed, "from": "x"}}
            record.begin(a_run(name, settings=settings, started=f"2026-11-{day}T10:00:00+00:00"))
            if name != "A_failed":
                record.epoch(name, a_result(), None)
        assert record.run("keep_tokens_3").name == "A_again"
        assert "keep_tokens_3: A_again, of 4 runs" in capsys.readouterr().err
        assert record.run("A_seed_43").name == "A_seed_43"
