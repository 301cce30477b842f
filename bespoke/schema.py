"""The record's tables, the engines that reach them, and the migrations in order.

Two families: the tables that the collection's owner already has, with their columns as they are,
and ours beside them, named `bespoke_…`, which hold what theirs have no column for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# A file system known to be this machine's own. SQLite's write-ahead log is shared memory: on a
# network volume two machines would each see half of it.
LOCAL_SYSTEMS = frozenset(
    ("apfs", "btrfs", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")
)
BUSY_MS = 30_000
LOCK = 0x6265_7370  # "besp": one migration at a time in a shared database

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TEXTS = sa.JSON().with_variant(postgresql.ARRAY(sa.Text()), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

owners = sa.MetaData()
ours = sa.MetaData()
here = sa.MetaData()


def _columns(kinds: Sequence[tuple[Any, str]]) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind) for kind, names in kinds for name in names.split()]


sa.Table(
    "training_runs",
    owners,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("run_name", sa.Text, nullable=False, unique=True),
    *_columns((
        (TIME, "run_date"),
        (sa.Text, "status base_model model_type training_data_path"),
        (sa.Integer, "num_images"),
        (sa.Text, "caption_format caption_version resolution"),
        (sa.Integer, "network_dim"),
        (sa.Float(53), "network_alpha learning_rate unet_lr text_encoder_lr"),
        (sa.Integer, "train_batch_size gradient_accumulation_steps max_train_epochs total_steps"),
        (sa.Text, "mixed_precision optimizer_type lr_scheduler"),
        (sa.Integer, "lr_scheduler_cycles"),
        (sa.Float(53), "noise_offset min_snr_gamma"),
        (sa.Text, "output_dir output_name"),
        (sa.Float(53), "checkpoint_file_size_mb"),
        (sa.Text, "platform gpu_type"),
        (sa.Float(53), "training_duration_hours"),
        (sa.Integer, "best_epoch"),
        (sa.Text, "overall_verdict"),
        (sa.Float(53), "quality_score"),
        (sa.Boolean, "production_ready"),
        (sa.Text, "key_findings"),
        (TEXTS, "issues_found strengths"),
        (sa.Text, "comparison_notes recommended_for notes"),
    )),
    sa.Column("created_at", TIME, server_default=sa.func.now()),
    sa.Column("updated_at", TIME, server_default=sa.func.now()),
)  # fmt: skip
sa.Table(
    "epoch_results",
    owners,
    sa.Column("id", NUMBER, primary_key=True),
    sa.Column("training_run_id", NUMBER, sa.ForeignKey("training_runs.id"), nullable=False),
    sa.Column("epoch_number", sa.Integer, nullable=False),
    *_columns((
        (sa.Text, "checkpoint_path"),
        (sa.Float(53), "checkpoint_file_size_mb"),
        (sa.Text, "test_output_dir"),
        (sa.Integer, "num_test_images visual_quality_score style_match_score"),
        (sa.Integer, "prompt_adherence_score"),
        (sa.Boolean, "has_wrong_backgrounds has_random_pixels has_wrong_colors"),
        (sa.Boolean, "is_photorealistic is_overtrained"),
        (TEXTS, "issues_detail strengths_detail"),
        (sa.Text, "verdict"),
        (sa.Boolean, "production_ready"),
        (sa.Text, "observations comparison_to_previous"),
        (TEXTS, "test_image_paths"),
        (sa.Text, "notes"),
    )),
    sa.Column("created_at", TIME, server_default=sa.func.now()),
    sa.UniqueConstraint("training_run_id", "epoch_number"),
)  # fmt: skip

# `uid` is the run, wherever it is kept; its name can pass to a later run. `digest` says whether
# anything changed. `owner_name` and `written` are each database's own: the row that stands for the
# run in the owner's table, and what we last wrote there.
runs = sa.Table(
    "bespoke_runs",
    ours,
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    *_columns((
        (sa.Text, "experiment parent status ending started ended hypothesis"),
        (sa.Boolean, "baseline"),
        (sa.Integer, "best_epoch"),
        (sa.Float(53), "best_score"),
        (JSON, "expected settings facts interruptions starts"),
        (sa.Text, "digest owner_name"),
        (JSON, "written"),
    )),
)  # fmt: skip


def _of_run() -> sa.Column[Any]:
    return sa.Column("uid", sa.Text, sa.ForeignKey("bespoke_runs.uid"), primary_key=True)


documents = sa.Table(
    "bespoke_documents",
    ours,
    _of_run(),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("content", JSON),
)
decisions = sa.Table(
    "bespoke_decisions",
    ours,
    _of_run(),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    *_columns(((sa.Text, "outcome reason"), (JSON, "evidence"))),
)
epochs = sa.Table(
    "bespoke_epochs",
    ours,
    _of_run(),
    sa.Column("epoch", sa.Integer, primary_key=True),
    *_columns((
        (sa.Text, "checkpoint checkpoint_sha256"),
        (sa.BigInteger, "checkpoint_size"),
        (sa.Text, "folder"),
        (sa.Integer, "metrics_version"),
        (sa.Integer, "visual_quality style_match prompt_adherence"),
        (sa.Integer, "suggested_visual_quality suggested_style_match"),
        (sa.Integer, "suggested_prompt_adherence"),
        (sa.Text, "scored_by tested"),
        (JSON, "earlier"),
        (sa.Text, "digest"),
        (JSON, "written"),
    )),
)  # fmt: skip
pictures = sa.Table(
    "bespoke_pictures",
    ours,
    _of_run(),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    *_columns((
        (sa.Text, "prompt text"),
        (sa.BigInteger, "seed"),
        (sa.Text, "file sha256"),
        (JSON, "measured"),
    )),
)  # fmt: skip
versions = sa.Table(
    "bespoke_version",
    ours,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("applied", TIME, server_default=sa.func.now()),
)
# The outbox: what each database was last sent, in the workspace's file alone. Whatever has another
# digest by now, or none here, waits to be sent. `epoch` is 0 for the run itself.
sent = sa.Table(
    "bespoke_sent",
    here,
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("uid", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text),
)


def lacking(connection: sa.Connection) -> list[str]:
    """The statements that add the columns which we would write and the owner's tables lack.

    Raises:
        ConfigError, SQLAlchemyError: as `prepare`.
    """
    found = prepare(connection).tables
    return [
        f"ALTER TABLE {table} ADD COLUMN {column.name} {column.type.compile(connection.dialect)}"
        for table in owners.sorted_tables
        for column in table.columns
        if column.name not in found[table.name].columns
    ]


def prepare(connection: sa.Connection) -> sa.MetaData:
    """Bring the tables up to date; returns the owner's two as this database has them.

    Columns that are missing there are not written.

    Raises:
        ConfigError: where a later bespoke has been there.
        SQLAlchemyError: where the database does not allow it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    known = sa.inspect(connection).has_table(versions.name)
    found = connection.scalar(sa.select(sa.func.max(versions.c.version))) if known else None
    if found is not None and found > len(MIGRATIONS):
        raise ConfigError(
            f"the record is of version {found} and this bespoke knows {len(MIGRATIONS)}: "
            "a later bespoke wrote it, so update this one"
        )
    for number, step in enumerate(MIGRATIONS[found or 0 :], start=(found or 0) + 1):
        step(connection)
        connection.execute(sa.insert(versions).values(version=number))
    _create_missing(connection)
    if connection.dialect.name == "sqlite":
        return owners
    # Their keys may be numbers or UUIDs, their times dates: the database says.
    read = sa.MetaData()
    for name in owners.tables:
        sa.Table(name, read, autoload_with=connection, resolve_fks=False)
    return read


def _create_missing(connection: sa.Connection) -> None:
    """Make the tables that are not there; in PostgreSQL closed to all but their owner, for
    Supabase shows a new table to whoever has the project's public key."""
    for metadata in (owners, ours, here) if connection.dialect.name == "sqlite" else (owners, ours):
        for table in metadata.sorted_tables:
            if sa.inspect(connection).has_table(table.name):
                continue
            table.create(connection)
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY")


# In order; a database holds the number of those that it has been through.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_create_missing,)


def upsert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows by primary key, or set what they name in those that are there."""
    if not rows:
        return
    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
    keys = [column.name for column in table.primary_key]
    change = {name: insert.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=change), rows)


def local_engine(file: Path) -> sa.Engine:
    """The workspace's own database, made where it is missing.

    Raises:
        ConfigError: where the file cannot be opened or is none of SQLite's.
    """
    engine = sa.create_engine(
        f"sqlite:///{file}",
        poolclass=sa.pool.NullPool,
        json_serializer=_dumps,
        connect_args={"timeout": BUSY_MS / 1000},
    )

    def connected(raw: Any, _: object) -> None:
        # The driver's own BEGIN comes late and as a reader; a reader that turns writer while
        # another writes is refused at once, whatever the busy timeout says.
        raw.isolation_level = None
        raw.execute("PRAGMA foreign_keys = ON")

    def begun(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connected)
    sa.event.listen(engine, "begin", begun)
    try:
        with contextlib.suppress(sqlite3.OperationalError):
            if _file_system(file) in LOCAL_SYSTEMS:
                _journal(engine, "WAL")
                return engine
        _journal(engine, "DELETE")
    except (sa.exc.DatabaseError, sqlite3.Error) as error:
        raise ConfigError(f"{file}: the record cannot be opened: {error}") from error
    return engine


def _journal(engine: sa.Engine, mode: str) -> None:
    raw = engine.raw_connection()
    try:
        for statement in (f"PRAGMA journal_mode = {mode}", "SELECT count(*) FROM sqlite_master"):
            raw.cursor().execute(statement)
    finally:
        raw.close()


def _file_system(file: Path) -> str:
    """The kind of file system that holds `file`; "apfs" where no table of mounts says."""
    try:
        rows = Path("/proc/self/mounts").read_text(encoding="utf-8")
    except OSError:
        return "apfs"
    parents = {str(folder) for folder in file.resolve().parents}
    found = ("", "")
    for row in rows.splitlines():
        # "device folder kind options 0 0", with a space in a folder's name as \\040.
        folder, kind = row.split(" ")[1:3]
        if folder.replace("\\040", " ") in parents and len(folder) >= len(found[0]):
            found = folder, kind
    return found[1]


def remote_url(text: str) -> sa.URL:
    """The database's address, as SQLAlchemy wants it, encrypted unless it is this machine's own.

    Raises:
        ConfigError: where it is no address of PostgreSQL; the address is not repeated.
    """
    name = "BESPOKE_DATABASE_URL"
    scheme, found, rest = text.strip().partition("://")
    if not found or scheme not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"{name}: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    try:
        url = sa.make_url(f"postgresql+psycopg://{rest}")
    except (ValueError, sa.exc.ArgumentError):
        raise ConfigError(
            f"{name}: cannot be read: in a password, write @ as %40, / as %2F, # as %23, : as %3A"
        ) from None
    host = url.host or str(url.query.get("host", ""))
    local = host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")
    if "sslmode" not in url.query and not local:
        url = url.update_query_dict({"sslmode": "require"})
    return url


def target(url: sa.URL) -> str:
    """A database by a name without its password. A pooler tells databases apart by their users."""
    host = url.host or url.query.get("host", "")
    return f"{url.username or os.environ.get('USER', '')}@{host}:{url.port or 5432}/{url.database}"


def remote_engine(url: sa.URL) -> sa.Engine:
    """PostgreSQL, direct or through a pooler that gives each transaction another connection."""
    return sa.create_engine(
        url,
        poolclass=sa.pool.NullPool,
        json_serializer=_dumps,
        use_native_hstore=False,
        hide_parameters=True,
        connect_args={
            # A prepared statement would be looked for on another connection.
            "prepare_threshold": None,
            "connect_timeout": 5,
            # A connection whose other end is gone without a word ends within half a minute.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        },
    )


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False)
