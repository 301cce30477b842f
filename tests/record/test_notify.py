"""Messages reach a real server, and a service that fails delays and breaks nothing."""

from __future__ import annotations

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from bespoke import cli
from bespoke.errors import ConfigError
from bespoke.record import notify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# apprise imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


class Service:
    """An HTTP server that keeps what it is sent, after `delay` seconds, and answers `status`."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.status, self.delay = 200, 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(service.delay)
                service.taken.append((self.path, body))
                self.send_response(service.status)
                self.end_headers()

            do_PUT = do_POST

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.server.shutdown()
    running.server.server_close()


def sent(picture: Path | None = None) -> tuple[notify.Messages, bool]:
    ours = notify.Messages()
    ours.send("keep_tokens_3", "Gate passed at epoch 4", picture)
    return ours, ours.wait()


def test_a_message_reaches_each_service_with_the_picture(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "sheet.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    urls = f"json://{service.address}/a,ntfy://{service.address}/topic"
    monkeypatch.setenv(notify.VARIABLE, urls)
    _, delivered = sent(picture)
    assert delivered
    posted = json.loads(next(body for path, body in service.taken if path == "/a"))
    assert (posted["title"], posted["message"]) == ("keep_tokens_3", "Gate passed at epoch 4")
    assert posted["attachments"][0]["filename"] == "sheet.png"
    assert any(path.startswith("/topic") for path, _ in service.taken)


def test_without_the_variable_nothing_is_sent(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(notify.VARIABLE, raising=False)
    _, delivered = sent()
    assert not delivered
    assert service.taken == []


def test_a_service_that_refuses_is_said_once_and_its_url_never(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service.status = 500
    monkeypatch.setenv(notify.VARIABLE, f"json://user:hunter22hunter@{service.address}/private")
    ours, delivered = sent()
    ours.send("keep_tokens_3", "again")
    ours.wait()
    assert not delivered
    shown = capsys.readouterr()
    assert shown.out.count("warning: no message to JSON (BESPOKE_NOTIFY): ") == 1
    assert shown.err == ""
    assert "hunter22" not in shown.out
    assert "/private" not in shown.out


def test_a_service_that_is_slow_delays_no_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.delay = 2
    monkeypatch.setattr(notify, "PATIENCE_S", 0.5)
    monkeypatch.setenv(notify.VARIABLE, f"json://{service.address}/")
    ours, began = notify.Messages(), time.monotonic()
    ours.send("keep_tokens_3", "Gate passed")
    assert time.monotonic() - began < 0.3
    assert not ours.wait()
    assert time.monotonic() - began < 1.5


def test_a_start_that_is_refused_is_told(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(notify.VARIABLE, f"json://{service.address}/")
    nowhere = ("--rehearse", "--workspace", str(tmp_path), "--data", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit):
        cli.main(["run", *nowhere])
    ((_, body),) = service.taken
    posted = json.loads(body)
    assert posted["title"] == "REHEARSAL_SD15_KEEP_TOKENS_3_EXPERIMENT"
    assert posted["message"].startswith("failed before it began: ")
    assert "nowhere" in posted["message"]


@pytest.mark.parametrize("url", ["", "nonsense://x", "json://127.0.0.1:9/"])
def test_the_test_message_says_where_it_did_not_arrive(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(notify.VARIABLE, url)
    with pytest.raises(ConfigError, match=notify.VARIABLE):
        notify.show(argparse.Namespace(test=True))
    assert ("warning: no message to " in capsys.readouterr().out) is bool(url)
