"""The collection's own PostgreSQL: the tables `training_runs` and `epoch_results`, written beside
whoever else writes there.

A run's row is written when it starts, after each epoch and when it ends; an epoch's after its test.
Each is a transaction of its own, so that one which was cut off, or is sent twice, leaves what one
that went through leaves. Columns that a machine owns are overwritten. The columns of PERSONS are
filled where they are empty, or still hold what we wrote there: what a person put there stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bespoke.errors import ConfigError
from bespoke.evaluation.scoring import VERDICTS
from bespoke.record.run_record import plain
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

VARIABLE = "BESPOKE_DATABASE_URL"
# The longest that a connection may take, and that one row may: training goes on meanwhile.
PATIENCE_S = 5
# A person's, once they hold something: opinions. All other columns that we write are facts.
PERSONS = frozenset((
    "overall_verdict", "quality_score", "production_ready", "key_findings", "issues_found",
    "strengths", "visual_quality_score", "style_match_score", "prompt_adherence_score",
    "has_wrong_backgrounds", "verdict",
))  # fmt: skip
# What stands in such a column before anyone has said anything.
NOBODYS = (None, "pending")
# Their column: the trainer's option that it holds.
OPTIONS = {
    "training_data_path": "dataset.1.subset_1.image_dir",
    "resolution": "dataset.general.resolution",
    "lr_scheduler_cycles": "training.lr_scheduler_num_cycles",
    **{
        name: f"training.{name}"
        for name in (
            "network_dim", "network_alpha", "learning_rate", "unet_lr", "text_encoder_lr",
            "train_batch_size", "gradient_accumulation_steps", "max_train_epochs",
            "mixed_precision", "optimizer_type", "lr_scheduler", "noise_offset", "min_snr_gamma",
            "output_dir", "output_name",
        )
    },
}  # fmt: skip
# Their column: the fact of the same name that a run may come with.
FACTS = (
    "base_model", "num_images", "caption_format", "caption_version", "total_steps", "platform",
    "gpu_type", "key_findings", "issues_found", "strengths", "production_ready",
)  # fmt: skip

TABLES = ("training_runs", "epoch_results")
# The statements that make them, in their order.
STATEMENTS = Path(__file__).parent / "templates" / "postgres.sql"


@dataclass(kw_only=True)
class Parcel:
    """What of a run is still to be sent.

    `waiting` lists its rows: 0 is the run's own, any other number that epoch's. `sent` is what was
    written: the name of its row there, and by row the values of PERSONS. Sending changes both.
    """

    run: RunRecord
    waiting: list[int]
    sent: dict[str, Any]


class Postgres:
    """A database by its address.

    Raises:
        ConfigError: where it is no address of PostgreSQL; the address is not repeated.
    """

    def __init__(self, text: str) -> None:
        self.url = _address(text)
        self._tables: tuple[sa.Table, sa.Table] | None = None
        self._idle_until = 0.0
        self._trouble: str | None = None

    @property
    def target(self) -> str:
        """Its name without the password."""
        url = self.url
        host = url.host or url.query.get("host", "")
        user = url.username or os.environ.get("USER", "")
        return f"{user}@{host}:{url.port or 5432}/{url.database}"

    def send(self, parcels: Sequence[Parcel], *, seconds: float | None = PATIENCE_S) -> str | None:
        """Send what waits within `seconds`; returns in a line what was in the way, if anything was.

        After a failure nothing is tried for a minute where `seconds` are counted.
        """
        if seconds is None or time.monotonic() > self._idle_until:
            deadline = None if seconds is None else time.monotonic() + seconds
            self._trouble = self._send(parcels, deadline)
            if self._trouble:
                self._idle_until, self._tables = time.monotonic() + 60, None
        return self._trouble

    def _send(self, parcels: Sequence[Parcel], deadline: float | None) -> str | None:
        trouble = None
        engine = _engine(self.url)
        try:
            with engine.connect() as connection:
                with _row_of(connection):
                    self._tables = self._tables or _prepared(connection)
                for parcel in parcels:
                    for row in list(parcel.waiting):
                        if deadline is not None and time.monotonic() > deadline:
                            return trouble or "there was no time for all of it"
                        try:
                            with _row_of(connection):
                                _write(connection, self._tables, parcel, row)
                        except (LookupError, sa.exc.DBAPIError) as error:
                            if getattr(error, "connection_invalidated", False):
                                raise
                            trouble = trouble or line(error)  # this row alone is kept back
                            continue
                        parcel.waiting.remove(row)
        except (ConfigError, OSError, sa.exc.SQLAlchemyError) as error:
            return line(error)
        finally:
            engine.dispose()
        return trouble


def line(error: BaseException) -> str:
    """What a database said, in its first line and without a secret."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return veiled(lines[0]) if lines else type(error).__name__


def _address(text: str) -> sa.URL:
    """As SQLAlchemy wants it, encrypted unless it is this machine's own.

    Raises:
        ConfigError: where it is no address of PostgreSQL; the address is not repeated.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"{VARIABLE}: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    try:
        url = sa.make_url(f"postgresql+psycopg://{rest}")
    except (ValueError, sa.exc.ArgumentError):
        raise ConfigError(
            f"{VARIABLE}: cannot be read. In a password, write @ as %40, / as %2F, # as %23, "
            ": as %3A"
        ) from None
    host = url.host or str(url.query.get("host", ""))
    local = host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")
    if "sslmode" not in url.query and not local:
        url = url.update_query_dict({"sslmode": "require"})
    return url


def _engine(url: sa.URL) -> sa.Engine:
    """Direct, or through a pooler that gives each transaction another connection: there a prepared
    statement would be looked for where it is not."""
    return sa.create_engine(
        url,
        poolclass=sa.pool.NullPool,
        use_native_hstore=False,
        hide_parameters=True,
        connect_args={"prepare_threshold": None, "connect_timeout": PATIENCE_S},
    )


@contextlib.contextmanager
def _row_of(connection: sa.Connection) -> Iterator[None]:
    """One transaction, which the server ends after PATIENCE_S, and the client where the server
    does not: a server that stands still would be waited for as long as it stands."""
    driver: Any = connection.connection.driver_connection
    end = socket.socket(fileno=os.dup(driver.fileno()))
    timer = threading.Timer(PATIENCE_S + 1, _hang_up, (end,))
    timer.daemon = True
    timer.start()
    try:
        with connection.begin():
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{PATIENCE_S}s'")
            yield
    finally:
        timer.cancel()
        end.close()


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def _prepared(connection: sa.Connection) -> tuple[sa.Table, sa.Table]:
    """Both tables as this database has them: their keys may be numbers or UUIDs, their times dates.

    One that is missing is made, closed to all but its owner: Supabase shows a new table to whoever
    has the project's public key. Columns that are missing are not written.

    Raises:
        ConfigError: where the role may not look into the schema.
    """
    user, place = connection.execute(
        sa.select(sa.literal_column("current_user"), sa.func.current_schema())
    ).one()
    if place is None:
        raise ConfigError(
            f"role {user} has no rights to the schema of the tables: GRANT USAGE ON SCHEMA public"
        )
    statements = STATEMENTS.read_text(encoding="utf-8").split("\n\n")
    for name, statement in zip(TABLES, statements, strict=True):
        if not sa.inspect(connection).has_table(name):
            connection.exec_driver_sql(statement)
    known = sa.MetaData()
    runs, epochs = (
        sa.Table(name, known, autoload_with=connection, resolve_fks=False) for name in TABLES
    )
    return runs, epochs


def _write(
    connection: sa.Connection, tables: tuple[sa.Table, sa.Table], parcel: Parcel, row: int
) -> None:
    """Write one row of the run, or none where a baseline of that name is theirs."""
    runs, epochs = tables
    name = parcel.sent.get("name") or _name(connection, runs, parcel.run)
    if name is None:
        return
    wrote = parcel.sent.setdefault("wrote", {})
    if row == 0:
        wanted = parcel.run.name
        if name != wanted and _one(connection, runs, {"run_name": wanted}) is not None:
            wanted = name
        values = {"run_name": wanted, **_run_values(parcel.run)}
        wrote["0"] = _put(connection, runs, {"run_name": name}, values, wrote.get("0", {}))
        parcel.sent["name"] = wanted
        return
    result = next((each for each in parcel.run.epochs if each.epoch == row), None)
    theirs = _one(connection, runs, {"run_name": name})
    if result is None or theirs is None:
        raise LookupError(f"{name}: its row is not there")
    key = {"training_run_id": theirs["id"], "epoch_number": row}
    values = _epoch_values(result)
    wrote[str(row)] = _put(connection, epochs, key, values, wrote.get(str(row), {}))


def _name(connection: sa.Connection, table: sa.Table, run: RunRecord) -> str | None:
    """The name of the run's row: its own, unless a row of that name is another run's.

    A row is this run's where it is of the same start, or was planned and holds no run yet.
    """
    theirs = _one(connection, table, {"run_name": run.name})
    if theirs is None:
        return run.name
    if run.baseline:
        return None
    start = _fitting(table.c.run_date, run.started) if "run_date" in table.c else None
    planned = theirs.get("status") == "in_progress" and not theirs.get("output_name")
    same = start is not None and theirs["run_date"] == start
    return run.name if planned or same else f"{run.name} ({run.started})"


def _run_values(run: RunRecord) -> dict[str, Any]:
    values = {name: run.facts[name] for name in FACTS if name in run.facts}
    for name, option in OPTIONS.items():
        if option in run.settings:
            values[name] = run.settings[option].get("value")
    if run.epochs:
        values["checkpoint_file_size_mb"] = round(run.epochs[0].checkpoint_size / 1e6, 2)
    return {
        **values,
        "run_date": run.started or None,
        "status": run.status,
        "model_type": "SD15",
        "training_duration_hours": run.hours,
        "best_epoch": run.best_epoch,
        "quality_score": run.best_score,
        "overall_verdict": _verdict(run),
    }


def _verdict(run: RunRecord) -> str:
    """success, partial or failure by the owner's own bounds for the best score; else pending."""
    if run.status == "in_progress" or run.best_score is None:
        return "failure" if run.status == "failed" else "pending"
    success, _, partial = (bound for bound, _ in VERDICTS)
    if run.best_score >= success:
        return "success"
    return "partial" if run.best_score >= partial else "failure"


def _epoch_values(result: EpochResult) -> dict[str, Any]:
    counts, scores = result.backgrounds(), result.scores
    measured = counts["match"] + counts["mismatch"] > 0
    return {
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


def _put(
    connection: sa.Connection,
    table: sa.Table,
    key: dict[str, Any],
    values: dict[str, Any],
    wrote: dict[str, Any],
) -> dict[str, Any]:
    """Insert or update the row of `key`; returns what a person's columns hold that is ours."""
    fitting = {
        name: fitted
        for name, value in values.items()
        if name in table.c and (fitted := _fitting(table.c[name], plain(value))) is not None
    }
    current = _one(connection, table, key)
    if current is None:
        connection.execute(sa.insert(table).values({**key, **fitting}))
    else:
        for name in PERSONS.intersection(fitting):
            if current[name] not in NOBODYS and _shown(current[name]) != wrote.get(name):
                del fitting[name]
        changes = {name: value for name, value in fitting.items() if value != current[name]}
        if changes:
            if "updated_at" in table.c:
                changes["updated_at"] = datetime.now(timezone.utc)
            connection.execute(sa.update(table).where(_where(table, key)).values(changes))
    # As the database holds it: a number that it rounds is still what we wrote.
    now = _one(connection, table, {**key, **{k: fitting[k] for k in key if k in fitting}}) or {}
    return {name: _shown(now.get(name)) for name in PERSONS.intersection(fitting)}


def _where(table: sa.Table, key: dict[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(table.c[name] == value for name, value in key.items()))


def _one(connection: sa.Connection, table: sa.Table, key: dict[str, Any]) -> dict[str, Any] | None:
    chosen = sa.select(table).where(_where(table, key)).with_for_update()
    row = connection.execute(chosen).mappings().first()
    return None if row is None else dict(row)


def _shown(value: object) -> object:
    """A value as JSON can keep it."""
    return json.loads(json.dumps(value, default=str))


def _fitting(column: sa.Column[Any], value: Any) -> Any:
    """The value as the column's type takes it; None where it does not."""
    if value is None or isinstance(column.type, (sa.JSON, sa.ARRAY)):
        return value
    try:
        kind = column.type.python_type
        if kind in (datetime, date):
            when = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
            return when if kind is datetime else when.date()
        if kind is int:
            return int(value) if float(value) == int(value) else None
        if kind is Decimal:
            # As the database will round it, so that the same again is no change.
            return round(Decimal(str(value)), getattr(column.type, "scale", None) or 8)
        return kind(str(value)) if kind is not bool else bool(value)
    except (NotImplementedError, TypeError, ValueError, ArithmeticError):
        return None
