"""The reports' folder over HTTP: on this machine alone, elsewhere only with a token; read only."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import secrets
import socket
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.files import workspace_path

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

FOLDER = "reports"
VARIABLE = "BESPOKE_REPORT_TOKEN"
SHORTEST_TOKEN = 16

# What `report.page_name` makes; nothing else in the folder is shown.
_PAGE = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\.html)?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "WWW-Authenticate": 'Basic realm="bespoke: the token is the password", charset="UTF-8"',
}


def show(chosen: argparse.Namespace) -> None:
    """`bespoke serve`: show the workspace's reports until ^C.

    Raises:
        ConfigError: no reports yet, or as `Server`.
    """
    folder = workspace_path(chosen.workspace) / FOLDER
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: no reports yet: a run writes them, or `bespoke report`. "
            f"A rehearsal's are shown with --workspace {folder.parent / 'rehearsal'}"
        )
    token = os.environ.get(VARIABLE) if chosen.token is None else chosen.token
    with Server(folder, host=chosen.host, port=chosen.port, token=token or None) as server:
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        how = ": the token is the password, for any user name" if token else ""
        print(f"{folder} is shown at http://{host}:{server.server_port}/{how}", flush=True)
        try:
            server.serve_forever()
        except (InterruptedRunError, KeyboardInterrupt):
            print("no longer shown")


class Server(ThreadingHTTPServer):
    """Bound when made. A `token` is asked for as the password of HTTP's basic authentication.

    Raises:
        ConfigError: no token where others can reach it, a short one, or an address not to be had.
    """

    def __init__(self, folder: Path, *, host: str, port: int, token: str | None) -> None:
        if token is None and not is_loopback(host):
            raise ConfigError(
                f"--host {host}: others could read the reports: set {VARIABLE} to a token of "
                f"{SHORTEST_TOKEN} characters or more"
            )
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise ConfigError(f"--token: {SHORTEST_TOKEN} characters or more are needed")
        self.folder, self.token = folder, token
        try:
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(
                f"{host}:{port}: cannot be served on: {error}; name another with --host or --port"
            ) from error

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader who hangs up is no error of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One of the folder's own pages, or a line that says why not."""

    server: Server
    timeout = 15
    server_version, sys_version = "bespoke", ""

    def do_GET(self) -> None:
        try:
            path, host = urlsplit(self.path).path, urlsplit(f"//{self.headers['Host']}").hostname
        except ValueError:
            return self._send(HTTPStatus.BAD_REQUEST, b"That is no address.\n")
        if self.server.token is None and not is_loopback(host or ""):
            # Another site's page may have pointed its own name at this machine.
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, b"Open it as localhost.\n")
        if self.server.token is not None and not self._knows(self.server.token):
            return self._send(HTTPStatus.UNAUTHORIZED, b"The token is the password.\n")
        content = page(self.server.folder, path)
        if content is None:
            return self._send(HTTPStatus.NOT_FOUND, b"No such report.\n")
        return self._send(HTTPStatus.OK, content, "text/html; charset=utf-8")

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _knows(self, token: str) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        try:
            password = base64.b64decode(given).partition(b":")[2]
        except ValueError:
            return False
        return secrets.compare_digest(password, token.encode())

    def _send(self, status: HTTPStatus, content: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in (_HEADERS | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: a log of readers is not wanted."""


def page(folder: Path, path: str) -> bytes | None:
    """What the address's path means: a page of the folder's own, no link, and nothing else."""
    file = folder / (path[1:] or "index.html")
    # A link may lead out of the folder.
    if not _PAGE.fullmatch(path) or file.is_symlink() or not file.is_file():
        return None
    return file.read_bytes()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
