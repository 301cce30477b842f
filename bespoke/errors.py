"""Every error a person can meet, with its exit code, and the one place that prints them."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeGuard

from bespoke.console import painted
from bespoke.redact import veiled
from bespoke.signals import InterruptedRunError as InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BespokeError(Exception):
    """Something a person can act on: one line that says what is wrong and what to do.

    Messages name the file, key or option first, then what was found, then the way out.
    Further lines, where several problems are reported together, hold one problem each.
    """

    exit_code = 1


class ConfigError(BespokeError):
    """An option, experiment, path or set-up that cannot be run as written."""

    exit_code = 2


class DatasetError(BespokeError):
    """Pictures or captions that are not what the experiment declares."""

    exit_code = 3


class TrainerError(BespokeError):
    """The trainer failed, or ended without the checkpoints it was asked for."""

    exit_code = 4


class GateStoppedError(BespokeError):
    """The gate ended the run: a result, not a failure."""

    exit_code = 5


@contextlib.contextmanager
def reported(keep_traceback: Callable[[str], str | None] = lambda _: None) -> Iterator[None]:
    """Turn any exception into one printed message and the process's exit code.

    `keep_traceback` is given the traceback's text and says in which file it was kept, or None.
    An unexpected exception with no file to keep it in is printed whole: it must not be lost.

    Raises:
        SystemExit: with the error's exit code; 130 for ^C, 1 for anything unexpected.
    """
    code = 0
    try:
        yield
        sys.stdout.flush()
    except (BespokeError, InterruptedRunError) as error:
        keep_traceback(traceback.format_exc())
        code = error.exit_code
        _print(str(error))
    except KeyboardInterrupt:
        code = InterruptedRunError.exit_code
        _print("interrupted")
    except BrokenPipeError:
        # The reader has seen what it wanted (`bespoke experiments | head`).
        code = 0
    except Exception as error:  # noqa: BLE001 - the one place where everything must be caught
        text = traceback.format_exc()
        kept = keep_traceback(text)
        if is_full(error):
            code = TrainerError.exit_code
            _print(_no_space(error))
        else:
            code = 1
            _print(f"unexpected {type(error).__name__}: {error}")
            _print(f"traceback: {kept}" if kept else text)
    finally:
        _settle(sys.stdout)
        _settle(sys.stderr)
    if code:
        raise SystemExit(code)


def is_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether a disk or its quota was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _no_space(error: OSError) -> str:
    """Which disk is full, where that is known: a failed write does not name its file."""
    if not error.filename:
        return "no space left on a disk; free some, then run the same command again"
    disk = Path(str(error.filename)).absolute()
    while not disk.is_mount():
        disk = disk.parent
    return f"no space left on {disk}; free some, then run the same command again"


def _print(message: str) -> None:
    # What our own lines go to may be on the disk that is full, or closed.
    with contextlib.suppress(OSError, ValueError):
        for line in message.splitlines() or [""]:
            text = f"bespoke: {veiled(line)}"
            print(painted(text, "error", sys.stderr), file=sys.stderr)


def _settle(stream: TextIO) -> None:
    """Let go of what cannot be written: the interpreter would try again, and fail, as it ends."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
