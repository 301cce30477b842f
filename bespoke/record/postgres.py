"""The collection's own PostgreSQL, where others write too: `training_runs` and `epoch_results`.

A run is sent whole, with its epochs, as upserts in one transaction. Columns that a machine owns are
overwritten; those of PERSONS are filled only where they are empty, those of the run at its end. The
columns are those of `postgres.sql`: where a table lacks one, PostgreSQL's own line names it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bespoke.errors import ConfigError
from bespoke.record.run_record import first_line, plain, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord, Send

Connection = psycopg.Connection[Any]
VARIABLE = "BESPOKE_DATABASE_URL"
# The system notices a server that is gone without a word.
WATCH = "connect_timeout=5 keepalives_idle=2 keepalives_interval=1 tcp_user_timeout=5000"
# What is wrong with one run, and not with the database.
REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError)
PERSONS = (
    "overall_verdict", "quality_score", "visual_quality_score", "style_match_score",
    "prompt_adherence_score", "has_wrong_backgrounds", "verdict",
)  # fmt: skip
# Columns of training_runs and the options that they hold.
OPTIONS = json.loads(Path(__file__).with_name("postgres.json").read_text(encoding="utf-8"))
# By the collection owner's own bounds for the best mean score.
OVERALL = {"best": "success", "good": "partial", "acceptable": "partial", "skip": "failure"}
TABLES = Path(__file__).with_name("postgres.sql")


class Postgres:
    """A database by its address; ConfigError where that is none, without repeating it."""

    def __init__(self, text: str) -> None:
        self.address, self._idle_until = _address(text), 0.0

    def send(self, runs: Sequence[RunRecord]) -> tuple[list[str], str | None]:
        """Send the runs; returns the uids of those that are there now, and in a line what kept the
        others back. After a failure nothing is tried for a minute, and nothing said.
        """
        sent: list[str] = []
        trouble: str | None = None
        if time.monotonic() < self._idle_until:
            return sent, trouble
        try:
            # Through a pooler a prepared statement would be looked for where it is not.
            with psycopg.connect(self.address, autocommit=True, prepare_threshold=None) as to:
                for run in runs:
                    try:
                        _write(to, run)
                        sent.append(run.uid)
                    except REFUSALS as error:  # noqa: PERF203 - it keeps back this run alone
                        trouble = f"{shown(run.name)}: {first_line(error)}"
        except Exception as error:  # noqa: BLE001 - whatever a database does, training goes on
            trouble = first_line(error)
        if trouble:
            self._idle_until = time.monotonic() + 60
        return sent, trouble


def from_environment() -> Send | None:
    """What sends to the database that BESPOKE_DATABASE_URL names; None where it names none."""
    text = os.environ.get(VARIABLE, "").strip()
    return Postgres(text).send if text else None


def _address(text: str) -> str:
    """Encrypted unless it is this machine's own."""
    try:
        parts = conninfo_to_dict(text)
        int(parts.get("port") or 0)
        if not text.startswith(("postgres://", "postgresql://")):
            raise ValueError
    except (ValueError, psycopg.Error):
        raise ConfigError(
            f"{VARIABLE}: cannot be read: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, and "
            "in the password @ as %40, / as %2F, # as %23, : as %3A"
        ) from None
    host = str(parts.get("host") or "")
    if not host.startswith("/") and host not in ("", "localhost", "127.0.0.1", "::1"):
        parts = {"sslmode": "require", **parts}
    return make_conninfo(WATCH, **parts)


def _write(connection: Connection, run: RunRecord) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = '5s'")
        if connection.execute("SELECT to_regclass('epoch_results')").fetchone() == (None,):
            connection.execute(TABLES.read_bytes())
        row = {"run_name": _row_name(connection, run), **_run_values(run)}
        ((number,),) = _upsert(connection, "training_runs", ["run_name"], [row]).fetchall()
        rows = [
            {"training_run_id": number, **_epoch_values(each)} for each in run.epochs if each.epoch
        ]
        if rows:
            _upsert(connection, "epoch_results", ["training_run_id", "epoch_number"], rows)


def _row_name(connection: Connection, run: RunRecord) -> str:
    """The name of the run's row: its own, unless a row of that name is another run's.

    A row is this run's where it is of the same start, or was planned and holds no run yet. A run
    that was moved away takes its row along to the name that it goes by now.
    """
    first = run.name.removesuffix(f" ({run.started})")
    dated = f"{first} ({run.started})"
    query = """SELECT run_name, run_date = %s OR status = 'in_progress' AND output_name IS NULL
        FROM training_runs WHERE run_name IN (%s, %s)"""
    own = dict(connection.execute(query, (run.started, first, dated)).fetchall())
    if dated in own or not own.get(first, True):
        return dated
    if run.name == dated and first in own:
        rename = "UPDATE training_runs SET run_name = %s WHERE run_name = %s"
        connection.execute(rename, (dated, first))
    return run.name


def _run_values(run: RunRecord) -> dict[str, Any]:
    over, versions = run.status == "completed", run.facts.get("caption_version", {})
    verdict = run.best.verdict if run.best and over else None
    return {
        **{name: run.setting(key) for name, key in OPTIONS.items()},
        "num_images": run.facts.get("num_images"),
        "caption_version": ", ".join(map(str, versions.values())) or None,
        "gpu_type": run.facts.get("gpu_type"),
        "run_date": run.started,
        "status": run.status,
        "model_type": "SD15",
        "training_duration_hours": run.hours,
        "best_epoch": run.best_epoch,
        "quality_score": run.best_score if over else None,
        "overall_verdict": OVERALL.get(verdict or "", "pending"),
    }


def _epoch_values(result: EpochResult) -> dict[str, Any]:
    counts, scores = result.backgrounds(), result.scores
    measured = counts["match"] or counts["mismatch"]
    return {
        "epoch_number": result.epoch,
        "checkpoint_path": result.checkpoint,
        "checkpoint_file_size_mb": round(result.checkpoint_size / 1e6, 2),
        "test_output_dir": result.folder,
        "num_test_images": len(result.pictures),
        "visual_quality_score": scores.visual_quality,
        "style_match_score": scores.style_match,
        "prompt_adherence_score": scores.prompt_adherence,
        "has_wrong_backgrounds": counts["mismatch"] > 0 if measured else None,
        "verdict": result.verdict,
        "test_image_paths": [f"{result.folder}/{picture.file}" for picture in result.pictures],
    }


def _upsert(
    connection: Connection, table: str, keys: list[str], rows: list[dict[str, Any]]
) -> psycopg.Cursor[Any]:
    """Insert the rows, or fill and overwrite those of the same key; returns their ids."""
    names = list(rows[0])
    sets = [f"{name} = {_kept(name)}" for name in names if name not in keys]
    sets += ["updated_at = now()"] if table == "training_runs" else []
    statement = (
        f"INSERT INTO {table} AS old ({', '.join(names)}) "  # noqa: S608 - our own names
        f"VALUES ({', '.join(f'%({name})s' for name in names)}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(sets)} RETURNING id"
    )
    cursor = connection.cursor()
    cursor.executemany(statement.encode(), plain(rows), returning=True)
    return cursor


def _kept(name: str) -> str:
    """What a column holds after an update: a person's stays once it says anything."""
    if name == "overall_verdict":
        return f"coalesce(nullif(old.{name}, 'pending'), excluded.{name})"
    first, second = ("old", "excluded") if name in PERSONS else ("excluded", "old")
    return f"coalesce({first}.{name}, {second}.{name})"
