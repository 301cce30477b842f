"""Progress is shown plainly off a terminal and live on one."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from bespoke.trainer.progress import Display
from bespoke.trainer.trainer_log import EpochStarted, Progress


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


SHOW = (
    "from bespoke.console import say\n"
    "from bespoke.trainer.progress import Display\n"
    "from bespoke.trainer.trainer_log import EpochStarted, Progress\n"
    "with Display(10) as shown:\n"
    "    shown.show(EpochStarted(epoch=2, epochs=10))\n"
    "    shown.show(Progress(step=15, total=100, steps_per_second=2.5, loss=0.25))\n"
    "    say('epoch 1: [bold]a:cat:000001.safetensors')\n"
    "    say('warning: the disk is nearly full')\n"
    "    say('STOP: no background is right')\n"
    "    say('Gate passed at epoch 4')\n"
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def on_a_terminal(script: str = SHOW, **variables: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "24", **variables}
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    seen = io.BytesIO()
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen.write(chunk)
    os.close(ours)
    assert child.wait() == 0, seen.getvalue().decode()
    return seen.getvalue().decode()


def test_on_a_terminal_lines_of_80_columns_show_epoch_time_left_step_pace_and_loss() -> None:
    text = on_a_terminal(COLUMNS="80")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain)]
    assert "bespoke: epoch 2/10  left 0:34 (epoch 0:02)" in lines
    assert any(line.endswith("step 15/100  2.50 it/s  loss 0.2500") for line in lines)
    assert all(len(line) <= 80 for line in lines)
    # Whatever a name holds stands as it is: no markup, and no pictures for words between colons.
    assert "bespoke: epoch 1: [bold]a:cat:000001.safetensors" in text


def test_nothing_of_the_live_lines_is_left_when_they_end() -> None:
    text = on_a_terminal()
    last = text[text.rindex("left 0:34") :]
    # Up over the frame's lines, and each of them erased.
    assert last.count("\x1b[2K") >= 2


@pytest.mark.parametrize(
    ("line", "colour"), [("warning: the", 33), ("STOP: no", 31), ("Gate passed at", 32)]
)
def test_a_warning_a_stop_and_a_go_have_their_colours_on_a_terminal(line: str, colour: int) -> None:
    assert f"\x1b[{colour}mbespoke: {line}" in on_a_terminal()


def test_no_color_leaves_the_bar_and_takes_its_colours() -> None:
    text = on_a_terminal(NO_COLOR="1")
    assert "step 15/100  2.50 it/s" in text
    # Bold and dim may stay; 30 to 49 and 90 to 107 are colours.
    numbers = [int(n) for code in COLOUR.findall(text) for n in re.findall(r"\d+", code)]
    assert not [n for n in numbers if 30 <= n <= 49 or 90 <= n <= 107]


def test_a_dumb_terminal_and_a_file_get_plain_lines() -> None:
    pipe = {**os.environ, "FORCE_COLOR": "1"}
    texts = (
        on_a_terminal(TERM="dumb"),
        subprocess.check_output([sys.executable, "-c", SHOW], env=pipe, text=True),
    )
    for text in texts:
        assert "\x1b" not in text
        assert "bespoke: epoch 2/10  left 0:34 (epoch 0:02)  step 15/100" in text
