"""The one module that starts processes: a question answered, or a group never left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from bespoke.errors import InterruptedRunError, TrainerError
from bespoke.signals import check_signals, signal_count, signals_held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def patience() -> float:
    """Seconds that a trainer has for its end between TERM and KILL."""
    return float(os.environ.get("BESPOKE_STOP_PATIENCE_S") or 10)


def answer(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 10) -> str | None:
    """What a short command prints, stripped; None where it is missing, fails or takes too long."""
    code, text = outcome(command, cwd=cwd, timeout=timeout)
    return text if code == 0 else None


def outcome(command: Sequence[str], *, cwd: Path | None, timeout: float = 60) -> tuple[int, str]:
    """A short command's exit code, and what it prints, with its errors where it fails."""
    quiet = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=quiet, capture_output=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    shown = done.stdout + done.stderr if done.returncode else done.stdout
    return done.returncode, shown.decode(errors="replace").strip()


# Ends the group when the pipe that only we hold is closed, as the system closes it when we are
# killed with no chance to clean up. In a session of its own: no signal to ours reaches it.
GUARD = 'cat; kill -s TERM -- "-$0" && sleep "$1" && kill -s KILL -- "-$0"'


class Group(contextlib.AbstractContextManager["Group"]):
    """A child in a process group of its own, with all that it starts: stopped on the way out of the
    context, whatever the reason, by TERM, then KILL for what is left after `patience` seconds.
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
        quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
        try:
            # Cut between the child's start and its guard's, the child would be left alone.
            with signals_held():
                self._child = subprocess.Popen(
                    command,
                    env=dict(environment),
                    cwd=cwd,
                    stdin=quiet,
                    stdout=pipe,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                guard = ["/bin/sh", "-c", GUARD, str(self.pid), str(patience)]
                self._guard = subprocess.Popen(
                    guard, stdin=pipe, stdout=quiet, stderr=quiet, start_new_session=True
                )
        except OSError as error:
            raise TrainerError(f"{command[0]}: cannot be started: {error.strerror}") from error
        except InterruptedRunError:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Also the process group's id."""
        return self._child.pid

    def output(self, tick: float = 1.0) -> Iterator[bytes]:
        """What the child prints, as it comes; b"" when `tick` seconds brought nothing.

        Ends with the child, once what it printed is read: a forgotten grandchild could hold the
        pipe open for ever. A safe place for signals, also where the caller holds them back.
        """
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                ended = self._child.poll() is not None
                ready = selector.select(0 if ended else tick)
                check_signals()
                chunk = os.read(pipe, 1 << 16) if ready else b""
                if not chunk and (ready or ended):
                    return
                yield chunk

    def wait(self) -> int:
        """The child's exit code, once it has ended; negative for the signal that ended it."""
        return self._child.wait()

    def stop(self) -> None:
        """End the whole group; a second signal to us while it waits kills it at once."""
        with signals_held():
            if not self._is_gone(within=0):
                self.signal(signal.SIGTERM)
                self._is_gone(within=self._patience)
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

    def _is_gone(self, within: float) -> bool:
        """Whether no process of the group is left, once it is or so many seconds are over."""
        deadline = time.monotonic() + within
        while True:
            self._child.poll()
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return True
            if time.monotonic() >= deadline or signal_count() > 1:
                return False
            time.sleep(0.02)
