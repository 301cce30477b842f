"""The reports over HTTP: shown to whom they should be, and nothing else of the machine."""

from __future__ import annotations

import base64
import http.client
import os
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.errors import ConfigError
from bespoke.record import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "a-long-enough-token-é"  # not a secret: the tests' own
PAGE = "<!doctype html><title>a run</title>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    reports = tmp_path / "workspace" / serve.FOLDER
    reports.mkdir(parents=True)
    for name in ("index.html", "run-1.html", ".run.html.abc.part", "notes.txt"):
        (reports / name).write_text(PAGE)
    (reports.parent / "secret.html").write_text("secret")
    return reports


@contextmanager
def served(folder: Path, token: str | None = None) -> Iterator[int]:
    with serve.Server(folder, host="127.0.0.1", port=0, token=token) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str, *, method: str = "GET", **headers: str) -> tuple[int, Any, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def basic(token: str) -> str:
    return f"Basic {base64.b64encode(f'any:{token}'.encode()).decode()}"


def test_pages_are_shown(folder: Path) -> None:
    with served(folder) as port:
        for path in ("/", "/index.html", "/run-1.html"):
            status, headers, text = ask(port, path)
            assert (status, text) == (200, PAGE), path
            assert headers["Content-type"] == "text/html"
        status, headers, text = ask(port, "/run-1.html", method="HEAD")
        assert (status, headers["Content-Length"], text) == (200, str(len(PAGE)), "")


def test_a_page_that_has_not_changed_is_not_sent_again(folder: Path) -> None:
    with served(folder) as port:
        _, headers, _ = ask(port, "/run-1.html")
        since = {"If-Modified-Since": headers["Last-Modified"]}
        assert ask(port, "/run-1.html", **since)[0] == 304
        os.utime(folder / "run-1.html", (2e9, 2e9))
        assert ask(port, "/run-1.html", **since)[0] == 200


def test_nothing_but_the_folders_own_pages_is_shown(folder: Path) -> None:
    paths = (
        "/../secret.html", "/%2e%2e/secret.html", "/..%2fsecret.html", "//secret.html",
        "/.run.html.abc.part", "/notes.txt",
        "/none.html", "/index.html/", "/index.html%00", "/\\..\\secret.html",
        "http://127.0.0.1/../secret.html", "*",
    )  # fmt: skip
    with served(folder) as port:
        for path in paths:
            assert ask(port, path)[0] == 404, path


def test_the_token_is_the_password(folder: Path) -> None:
    with served(folder, TOKEN) as port:
        status, headers, _ = ask(port, "/run-1.html")
        assert status == 401
        assert headers["WWW-Authenticate"].startswith("Basic realm=")
        for given in ("wrong", "Basic !", "Basic eA==", basic("wrong-wrong-wrong")):
            assert ask(port, "/run-1.html", Authorization=given)[0] == 401
        assert ask(port, "/run-1.html", Authorization=basic(TOKEN))[::2] == (200, PAGE)


@pytest.mark.parametrize(
    ("host", "token", "says"),
    [
        ("0.0.0.0", None, "BESPOKE_REPORT_TOKEN"),
        ("::", None, "BESPOKE_REPORT_TOKEN"),
        ("0.0.0.0", "short", "16 characters or more"),
        ("a..b", TOKEN, "cannot be served on"),
        ("127.0.0.1", TOKEN, "127.0.0.1:99999: cannot be served on"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    folder: Path, host: str, token: str | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        serve.Server(folder, host=host, port=99_999, token=token)
