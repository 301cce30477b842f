"""What is kept here, sent on to a PostgreSQL elsewhere: in the background, over and over, in order.

Each run, and each epoch, is a transaction of its own and says the whole of it, so that one which
was cut off, or sent twice, leaves what one that went through leaves.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bespoke import rows, schema
from bespoke.errors import ConfigError
from bespoke.files import held
from bespoke.veil import veiled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAUSE_S = (1.0, 60.0)
# One statement may take this long before the server itself ends it.
STATEMENT_MS = 30_000


@dataclass(frozen=True, kw_only=True)
class Remote:
    """Another database, and the workspace's own that it is sent from."""

    local: sa.Engine
    url: sa.URL
    lock: Path

    @property
    def target(self) -> str:
        return schema.target(self.url)

    def unsent(self) -> list[tuple[str, int, str]]:
        """(uid, epoch, digest) of all that waits, runs before their epochs; epoch 0 is the run."""
        runs, epochs, sent = schema.runs, schema.epochs, schema.sent
        with self.local.connect().execution_options(reading=True) as connection:
            found: list[tuple[str, int, str]] = []
            for own, epoch in ((runs, sa.literal(0)), (epochs, epochs.c.epoch)):
                same = sa.exists().where(
                    sent.c.target == self.target,
                    sent.c.uid == own.c.uid,
                    sent.c.epoch == epoch,
                    sent.c.digest == own.c.digest,
                )
                waiting = sa.select(own.c.uid, epoch, own.c.digest).where(
                    own.c.uid == runs.c.uid, ~same
                )
                chosen = connection.execute(waiting.order_by(runs.c.started, runs.c.uid))
                found += [(row[0], row[1], row[2]) for row in chosen]
        return found

    def forget(self) -> None:
        """Take all as unsent: there is more to say of it now."""
        with self.local.begin() as connection:
            connection.execute(sa.delete(schema.sent).where(schema.sent.c.target == self.target))

    def send(self, abandoned: Callable[[], bool] = lambda: False) -> str | None:
        """Send what waits; returns in a line what was in the way, None where nothing was.

        What one row meets (a constraint, a column's type) keeps back that row alone.
        """
        waiting = self.unsent()
        if not waiting:
            return None
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(self.lock, "the record"))
            except ConfigError:
                return "another run of this workspace is sending"
            except OSError:
                pass  # a volume without locks: two may send, and each row is there once
            engine = schema.remote_engine(self.url)
            try:
                with engine.connect() as connection:
                    return self._pass(connection, waiting, abandoned)
            except (ConfigError, sa.exc.SQLAlchemyError) as error:
                return line(error)
            finally:
                engine.dispose()

    def _pass(
        self,
        connection: sa.Connection,
        waiting: list[tuple[str, int, str]],
        abandoned: Callable[[], bool],
    ) -> str | None:
        owners, trouble = None, None
        for uid, epoch, digest in waiting:
            if abandoned():
                return "there was no time for all of it"
            try:
                with connection.begin():
                    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {STATEMENT_MS}")
                    owners = owners or schema.prepare(connection)
                    self._send_one(connection, owners, uid, epoch)
            except KeyError:
                continue  # an epoch whose run was kept back
            except sa.exc.DBAPIError as error:
                trouble = line(error)
                if error.connection_invalidated or owners is None:
                    break
                owners = None  # a table may be gone: it is made again before the next row
                continue
            with self.local.begin() as noting:
                row = {"target": self.target, "uid": uid, "epoch": epoch, "digest": digest}
                schema.upsert(noting, schema.sent, [row])
        return trouble

    def _send_one(
        self, connection: sa.Connection, owners: sa.MetaData, uid: str, epoch: int
    ) -> None:
        with self.local.connect().execution_options(reading=True) as reading:
            if epoch == 0:
                kept = rows.load(reading, uid)
            else:
                results = rows.load_epochs(reading, uid)[uid]
        if epoch == 0:
            (rows.seed if kept.row["baseline"] else rows.keep)(connection, owners, kept)
        else:
            result = next(each for each in results if each.epoch == epoch)
            rows.keep_epoch(connection, owners, uid, result)


class Sender:
    """A thread that sends what waits: when told, and again after a failure, ever later."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._wake, self._closing = threading.Event(), threading.Event()
        self._abandoned = threading.Event()
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something new waits."""
        self._wake.set()

    def close(self, patience: float) -> tuple[int, str]:
        """Wait up to `patience` seconds for a last attempt; returns what is unsent, and why."""
        self._closing.set()
        self._wake.set()
        self._thread.join(patience)
        late = self._thread.is_alive()
        self._abandoned.set()
        return len(self._remote.unsent()), self.trouble or ("no answer in time" if late else "")

    def _work(self) -> None:
        pause, longest = PAUSE_S
        while True:
            last = self._closing.is_set()
            self._wake.clear()
            try:
                self.trouble = self._remote.send(self._abandoned.is_set)
            except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
                self.trouble = line(error)
            if last or self._abandoned.is_set():
                return
            if self.trouble is None:
                pause = PAUSE_S[0]
                self._wake.wait()
            else:
                self._wake.wait(pause)
                pause = min(2 * pause, longest)


def line(error: BaseException) -> str:
    """What a database said, in its first line and without a secret."""
    told = getattr(error, "orig", None) or error
    lines = str(told).strip().splitlines()
    return veiled(lines[0]) if lines else type(told).__name__
