"""The reports' folder over HTTP: on this machine alone, elsewhere only with a token; read only."""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import re
import secrets
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.files import workspace_path

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

FOLDER = "reports"
VARIABLE = "BESPOKE_REPORT_TOKEN"
SHORTEST_TOKEN = 16
LOOPBACK = ("localhost", "127.0.0.1")
# What `report.page_name` makes; nothing else in the folder is shown.
PAGE = re.compile(r"/([A-Za-z0-9_-][A-Za-z0-9._-]*\.html)?")


def show(chosen: argparse.Namespace) -> None:
    """`bespoke serve`: show the workspace's reports until ^C."""
    folder = workspace_path(chosen.workspace) / FOLDER
    if not folder.is_dir():
        hint = f"a rehearsal's are shown with --workspace {folder.parent / 'rehearsal'}"
        raise ConfigError(
            f"{folder}: no reports yet: a run writes them, or `bespoke report`; {hint}"
        )
    token = os.environ.get(VARIABLE) if chosen.token is None else chosen.token
    with Server(folder, host=chosen.host, port=chosen.port, token=token or None) as server:
        how = ": the token is the password, for any user name" if token else ""
        print(f"{folder} is shown at http://{chosen.host}:{server.server_port}/{how}", flush=True)
        with contextlib.suppress(InterruptedRunError, KeyboardInterrupt):
            server.serve_forever()
        print("no longer shown")


class Server(ThreadingHTTPServer):
    """Bound when made, or a ConfigError; the `token` is HTTP's basic authentication's password."""

    def __init__(self, folder: Path, *, host: str, port: int, token: str | None) -> None:
        if (token is None and host not in LOOPBACK) or (token and len(token) < SHORTEST_TOKEN):
            needed = f"set {VARIABLE} to a token of {SHORTEST_TOKEN} characters or more"
            raise ConfigError(f"--host {host}: others could read the reports: {needed}")
        self.token = token
        try:
            super().__init__((host, port), functools.partial(Handler, directory=str(folder)))
        except (OSError, OverflowError, UnicodeError) as error:
            hint = "name another with --host or --port"
            raise ConfigError(f"{host}:{port}: cannot be served on: {error}; {hint}") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who hangs up is no error of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(SimpleHTTPRequestHandler):
    """The folder's own pages, and nothing else."""

    server: Server
    timeout = 15

    def send_head(self) -> Any:
        """What http.server calls for the answer to GET and HEAD."""
        token, password = self.server.token or "", b""
        with contextlib.suppress(ValueError):
            given = self.headers.get("Authorization", "Basic Og==").removeprefix("Basic ")
            password = base64.b64decode(given).partition(b":")[2]
        if token and not secrets.compare_digest(password, token.encode()):
            return self.send_error(401, "The token is the password")
        return super().send_head() if PAGE.fullmatch(self.path) else self.send_error(404)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "private, no-cache")
        self.send_header("WWW-Authenticate", 'Basic realm="bespoke", charset="UTF-8"')
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: a log of readers is not wanted."""
