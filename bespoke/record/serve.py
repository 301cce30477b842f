"""The reports' folder over HTTP: on this machine alone, elsewhere only with a token; read only."""

from __future__ import annotations

import base64
import binascii
import contextlib
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
        raise ConfigError(
            f"{folder}: no reports yet: a run writes them, or `bespoke report`. "
            f"A rehearsal's are shown with --workspace {folder.parent / 'rehearsal'}"
        )
    token = os.environ.get(VARIABLE) if chosen.token is None else chosen.token
    with Server(folder, host=chosen.host, port=chosen.port, token=token or None) as server:
        how = ": the token is the password, for any user name" if token else ""
        print(f"{folder} is shown at http://{chosen.host}:{server.server_port}/{how}", flush=True)
        with contextlib.suppress(InterruptedRunError, KeyboardInterrupt):
            server.serve_forever()
        print("no longer shown")


class Server(ThreadingHTTPServer):
    """Bound when made. A `token` is asked for as the password of HTTP's basic authentication.

    Raises:
        ConfigError: no token where others can reach it, a short one, or an address not to be had.
    """

    def __init__(self, folder: Path, *, host: str, port: int, token: str | None) -> None:
        if (token is None and host not in LOOPBACK) or (token and len(token) < SHORTEST_TOKEN):
            raise ConfigError(
                f"--host {host}: others could read the reports: set {VARIABLE} to a token of "
                f"{SHORTEST_TOKEN} characters or more"
            )
        self.folder, self.token = folder, token
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(
                f"{host}:{port}: cannot be served on: {error}; name another with --host or --port"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who hangs up is no error of ours."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Handler(SimpleHTTPRequestHandler):
    """The folder's own pages, and nothing else."""

    server: Server
    timeout = 15
    extensions_map = {".html": "text/html; charset=utf-8"}  # noqa: RUF012 - http.server's own

    def __init__(self, request: Any, client_address: Any, server: Server) -> None:
        super().__init__(request, client_address, server, directory=str(server.folder))

    def send_head(self) -> Any:
        """What http.server calls for the answer to GET and HEAD."""
        # Without a token, another site's page may have pointed its own name at this machine.
        if self.server.token is None and self.headers.get("Host", "").split(":")[0] not in LOOPBACK:
            return self.send_error(421, "Open it as localhost")
        if self.server.token is not None and not self._knows(self.server.token):
            return self.send_error(401, "The token is the password")
        return super().send_head() if PAGE.fullmatch(self.path) else self.send_error(404)

    def _knows(self, token: str) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        with contextlib.suppress(binascii.Error):
            password = base64.b64decode(given).partition(b":")[2]
            return secrets.compare_digest(password, token.encode())
        return False

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("WWW-Authenticate", 'Basic realm="bespoke", charset="UTF-8"')
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: a log of readers is not wanted."""
