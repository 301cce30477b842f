"""`record.sqlite`: one row a run, and nothing that the runs' own files could not give again."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from bespoke.errors import ConfigError
from bespoke.files import DOCUMENT
from bespoke.record.postgres import line
from bespoke.record.run_record import dumps, loads
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bespoke.record.run_record import RunRecord

FILE = "record.sqlite"
BUSY_S = 5.0
T = TypeVar("T")

_TABLE = """CREATE TABLE runs (
    uid TEXT PRIMARY KEY, name TEXT, experiment TEXT, status TEXT, started TEXT,
    best_epoch INTEGER, best_score REAL, file TEXT, unsent INTEGER, document TEXT)"""
# What is wrong with the disk or with another process, and not with the file itself.
_PASSING = ("locked", "full", "disk I/O", "readonly", "unable to open")


class Index:
    """Each call is one transaction.

    `name` is the one that a run goes by: after its start where its files were moved away. `unsent`
    is 0 where PostgreSQL has all of the run. A damaged file is set aside under its date and made
    again from the runs' files; one that is locked is waited for BUSY_S, but only once.

    Raises:
        ConfigError: in each call, where it is locked, full, read-only or cannot be opened.
    """

    def __init__(self, workspace: Path) -> None:
        self.file, self.output = workspace / FILE, workspace / "output"
        self._patience = BUSY_S

    def put(self, run: RunRecord, file: Path) -> None:
        """Write a run's row."""
        self._transact(lambda connection: self._put(connection, run, file))

    def note_sent(self, uids: Sequence[str]) -> None:
        """Keep that PostgreSQL has these runs."""
        mark, values = "UPDATE runs SET unsent = 0 WHERE uid = ?", [(uid,) for uid in uids]
        self._transact(lambda connection: connection.executemany(mark, values))

    def runs(self, *, unsent: bool = False) -> list[RunRecord]:
        """The runs, or those that PostgreSQL lacks, by their start."""
        query = "SELECT document FROM runs WHERE unsent >= ? ORDER BY started, name"
        return self._transact(
            lambda connection: [
                loads(document) for (document,) in connection.execute(query, (int(unsent),))
            ]
        )

    def file_of(self, name: str) -> Path | None:
        """The file of the run that goes by a name."""
        query = "SELECT file FROM runs WHERE name = ?"
        row = self._transact(lambda connection: connection.execute(query, (name,)).fetchone())
        return self.output / row[0] if row else None

    def rebuild(self) -> int:
        """Make it again from the files, whole or not at all; returns of how many runs it is."""

        def work(connection: sqlite3.Connection) -> int:
            sent = dict(connection.execute("SELECT uid, document FROM runs WHERE NOT unsent"))
            connection.execute("DELETE FROM runs")
            self._fill(connection, sent)
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

        return self._transact(work)

    def _fill(self, connection: sqlite3.Connection, sent: Mapping[str, str]) -> None:
        here, away = self.output.glob(f"*{DOCUMENT}"), self.output.glob(f"earlier/*/*{DOCUMENT}")
        for file in sorted((*here, *away)):
            with contextlib.suppress(OSError, ValueError):
                run = loads(file.read_text(encoding="utf-8"))
                run = run if file.parent == self.output else _moved_away(run)
                self._put(connection, run, file, unsent=sent.get(run.uid) != dumps(run))

    def _put(
        self, connection: sqlite3.Connection, run: RunRecord, file: Path, *, unsent: bool = True
    ) -> None:
        best = (run.best_epoch, run.best_score)
        facts = (run.uid, run.name, run.experiment, run.status, run.started, *best)
        row = (*facts, os.path.relpath(file, self.output), unsent, dumps(run))
        connection.execute("REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `work`, once more where the index had to be made again for it."""
        try:
            try:
                return self._once(work)
            except (sqlite3.DatabaseError, ValueError) as error:
                if any(word in str(error) for word in _PASSING):
                    raise
                self._set_aside(error)
                return self._once(work)
        except (OSError, sqlite3.Error) as error:
            reason = line(error)
            if "locked" in reason:
                self._patience, reason = 0, "locked by another process: wait for it, or stop it"
            raise ConfigError(f"{self.file}: {reason}") from error

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = sqlite3.connect(self.file, timeout=self._patience, isolation_level=None)
        with contextlib.closing(connection), connection:
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT * FROM sqlite_master").fetchone():
                connection.execute(_TABLE)
                self._fill(connection, {})
            return work(connection)

    def _set_aside(self, error: Exception) -> None:
        aside = self.file.with_name(f"record-{stamp()}.sqlite")
        for ending in ("", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                self.file.with_name(FILE + ending).rename(f"{aside}{ending}")
        # Not to stdout, where a verb may be printing JSON.
        print(
            f"bespoke: {self.file}: cannot be read ({line(error)}). Moved to {aside.name}, and "
            "made again from the runs' own files",
            file=sys.stderr,
        )


def stamp() -> str:
    """This moment, as a part of a file's name."""
    return f"{now():%Y-%m-%dT%H-%M-%S.%fZ}"


def _moved_away(run: RunRecord) -> RunRecord:
    """A run as it is listed once another has taken its name."""
    if run.status == "in_progress":
        run = replace(run, status="cancelled", ending="another run took its name")
    return replace(run, name=f"{run.name} ({run.started})")
