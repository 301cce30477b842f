"""A trainer that failed says why, in its own words and in what to do."""

from __future__ import annotations

import pytest

from bespoke.trainer import failures


def test_the_trainers_own_error_is_told_from_the_launchers() -> None:
    tail = [
        "Traceback (most recent call last):",
        '  File "train_network.py", line 1, in <module>',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB.",
        "Traceback (most recent call last):",
        "subprocess.CalledProcessError: Command '[...]' returned non-zero exit status 1.",
    ]
    said = failures.diagnosis(tail)
    assert said is not None
    assert said.startswith("torch.OutOfMemoryError: CUDA out of memory")
    assert "gradient_checkpointing" in said
    assert failures.diagnosis(["ValueError: a riddle"]) == "ValueError: a riddle"
    assert failures.diagnosis(["all well"]) is None


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
    said = failures.diagnosis(["    raise subprocess.CalledProcessError(code, cmd)", last])
    assert said is not None
    assert advice in said


def test_an_ending_is_said_in_words() -> None:
    assert failures.ending(1) == "exit code 1"
    assert failures.ending(-9) == "SIGKILL"
