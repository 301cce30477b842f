"""`record.sqlite`: one row a run, and nothing that the runs' own files could not give again."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.files import DOCUMENT
from bespoke.record import run_record
from bespoke.record.postgres import Parcel, line
from bespoke.trainer.journal import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bespoke.record.run_record import RunRecord

FILE = "record.sqlite"
VERSION = 2
BUSY_S = 5.0
T = TypeVar("T")

_metadata = sa.MetaData()
# `base` is the name that the run's file gives, `name` the one that it goes by: an older run of the
# same name goes by its start. `seen` is the file's time and size when it was last read. `light` and
# `document` are the run, without and with what no list shows. `waiting` are its rows that are still
# to be sent, and `sent` what was written there (owner.Parcel).
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("uid", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("name", "base", "experiment", "status", "started")),
    sa.Column("baseline", sa.Boolean),
    sa.Column("best_epoch", sa.Integer),
    sa.Column("best_score", sa.Float),
    *(sa.Column(name, sa.Text) for name in ("file", "seen", "light", "document")),
    *(sa.Column(name, sa.JSON) for name in ("waiting", "sent")),
)
_ORDER = (_runs.c.started, _runs.c.name)


def stamp() -> str:
    """This moment, as a part of a file's name."""
    return f"{now():%Y-%m-%dT%H-%M-%S.%fZ}"


class Index:
    """Each call is one transaction, in which the files that have changed are read first.

    A file that is no index, or a damaged one, is set aside under its date and made again. One that
    is locked is waited for BUSY_S.
    """

    def __init__(self, workspace: Path) -> None:
        self.file, self.output = workspace / FILE, workspace / "output"
        self._workspace = workspace
        self._engine = sa.create_engine(
            f"sqlite:///{self.file}",
            poolclass=sa.pool.NullPool,
            connect_args={"isolation_level": None},
        )
        sa.event.listen(self._engine, "begin", self._begin)
        self._mute = False
        self._locked_until = 0.0

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the runs' files, or after BUSY_S beside whoever has them that long."""
        end = time.monotonic() + BUSY_S
        with contextlib.ExitStack() as stack:
            # A volume without locks, or without room, raises an OSError.
            with contextlib.suppress(OSError):
                file = self._workspace / ".record.lock"
                stream = stack.enter_context(file.open("a", encoding="utf-8"))
                while time.monotonic() < end:
                    try:
                        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        time.sleep(0.02)
            yield

    def take_in(self, file: Path) -> None:
        """Read a run's file; where that fails it is said, and the run goes on."""
        try:
            self._transact(lambda _: None, file)
            self._mute = False
        except ConfigError as error:
            if not self._mute:
                say(f"{error}. The runs' own files hold all of it, and training goes on")
            self._mute = True

    def run(self, name: str) -> RunRecord | None:
        """The run that goes by a name."""
        runs = self._read(_runs.c.document, _runs.c.name == name)
        return runs[0] if runs else None

    def runs(self) -> list[RunRecord]:
        """Every run, light (schema.light)."""
        return self._read(_runs.c.light)

    def copy_of(self, file: Path) -> RunRecord | None:
        """The run that the file last held."""
        runs = self._read(_runs.c.document, _runs.c.file == self._relative(file))
        return runs[-1] if runs else None

    def file_of(self, name: str) -> Path | None:
        """The file of the run that goes by a name."""
        chosen = sa.select(_runs.c.file).where(_runs.c.name == name)
        file = self._transact(lambda connection: connection.scalar(chosen))
        return self._workspace / file if file else None

    def parcels(self, *, everything: bool = False) -> list[Parcel]:
        """What is to be sent, or everything, older runs first."""

        def work(connection: sa.Connection) -> list[Parcel]:
            chosen = sa.select(_runs).order_by(*_ORDER)
            if not everything:
                chosen = chosen.where(sa.type_coerce(_runs.c.waiting, sa.Text) != "[]")
            parcels = []
            for row in connection.execute(chosen):
                run = replace(run_record.loads(row.document), name=row.name)
                rows = [0, *(each.epoch or 0 for each in run.epochs)]
                waiting = [each for each in rows if everything or each in row.waiting]
                parcels.append(Parcel(run=run, waiting=waiting, sent=row.sent))
            return parcels

        return self._transact(work)

    def note(self, parcels: Iterable[Parcel]) -> None:
        """Keep what of them waits still, and what was written."""

        def work(connection: sa.Connection) -> None:
            for each in parcels:
                _set(connection, each.run.uid, waiting=each.waiting, sent=each.sent)

        self._transact(work)

    def rebuild(self) -> None:
        """Make it again, whole or not at all; what was written elsewhere stays known."""

        def work(connection: sa.Connection) -> None:
            rows = connection.execute(sa.select(_runs.c.uid, _runs.c.sent)).all()
            connection.execute(sa.delete(_runs))
            self._refresh(connection)
            for row in rows:
                _set(connection, row.uid, sent=row.sent)

        self._transact(work)

    def _begin(self, connection: sa.Connection) -> None:
        """Wait for another process, but not again within a minute: training goes on meanwhile.

        The driver's own BEGIN comes late and as a reader's, and a reader that turns writer is
        refused at once where another process writes.
        """
        patience = 0 if time.monotonic() < self._locked_until else 1000 * BUSY_S
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience:.0f}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _read(self, text: sa.Column[str], where: Any = True) -> list[RunRecord]:
        chosen = sa.select(_runs.c.name, text).where(where).order_by(*_ORDER)
        return self._transact(
            lambda connection: [
                replace(run_record.loads(document), name=name)
                for name, document in connection.execute(chosen)
            ]
        )

    def _transact(self, work: Callable[[sa.Connection], T], file: Path | None = None) -> T:
        """Carry out `work`, once more where the index had to be made again for it.

        Raises:
            ConfigError: where it is locked, full, read-only or cannot be opened.
        """
        try:
            try:
                return self._once(work, file)
            except (sa.exc.SQLAlchemyError, ValueError, TypeError) as error:
                if _is_sound(error) and not self.file.is_dir():
                    raise
                self._set_aside(error)
                return self._once(work, file)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            reason = line(error)
            if "locked" in reason:
                self._locked_until = time.monotonic() + 60
                reason = "locked by another process: wait for it, or stop it"
            raise ConfigError(f"{self.file}: {reason}") from error

    def _once(self, work: Callable[[sa.Connection], T], file: Path | None) -> T:
        with self._engine.begin() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar()
            if version != VERSION:
                if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
                    raise ValueError("another version of bespoke wrote it")
                _metadata.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            self._refresh(connection, file)
            return work(connection)

    def _set_aside(self, error: Exception) -> None:
        aside = self.file.with_name(f"record-{stamp()}.sqlite")
        for ending in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.file.with_name(FILE + ending).rename(f"{aside}{ending}")
        # Not to stdout, where a verb may be printing JSON.
        print(
            f"bespoke: {self.file}: cannot be read ({line(error)}). Moved to {aside.name}, and "
            "made again from the runs' own files",
            file=sys.stderr,
        )

    def _refresh(self, connection: sa.Connection, file: Path | None = None) -> None:
        """Read the files that are new, moved or changed since, and give each run its name."""
        rows = connection.execute(sa.select(_runs.c.uid, _runs.c.file, _runs.c.seen)).all()
        seen = {row.file: row.seen for row in rows}
        files = {self._workspace / row.file for row in rows if row.file}
        files |= {file} if file else set()
        files |= {*self.output.glob(f"*{DOCUMENT}"), *self.output.glob(f"earlier/*/*{DOCUMENT}")}
        runs: list[tuple[RunRecord, Path | None]] = []
        for each in sorted(files):
            if _seen(each) not in (None, seen.get(self._relative(each))):
                with contextlib.suppress(OSError, ValueError):
                    runs.append((run_record.loads(each.read_text(encoding="utf-8")), each))
        known = {row.uid for row in rows}
        runs += [(each, None) for each in run_record.BASELINES if each.uid not in known]
        for run, place in runs:
            self._put(connection, run, place)
        if runs:
            _name_all(connection)

    def _put(self, connection: sa.Connection, run: RunRecord, file: Path | None) -> None:
        """Write a run's row; its own and those of its epochs that have changed are to be sent."""
        here = _runs.c.uid == run.uid
        before = connection.execute(sa.select(_runs).where(here)).first()
        sent = run_record.loads(before.document).epochs if before else ()
        changed = [each.epoch or 0 for each in run.epochs if each not in sent]
        values = {
            **{key: getattr(run, key) for key in ("uid", "experiment", "status", "started")},
            **{key: getattr(run, key) for key in ("baseline", "best_epoch", "best_score")},
            "name": before.name if before else run.name,
            "base": run.name,
            "file": self._relative(file) if file else None,
            "seen": _seen(file) if file else None,
            "light": run_record.light(run),
            "document": run_record.dumps(run),
            "waiting": sorted({0, *changed, *(before.waiting if before else ())}),
            "sent": before.sent if before else {},
        }
        connection.execute(sa.delete(_runs).where(here))
        connection.execute(sa.insert(_runs).values(values))

    def _relative(self, file: Path) -> str:
        inside = file.is_relative_to(self._workspace)
        return str(file.relative_to(self._workspace) if inside else file)


def _name_all(connection: sa.Connection) -> None:
    """Give each run the name that it goes by: its own if it is the newest of it, else with its
    start. One that never ended is cancelled by the newer: its file may say that it is going on."""
    moved_away = sa.func.coalesce(_runs.c.file, "").like("%earlier/%")
    order = (_runs.c.baseline.desc(), moved_away.desc(), _runs.c.started)
    by_base: dict[str, list[Any]] = {}
    keys = ("uid", "name", "base", "started", "status", "baseline", "waiting")
    for row in connection.execute(sa.select(*(_runs.c[key] for key in keys)).order_by(*order)):
        by_base.setdefault(row.base, []).append(row)
    taken = set(by_base)
    for base, (*older, newest) in by_base.items():
        names = {newest.uid: base}
        for row in older:
            label = f"{base} ({'baseline' if row.baseline else row.started})"
            numbered = (f"{label} {number}" for number in itertools.count(2))
            name = next(each for each in itertools.chain([label], numbered) if each not in taken)
            taken.add(name)
            names[row.uid] = name
        for row in (*older, newest):
            if row.name != names[row.uid]:
                waiting = sorted({0, *row.waiting})
                _set(connection, row.uid, name=names[row.uid], waiting=waiting)
            if row is not newest and row.status == "in_progress":
                _cancel(connection, row.uid)


def _cancel(connection: sa.Connection, uid: str) -> None:
    changes = {"status": "cancelled", "ending": "another run took its name"}
    here = _runs.c.uid == uid
    row = connection.execute(sa.select(_runs.c.light, _runs.c.document).where(here)).one()
    texts = {
        key: json.dumps({**json.loads(value), **changes}) for key, value in row._asdict().items()
    }
    _set(connection, uid, status="cancelled", **texts)


def _set(connection: sa.Connection, uid: str, **values: Any) -> None:
    connection.execute(sa.update(_runs).where(_runs.c.uid == uid).values(values))


def _seen(file: Path) -> str | None:
    with contextlib.suppress(OSError):
        status = file.stat()
        return f"{status.st_mtime_ns}:{status.st_size}"
    return None


def _is_sound(error: Exception) -> bool:
    """Whether something else than the file is in the way, which may be over soon."""
    words = ("locked", "full", "disk I/O", "readonly", "unable to open")
    return isinstance(error, sa.exc.OperationalError) and any(word in str(error) for word in words)
