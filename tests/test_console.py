"""Progress is shown plainly off a terminal and live on one."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from bespoke.trainer.progress import Display
from bespoke.trainer.trainer_log import EpochStarted, Progress
from tests.rehearsals import run

if TYPE_CHECKING:
    import pytest


def at(step: int, pace: float | None = 2.0, loss: float | None = 0.5) -> Progress:
    return Progress(step=step, total=100, steps_per_second=pace, loss=loss)


def test_off_a_terminal_one_line_comes_with_the_first_loss_and_then_every_30_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Display(10) as shown:
        shown.show(EpochStarted(epoch=1, epochs=10))
        for step in range(20):
            shown.show(at(step, loss=None if step == 0 else 0.5))
        shown.show(None)
    assert capsys.readouterr().out == (
        "bespoke: epoch 1/10  left 0:50 (epoch 0:04)  step 1/100  2.00 it/s  loss 0.5000\n"
    )


SHOW = """
from bespoke.console import say
from bespoke.trainer.progress import Display
from bespoke.trainer.trainer_log import EpochStarted, Progress
with Display(10) as shown:
    shown.show(EpochStarted(epoch=2, epochs=10))
    shown.show(Progress(step=15, total=100, steps_per_second=2.5, loss=0.25))
    say('epoch 1: [bold]a:cat:000001.safetensors')
    say('warning: the disk is nearly full')
    say('STOP: no background is right')
    say('Gate passed at epoch 4')
"""


def on_a_terminal(**variables: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24", **variables}
    words = [sys.executable, "-c", SHOW]
    child = subprocess.Popen(words, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 4096):
            seen += chunk
    os.close(ours)
    assert child.wait() == 0, seen
    return seen.decode()


def test_on_a_terminal_lines_of_80_columns_show_epoch_time_left_step_pace_and_loss() -> None:
    text = on_a_terminal(COLUMNS="80")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert "bespoke: epoch 2/10  left 0:34 (epoch 0:02)" in lines
    assert any(line.endswith("step 15/100  2.50 it/s  loss 0.2500") for line in lines)
    assert all(len(line) <= 80 for line in lines)
    # Whatever a name holds stands as it is: no markup, and no pictures for words between colons.
    assert "bespoke: epoch 1: [bold]a:cat:000001.safetensors" in text
    for line, colour in (("warning: the", 33), ("STOP: no", 31), ("Gate passed at", 32)):
        assert f"\x1b[{colour}mbespoke: {line}" in text
    # Up over the frame's lines, and each of them erased.
    assert text[text.rindex("left 0:34") :].count("\x1b[2K") >= 2


def test_no_color_a_dumb_terminal_and_a_file_take_the_colours() -> None:
    text = on_a_terminal(NO_COLOR="1")
    assert "step 15/100  2.50 it/s" in text
    assert not re.search(r"\x1b\[[0-9;]*[349][0-9]m", text)
    piped = run([sys.executable, "-c", SHOW], FORCE_COLOR="1").stdout
    for text in (on_a_terminal(TERM="dumb"), piped):
        assert "\x1b" not in text
        assert "bespoke: epoch 2/10  left 0:34 (epoch 0:02)  step 15/100" in text
