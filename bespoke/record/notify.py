"""Messages about runs, sent by apprise: to Discord, ntfy, Slack, e-mail and a hundred more."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.redact import veiled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

VARIABLE = "BESPOKE_NOTIFY"
# Seconds that a service has for one message, and that a run's end waits for the last ones.
PATIENCE_S = 10


class Messages:
    """Sends in the background to each service whose URL stands in the variable; without, to none.

    A service that fails is said once: what it is told besides is in the log and on the page.
    """

    def __init__(self) -> None:
        self._urls = os.environ.get(VARIABLE, "").replace(",", " ").split()
        self._threads: list[threading.Thread] = []
        self._failed: set[str] = set()

    def send(self, title: str, text: str, picture: Path | None = None) -> None:
        """Send a message, with a picture where the service takes one; returns at once."""
        for url in self._urls:
            thread = threading.Thread(
                target=self._send, args=(url, title, text, picture), daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def wait(self) -> bool:
        """Let what was sent arrive, for `PATIENCE_S` at most; whether all of it did."""
        until = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        late = any(thread.is_alive() for thread in self._threads)
        return bool(self._threads) and not late and not self._failed

    def _send(self, url: str, title: str, text: str, picture: Path | None) -> None:
        from apprise import Apprise

        # Said by us, once; its own lines would go to stderr as well.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        name, reasons = url.partition(":")[0], ["no service has such a URL"]
        if service := Apprise.instantiate(url):
            name = service.service_name
            delivered = Apprise(service).notify(
                veiled(text),
                title=veiled(title),
                attach=str(picture) if picture and service.attachment_support else None,
                timeout=PATIENCE_S,
                log_callback=lambda entry, _: reasons.append(entry.message),
                log_level=logging.WARNING,
            )
            if delivered:
                return
        if url not in self._failed:
            self._failed.add(url)
            say(f"warning: no message to {name} ({VARIABLE}): {veiled(reasons[-1])}")


def failed(name: str, error: Exception) -> None:
    """Send that a start failed before its run began."""
    sender = Messages()
    sender.send(name, f"failed before it began: {error}")
    sender.wait()


def ending(run: RunRecord) -> str:
    """How a run ended, in a message."""
    lines = [f"{run.status}: {run.ending}"]
    if best := run.best:
        lines.append(f"best: epoch {best.epoch}, {best.summary()}")
    took = f"{60 * (run.hours or 0):.0f} minutes"
    return "\n".join([*lines, took if run.cost is None else f"{took}, {run.cost:.2f} paid"])


def sheet(results: Sequence[EpochResult], file: Path) -> Path | None:
    """Draw the contact sheet, an epoch a row; None where no message is asked for."""
    if not os.environ.get(VARIABLE) or not results:
        return None
    from PIL import Image

    side = 96
    size = (side * max(len(each.pictures) for each in results), side * len(results))
    whole = Image.new("RGB", size)
    for row, result in enumerate(results):
        for column, picture in enumerate(result.pictures):
            with Image.open(Path(result.folder) / picture.file) as drawn:
                small = drawn.resize((side, side), Image.Resampling.NEAREST)
            whole.paste(small, (side * column, side * row))
    whole.save(file)
    return file


def show(_: argparse.Namespace) -> None:
    """`bespoke notify --test`: send one message to each service.

    Raises:
        ConfigError: where no URL is set, or a service did not take it.
    """
    if not os.environ.get(VARIABLE):
        raise ConfigError(f"{VARIABLE} is not set: give it a URL such as ntfys://ntfy.sh/TOPIC")
    messages = Messages()
    messages.send("bespoke", "A test. Messages about your runs come here.")
    if not messages.wait():
        raise ConfigError(f"{VARIABLE}: not every service took the message")
    say("sent")
