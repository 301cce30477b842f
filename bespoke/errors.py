"""Every error a person can meet, with its exit code, and the one place that prints them."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from typing import TYPE_CHECKING, TypeGuard

from bespoke.console import let_go, painted
from bespoke.signals import InterruptedRunError as InterruptedRunError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BespokeError(Exception):
    """Something a person can act on, in one line: the file, key or option, what is wrong with it,
    and what to do. Where several problems are reported together, each has a line.
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
    """Turn any exception into one printed message and SystemExit with its exit code.

    `keep_traceback` is given the traceback's text and says in which file it was kept, or None.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen what it wanted (`bespoke experiments | head`).
        return
    except (Exception, InterruptedRunError, KeyboardInterrupt) as error:  # noqa: BLE001
        text = traceback.format_exc()
        code, message = _answer(error, text, keep_traceback(text))
        # What our own lines go to may be on the disk that is full, or closed.
        with contextlib.suppress(OSError, ValueError):
            for line in message.splitlines() or [""]:
                print(painted(line, "error", sys.stderr), file=sys.stderr)
        raise SystemExit(code) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # noqa: PERF203
                let_go(stream)


def _answer(error: BaseException, text: str, kept: str | None) -> tuple[int, str]:
    """The exit code and the message of an error whose traceback is `text`, in the file `kept`."""
    if isinstance(error, (BespokeError, InterruptedRunError)):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return InterruptedRunError.exit_code, "interrupted"
    if is_full(error):
        # A failed write does not name its file.
        disk = f"the disk of {error.filename}" if error.filename else "a disk"
        remedy = "free some, then run the same command again"
        return TrainerError.exit_code, f"no space left on {disk}; {remedy}"
    # With no file to keep it in it is printed: it must not be lost.
    where = f"traceback: {kept}" if kept else text
    return 1, f"unexpected {type(error).__name__}: {error}\n{where}"


def is_full(error: BaseException) -> TypeGuard[OSError]:
    """Whether a disk or its quota was full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
