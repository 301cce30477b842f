"""The collection's own PostgreSQL: the tables `training_runs` and `epoch_results`, written beside
whoever else writes there.

A run is sent whole, with all its epochs, as one upsert in one transaction: sent twice it changes
nothing. Columns that a machine owns are overwritten. The columns of PERSONS are filled only where
they are empty, those of the run at its end: what a person put there stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bespoke.errors import ConfigError
from bespoke.evaluation.scoring import VERDICTS
from bespoke.record.run_record import plain
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

VARIABLE = "BESPOKE_DATABASE_URL"
# The longest that an event of a run may wait for it.
PATIENCE_S = 5
PERSONS = frozenset((
    "overall_verdict", "quality_score", "visual_quality_score", "style_match_score",
    "prompt_adherence_score", "has_wrong_backgrounds", "verdict",
))  # fmt: skip
# Their column: the trainer's option that it holds, or the fact of the same name.
OPTIONS = {
    "base_model": "training.pretrained_model_name_or_path",
    "training_data_path": "dataset.1.subset_1.image_dir",
    "resolution": "dataset.general.resolution",
    "lr_scheduler_cycles": "training.lr_scheduler_num_cycles",
}
TRAINING = (
    "network_dim", "network_alpha", "learning_rate", "unet_lr", "text_encoder_lr",
    "train_batch_size", "gradient_accumulation_steps", "max_train_epochs", "mixed_precision",
    "optimizer_type", "lr_scheduler", "noise_offset", "min_snr_gamma", "output_dir", "output_name",
)  # fmt: skip
FACTS = ("num_images", "caption_version", "gpu_type")
KEYS = {"training_runs": ("run_name",), "epoch_results": ("training_run_id", "epoch_number")}
# The statements that make the tables, in their order.
STATEMENTS = Path(__file__).with_name("postgres.sql")
COLUMNS = """
    SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""
Connection = psycopg.Connection[Any]
Columns = dict[str, dict[str, str]]


class Postgres:
    """A database by its address.

    Raises:
        ConfigError: where it is no address of PostgreSQL; the address is not repeated.
    """

    def __init__(self, text: str) -> None:
        self.address = _address(text)
        self._idle_until = 0.0
        self._trouble: str | None = None

    def send(
        self, runs: Sequence[RunRecord], *, seconds: float = PATIENCE_S
    ) -> tuple[list[str], str | None]:
        """Send the runs, within `seconds`; returns the uids of those that are there now, and in a
        line what was in the way of the others. After a failure nothing is tried for a minute.
        """
        sent: list[str] = []
        if time.monotonic() < self._idle_until:
            return sent, self._trouble
        self._trouble = None
        try:
            with _connected(self.address, seconds) as connection:
                columns = _columns(connection)
                for run in runs:
                    if trouble := _refusal(connection, columns, run):
                        self._trouble = trouble
                    else:
                        sent.append(run.uid)
        except (ConfigError, OSError, psycopg.Error) as error:
            self._trouble = line(error)
        if self._trouble:
            self._idle_until = time.monotonic() + 60
        return sent, self._trouble


def line(error: BaseException) -> str:
    """What an error says, in its first line and without a secret."""
    lines = str(error).strip().splitlines()
    return veiled(lines[0]) if lines else type(error).__name__


def _address(text: str) -> str:
    """Encrypted unless it is this machine's own.

    Raises:
        ConfigError: where it is no address of PostgreSQL; the address is not repeated.
    """
    text = text.strip()
    if not text.startswith(("postgres://", "postgresql://")):
        raise ConfigError(f"{VARIABLE}: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    try:
        parts = conninfo_to_dict(text)
        int(parts.get("port") or 0)
    except (ValueError, psycopg.Error):
        raise ConfigError(
            f"{VARIABLE}: cannot be read. In a password, write @ as %40, / as %2F, # as %23, "
            ": as %3A"
        ) from None
    host = str(parts.get("host") or "")
    local = host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")
    return text if local or "sslmode" in parts else make_conninfo(text, sslmode="require")


@contextlib.contextmanager
def _connected(address: str, seconds: float) -> Iterator[Connection]:
    """A connection that is hung up after so long: a server that stands still would be waited for.

    It may lead through a pooler, which gives each transaction another connection: there a prepared
    statement would be looked for where it is not.
    """
    wait: dict[str, Any] = {"prepare_threshold": None, "connect_timeout": PATIENCE_S}
    with contextlib.closing(psycopg.connect(address, autocommit=True, **wait)) as connection:
        end = socket.socket(fileno=os.dup(connection.fileno()))
        timer = threading.Timer(seconds, _hang_up, (end,))
        timer.daemon = True
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()
            end.close()


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _columns(connection: Connection) -> Columns:
    """The columns of both tables and their types, as this database has them.

    A table that is missing is made, closed to all but its owner: Supabase shows a new table to
    whoever has the project's public key.

    Raises:
        ConfigError: where the role may not look into the schema.
    """
    ((role, schema),) = connection.execute("SELECT current_user, current_schema()").fetchall()
    if schema is None:
        raise ConfigError(f"role {role} may not use the schema: GRANT USAGE ON SCHEMA public")
    columns = {}
    statements = STATEMENTS.read_bytes().split(b"\n\n")
    for table, statement in zip(KEYS, statements, strict=True):
        columns[table] = dict(connection.execute(COLUMNS, (table,)).fetchall())
        if not columns[table]:
            connection.execute(statement)
            columns[table] = dict(connection.execute(COLUMNS, (table,)).fetchall())
    return columns


def _refusal(connection: Connection, columns: Columns, run: RunRecord) -> str | None:
    """Send a run; returns in a line why it alone is kept back, if it is.

    Raises:
        psycopg.Error: where the connection is lost.
    """
    try:
        with connection.transaction():
            _write(connection, columns, run)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return line(error)
    return None


def _write(connection: Connection, columns: Columns, run: RunRecord) -> None:
    connection.execute(f"SET LOCAL statement_timeout = '{PATIENCE_S}s'".encode())
    name = _row_name(connection, run)
    _upsert(connection, columns, "training_runs", [{"run_name": name, **_run_values(run)}])
    query = "SELECT id FROM training_runs WHERE run_name = %s"
    (row,) = connection.execute(query, (name,)).fetchall()
    epochs = [{"training_run_id": str(row[0]), **_epoch_values(each)} for each in run.epochs]
    if epochs:
        _upsert(connection, columns, "epoch_results", epochs)


def _row_name(connection: Connection, run: RunRecord) -> str:
    """The name of the run's row: its own, unless a row of that name is another run's.

    A row is this run's where it is of the same start, or was planned and holds no run yet. A run
    that was moved away takes its row along to the name that it goes by now.
    """
    first = run.name.removesuffix(f" ({run.started})")
    dated = f"{first} ({run.started})"
    query = "SELECT run_name, to_jsonb(t) FROM training_runs t WHERE run_name IN (%s, %s)"
    known = dict(connection.execute(query, (first, dated)).fetchall())
    if dated in known:
        return dated
    row = known.get(first)
    if row is None:
        return run.name
    planned = row.get("status") == "in_progress" and not row.get("output_name")
    if not planned and not run.started.startswith(row.get("run_date") or "none"):
        return dated
    if run.name == dated:
        rename = "UPDATE training_runs SET run_name = %s WHERE run_name = %s"
        connection.execute(rename, (dated, first))
    return run.name


def _run_values(run: RunRecord) -> dict[str, Any]:
    options = OPTIONS | {name: f"training.{name}" for name in TRAINING}
    size = round(run.epochs[0].checkpoint_size / 1e6, 2) if run.epochs else None
    over = run.status == "completed"
    return {
        **{name: run.facts.get(name) for name in FACTS},
        **{name: run.settings.get(key, {}).get("value") for name, key in options.items()},
        "checkpoint_file_size_mb": size,
        "run_date": run.started,
        "status": run.status,
        "model_type": "SD15",
        "training_duration_hours": run.hours,
        "best_epoch": run.best_epoch,
        "quality_score": run.best_score if over else None,
        "overall_verdict": _verdict(run.best_score) if over else "pending",
    }


def _verdict(score: float | None) -> str:
    """success, partial or failure by the owner's own bounds for the best score; else pending."""
    if score is None:
        return "pending"
    success, _, partial = (bound for bound, _ in VERDICTS)
    return "success" if score >= success else "partial" if score >= partial else "failure"


def _epoch_values(result: EpochResult) -> dict[str, Any]:
    counts, scores = result.backgrounds(), result.scores
    measured = counts["match"] + counts["mismatch"] > 0
    return {
        "epoch_number": result.epoch,
        "checkpoint_path": result.checkpoint,
        "checkpoint_file_size_mb": round(result.checkpoint_size / 1e6, 2) or None,
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
    connection: Connection, columns: Columns, table: str, rows: Sequence[dict[str, Any]]
) -> None:
    """Insert the rows, or fill and overwrite those of the same key; one with nothing new is left
    as it is. Columns that the table lacks are left out."""
    kinds, keys = columns[table], KEYS[table]
    fitted = [
        {name: _fitting(kinds[name], plain(row[name])) for name in row if name in kinds}
        for row in rows
    ]
    names = [name for name in fitted[0] if any(row[name] is not None for row in fitted)]
    sets = {name: _kept(name) for name in names if name not in keys}
    own, new = (", ".join(each) for each in ([f"old.{name}" for name in sets], sets.values()))
    changes = [f"{name} = {value}" for name, value in sets.items()]
    changes += ["updated_at = now()"] if "updated_at" in kinds else []
    listed = ", ".join(names)
    statement = (
        f"INSERT INTO {table} AS old ({listed}) SELECT {listed} "  # noqa: S608 - our own names
        f"FROM jsonb_populate_recordset(NULL::{table}, %s) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(changes)} "
        f"WHERE ({own}) IS DISTINCT FROM ({new})"
    )
    connection.execute(statement.encode(), (json.dumps(fitted),))


def _kept(name: str) -> str:
    """What a column holds after an update: a person's stays once it says anything."""
    if name == "overall_verdict":
        return f"coalesce(nullif(old.{name}, 'pending'), excluded.{name})"
    first, second = ("old", "excluded") if name in PERSONS else ("excluded", "old")
    return f"coalesce({first}.{name}, {second}.{name})"


def _fitting(kind: str, value: Any) -> Any:
    """The value as the column's type takes it; None where it does not."""
    if kind not in ("smallint", "integer", "bigint") or value is None:
        return value
    try:
        return int(value) if float(value) == int(value) else None
    except (TypeError, ValueError):
        return None
