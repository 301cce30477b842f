"""What the trainer prints becomes a log's lines and events, whatever it prints."""

from __future__ import annotations

import io
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.trainer import trainer_log

if TYPE_CHECKING:
    from collections.abc import Iterator

# Lines as the pinned trainer printed them on a CPU.
FIRST = "steps:   0%|          | 0/6 [00:00<?, ?it/s]"
SLOW = "steps:  33%|###3      | 2/6 [00:21<00:43, 10.79s/it, avr_loss=0.923]"
FAST = "steps:  10%|█         | 508/5080 [02:25<21:45,  3.50it/s, avr_loss=0.0871]"
LATENTS = "100%|██████████| 4/4 [00:01<00:00,  3.12it/s]"


def folded(*chunks: bytes) -> list[str]:
    return list(trainer_log.Reader(io.BytesIO()).lines(chunks))


def test_the_step_bar_is_read_in_both_of_its_units() -> None:
    assert trainer_log.parse(FIRST) == trainer_log.Progress(step=0, total=6, loss=None)
    assert trainer_log.parse(SLOW) == trainer_log.Progress(step=2, total=6, loss=0.923)
    assert trainer_log.parse(FAST) == trainer_log.Progress(step=508, total=5080, loss=0.0871)


def test_the_pace_is_the_clocks_and_not_the_bars_own() -> None:
    def chunks() -> Iterator[bytes]:
        for step in (1, 2, 4):
            yield f"steps: 1%|x| {step}/5080 [00:01<00:05, 103.89it/s, avr_loss=0.05]\n".encode()
            time.sleep(0.4)

    paces = [
        event.steps_per_second
        for event in trainer_log.Reader(io.BytesIO()).events(chunks())
        if isinstance(event, trainer_log.Progress)
    ]
    assert paces[0] is None
    assert paces[2] == pytest.approx(3 / 0.8, rel=0.3)


def test_a_loss_that_is_no_number_is_read_as_such() -> None:
    read = trainer_log.parse(SLOW.replace("0.923", "nan"))
    assert isinstance(read, trainer_log.Progress)
    assert read.loss is not None
    assert math.isnan(read.loss)


def test_epochs_are_read_and_other_bars_and_lines_are_no_progress() -> None:
    assert trainer_log.parse("epoch 2/10") == trainer_log.EpochStarted(epoch=2, epochs=10)
    validation = "epoch validation steps:  10%|█  | 1/4 [00:01<00:03, 1.00it/s]"
    for line in (LATENTS, validation, "  num epochs / epoch数: 3"):
        assert trainer_log.parse(line) is None


def test_a_redrawn_bar_leaves_one_line_for_each_count() -> None:
    bars = "".join(
        f"\rsteps:  10%|█  | {step}/9 [00:01<00:09,  1.00it/s, avr_loss=0.{draw}]"
        for step in (1, 2, 3)
        for draw in range(1, 5)
    )
    lines = folded(bars.encode())
    assert [line.split("| ")[1].split(" ")[0] for line in lines] == ["1/9", "2/9", "3/9"]


def test_what_is_printed_onto_a_bars_line_is_a_line_of_its_own() -> None:
    lines = folded(f"\r{SLOW}saving state at epoch 1\nnext\n".encode())
    assert lines == [SLOW, "saving state at epoch 1", "next"]


def test_a_line_cut_between_chunks_is_one_line() -> None:
    text = "学習ステップ数: 5080\n".encode()
    for cut in range(len(text)):
        assert [line for line in folded(text[:cut], text[cut:]) if line] == ["学習ステップ数: 5080"]


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_make_the_reader_fail_or_lose_the_rest(chunks: list[bytes]) -> None:
    log = io.BytesIO()
    reader = trainer_log.Reader(log)
    events = list(reader.events([*chunks, b"\nepoch 7/9\n"]))
    assert trainer_log.EpochStarted(epoch=7, epochs=9) in events
    assert log.getvalue().endswith(b"epoch 7/9\n")


def test_every_line_reaches_the_log_before_its_event() -> None:
    log = io.BytesIO()
    for event in trainer_log.Reader(log).events([b"hello\nepoch 1/2\n", b"", SLOW.encode()]):
        if isinstance(event, trainer_log.EpochStarted):
            assert log.getvalue() == b"hello\nepoch 1/2\n"
    assert log.getvalue().decode().splitlines() == ["hello", "epoch 1/2", SLOW]


def test_the_submodule_is_at_the_commit_that_the_option_table_was_made_from(
    sd_scripts: Path,
) -> None:
    from bespoke.experiment.trainer_options import table
    from bespoke.trainer.child_process import answer

    assert answer(["git", "rev-parse", "HEAD"], cwd=sd_scripts) == table().commit


@pytest.mark.parametrize(
    "line",
    [
        SLOW.replace("0.923", "-"),
        FAST.replace("3.50it/s", "1.2.3it/s"),
        FAST.replace("508/5080", "508/0"),
        FAST.replace("508", "5" * 5000),
        FAST.replace("0.0871", "1e" + "9" * 5000),
        FAST.replace("508", "٥٠٨"),
        f"epoch {'7' * 5000}/10",
        "epoch ٣/٤",
    ],
)
def test_a_line_that_no_trainer_means_ends_no_run(line: str) -> None:
    read = trainer_log.parse(line)
    assert read is None or isinstance(read, trainer_log.Progress)
    assert list(trainer_log.Reader(io.BytesIO()).events([line.encode() + b"\nepoch 1/2\n"]))[
        -1
    ] == (trainer_log.EpochStarted(epoch=1, epochs=2))


def said(*tail: str) -> str:
    return str(trainer_log.failure(1, tail, Path("train.log")))


def test_the_trainers_own_error_is_told_from_the_launchers() -> None:
    text = said(
        "Traceback (most recent call last):",
        '  File "train_network.py", line 1, in <module>',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
        "Traceback (most recent call last):",
        "subprocess.CalledProcessError: Command '[...]' returned non-zero exit status 1.",
    )
    assert "exit code 1: torch.OutOfMemoryError: CUDA out of memory" in text
    assert "gradient_checkpointing" in text
    assert "exit code 1: ValueError: a riddle\n" in said("ValueError: a riddle")
    assert "its last lines are in the log" in said("all well")
    assert trainer_log.ending(-9) == "SIGKILL"


@pytest.mark.parametrize(
    ("last", "advice"),
    [
        (
            "subprocess.CalledProcessError: Command '['python']' died with <Signals.SIGKILL: 9>.",
            "RAM",
        ),
        ("RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed. ", "RAM"),
        (
            "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. It is "
            "possible that dataloader's workers are out of shared memory.",
            "--shm-size",
        ),
    ],
)
def test_what_the_system_did_to_the_trainer_is_said_with_what_to_do(last: str, advice: str) -> None:
    assert advice in said("    raise subprocess.CalledProcessError(code, cmd)", last)
