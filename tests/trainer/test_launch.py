"""What is known of train_network.py: its command, its output, its files."""

from __future__ import annotations

import io
import json
import math
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import ConfigError
from bespoke.trainer import launch

if TYPE_CHECKING:
    from pathlib import Path

# Lines as the pinned trainer printed them on a CPU.
FIRST = "steps:   0%|          | 0/6 [00:00<?, ?it/s]"
SLOW = "steps:  33%|###3      | 2/6 [00:21<00:43, 10.79s/it, avr_loss=0.923]"
FAST = "steps:  10%|█         | 508/5080 [02:25<21:45,  3.50it/s, avr_loss=0.0871]"
LATENTS = "100%|██████████| 4/4 [00:01<00:00,  3.12it/s]"


def folded(*chunks: bytes) -> list[str]:
    return list(launch.Reader(io.BytesIO()).lines(chunks))


def test_the_step_bar_is_read_in_both_of_its_units() -> None:
    assert launch.parse(FIRST) == launch.Progress(step=0, total=6, steps_per_second=None, loss=None)
    slow = launch.parse(SLOW)
    assert isinstance(slow, launch.Progress)
    assert (slow.step, slow.total, slow.loss) == (2, 6, 0.923)
    assert slow.steps_per_second == pytest.approx(1 / 10.79)
    fast = launch.parse(FAST)
    assert isinstance(fast, launch.Progress)
    assert (fast.step, fast.steps_per_second, fast.loss) == (508, 3.5, 0.0871)


def test_a_loss_that_is_no_number_is_read_as_such() -> None:
    read = launch.parse(SLOW.replace("0.923", "nan"))
    assert isinstance(read, launch.Progress)
    assert read.loss is not None
    assert math.isnan(read.loss)


def test_other_bars_and_other_lines_are_no_progress() -> None:
    assert launch.parse(LATENTS) is None
    assert launch.parse("epoch validation steps:  10%|█  | 1/4 [00:01<00:03, 1.00it/s]") is None
    assert launch.parse("  num epochs / epoch数: 3") is None


def test_epochs_are_read() -> None:
    assert launch.parse("epoch 2/10") == launch.EpochStarted(epoch=2, epochs=10)


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
    reader = launch.Reader(log)
    events = list(reader.events([*chunks, b"\nepoch 7/9\n"]))
    assert launch.EpochStarted(epoch=7, epochs=9) in events
    assert log.getvalue().endswith(b"epoch 7/9\n")


def test_every_line_reaches_the_log_before_its_event() -> None:
    log = io.BytesIO()
    for event in launch.Reader(log).events([b"hello\nepoch 1/2\n", b"", SLOW.encode()]):
        if isinstance(event, launch.EpochStarted):
            assert log.getvalue() == b"hello\nepoch 1/2\n"
    assert log.getvalue().decode().splitlines() == ["hello", "epoch 1/2", SLOW]


def test_the_command_names_one_process_and_a_launcher_file_of_its_own(tmp_path: Path) -> None:
    command = launch.command(
        tmp_path,
        tmp_path / "training.toml",
        script=tmp_path / "train_network.py",
        precision="fp16",
    )
    text = shlex.join(command)
    assert "--num_processes 1" in text
    assert "--num_cpu_threads_per_process 1" in text
    assert "--mixed_precision fp16" in text
    assert text.endswith(f"train_network.py --config_file {tmp_path}/training.toml")
    launcher = json.loads((tmp_path / "accelerate.json").read_text(encoding="utf-8"))
    assert launcher["distributed_type"] == "NO"


def test_the_environment_keeps_the_trainer_offline_and_readable() -> None:
    made = launch.environment(
        {"PATH": "/bin", "ACCELERATE_MIXED_PRECISION": "bf16", "COLUMNS": "20"}
    )
    assert made["PATH"] == "/bin"
    assert made["HF_HUB_OFFLINE"] == "1"
    assert made["PYTHONUNBUFFERED"] == "1"
    assert made["COLUMNS"] == "160"
    assert "ACCELERATE_MIXED_PRECISION" not in made


def test_a_submodule_that_is_not_there_is_answered_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="git submodule update --init"):
        launch.require_submodule(tmp_path)


def test_the_trainers_own_error_is_told_from_the_launchers() -> None:
    tail = [
        "Traceback (most recent call last):",
        '  File "train_network.py", line 1, in <module>',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
        "Traceback (most recent call last):",
        "subprocess.CalledProcessError: Command '[...]' returned non-zero exit status 1.",
    ]
    said = launch.diagnosis(tail)
    assert said is not None
    assert said.startswith("torch.OutOfMemoryError: CUDA out of memory")
    assert "gradient_checkpointing" in said
    assert launch.diagnosis(["ValueError: a riddle"]) == "ValueError: a riddle"
    assert launch.diagnosis(["all well"]) is None


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
    said = launch.diagnosis(["    raise subprocess.CalledProcessError(code, cmd)", last])
    assert said is not None
    assert advice in said


def test_an_ending_is_said_in_words() -> None:
    assert launch.ending(1) == "exit code 1"
    assert launch.ending(-9) == "SIGKILL"


def test_the_submodule_is_at_the_commit_that_the_option_table_was_made_from(
    sd_scripts: Path,
) -> None:
    from bespoke.experiment.options import table
    from bespoke.trainer.process import answer

    assert answer(["git", "rev-parse", "HEAD"], cwd=sd_scripts) == table().commit


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("Loading dataset config from /run/dataset.toml", "imported"),
        ("preparing accelerator", "dataset read"),
        ("caching latents...", "model loaded"),
        ("import network module: networks.lora", "latents made"),
        ("running training / 学習開始", "prepared"),
    ],
)
def test_each_stage_on_the_way_to_the_first_step_is_known_by_its_line(
    line: str, stage: str
) -> None:
    assert launch.parse(line) == launch.Stage(name=stage)


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
    read = launch.parse(line)
    assert read is None or isinstance(read, launch.Progress)
    assert list(launch.Reader(io.BytesIO()).events([line.encode() + b"\nepoch 1/2\n"]))[-1] == (
        launch.EpochStarted(epoch=1, epochs=2)
    )
