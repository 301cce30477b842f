"""A RunPod pod's start command: one counted attempt a boot, then stop the pod or wait to be told.

A pod starts its command again as soon as that ends, so this one ends only by a signal.
start_training.sh hands over to it before any set-up, and it starts that script again as its child:
a set-up that fails is counted like any failure, and SSH is up meanwhile. Hence it imports nothing
but Python's own library. What the next boot with the same arguments does depends on the exit code:
after 0 and 130 (interrupted) it runs, and bespoke.run itself answers "already trained"; after 5, a
result, and a rehearsal's 0 it does not; any other is a failure, as is an attempt that was cut off,
and BESPOKE_POD_ATTEMPTS (3) in a row are the last. 2 and 3 too: pictures or a GPU may have come
between two boots. A change to the project's files starts the count anew.

Where BESPOKE_REPORT_TOKEN is set, the report is served on port 8888 behind it, and with
BESPOKE_TENSORBOARD=1 TensorBoard on port 6006 below /<token>/: a pod's ports are anyone's who has
its address.

BESPOKE_POD_WHEN_DONE is stop or keep (the default), BESPOKE_POD_TIMEOUT_S (20) how long a way to
stop may take; BESPOKE_POD_API and BESPOKE_POD_START_SCRIPT replace RunPod's address and /start.sh.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import math
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

from bespoke.errors import InterruptedRunError, reported
from bespoke.files import workspace, write_whole
from bespoke.processes import answer
from bespoke.veil import veiled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT_FILES = ("*.toml", "*.sh", "experiments/*.toml", "locks/*.txt", "bespoke/**/*.py")
START = ("bash", str(REPOSITORY / "start_training.sh"))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
FRESH = {"--fresh"[:length] for length in range(3, 8)}  # argparse takes abbreviations
# Set-up may still go on, so each is asked for again until it is there; $1 is the project's folder.
AGAIN = 'cd "$1"; while :; do {}; sleep 15; done'
REPORT = ".venv/bin/python -m bespoke serve --host 0.0.0.0 --port 8888"
# Everything else below its address answers 404. It prints that address, and so the token.
TENSORBOARD = (
    '.venv/bin/tensorboard --logdir "$BESPOKE_WORKSPACE/logs" --host 0.0.0.0 --port 6006 '
    '--path_prefix "$TENSORBOARD_PATH" >/dev/null 2>&1'
)
POD_STOP = "mutation ($id: String!) { podStop(input: {podId: $id}) { id } }"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What earlier boots with the same arguments came to; `code` is None while one goes on."""

    files: str = ""
    failures: int = 0
    code: int | None = None
    fresh_done: bool = False


class Boot:
    """One boot, as process 1 or near it."""

    def __init__(self) -> None:
        self._child: int | None = None
        self._told: int | None = None
        self._services: list[int] = []
        for number in SIGNALS:
            signal.signal(number, self._tell)

    def run(self, arguments: Sequence[str]) -> NoReturn:
        """Services, attempt, stop; raises InterruptedRunError once told and the attempt is over."""
        try:
            self._carry_out(arguments)
        finally:
            for service in self._services:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service, signal.SIGTERM)

    def _carry_out(self, arguments: Sequence[str]) -> NoReturn:
        stop = os.environ.get("BESPOKE_POD_WHEN_DONE", "keep").strip().lower() == "stop"
        script = os.environ.get("BESPOKE_POD_START_SCRIPT", "/start.sh")
        try:
            if Path(script).exists():
                _start([script], dict(os.environ))
        except OSError as error:
            _say(f"{script}: cannot be started, so SSH may be missing: {error.strerror}")
        try:
            self._serve(arguments)
            self._attempt(arguments)
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - to end here would be to start all over again
            _say(f"nothing can be run or counted: {type(error).__name__}: {error}")
        _say("the pod is to stop" if stop else "the pod stays up, and is billed, until you stop it")
        while True:
            if stop:
                _stop_pod(os.environ["RUNPOD_POD_ID"])
            _wait(30 * _number("BESPOKE_POD_TIMEOUT_S", 20))

    def _serve(self, arguments: Sequence[str]) -> None:
        """The report and TensorBoard, each with no key of the pod's in its environment."""
        token = os.environ.get("BESPOKE_REPORT_TOKEN", "").strip()
        if not token:
            return
        place = _workspace(arguments)
        (place / "pod").mkdir(exist_ok=True)
        wanted = [f"{REPORT} >>{shlex.quote(str(place / 'pod' / 'report.log'))} 2>&1"]
        if os.environ.get("BESPOKE_TENSORBOARD", "").strip() == "1":
            wanted.append(TENSORBOARD)
        known = {**os.environ, "BESPOKE_WORKSPACE": str(place), "RUNPOD_API_KEY": ""}
        known["TENSORBOARD_PATH"] = f"/{quote(token, safe='')}"
        for command in wanted:
            again = ["sh", "-c", AGAIN.format(command), "sh", str(REPOSITORY)]
            self._services.append(_start(again, known))
        _say(f"{' and '.join(('the report', 'TensorBoard')[: len(wanted)])}: served behind a token")

    def _attempt(self, arguments: Sequence[str]) -> None:
        """Run unless that is no use; counted before, so that an attempt cut off counts too."""
        file = _record_file(arguments)
        before, files = _read(file), _digest_of_files()
        if before.files != files:
            before = replace(before, files=files, failures=0, code=None)
        limit = int(_number("BESPOKE_POD_ATTEMPTS", 3))
        over = before.code == 5 or (before.code == 0 and "--rehearse" in arguments)
        if over or before.failures >= limit:
            why = f"exit code {before.code}" if over else f"{before.failures} failures"
            _say(f"not run again after {why}. Delete {file}, or change the project, to run it")
            return
        if before.fresh_done:  # again, it would put aside what that boot trained
            arguments = [each for each in arguments if each not in FRESH]
        _say(f"attempt {before.failures + 1} of {limit}, counted in {file}")
        begun = replace(before, failures=before.failures + 1, code=None, fresh_done=True)
        write_whole(file, json.dumps(asdict(begun)) + "\n")
        code = self._run(arguments)
        failures = {0: 0, 5: 0, 130: before.failures}.get(code, begun.failures)
        fresh_done = before.fresh_done or code not in (2, 3)  # these come before any training
        ended = replace(begun, failures=failures, code=code, fresh_done=fresh_done)
        write_whole(file, json.dumps(asdict(ended)) + "\n")
        if self._told is not None:
            self._tell(self._told)
        _say(f"the run ended with exit code {code}")

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
        return os.waitstatus_to_exitcode(ended[1]) if self._told is None else 130

    def _tell(self, number: int, _: object = None) -> None:
        """Pass a signal on to the run, or, where none goes on, leave."""
        self._told = number
        if self._child is None:
            raise InterruptedRunError(f"stopped by {signal.Signals(number).name}")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child, number)


def _start(command: list[str], environment: dict[str, str]) -> int:
    """A child in its own session; not by subprocess, whose book-keeping os.wait() would upset."""
    name, reset = command[0], (signal.SIGPIPE,)  # which Python ignores, and children inherit
    return os.posix_spawnp(name, command, environment, setsid=True, setsigmask=(), setsigdef=reset)


def _wait(seconds: float) -> None:
    """Let time go by, and bury the orphans that end meanwhile, as process 1 must."""
    for _ in range(math.ceil(seconds)):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(1)


def _workspace(arguments: Sequence[str]) -> Path:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workspace", nargs="?", type=Path)
    return workspace(parser.parse_known_args(arguments)[0].workspace)


def _record_file(arguments: Sequence[str]) -> Path:
    folder = _workspace(arguments) / "pod"
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]}.json"


def _read(file: Path) -> Record:
    try:
        return Record(**json.loads(file.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return Record()


def _digest_of_files() -> str:
    digest = hashlib.sha256()
    for path in sorted(each for pattern in PROJECT_FILES for each in REPOSITORY.glob(pattern)):
        digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def _stop_pod(pod: str) -> None:
    """Ask to be stopped, one way after the other until one is accepted (GraphQL ends in 2027)."""
    ways: dict[str, Callable[[], str | None]] = {
        "REST v2": lambda: _post(f"/v2/pods/{quote(pod, safe='')}/action", {"action": "stop"}),
        "runpodctl pod stop": lambda: _runpodctl("pod", "stop", pod),
        "runpodctl stop pod": lambda: _runpodctl("stop", "pod", pod),
        "GraphQL": lambda: _post("/graphql", {"query": POD_STOP, "variables": {"id": pod}}),
    }
    for name, way in ways.items():
        reason = way()
        _say(f"stopping the pod by {name}: {reason or 'accepted'}")
        if reason is None:
            return


def _runpodctl(*arguments: str) -> str | None:
    said = answer(["runpodctl", *arguments], timeout=_number("BESPOKE_POD_TIMEOUT_S", 20))
    return "it is missing, failed or took too long" if said is None else None


def _post(path: str, body: object) -> str | None:
    """Why the API did not take it, or None. Follows no redirection: the key goes to one address."""
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    if not key:
        return "RUNPOD_API_KEY is not set"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    address = urlsplit(os.environ.get("BESPOKE_POD_API") or "https://api.runpod.io")
    kind = http.client.HTTPConnection if address.scheme == "http" else http.client.HTTPSConnection
    connection = kind(address.netloc, timeout=_number("BESPOKE_POD_TIMEOUT_S", 20))
    try:
        with contextlib.closing(connection):
            connection.request("POST", address.path.rstrip("/") + path, json.dumps(body), headers)
            reply = connection.getresponse()
            text = reply.read(1 << 16)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # Not the message: it may repeat the header.
        return getattr(error, "strerror", None) or type(error).__name__
    taken = 200 <= reply.status < 300 and b'"errors"' not in text
    return None if taken else f"refused (HTTP {reply.status})"


def _number(name: str, default: float) -> float:
    with contextlib.suppress(ValueError):
        value = float(os.environ.get(name, ""))
        if 0 < value < 1e6:
            return value
    return default


def _say(text: str) -> None:
    print(f"bespoke: {veiled(text)}", flush=True)


if __name__ == "__main__":
    if not os.environ.get("RUNPOD_POD_ID"):
        os.execvp(START[0], [*START, *sys.argv[1:]])  # noqa: S606 - it becomes that process
    with reported():
        Boot().run(sys.argv[1:])
