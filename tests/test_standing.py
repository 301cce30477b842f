"""What a run's process prints becomes its row, and all rows are one display."""

from __future__ import annotations

import json

import pytest
from bespoke.places import Place
from bespoke.standing import Board, Standing

from bespoke import standing
from tests.test_display import on_a_terminal


def event(kind: str, **facts: object) -> bytes:
    return f"bespoke-event: {json.dumps({'event': kind, **facts})}\n".encode()


TRAINING = (
    event("started")
    + b"bespoke: keep_tokens_3 can start\n"
    + event("launched", pid=77)
    + event("epoch_started", epoch=2, epochs=10)
    + event("progress", step=60, total=100, steps_per_second=2.5, loss=0.125)
)


def test_lines_and_events_are_told_apart_however_the_bytes_come() -> None:
    run = Standing("a", ())
    texts = [text for byte in TRAINING for text in run.take(bytes([byte]))]
    assert texts == ["keep_tokens_3 can start"]
    assert (run.state, run.trainers) == ("training", [77])
    assert run.cells() == ("a", "", "training", "2/10", "60/100", "2.50", "0.1250", "0:16")


def test_a_text_that_looks_like_an_event_stays_a_text() -> None:
    run = Standing("a", ())
    line = b"bespoke: " + event("launched", pid=1)
    assert list(run.take(line)) == [line.decode().strip().removeprefix("bespoke: ")]
    assert run.trainers == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, "done"),
        (5, "stopped by its gate: the first word"),
        (3, "failed (exit code 3): the first word"),
        (-9, "failed (SIGKILL): the first word"),
    ],
)
def test_an_end_is_put_in_words_with_its_reason(code: int, told: str) -> None:
    run = Standing("a", ())
    if code:
        assert not list(run.take(event("failed", message="the first word\nand more")))
    run.end(code)
    assert run.told == told


def test_off_a_terminal_each_run_has_a_line_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(standing, "PLAIN_INTERVAL_S", 0)
    runs = [Standing("a", ()), Standing("b", ()), Standing("c", ())]
    for run in runs[:2]:
        run.place = Place(gpu=None)
    assert list(runs[0].take(TRAINING))
    Board(runs).refresh()
    assert capsys.readouterr().out == (
        "bespoke: a: epoch 2/10  step 60/100  2.50 it/s  loss 0.1250  left 0:00 of the epoch, "
        "0:16 of the run\n"
        "bespoke: b: waiting\n"
    )


def test_on_a_terminal_all_runs_are_one_table_and_lines_stand_above_it() -> None:
    script = (
        "from bespoke.display import say\n"
        "from bespoke.places import Place\n"
        "from bespoke.standing import Board, Standing\n"
        "runs = [Standing('first', ()), Standing('second', ()), Standing('third', ())]\n"
        "with Board(runs) as board:\n"
        "    for run in runs[:2]:\n"
        "        run.place = Place(gpu='0')\n"
        f"        list(run.take({TRAINING!r}))\n"
        "    runs[2].reason = '[red]hostile'\n"
        "    board.refresh()\n"
        "    say('first: epoch 1: [bold]a-000001.safetensors')\n"
    )
    text = on_a_terminal(script, COLUMNS="100")
    rows = [line.split() for line in text.splitlines() if "second" in line]
    assert rows[-1] == [
        "second",
        "GPU",
        "0",
        "training",
        "2/10",
        "60/100",
        "2.50",
        "0.1250",
        "0:16",
    ]
    assert "5.00 it/s together" in text
    assert "bespoke: first: epoch 1: [bold]a-000001.safetensors" in text
