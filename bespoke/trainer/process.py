"""The one module that starts processes: a question answered, or a group never left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from bespoke.errors import BespokeError, InterruptedRunError
from bespoke.signals import check_signals, signal_count
from bespoke.signals import signals_held as signals_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def patience() -> float:
    """Seconds that a trainer has for its end between TERM and KILL."""
    return float(os.environ.get("BESPOKE_STOP_PATIENCE_S") or 10)


def emptied(pgid: int, within: float, child: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether no process of a group is left, waiting for that at most so many seconds,
    and no longer once a second signal has come.

    The group's `child` of our own, where it has one, is waited for once it has ended.
    """
    deadline = time.monotonic() + within
    while True:
        if child is not None:
            child.poll()
        try:
            os.killpg(pgid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() >= deadline or signal_count() > 1:
            return False
        time.sleep(0.02)


class StartError(BespokeError):
    """A program that is not there or cannot be executed."""

    exit_code = 4


def answer(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 10) -> str | None:
    """What a short command prints, stripped; None where it is missing, fails or takes too long."""
    try:
        code, text = outcome(command, cwd=cwd, timeout=timeout, errors=subprocess.DEVNULL)
    except StartError:
        return None
    return text if code == 0 else None


def outcome(
    command: Sequence[str],
    *,
    cwd: Path | None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 60,
    errors: int = subprocess.STDOUT,
) -> tuple[int, str]:
    """A short command's exit code, and what it prints, stripped."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{command[0]}: {error}") from error
    return done.returncode, done.stdout.decode(errors="replace").strip()


# Ends the group when the pipe that only we hold is closed, as the system closes it when we are
# killed with no chance to clean up. In a session of its own: no signal to ours reaches it.
GUARD = 'cat; kill -s TERM -- "-$0" && sleep "$1" && kill -s KILL -- "-$0"'


class Group:
    """A child in a process group of its own, with all that it starts.

    On the way out of the context, whatever the reason, the whole group is stopped: TERM, then KILL
    for what is left after `patience` seconds. StartError where the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        patience: float = 10.0,
    ) -> None:
        self._patience = patience
        try:
            # Cut between the child's start and its guard's, the child would be left alone.
            with signals_held():
                self._start(command, environment, cwd)
        except InterruptedRunError:
            self.stop()
            raise

    def _start(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        try:
            self._child = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"{command[0]}: cannot be started: {error.strerror}") from error
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, str(self._child.pid), str(self._patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Also the process group's id."""
        return self._child.pid

    def output(self, tick: float = 1.0) -> Iterator[bytes]:
        """What the child prints, as it comes; b"" when `tick` seconds brought nothing.

        Ends when the child has ended and what it printed is read: not at the pipe's end, which a
        forgotten grandchild could hold open for ever. A safe place for signals, also where the
        caller holds them back.
        """
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                ended = self._child.poll() is not None
                ready = selector.select(0 if ended else tick)
                check_signals()
                if not ready:
                    if ended:
                        return
                    yield b""
                    continue
                chunk = os.read(pipe, 1 << 16)
                if not chunk:
                    return
                yield chunk

    def wait(self) -> int:
        """The child's exit code, once it has ended; negative for the signal that ended it."""
        return self._child.wait()

    def stop(self) -> None:
        """End the whole group; a second signal to us while it waits kills it at once."""
        with signals_held():
            if not emptied(self.pid, 0, self._child):
                self.signal(signal.SIGTERM)
                emptied(self.pid, self._patience, self._child)
                self.signal(signal.SIGKILL)
            self._child.wait()
            self._guard.kill()
            self._guard.wait()
            for pipe in (self._child.stdout, self._guard.stdin):
                if pipe is not None:
                    pipe.close()

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, and wait for nothing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
