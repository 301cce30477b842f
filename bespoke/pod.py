"""A RunPod pod's start command: one counted attempt a boot, then stop the pod or wait to be told.

A pod starts its command again as soon as that ends, whatever the exit code, so this one ends only
when a signal says so. start_training.sh hands over to it before any set-up, and it starts
start_training.sh again as its child: a set-up that fails is counted like any other failure, and
SSH is up meanwhile. It needs nothing but Python itself.

Which exit code of an attempt means what at the next boot with the same arguments:
    0             nothing to count; bespoke.run itself answers "already trained"
    5             a result: not run again until the project's files change
    130           interrupted: not counted, goes on
    any other     counted, as is an attempt that was cut off; after BESPOKE_POD_ATTEMPTS (3) in a
                  row no more, until the project's files change. 2 and 3 are no exception: what
                  they name (pictures, a GPU) may be mended between two boots, and they end in
                  seconds.

Environment:
    BESPOKE_POD_WHEN_DONE    stop or keep (the default)
    BESPOKE_POD_ATTEMPTS     failures in a row before no more attempt is made
    BESPOKE_POD_AGAIN_S      how long to wait before a pod that still runs is stopped again
    BESPOKE_POD_TIMEOUT_S    how long each way to stop it may take
    BESPOKE_POD_API          RunPod's address; for tests
    BESPOKE_POD_START_SCRIPT the image's own start script: SSH, Jupyter
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, urlsplit

from bespoke.errors import GateStoppedError, InterruptedRunError, reported
from bespoke.files import workspace, write_whole
from bespoke.processes import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

REPOSITORY = Path(__file__).resolve().parent.parent
START = ("bash", str(REPOSITORY / "start_training.sh"))
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PROJECT_FILES = ("*.toml", "*.sh", "experiments/*.toml", "locks/*.txt", "bespoke/**/*.py")
PATIENCE_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What earlier boots with the same arguments came to; `code` is None while one goes on."""

    files: str = ""
    failures: int = 0
    code: int | None = None
    fresh_done: bool = False


def main(arguments: Sequence[str]) -> None:
    """Boot the pod; outside a pod, what start_training.sh does.

    Raises:
        SystemExit: with 130, once a signal says so.
    """
    if not os.environ.get("RUNPOD_POD_ID"):
        os.execvp(START[0], [*START, *arguments])  # noqa: S606 - this process becomes it
    with reported():
        Boot().run(arguments)


class Boot:
    """One boot, as process 1 or near it."""

    def __init__(self) -> None:
        self._child: int | None = None
        self._told: int | None = None
        for number in SIGNALS:
            signal.signal(number, self._tell)

    def run(self, arguments: Sequence[str]) -> NoReturn:
        """Start the image's services, make the attempt if one is due, and wait.

        Raises:
            InterruptedRunError: at the first signal, after the attempt has ended.
        """
        stop = _stop_wanted()
        self._start_services()
        try:
            self._attempt(list(arguments))
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - to end here would be to start all over again
            _say(f"no attempt could be made or counted: {type(error).__name__}: {error}")
        _say("the pod stops" if stop else "the pod stays up, and costs: stop it when you are done")
        for turn in range(sys.maxsize):
            if stop:
                _stop_pod(insist=turn > 0)
            _wait(_number("BESPOKE_POD_AGAIN_S", PATIENCE_S))
        raise AssertionError

    def _start_services(self) -> None:
        script = os.environ.get("BESPOKE_POD_START_SCRIPT", "/start.sh")
        if os.access(script, os.X_OK) and Path(script).is_file():
            try:
                _start([script], dict(os.environ))
            except OSError as error:
                _say(f"{script}: cannot be started, so SSH may be missing: {error.strerror}")

    def _attempt(self, arguments: list[str]) -> None:
        """Run, unless earlier boots say that it is no use; keep what came of it.

        The record is written before the start, so an attempt that is cut off counts; where it
        cannot be written nothing is run, since nothing would end the attempts.
        """
        folder, file = _record_file(arguments)
        before = _read(file)
        files = _digest_of_files()
        if before.files != files:
            before = replace(before, files=files, failures=0, code=None)
        limit = int(_number("BESPOKE_POD_ATTEMPTS", 3))
        if before.code == GateStoppedError.exit_code or before.failures >= limit:
            why = "the gate stopped it" if before.failures < limit else f"{limit} attempts failed"
            _say(f"not run again: {why}; a change to the project's files, or deleting")
            _say(f"{file}, makes it run at the next boot")
            return
        if before.fresh_done and "--fresh" in arguments:
            _say("--fresh was carried out at an earlier boot; this one goes on from there")
            arguments = [each for each in arguments if each != "--fresh"]
        failed = before.failures + 1
        _say(f"attempt {failed} of {limit} (a failed one is counted in {file})")
        _warn_of_container_disk(folder)
        write_whole(file, _json(replace(before, failures=failed, code=None, fresh_done=True)))
        code = self._run(arguments)
        # 2 and 3 come before anything is trained, so --fresh still has its purpose.
        fresh_done = before.fresh_done or code not in (2, 3)
        failures = {0: 0, 5: 0, 130: before.failures}.get(code, failed)
        write_whole(file, _json(Record(files=files, failures=failures, code=code, fresh_done=fresh_done)))
        self._leave_if_told()
        _say(f"the run ended with exit code {code}")

    def _run(self, arguments: Sequence[str]) -> int:
        """The exit code of start_training.sh; 130 where a signal reached this process too.

        Its environment lacks the pod's key, which no trainer needs.
        """
        environment = {**os.environ, "BESPOKE_POD_BOOTED": "1"}
        environment.pop("RUNPOD_API_KEY", None)
        # A signal between the start and the note of it would reach nobody.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._leave_if_told()
            self._child = _start([*START, *arguments], environment)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = _end_of(self._child)
        self._child = None
        return code if self._told is None else InterruptedRunError.exit_code

    def _tell(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on to the run, or, where none goes on, leave."""
        self._told = number
        if self._child is None:
            self._leave_if_told()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child, number)

    def _leave_if_told(self) -> None:
        if self._told is not None:
            raise InterruptedRunError(f"stopped by {signal.Signals(self._told).name}")
