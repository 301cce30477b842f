"""The reports' folder over HTTP: on this machine alone, elsewhere only with a token; read only."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
import sys
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.files import workspace_path

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

FOLDER = "reports"
VARIABLE = "BESPOKE_REPORT_TOKEN"
SHORTEST_TOKEN = 16
COOKIE = "bespoke_report"

# What `report.page_name` makes; nothing else in the folder is shown.
_PAGE = re.compile(r"/(?:[A-Za-z0-9_-][A-Za-z0-9._-]*\.html)?")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def show(chosen: argparse.Namespace) -> None:
    """`bespoke serve`: show the workspace's reports until ^C.

    Raises:
        ConfigError: no reports yet, or as `Server`.
    """
    folder = workspace_path(chosen.workspace) / FOLDER
    if not folder.is_dir():
        rehearsed = folder.parent / "rehearsal"
        where = f". A rehearsal's are in {rehearsed}: add --workspace {rehearsed}"
        raise ConfigError(
            f"{folder}: no reports yet: a run writes them, or `bespoke report`"
            f"{where if (rehearsed / FOLDER).is_dir() else ''}"
        )
    token = os.environ.get(VARIABLE) if chosen.token is None else chosen.token
    with Server(folder, host=chosen.host, port=chosen.port, token=token or None) as serving:
        host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        once = "?token=…, once" if token else ""
        print(f"{folder} is shown at http://{host}:{serving.server_port}/{once}", flush=True)
        try:
            serving.serve_forever()
        except (InterruptedRunError, KeyboardInterrupt):
            print("no longer shown")


class Server(ThreadingHTTPServer):
    """Bound when made. Where there is a `token`, it is asked for once; then a cookie stands for it.

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
        # Not the token itself, and worthless once this process has ended.
        self.crumb = secrets.token_hex(32)
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
            asked, host = urlsplit(self.path), urlsplit(f"//{self.headers['Host']}").hostname or ""
        except ValueError:
            return self._send(HTTPStatus.BAD_REQUEST, b"That is no address.\n")
        token = self.server.token
        if token is None and not is_loopback(host):
            # Another site's page may have pointed its own name at this machine.
            return self._send(HTTPStatus.MISDIRECTED_REQUEST, b"Open it as localhost.\n")
        given = parse_qs(asked.query).get("token")
        if token is not None and given:
            if not _same(given[0], token):
                return self._send(HTTPStatus.FORBIDDEN, b"That is not the token.\n")
            return self._remember(asked.path)
        if token is not None and not _same(self._cookie(), self.server.crumb):
            return self._send(HTTPStatus.UNAUTHORIZED, b"Add ?token=... to the address, once.\n")
        content = page(self.server.folder, asked.path)
        if content is None:
            return self._send(HTTPStatus.NOT_FOUND, b"No such report.\n")
        return self._send(HTTPStatus.OK, content, {"Content-Type": "text/html; charset=utf-8"})

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _cookie(self) -> str:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        return "" if found is None else found.value

    def _remember(self, path: str) -> None:
        """Send on to the page without the token, which would stay in the browser's history."""
        crumb = f"{COOKIE}={self.server.crumb}; HttpOnly; SameSite=Lax; Path=/"
        to = path if _PAGE.fullmatch(path) else "/"
        self._send(HTTPStatus.SEE_OTHER, b"", {"Set-Cookie": crumb, "Location": to})

    def _send(
        self, status: HTTPStatus, content: bytes, headers: dict[str, str] | None = None
    ) -> None:
        told = {"Content-Type": "text/plain", "Content-Length": str(len(content))}
        self.send_response(status)
        for name, value in {**_HEADERS, **told, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: an address may hold the token."""


def page(folder: Path, path: str) -> bytes | None:
    """What the address's path means: a page of the folder's own, no link, and nothing else."""
    if not _PAGE.fullmatch(path):
        return None
    file = folder / (path[1:] or "index.html")
    try:
        # A link may lead out of the folder.
        return None if file.is_symlink() or not file.is_file() else file.read_bytes()
    except OSError:
        return None


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())
