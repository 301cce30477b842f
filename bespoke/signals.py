"""TERM, HUP and ^C: noted when they come, raised once, and only where raising is safe."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class InterruptedRunError(BaseException):
    """A person or the machine ended the run.

    No `Exception`: what spares a run the errors of a test or a page must not spare it this.
    """

    exit_code = 130


class _State:
    """`holds` counts the blocks, one within another, that no signal may cut."""

    def __init__(self, *, handling: bool = False, remedy: str = "") -> None:
        self.handling, self.remedy = handling, remedy
        self.first: int | None = None
        self.count, self.holds, self.raised = 0, int(handling), False


_state = _State()


def handle_signals(remedy: str = "") -> None:
    """Note signals from here to the process's end; nothing is raised before `raising` begins.

    `remedy` says what to do after an interruption. A HUP that nohup ignores already stays so.
    """
    global _state
    _state = _State(handling=True, remedy=remedy)
    for number in NUMBERS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _note)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """A block in which a signal raises InterruptedRunError, once; after it none is met any more."""
    global _state
    if not _state.handling:
        yield
        return
    try:
        _state.holds = 0
        _raise_pending()
        yield
    finally:
        # Whatever is said and returned now is final, and a second ^C must not cut it.
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)
        _state = _State()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """A block that no signal cuts: one that comes meanwhile is raised once the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.holds += 1
    try:
        yield
    finally:
        _state.holds -= 1
    if not _state.holds:
        _raise_pending()


def check_signals() -> None:
    """A safe place within a held block: raise what has come, also what was raised and then lost."""
    if _state.first is not None and threading.current_thread() is threading.main_thread():
        _state.raised = True
        name = signal.Signals(_state.first).name
        raise InterruptedRunError(f"stopped by {name}{_state.remedy}")


def signal_count() -> int:
    """How many signals have come; with the second one, nothing is waited for any longer."""
    return _state.count


def _note(number: int, _: object) -> None:
    _state.count += 1
    _state.first = _state.first or number
    if not _state.holds:
        _raise_pending()


def _raise_pending() -> None:
    if not _state.raised:
        check_signals()
