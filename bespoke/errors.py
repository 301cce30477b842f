"""Every error a person can meet, with its exit code, and the one place that prints them."""

from __future__ import annotations

import contextlib
import sys
import traceback
from typing import TYPE_CHECKING

from bespoke.veil import veiled

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


class InterruptedRunError(BaseException):
    """A person or the machine ended the run.

    No `Exception`: what spares a run the errors of a test or a page must not spare it this.
    """

    exit_code = 130


@contextlib.contextmanager
def reported(keep_traceback: Callable[[str], str | None] = lambda _: None) -> Iterator[None]:
    """Turn any exception into one printed message and the process's exit code.

    `keep_traceback` is given the traceback's text and says in which file it was kept, or None.
    An unexpected exception with no file to keep it in is printed whole: it must not be lost.

    Raises:
        SystemExit: with the error's exit code; 130 for ^C, 1 for anything unexpected.
    """
    try:
        yield
    except (BespokeError, InterruptedRunError) as error:
        keep_traceback(traceback.format_exc())
        _print(str(error))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        _print("interrupted")
        raise SystemExit(InterruptedRunError.exit_code) from None
    except BrokenPipeError:
        # The reader went away (`bespoke experiments | head`); nothing is left to tell it.
        sys.stderr.close()
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 - the one place where everything must be caught
        text = traceback.format_exc()
        kept = keep_traceback(text)
        _print(f"unexpected {type(error).__name__}: {error}")
        _print(f"the traceback is in {kept}" if kept else text)
        raise SystemExit(1) from None


def _print(message: str) -> None:
    for line in message.splitlines() or [""]:
        print(f"bespoke: {veiled(line)}", file=sys.stderr)
