"""The whole way, as a person starts it: real processes, the fake trainer trainer, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, TypeVar

import pytest
from safetensors import safe_open

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
SHORT = ("--no-test", "--set", "training.max_train_epochs=3")

T = TypeVar("T")
Rehearse = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place" / "rehearsal"


def command(place: Path, *arguments: str) -> list[str]:
    workspace = ("--workspace", str(place.parent))
    return [sys.executable, "-m", "bespoke.run", "--rehearse", *workspace, *arguments]


@pytest.fixture
def rehearse(repository: Path, place: Path, drawn: Path) -> Rehearse:
    def start(*arguments: str, data: Path = drawn, **variables: str) -> object:
        return subprocess.run(
            command(place, *SHORT, "--data", str(data), *arguments),
            cwd=repository,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return start  # type: ignore[return-value]


def newest(place: Path) -> Path:
    return max((place / "logs" / NAME).iterdir())


def events(place: Path) -> list[dict[str, object]]:
    lines = (newest(place) / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def group_members(pgid: int) -> list[str]:
    shown = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat=,pid="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in shown.splitlines()]
    return [row[2] for row in rows if row[0] == str(pgid) and not row[1].startswith("Z")]


def test_a_run_leaves_its_checkpoints_numbered_its_log_its_events_and_its_receipt(
    rehearse: Rehearse, place: Path
) -> None:
    done = rehearse()
    assert done.returncode == 0, done.stderr
    for epoch in (1, 2, 3):
        with safe_open(
            place / "output" / f"{NAME}-{epoch:06d}.safetensors", framework="numpy"
        ) as opened:
            assert opened.metadata()["ss_epoch"] == str(epoch)
    assert not (place / "output" / f"{NAME}.safetensors").exists()
    folder = newest(place)
    assert {path.name for path in folder.iterdir()} >= {
        "train.log",
        "events.jsonl",
        "receipt.toml",
        "training.toml",
        "dataset.toml",
        "command.txt",
    }
    kinds = [row["event"] for row in events(place)]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("checkpoint") == 3
    assert "done in" in done.stdout
    assert "3 complete checkpoints" in done.stdout


def test_every_line_that_is_ours_says_so_and_the_trainers_stay_in_the_log(
    rehearse: Rehearse, place: Path
) -> None:
    done = rehearse()
    assert all(line.startswith("bespoke: ") for line in done.stdout.splitlines())
    assert done.stderr == ""
    log = (newest(place) / "train.log").read_text(encoding="utf-8")
    assert "epoch 3/3" in log
    assert "bespoke:" not in log
    bars = [line for line in log.splitlines() if line.startswith("steps:")]
    assert len(bars) <= 3 * 508 + 1
    assert len(bars) == len({line.split("| ")[1].split(" ")[0] for line in bars})


def test_smoke_draws_as_many_pictures_as_it_takes(repository: Path, place: Path) -> None:
    told = subprocess.check_output(
        command(place, "--experiment", "smoke", "--dry-run"), cwd=repository, text=True
    )
    assert "using 4 generated samples" in told
    assert "training_data: 4 of 4 pictures taken" in told


def test_everything_a_rehearsal_makes_says_rehearsal(rehearse: Rehearse, place: Path) -> None:
    done = rehearse()
    assert "REHEARSAL" in done.stdout
    made = [path.name for path in (place / "output").iterdir()]
    # Three checkpoints, three states, two files on the run and its lock.
    assert len(made) == 9
    assert all(name.lstrip(".").startswith("REHEARSAL") for name in made)
    with safe_open(place / "output" / f"{NAME}-000001.safetensors", framework="numpy") as opened:
        metadata = opened.metadata()
    assert "REHEARSAL" in metadata["ss_output_name"]
    assert "REHEARSAL" in metadata["ss_training_comment"]
    assert "REHEARSAL" in (newest(place) / "train.log").read_text(encoding="utf-8")
    assert not (place.parent / "output").exists()


def test_a_second_rehearsal_moves_the_first_aside_and_loses_nothing(
    rehearse: Rehearse, place: Path
) -> None:
    assert rehearse().returncode == 0
    first = (place / "output" / f"{NAME}-000002.safetensors").read_bytes()
    assert rehearse().returncode == 0
    (aside,) = (place / "output" / "earlier").iterdir()
    assert (aside / f"{NAME}-000002.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("fail@20", "exit code 1"),
        ("die@20", "SIGKILL"),
        ("die_saving", "SIGKILL"),
        ("disk_full", "the disk is full"),
        ("oom@20", "the GPU's memory is full"),
    ],
)
def test_a_trainer_that_fails_ends_the_run_with_4_in_words(
    rehearse: Rehearse, place: Path, fault: str, said: str
) -> None:
    done = rehearse(BESPOKE_FAKE_TRAINER_FAULT=fault)
    assert done.returncode == 4, done.stdout + done.stderr
    assert said in done.stderr
    assert str(newest(place) / "train.log") in done.stderr
    assert "Traceback" not in done.stderr
    assert events(place)[-1]["event"] == "failed"
    assert events(place)[-1]["exit_code"] == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nothing", f"{NAME}-000001.safetensors: was not written"),
        ("short", "incomplete or damaged"),
        ("missing_epoch", "was not written"),
    ],
)
def test_an_exit_code_of_0_is_not_believed_without_the_checkpoints(
    rehearse: Rehearse, fault: str, said: str
) -> None:
    done = rehearse(BESPOKE_FAKE_TRAINER_FAULT=fault)
    assert done.returncode == 4, done.stdout
    assert "trainer exited 0, but checkpoints are missing or corrupt" in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("fault", ["hang@30", "stall@30", "child@30"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_whole_group_with_130_and_a_record(
    repository: Path, place: Path, drawn: Path, fault: str, number: signal.Signals
) -> None:
    child = subprocess.Popen(
        command(place, *SHORT, "--data", str(drawn)),
        cwd=repository,
        env={
            **os.environ,
            "BESPOKE_FAKE_TRAINER_FAULT": fault,
            "BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": "0.005",
            "BESPOKE_STOP_PATIENCE_S": "0.5",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        pgid = wait_for(lambda: trainer_group(place))
        wait_for(lambda: "avr_loss" in (newest(place) / "train.log").read_text(encoding="utf-8"))
        assert group_members(pgid)
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130, errors
    assert errors == f"bespoke: stopped by {number.name}: run the same command again to resume\n"
    assert group_members(pgid) == []
    assert events(place)[-1]["event"] == "failed"
    assert events(place)[-1]["exit_code"] == 130


def trainer_group(place: Path) -> int | None:
    try:
        launched = [row for row in events(place) if row["event"] == "launched"]
    except (OSError, ValueError):
        return None
    return int(str(launched[0]["pid"])) if launched else None


def wait_for(ready: Callable[[], T | None], seconds: float = 60.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = ready()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came of it in {seconds} s")
