"""The whole way, as a person starts it: what a run leaves, and how it ends."""

from __future__ import annotations

import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from tests.rehearsals import NAME, command, events, is_empty, run, start, trainers, wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_leaves_checkpoints_its_log_its_events_and_its_receipt_and_a_second_loses_nothing(
    tmp_path: Path,
) -> None:
    done = run(command(tmp_path))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    output = tmp_path / "rehearsal" / "output"
    for epoch in (1, 2, 3):
        with safe_open(output / f"{NAME}-{epoch:06d}.safetensors", framework="numpy") as opened:
            assert opened.metadata()["ss_epoch"] == str(epoch)
            assert "REHEARSAL" in opened.metadata()["ss_training_comment"]
    assert not (output / f"{NAME}.safetensors").exists()
    (folder,) = (tmp_path / "rehearsal" / "logs" / NAME).iterdir()
    files = {"train.log", "receipt.toml", "training.toml", "dataset.toml", "command.txt"}
    assert {path.name for path in folder.iterdir()} >= files
    kinds = [row["event"] for row in events(tmp_path)]
    assert (kinds[0], kinds[-1], kinds.count("checkpoint")) == ("started", "finished", 3)
    assert "3 complete checkpoints" in done.stdout
    assert "using 4 generated samples" in done.stdout
    # Our lines say so, and the trainer's stay in the log.
    assert all(line.startswith("bespoke: ") for line in done.stdout.splitlines())
    text = (folder / "train.log").read_text(encoding="utf-8")
    assert "epoch 3/3" in text
    assert "bespoke:" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["rehearsal"]
    first = output / f"{NAME}-000002.safetensors"
    content = first.read_bytes()
    assert run(command(tmp_path, "--no-test")).returncode == 0
    (aside,) = (output / "earlier").iterdir()
    assert (aside / first.name).read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("fail", "exit code 1"),
        ("die_saving", "SIGKILL"),
        ("disk_full", "the disk is full"),
        ("oom", "the GPU's memory is full"),
        # The trainer's exit code is 0.
        ("nothing", f"{NAME}-000001.safetensors: there is no such file"),
        ("short", "incomplete or damaged"),
        ("missing_epoch", "trainer exited 0, but checkpoints are missing or corrupt"),
    ],
)
def test_a_trainer_that_fails_ends_the_run_with_4_in_words(
    tmp_path: Path, fault: str, words: str
) -> None:
    done = run(command(tmp_path, "--no-test"), BESPOKE_FAKE_TRAINER_FAULT=fault)
    assert done.returncode == 4, done.stdout + done.stderr
    assert words in done.stderr
    assert "train.log" in done.stderr
    assert "Traceback" not in done.stderr
    assert events(tmp_path)[-1]["exit_code"] == 4


@pytest.mark.parametrize(
    ("fault", "number"),
    [("hang@3", signal.SIGINT), ("stall@3", signal.SIGHUP), ("child@3", signal.SIGTERM)],
)
def test_a_signal_ends_the_whole_group_with_130_and_a_record(
    tmp_path: Path, fault: str, number: signal.Signals
) -> None:
    slow = {"BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": "0.2"}
    child = start(command(tmp_path, "--no-test"), BESPOKE_FAKE_TRAINER_FAULT=fault, **slow)
    try:
        wait_for(lambda: "checkpoint" in [row["event"] for row in events(tmp_path)])
        (pgid,) = trainers(tmp_path)
        assert not is_empty(pgid)
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130, errors
    assert errors == f"bespoke: stopped by {number.name}: run the same command again to resume\n"
    assert is_empty(pgid)
    assert events(tmp_path)[-1]["exit_code"] == 130


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--experiment", "keeptokens3", "'keep_tokens_3'"),
        ("--set", "training.learnign_rate=1", "learning_rate"),
        ("--workspace", "/dev/null/x", "cannot write to the workspace"),
        ("--data", "/no/such/folder", "/no/such/folder"),
    ],
)
def test_a_careless_start_is_one_clear_error(option: str, value: str, words: str) -> None:
    done = run([sys.executable, "-m", "bespoke.run", option, value])
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert all(line.startswith("bespoke: ") for line in done.stderr.splitlines())


def test_without_a_gpu_the_options_of_record_are_refused_with_what_can_be_done(
    trainer_python: str, drawn: Path
) -> None:
    if shutil.which("nvidia-smi", path="/usr/bin:/bin"):
        pytest.skip("this machine has a GPU")
    done = run([trainer_python, "-m", "bespoke.run", "--data", str(drawn)], PATH="/usr/bin:/bin")
    assert done.returncode == 2
    assert "no NVIDIA GPU found, and mixed_precision" in done.stderr
    assert "--rehearse" in done.stderr


def test_a_dry_run_prints_the_command_and_both_files_and_is_no_start(
    sd_scripts: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "bespoke.run", "--experiment", "smoke", "--dry-run"]
    done = run([*words, "--workspace", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert 'output_name = "bespoke_baby_sd15_lora_smoke"' in done.stdout
    assert "keep_tokens = 3" in done.stdout
    assert "train_network.py --config_file" in done.stdout
    assert not (tmp_path / "output").exists()
    assert not list(tmp_path.rglob("events.jsonl"))
