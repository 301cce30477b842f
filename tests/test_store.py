"""The record in the workspace's own SQLite: what goes in comes out, once, and nothing is lost."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from records import HOSTILE, a_decision, a_result, a_run, scores

from bespoke import schema, store
from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def ask(workspace: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(workspace / store.FILE)
    try:
        with connection:
            return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_a_run_comes_out_as_it_went_in(tmp_path: Path) -> None:
    run = a_run(
        interruptions=({"time": "t", "event": "stalled"},),
        hypothesis="three kept tags fix the background",
        parent="final_corrected_captions",
    )
    results = tuple(a_result(epoch=epoch) for epoch in (1, 2))
    told = tuple(a_decision(epoch) for epoch in (1, 2))
    with store.opened(tmp_path) as record:
        record.begin(run)
        for result, decision in zip(results, told, strict=True):
            record.epoch(run.name, result, [decision])
        record.curves(run.name, {"loss": [(1, 0.5), (2, math.nan)]})
    with store.opened(tmp_path) as record:
        found = record.run(run.name)
        light = next(each for each in record.runs() if each.name == run.name)
    assert math.isnan(found.curves["loss"][1][1])
    assert found.facts == {**run.facts, "checkpoint_file_size_mb": 37.86}
    assert replace(found, curves={}, facts={}) == replace(
        run, epochs=results, decisions=told, facts={}
    )
    assert [each.scores for each in light.epochs] == [each.scores for each in results]
    assert light.best_score == found.best_score == 7.3


def test_hostile_names_and_texts_come_out_as_they_went_in(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run(HOSTILE, hypothesis=HOSTILE))
        record.epoch(HOSTILE, a_result(HOSTILE), [a_decision(reason=HOSTILE)])
        found = record.run(HOSTILE)
    assert (found.name, found.hypothesis, found.decisions[0].reason) == (HOSTILE,) * 3
    assert found.epochs == (a_result(HOSTILE),)


def test_no_secret_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.end("KEEP_3", status="failed", ending="postgres://me:hunter22@host/x refused")
        assert record.run("KEEP_3").ending == "postgres://me:***@host/x refused"


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    told = {"loss": [(step, 1 / step) for step in range(1, 2000)]}

    def all_of_it() -> str:
        for _ in range(2):
            record.epoch("KEEP_3", a_result(), [a_decision()])
            record.interruption("KEEP_3", {"time": "t", "event": "stalled"})
            record.end("KEEP_3", status="completed", timings={"training": 60.0})
        record.curves("KEEP_3", told)
        connection = sqlite3.connect(tmp_path / store.FILE)
        dump = "\n".join(connection.iterdump())
        connection.close()
        return dump

    with store.opened(tmp_path) as record:
        record.begin(a_run())
        before = all_of_it()
        assert all_of_it() == before
        assert record.run("KEEP_3").timings == {"training": 60.0}


def test_a_run_that_goes_on_keeps_what_it_has_and_adds_its_time(tmp_path: Path) -> None:
    later = a_run(started="2026-11-26T10:00:00+00:00", facts={"gpu_type": "A40"})
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", a_result(), [a_decision()])
        record.curves("KEEP_3", {"loss": [(1, 0.9), (2, 0.8), (3, 0.7)]})
        record.end("KEEP_3", status="cancelled", ending="^C", timings={"training": 3600.0})
        record.begin(later)
        record.curves("KEEP_3", {"loss": [(3, 0.6), (4, 0.5)]})
        record.end("KEEP_3", status="completed", timings={"training": 1800.0})
        found = record.run("KEEP_3")
    assert found.started == "2026-11-25T10:00:00+00:00"
    assert (len(found.epochs), len(found.decisions)) == (1, 1)
    assert found.facts["gpu_type"] == "A40"
    assert found.facts["num_images"] == 203
    assert found.curves["loss"] == [(1, 0.9), (2, 0.8), (3, 0.6), (4, 0.5)]
    assert found.timings == {"training": 5400.0}
    assert found.cost == 0.75


def test_a_fresh_run_leaves_the_older_whole_under_its_start(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        for _ in range(3):
            record.begin(a_run(), fresh=True)
            record.epoch("KEEP_3", a_result(), [])
        names = [each.name for each in record.runs() if not each.baseline]
        older = record.run("KEEP_3 (2026-11-25T10:00:00+00:00)")
    start = "2026-11-25T10:00:00+00:00"
    assert sorted(names) == ["KEEP_3", f"KEEP_3 ({start})", f"KEEP_3 ({start}) 2"]
    assert older.epochs == (a_result(older.name),)
    assert older.status == "cancelled"
    rows = ask(tmp_path, "SELECT run_name FROM training_runs WHERE run_name LIKE 'KEEP%'")
    assert sorted(row[0] for row in rows) == sorted(names)


def test_a_run_of_a_baselines_name_leaves_the_baseline_as_it_is(tmp_path: Path) -> None:
    name = "SD15_FINAL_CORRECTED_CAPTIONS"
    with store.opened(tmp_path) as record:
        record.begin(a_run(name))
    with store.opened(tmp_path) as record:
        assert not record.run(name).baseline
        baseline = record.run(f"{name} (baseline)")
        names = [each.name for each in record.runs()]
    assert (baseline.best_epoch, baseline.best_score) == (6, 7.3)
    assert names == [f"{name} (baseline)", "SD15_PERFECT", name]


def test_a_persons_scores_outlast_the_metrics_of_the_same_checkpoint(tmp_path: Path) -> None:
    by_hand = a_result(given=scores(9, 9, 9), scored_by="person")
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", by_hand, [])
        record.epoch("KEEP_3", a_result(given=scores(3, 3, 3)), [])
        kept = record.run("KEEP_3").epochs[0]
        assert (kept.scores, kept.scored_by) == (scores(9, 9, 9), "person")
        assert kept.suggested == scores(3, 3, 3)
        record.epoch("KEEP_3", a_result(given=scores(3, 3, 3), checkpoint_sha256="f" * 64), [])
        assert record.run("KEEP_3").epochs[0].scored_by == "metrics"
    assert ask(tmp_path, "SELECT visual_quality_score FROM epoch_results") == [(3,)]


def test_curves_keep_their_ends_and_at_most_500_points(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.curves("KEEP_3", {"loss": [(step, 1.0) for step in range(5000)], "lr/unet": []})
        curve = record.run("KEEP_3").curves["loss"]
    assert (len(curve), curve[0][0], curve[-1][0]) == (500, 0, 4999)


def test_a_record_that_is_held_by_another_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "BUSY_MS", 50)
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        other = sqlite3.connect(tmp_path / store.FILE, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        record.epoch("KEEP_3", a_result(), [])
        other.execute("ROLLBACK")
        other.close()
        assert record.run("KEEP_3").epochs == ()
    assert "epoch 1 could not be kept: database is locked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no database at all" * 100, "cannot be opened"), (None, "later bespoke")],
)
def test_a_file_that_is_no_record_of_ours_is_refused_before_the_start(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is None:
        with store.opened(tmp_path):
            pass
        ask(tmp_path, "INSERT INTO bespoke_version (version) VALUES (99)")
    else:
        (tmp_path / store.FILE).write_bytes(content)
    with pytest.raises(ConfigError, match=says), store.opened(tmp_path):
        pass


def test_a_later_migration_is_carried_out_once_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
    done = []
    steps = (lambda _: done.append(2), lambda _: done.append(3))
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *steps))
    for _ in range(2):
        with store.opened(tmp_path) as record:
            assert record.run("KEEP_3").name == "KEEP_3"
    assert done == [2, 3]
    assert ask(tmp_path, "SELECT version FROM bespoke_version") == [(1,), (2,), (3,)]


def test_a_network_volume_gets_no_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.opened(tmp_path / "here"):
        assert ask(tmp_path / "here", "PRAGMA journal_mode") == [("wal",)]
    shutil.copytree(tmp_path / "here", tmp_path / "volume")
    monkeypatch.setattr(schema, "_file_system", lambda _: "fuse.mfs")
    with store.opened(tmp_path / "volume") as record:
        record.begin(a_run())
        assert ask(tmp_path / "volume", "PRAGMA journal_mode") == [("delete",)]


def test_what_the_record_does_not_know_is_named(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        with pytest.raises(ConfigError, match="was never begun"):
            record.epoch("KEEP_4", a_result(), [])
        with pytest.raises(ConfigError, match="did you mean 'KEEP_3'"):
            record.named("KEEP_4")
        with pytest.raises(ConfigError, match="did you mean 'completed'"):
            record.end("KEEP_3", status="complete")
        with pytest.raises(ConfigError, match="carries no epoch"):
            record.epoch("KEEP_3", a_result(epoch=None), [])
        assert record.named("keep_tokens_3") == "KEEP_3"


def test_the_owners_columns_are_filled_from_the_run(tmp_path: Path) -> None:
    with store.opened(tmp_path) as record:
        record.begin(a_run())
        record.epoch("KEEP_3", a_result(given=scores(9, 8, 8)), [])
        record.end("KEEP_3", status="completed", timings={"total": 1800.0, "training": 1500.0})
    columns = "resolution, unet_lr, noise_offset, training_duration_hours, overall_verdict, status"
    found = ask(tmp_path, f"SELECT {columns} FROM training_runs WHERE run_name = 'KEEP_3'")
    assert found == [("512", 1e-4, 0.0, 0.5, "success", "completed")]
    paths = ask(tmp_path, "SELECT test_image_paths FROM epoch_results")[0][0]
    assert json.loads(str(paths))[0] == "tests/x-1/0.png"
