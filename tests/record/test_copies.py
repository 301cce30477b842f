"""A run's copies off the machine, in a real S3 server and in a folder, and going on from them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from safetensors.numpy import load_file

from bespoke.errors import ConfigError
from bespoke.files import document_path
from bespoke.record import copies
from tests.conftest import SMOKE
from tests.rehearsals import NAME, command, run, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "canary/secret+of0the1store"
FOUR = ("--set", "training.max_train_epochs=4")
COPIED = f"home/night/{NAME}.copied.json"


def keys(port: int, address: str = "s3://home/night") -> dict[str, str]:
    """Variables under which a run is copied to a server on this machine, and gives up quickly."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "artist",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_MAX_ATTEMPTS": "1",
        "BESPOKE_COPY_TO": address,
    }


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def server(port: int, **variables: str) -> Iterator[Any]:
    """An S3 server in a process of its own, killed at the end: its files, with a bucket."""
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet, environment = subprocess.DEVNULL, {**os.environ, **variables}
    with subprocess.Popen(words, stdout=quiet, stderr=quiet, env=environment) as child:
        try:
            options = {"key": "artist", "secret": SECRET, "use_listings_cache": False}
            files = fsspec.filesystem("s3", endpoint_url=f"http://127.0.0.1:{port}", **options)
            with contextlib.suppress(PermissionError):
                files.mkdir("home")  # tries again until the server answers
            yield files
        finally:
            child.kill()


def tensors(workspace: Path) -> dict[str, dict[str, bytes]]:
    """Every checkpoint's tensors, as bytes."""
    rows = {path.name: load_file(path) for path in workspace.glob("output/*-00000?.safetensors")}
    return {name: {key: row[key].tobytes() for key in row} for name, row in rows.items()}


def test_a_run_goes_on_elsewhere_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = (command(tmp_path / name, *FOUR) for name in ("first", "second"))
    assert run(command(tmp_path, *FOUR)).returncode == 0
    with server(port := free_port()) as files:
        stopped = run(first, **keys(port), BESPOKE_FAKE_TRAINER_FAULT="die@6")
        assert "copied to s3://home/night: all up to epoch 2" in stopped.stdout
        before = files.find("home", detail=True)
        second += ["--from", "s3://home/night"]
        cut = run(second, **keys(port), BESPOKE_FAKE_TRAINER_FAULT="die@8")
        assert f"resuming after epoch 2, from {NAME}-000002-state" in cut.stdout
        gone_on = run(second, **keys(port), S3FS_LOGGING_LEVEL="DEBUG")
        assert (gone_on.returncode, gone_on.stderr) == (0, "")
        assert gone_on.stdout.endswith("bespoke: copied to s3://home/night: all up to epoch 4\n")
        assert f"{NAME} is here, with every checkpoint of s3://home/night" in gone_on.stdout
        # Four epochs with the two newest states, as they are in the workspace.
        copied = json.loads(files.cat_file(COPIED))
        kept = {name[-25:-14] for name in copied["files"] if name.endswith("optimizer.bin")}
        assert (copied["epoch"], kept) == (4, {"00002-state", "00003-state"})
        assert len(files.find(f"home/night/{copied['folder']}")) == len(copied["files"])
        for name, (size, sha256) in copied["files"].items():
            content = files.cat_file(f"home/night/{copied['folder']}/{name}")
            assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
            assert content == (tmp_path / "second/rehearsal" / name).read_bytes()
            assert SECRET.encode() not in (content + gone_on.stdout.encode())
        kinds = {PurePosixPath(name).suffix for name in copied["files"]}
        assert kinds >= {".safetensors", ".bin", ".png", ".json", ".html", ".log", ".jsonl"}
        # Into the same folder there, in which nothing of the first two epochs was sent again.
        after = files.find("home", detail=True)
        for path in (path for path in before if path.endswith((".safetensors", ".png"))):
            assert after.get(path, before[path]) == before[path]
        # What the first machine has is behind now, and is not copied over it.
        behind = run(first, **keys(port))
        assert "this run is there up to epoch 4, and was begun after 2 here" in behind.stdout
        assert files.find("home", detail=True) == after
    whole = tensors(tmp_path / "rehearsal")
    assert (len(whole), tensors(tmp_path / "second/rehearsal")) == (4, whole)
    record = json.loads(document_path(tmp_path / "second/rehearsal/output", NAME).read_bytes())
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1, 2, 3, 4]
    assert str(tmp_path / "first") not in json.dumps(record["epochs"])


def test_a_store_that_goes_away_is_said_once_and_has_all_once_it_is_back(tmp_path: Path) -> None:
    words, pace = command(tmp_path, *FOUR), {"BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": "1"}
    with server(port := free_port()) as files:
        training = start(words, **keys(port), **pace)
        wait_for(lambda: files.exists(COPIED))
    assert any("warning: cannot copy to s3://home/night: " in line for line in training.stdout)
    with server(port) as files:
        output, errors = training.communicate(timeout=60)
        assert len(json.loads(files.cat_file(COPIED))["files"]) > 20
    assert (training.returncode, errors) == (0, "")
    assert "warning: cannot copy" not in output
    assert output.endswith("bespoke: copied to s3://home/night: all up to epoch 4\n")


class Refusing(BaseHTTPRequestHandler):
    """A store that takes nothing: full, or too slow."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        time.sleep(60 if "slow" in self.path else 0)
        self.send_response(507)
        self.send_header("Content-Length", str(len(FULL)))
        self.end_headers()
        self.wfile.write(FULL)

    do_GET = do_PUT


FULL = b"<Error><Code>QuotaExceeded</Code><Message>no room</Message></Error>"
REFUSALS = {
    "key": (0, "The AWS Access Key Id you provided does not exist in our records"),
    "full": (4, "no room"),
    "slow": (0, "(it takes longer than 0:03|Read timeout)"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_store_that_refuses_costs_a_run_one_line_and_its_exit_code_only_where_asked(
    tmp_path: Path, kind: str
) -> None:
    code, why = REFUSALS[kind]
    s3 = {"BESPOKE_COPY_PATIENCE_S": "3", "BESPOKE_COPY_REQUIRED": str(code)}
    with contextlib.ExitStack() as stack:
        if kind == "key":
            stack.enter_context(server(port := free_port(), INITIAL_NO_AUTH_ACTION_COUNT="0"))
        else:
            listening = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Refusing))
            threading.Thread(target=listening.serve_forever, daemon=True).start()
            stack.callback(listening.shutdown)
            port = listening.server_port
        done = run(command(tmp_path), **keys(port, f"s3://{kind}"), **s3)
    assert done.returncode == code, done.stderr
    assert len(tensors(tmp_path / "rehearsal")) == 3
    (line,) = (line for line in (done.stdout + done.stderr).splitlines() if "not copied" in line)
    said = f"bespoke: {'' if code else 'warning: '}not copied to s3://{kind}"
    assert re.match(rf"{said}: \d+ files \(.*\): .*{why}", line)
    assert done.stdout.count("warning: cannot copy") == 1 or kind == "slow"
    assert done.stderr == (f"{line}\n" if code else "")


def a_job(workspace: Path) -> Any:
    """A run that is copied to a folder, and fetched from it."""
    job = SimpleNamespace(name="keep", workspace=workspace, output=workspace / "output")
    job.experiment = SimpleNamespace(run_name="KEEP")
    job.request = SimpleNamespace(copied_from=str(workspace.parent / "mounted"))
    job.output.mkdir(parents=True)
    (workspace.parent / "mounted").mkdir(exist_ok=True)
    return job


def end_epoch(job: Any, epoch: int) -> None:
    state = job.output / f"keep-{epoch:06}-state"
    state.mkdir()
    for path in (job.output / f"keep-{epoch:06}.safetensors", state / "optimizer.bin"):
        path.write_bytes(bytes([epoch]))
    record = {"uid": "0123456789", "started": "2026-11-27T10:00:00+00:00", "epochs": epoch}
    for end in ("record", "run"):
        (job.output / f"keep.{end}.json").write_text(json.dumps(record))


def test_an_epoch_that_ends_meanwhile_waits_and_makes_way_for_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, write, go_on, written = a_job(tmp_path / "here"), copies._write, threading.Event(), []

    def slow_write(store: Any, path: str, data: bytes) -> None:
        written.append(path)
        assert go_on.wait(10)
        write(store, path, data)

    monkeypatch.setattr(copies, "_write", slow_write)
    monkeypatch.setenv("BESPOKE_COPY_TO", job.request.copied_from)
    with copies.copying(job, 0) as ended:
        for epoch in (1, 2, 3):
            end_epoch(job, epoch)
            ended(epoch)
            wait_for(lambda: written)
        # As the run does with old states.
        shutil.rmtree(job.output / "keep-000001-state")
        go_on.set()
    assert written.count("keep.copied.json") == 2
    assert {each.parent.name[9:11] for each in tmp_path.rglob("mounted/**/*.bin")} == {"02", "03"}


def test_what_cannot_be_fetched_whole_is_refused_and_writes_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = a_job(tmp_path / "here"), a_job(tmp_path / "there")
    end_epoch(first, 1)
    monkeypatch.setenv("BESPOKE_COPY_TO", first.request.copied_from)
    with pytest.raises(ConfigError, match="json there; copied runs have one"):
        copies.fetch(second)
    with copies.copying(first, 1):
        pass
    document = tmp_path / "mounted" / "keep.copied.json"
    copied = next(document.parent.rglob("optimizer.bin"))
    mine = second.output / "keep-000001.safetensors"
    mine.write_bytes(bytes([1]))
    spoilt = {
        "keep-000001.safetensors: is here with other content than in": (mine, b"mine"),
        "cannot read keep.copied.json: JSONDecodeError": (document, b"{"),
        "names files of elsewhere": (document, b'{"files": {"output/../../x": [1, "a"]}}'),
        "000001-state/optimizer.bin there is not what was copied": (copied, b"other"),
    }
    for said, (path, content) in spoilt.items():
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            copies.fetch(second)
        assert path.read_bytes() == content
        assert not (second.output / "keep.run.json").exists()
        path.write_bytes(before)
    copies.fetch(second)
    for path in (path for path in first.output.rglob("*") if path.is_file()):
        assert (second.output / path.relative_to(first.output)).read_bytes() == path.read_bytes()


def test_an_address_that_is_none_is_refused() -> None:
    for address, why in (("no://where", "not known"), ("gs://a", "gcsfs"), ("/no/mount", "mount")):
        with pytest.raises(ConfigError, match=f"--from: {address}: .*{why}"):
            copies.fetch(SimpleNamespace(name="", request=SimpleNamespace(copied_from=address)))


@pytest.mark.trainer
def test_the_real_trainer_goes_on_elsewhere_to_the_same_bytes(
    smoke_run: Path, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(tmp_path / "first")
    job.name, job.workspace, job.output = NAME.partition("_")[2], smoke_run, smoke_run / "output"
    monkeypatch.setenv("BESPOKE_COPY_TO", job.request.copied_from)
    with copies.copying(job, 1):
        pass
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "random-sd15").symlink_to(random_model)
    words = [sys.executable, "-m", "bespoke.run", *SMOKE, "--workspace", str(tmp_path)]
    done = run([*words, "--from", job.request.copied_from], timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"resuming after epoch 1, from {job.name}-000001-state" in done.stdout
    assert len(tensors(smoke_run)) == 2
    assert tensors(tmp_path) == tensors(smoke_run)
