"""A RunPod pod's start command: one counted attempt a boot, then stop the pod, or wait.

A pod starts its command again as soon as that ends, so this one ends only by a signal.
start_training.sh hands over to it before set-up, and it starts that script again as its child: SSH
is up during set-up, and a set-up that fails counts like any failure. Hence it imports nothing but
Python's own library. After 5, a result, and a rehearsal's 0 the next boot runs nothing; after 0 and
130 bespoke.run itself answers. All else, also an attempt that was cut off, is a failure: ATTEMPTS
of them without a new checkpoint between are the last.

Where BESPOKE_REPORT_TOKEN is set, the report is served on port 8888 behind it, and with
BESPOKE_TENSORBOARD=1 TensorBoard on port 6006 below /<token>/: a pod's ports are open to anyone.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

from bespoke.console import say
from bespoke.errors import InterruptedRunError, reported
from bespoke.files import REPOSITORY, workspace, write_whole
from bespoke.request import Request, parse
from bespoke.trainer.child_process import answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START = ("bash", str(REPOSITORY / "start_training.sh"))
# What the image itself would have started: SSH and Jupyter. Our start command takes its place.
IMAGE_START = Path("/start.sh")
ATTEMPTS = 3
CONNECTION, ADDRESS = http.client.HTTPSConnection, "api.runpod.io"
TIMEOUT_S = 20.0  # for one way of stopping the pod
ASK_AGAIN_S = 600
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Set-up may still go on, so each is started again until it is there; $1 is the project's folder.
AGAIN = 'cd "$1"; while :; do {}; sleep 15; done'
REPORT = ".venv/bin/python -m bespoke serve --host 0.0.0.0 --port 8888"
# Everything else below its address answers 404. It prints that address, and so the token.
TENSORBOARD = (
    '.venv/bin/tensorboard --logdir "$BESPOKE_WORKSPACE/logs" --host 0.0.0.0 --port 6006 '
    '--path_prefix "$TENSORBOARD_PATH" >/dev/null 2>&1'
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What earlier boots with the same arguments came to; `code` is None while one goes on.

    `checkpoints` are the names that were there when the newest attempt began.
    """

    failures: int = 0
    code: int | None = None
    fresh_done: bool = False
    checkpoints: Sequence[str] = ()


class Boot:
    """One boot, as process 1 or near it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        try:
            self._request = parse(arguments)
        except SystemExit:  # the attempt will end with 2
            self._request = Request()
        self._child: int | None = None
        self._signal: int | None = None
        self._services: list[int] = []
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def run(self) -> NoReturn:
        """Services, attempt, stop.

        Raises:
            InterruptedRunError: on a signal, once the attempt has ended.
        """
        stop = False
        try:
            try:
                if IMAGE_START.exists():
                    _start([str(IMAGE_START)], dict(os.environ))
            except OSError as error:
                say(f"{IMAGE_START}: cannot be started, SSH may be missing: {error.strerror}")
            try:
                place = workspace(self._request.workspace)
                (place / "pod").mkdir(exist_ok=True)
                stop = _is_to_stop(place)
                self._serve(place)
                self._attempt(place)
            except Exception as error:  # noqa: BLE001 - ending here would start all over again
                say(f"nothing can be run or counted: {type(error).__name__}: {error}")
            say("stopping the pod" if stop else "the pod stays up, and billed, until you stop it")
            while True:
                if stop:
                    _stop_pod(os.environ["RUNPOD_POD_ID"])
                _wait(ASK_AGAIN_S)
        finally:
            for service in self._services:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service, signal.SIGTERM)

    def _serve(self, place: Path) -> None:
        """The report and TensorBoard, without the pod's key in their environment."""
        token = os.environ.get("BESPOKE_REPORT_TOKEN", "").strip()
        log = shlex.quote(str(place / "pod" / "report.log"))
        services = {"the report": f"{REPORT} >>{log} 2>&1"} if token else {}
        if token and os.environ.get("BESPOKE_TENSORBOARD", "").strip() == "1":
            services["TensorBoard"] = TENSORBOARD
        variables = {**os.environ, "BESPOKE_WORKSPACE": str(place), "RUNPOD_API_KEY": ""}
        variables["TENSORBOARD_PATH"] = f"/{quote(token, safe='')}"
        for name, command in services.items():
            again = ["sh", "-c", AGAIN.format(command), "sh", str(REPOSITORY)]
            self._services.append(_start(again, variables))
            say(f"serving {name} with a token")

    def _attempt(self, place: Path) -> None:
        """Run unless that is no use; counted before, so that an attempt cut off counts too."""
        name = hashlib.sha256(json.dumps(self._arguments).encode()).hexdigest()[:16]
        file = place / "pod" / f"{name}.json"
        before, checkpoints = _read(file), _checkpoints(place)
        if not set(checkpoints) <= set(before.checkpoints):
            before = replace(before, failures=0)
        over = before.code == 5 or (before.code == 0 and self._request.rehearse)
        if over or before.failures >= ATTEMPTS:
            why = f"exit code {before.code}" if over else f"{before.failures} failures"
            say(f"not run again after {why}. To run it again, delete {file}")
            return
        arguments = self._arguments
        if before.fresh_done and self._request.fresh:  # again, it would put aside what that trained
            arguments = replace(self._request, fresh=False).arguments()
        say(f"attempt {before.failures + 1} of {ATTEMPTS}, counted in {file}")
        begun = Record(failures=before.failures + 1, fresh_done=True, checkpoints=checkpoints)
        write_whole(file, json.dumps(asdict(begun)) + "\n")
        code = self._run(arguments)
        failures = {0: 0, 5: 0, 130: before.failures}.get(code, begun.failures)
        fresh_done = before.fresh_done or code not in (2, 3)  # these come before any training
        ended = replace(begun, failures=failures, code=code, fresh_done=fresh_done)
        write_whole(file, json.dumps(asdict(ended)) + "\n")
        if self._signal is not None:
            self._receive(self._signal)
        say(f"the run ended with exit code {code}")

    def _run(self, arguments: Sequence[str]) -> int:
        """The exit code of start_training.sh; 130 where a signal reached this process too."""
        environment = {**os.environ, "BESPOKE_POD_BOOTED": "1", "RUNPOD_API_KEY": ""}
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it is known whom to pass them to
        try:
            self._child = child = _start([*START, *arguments], environment)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        while (ended := os.wait())[0] != child:
            pass  # an orphan, which fell to process 1
        self._child = None
        return os.waitstatus_to_exitcode(ended[1]) if self._signal is None else 130

    def _receive(self, number: int, _: object = None) -> None:
        """Pass a signal on to the run, or, where none goes on, leave."""
        self._signal = number
        if self._child is None:
            raise InterruptedRunError(f"stopped by {signal.Signals(number).name}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, number)


def _start(command: list[str], environment: dict[str, str]) -> int:
    """A child in its own session; not by subprocess, whose book-keeping os.wait() would upset."""
    name, reset = command[0], (signal.SIGPIPE,)  # which Python ignores, and children inherit
    return os.posix_spawnp(name, command, environment, setsid=True, setsigmask=(), setsigdef=reset)


def _wait(seconds: int) -> None:
    """Let time go by, and bury the orphans that end meanwhile, as process 1 must."""
    for _ in range(seconds):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(1)


def _is_to_stop(place: Path) -> bool:
    """As BESPOKE_POD_WHEN_DONE says, else wherever the results outlive the container's disk."""
    wanted = os.environ.get("BESPOKE_POD_WHEN_DONE", "").strip().lower()
    return wanted == "stop" or (not wanted and place.stat().st_dev != Path("/").stat().st_dev)


def _checkpoints(place: Path) -> list[str]:
    found = (*place.glob("output/*.safetensors"), *place.glob("rehearsal/output/*.safetensors"))
    return sorted(path.name for path in found)


def _read(file: Path) -> Record:
    try:
        return Record(**json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return Record()


def _stop_pod(pod: str) -> None:
    """Ask RunPod to stop this pod: its API first, else its command-line tool."""
    try:
        with _deadline(TIMEOUT_S):
            problem = _stop_by_api(pod)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Not the message: it may repeat the header.
        problem = getattr(error, "strerror", None) or type(error).__name__
    say(f"stopping the pod with RunPod's API: {problem or 'accepted'}")
    if problem:
        reply = answer(["runpodctl", "pod", "stop", pod], timeout=TIMEOUT_S)
        problem = "it is missing, failed or took too long" if reply is None else "accepted"
        say(f"stopping the pod with runpodctl: {problem}")


def _stop_by_api(pod: str) -> str | None:
    """Why the API did not take it, or None. Follows no redirection: the key goes to one address."""
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    if not key:
        return "RUNPOD_API_KEY is not set"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    path, body = f"/v2/pods/{quote(pod, safe='')}/action", json.dumps({"action": "stop"})
    with contextlib.closing(CONNECTION(ADDRESS)) as connection:
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        text = reply.read(1 << 16)
    accepted = 200 <= reply.status < 300 and b'"errors"' not in text
    return None if accepted else f"refused (HTTP {reply.status})"


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """TimeoutError after so many seconds in all: a socket's own begins anew with each byte."""

    def expire(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    if not os.environ.get("RUNPOD_POD_ID"):
        os.execvp(START[0], [*START, *sys.argv[1:]])  # noqa: S606 - it becomes that process
    with reported():
        Boot(sys.argv[1:]).run()
