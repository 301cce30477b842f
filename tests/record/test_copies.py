"""A run's copies off the machine, in a real S3 server and in a folder, and going on from them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from safetensors.numpy import load_file

from bespoke.files import document_path
from tests.rehearsals import NAME, command, run, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SECRET = "canary/secret+of0the1store"
FOUR = ("--set", "training.max_train_epochs=4")
Variables = dict[str, str]


def server(port: int, **variables: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(words, stdout=quiet, stderr=quiet, env={**os.environ, **variables})

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
        except OSError:
            return False
        return True

    wait_for(answers)
    return child


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def variables_for(port: int) -> Variables:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "artist",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "BESPOKE_COPY_TO": "s3://home/night",
    }


def store(s3: Variables) -> Any:
    """The same server, for a look."""
    keys = {"key": "artist", "secret": SECRET, "endpoint_url": s3["AWS_ENDPOINT_URL"]}
    fresh = {"skip_instance_cache": True, "use_listings_cache": False}
    return fsspec.filesystem("s3", **keys, **fresh)


@pytest.fixture(scope="module")
def s3() -> Iterator[Variables]:
    """Variables under which a run is copied into a bucket that is there."""
    port = free_port()
    child = server(port)
    yield variables_for(port)
    child.kill()
    child.wait()


@pytest.fixture
def bucket(s3: Variables) -> Any:
    """The bucket, empty."""
    files = store(s3)
    if files.exists("home"):
        files.rm("home", recursive=True)
    files.mkdir("home")
    return files


def manifest(bucket: Any, root: str = "home/night") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bucket.cat_file(f"{root}/{NAME}.copied.json"))
    return document


def states(paths: Iterable[str]) -> set[str]:
    return {match[0] for path in paths if (match := re.search(r"\d{6}-state", path))}


def tensors(place: Path) -> dict[str, bytes]:
    """Every checkpoint's tensors, as bytes."""
    contents = {}
    for path in (place / "rehearsal" / "output").glob(f"{NAME}-*.safetensors"):
        rows = load_file(path)
        contents[path.name] = b"".join(rows[key].tobytes() for key in sorted(rows))
    return contents


def test_a_whole_run_is_there_with_the_two_newest_states_and_is_not_sent_again(
    tmp_path: Path, s3: Variables, bucket: Any
) -> None:
    done = run(command(tmp_path, *FOUR), **s3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("bespoke: copied to s3://home/night: all up to epoch 4\n")
    copied, place = manifest(bucket), tmp_path / "rehearsal"
    assert copied["epoch"] == 4
    there = bucket.find(f"home/night/{copied['folder']}")
    assert len(there) == len(copied["files"])
    for name, (size, sha256) in copied["files"].items():
        content = bucket.cat_file(f"home/night/{copied['folder']}/{name}")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
        assert content == (place / name).read_bytes()
    output = place / "output"
    needed = [*output.glob("*.json"), *output.glob(f"{NAME}-*.safetensors")]
    needed += [*output.glob("tests/*/*"), *output.glob("*0-state/*")]
    needed += [*(place / "reports").glob("REHEARSAL*"), *(place / "logs" / NAME).glob("*/*.log")]
    assert {path.relative_to(place).as_posix() for path in needed} <= copied["files"].keys()
    assert states(copied["files"]) == {"000002-state", "000003-state"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in done.stdout + done.stderr


def test_a_run_goes_on_elsewhere_to_the_same_bytes(
    tmp_path: Path, s3: Variables, bucket: Any
) -> None:
    first, second = (command(tmp_path / name, *FOUR) for name in ("first", "second"))
    assert run(command(tmp_path / "whole", *FOUR)).returncode == 0
    stopped = run(first, **s3, BESPOKE_FAKE_TRAINER_FAULT="die@6")
    assert stopped.returncode == 4
    assert "copied to s3://home/night: all up to epoch 2" in stopped.stdout
    before = bucket.find("home", detail=True)
    gone_on = run([*second, "--from", "s3://home/night"], **s3)
    assert gone_on.returncode == 0, gone_on.stderr
    assert f"fetching {NAME} from s3://home/night: " in gone_on.stdout
    assert f"resuming after epoch 2, from {NAME}-000002-state" in gone_on.stdout
    assert len(tensors(tmp_path / "whole")) == 4
    assert tensors(tmp_path / "second") == tensors(tmp_path / "whole")
    record = json.loads(document_path(tmp_path / "second/rehearsal/output", NAME).read_bytes())
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2, 3, 4]
    assert not [row for row in record["epochs"] if str(tmp_path / "first") in json.dumps(row)]
    assert len(record["starts"]) == 2
    assert len([*(tmp_path / "second/rehearsal/logs" / NAME).glob("*/events.jsonl")]) == 2
    # Into the same folder there, in which nothing of the first two epochs was sent again.
    assert manifest(bucket)["epoch"] == 4
    after = bucket.find("home", detail=True)
    for path in before:
        if path.endswith((".safetensors", ".png", ".npz")) and "000001-state" not in path:
            assert after[path] == before[path]
    # The first machine's own files are behind now: it may neither fetch nor copy over.
    refused = run([*first, "--from", "s3://home/night"], **s3)
    assert refused.returncode == 2
    assert "is here with other content than in s3://home/night" in refused.stderr
    behind = run(first, **s3)
    assert behind.returncode == 0
    assert "this run is there up to epoch 4, and was begun after 2 here" in behind.stdout
    assert bucket.find("home", detail=True) == after


def test_a_run_that_is_here_goes_on_from_here(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    copies = {"BESPOKE_COPY_TO": f"file://{tmp_path}/mounted"}
    words = command(tmp_path / "first", *FOUR)
    assert run(words, **copies, BESPOKE_FAKE_TRAINER_FAULT="die@6").returncode == 4
    other = [*command(tmp_path / "second", *FOUR), "--from", f"{tmp_path}/mounted"]
    assert run(other, **copies, BESPOKE_FAKE_TRAINER_FAULT="die@8").returncode == 4
    again = run(other, **copies)
    assert again.returncode == 0, again.stderr
    assert f"{NAME} is here, with every checkpoint of {tmp_path}/mounted" in again.stdout
    assert "resuming after epoch 3" in again.stdout
    assert not [path for path in (tmp_path / "mounted").rglob("*") if path.name[0] == "."]


def test_a_store_that_goes_away_is_said_once_and_has_all_once_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    child = server(port)
    s3 = {**variables_for(port), "AWS_MAX_ATTEMPTS": "1"}
    store(s3).mkdir("home")
    training = start(command(tmp_path, *FOUR), **s3, BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP="1")
    wait_for(lambda: store(s3).exists(f"home/night/{NAME}.copied.json"))
    child.kill()
    child.wait()
    assert training.stdout is not None
    assert any("warning: cannot copy to s3://home/night: " in line for line in training.stdout)
    child = server(port)
    store(s3).mkdir("home")
    output, errors = training.communicate(timeout=60)
    there = manifest(store(s3))
    child.kill()
    child.wait()
    assert (training.returncode, errors) == (0, "")
    assert "warning: cannot copy" not in output
    assert output.endswith("bespoke: copied to s3://home/night: all up to epoch 4\n")
    assert len(there["files"]) > 20


class Refusing(BaseHTTPRequestHandler):
    """A store that takes nothing: full, or too slow."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, "<ListBucketResult></ListBucketResult>")

    def do_HEAD(self) -> None:
        self._answer(404, "")

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if "slow" in self.path:
            time.sleep(60)
        self._answer(507, "<Error><Code>QuotaExceeded</Code><Message>no room</Message></Error>")

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[int]:
    """The port of a store that takes nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_port
        listening.shutdown()


@pytest.mark.parametrize(
    ("kind", "why", "code"),
    [
        ("down", "Could not connect to the endpoint URL", 4),
        ("key", "The AWS Access Key Id you provided does not exist in our records", 4),
        ("full", "no room", 4),
        ("full", "no room", 0),
        ("slow", "it takes longer than 0:03", 0),
    ],
)
def test_a_store_that_refuses_costs_a_run_one_line_and_its_exit_code_only_where_asked(
    tmp_path: Path, refusing: int, kind: str, why: str, code: int
) -> None:
    port = refusing if kind in ("full", "slow") else free_port()
    strict = server(port, INITIAL_NO_AUTH_ACTION_COUNT="0") if kind == "key" else None
    s3 = {**variables_for(port), "BESPOKE_COPY_TO": f"s3://{kind}", "BESPOKE_COPY_PATIENCE_S": "3"}
    done = run(command(tmp_path), **s3, AWS_MAX_ATTEMPTS="1", BESPOKE_COPY_REQUIRED=str(code))
    if strict:
        strict.kill()
        strict.wait()
    assert done.returncode == code, done.stderr
    assert len(tensors(tmp_path)) == 3
    (line,) = (line for line in (done.stdout + done.stderr).splitlines() if "not copied" in line)
    said = "bespoke: " if code else "bespoke: warning: "
    assert re.match(rf"{said}not copied to s3://{kind}: \d+ files \(.*\): .*{why}", line)
    assert done.stdout.count("warning: cannot copy") == (kind != "slow")
    assert done.stderr == (f"{line}\n" if code else "")
