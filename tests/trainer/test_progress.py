"""A run is ended when it cannot end well, with its last state whole, and gone on with after."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError, TrainerError
from bespoke.request import Request
from bespoke.trainer import checkpoints, hardware, progress
from bespoke.trainer.job import Journal
from bespoke.trainer.trainer_log import Progress
from bespoke.trainer.training import open_job
from tests.trainer.rehearsals import NAME, driver, rehearse

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

# A batch of four is then the plan's, and no person's.
H100 = "NVIDIA H100, 81559, 0, 9.0, GPU-1"


def run(
    place: Path, drawn: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return rehearse(place, drawn, "--no-test", *arguments, epochs=4, **variables)


def states(place: Path) -> list[int]:
    output = place / "rehearsal" / "output"
    return [
        n for n, path in checkpoints.states(output, NAME) if checkpoints.corruption(path) is None
    ]


def at(step: int, loss: float | None) -> Progress:
    return Progress(step=step, total=100, steps_per_second=1.0, loss=loss)


def test_sizes_of_the_options_of_record_are_those_measured() -> None:
    def sizes(*overrides: str) -> tuple[int, int]:
        return open_job(Request(overrides=overrides), Journal()).sizes

    # 37,869,128 bytes and 75.6 + 39 MB were read off real files.
    checkpoint, state = 37_869_128, 75.6e6 + 39e6
    total = 10 * checkpoint + 3 * state + 20_000_000
    assert sizes() == pytest.approx((checkpoint + state, total), rel=0.02)
    epoch, _ = sizes("training.optimizer_type=AdamW")
    assert epoch == pytest.approx(checkpoint + 75.6e6 + 151e6, rel=0.02)


def test_runs_that_do_not_fit_the_disk_are_refused_with_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 10**9))
    said = progress.require_room(700_000_000, tmp_path)
    assert said == "0.70 GB will be written; 1.00 GB free"
    with pytest.raises(ConfigError, match=r"0\.90 GB will be written; 1\.00 GB free: free some"):
        progress.require_room(900_000_000, tmp_path)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_three_reports_of_no_number_end_the_run_and_two_do_not(tmp_path: Path, loss: float) -> None:
    watching = progress.Watch(tmp_path, 0)
    for step in (1, 2):
        watching.take(at(step, loss))
    watching.take(at(3, 0.1))
    for step in (4, 5):
        watching.take(at(step, loss))
    with pytest.raises(TrainerError, match="no longer a number"):
        watching.take(at(6, loss))


def test_a_trainer_that_stands_still_is_stopped_and_resumed_once(
    drawn: Path, tmp_path: Path
) -> None:
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1300", "BESPOKE_STALL_FLOOR_S": "2"}
    done = run(tmp_path, drawn, **hang)
    # The fake trainer hangs at the same step again: resumed once, it is then given up.
    assert done.returncode == 4, done.stdout
    assert done.stdout.count("the trainer stands still") == 1
    assert "resuming after epoch 2" in done.stdout
    assert "the trainer stands still" in done.stderr
    assert run(tmp_path, drawn).returncode == 0


def test_want_of_memory_is_met_by_the_next_smaller_plan_in_this_start_and_the_next(
    drawn: Path, tmp_path: Path
) -> None:
    # From here on only a batch of 1 fits: three steps down.
    narrow = {**driver(tmp_path / "bin", H100), "BESPOKE_FAKE_TRAINER_FAULT": "oom_above_1@1300"}
    adapted = run(tmp_path, drawn, **narrow)
    assert adapted.returncode == 0, adapted.stderr
    assert adapted.stdout.count("out of memory: resuming with") == 3
    assert adapted.stdout.count("resuming after epoch 2") == 3
    receipt = max((tmp_path / "rehearsal").rglob("receipt.toml")).read_text(encoding="utf-8")
    assert 'train_batch_size = { value = 1, from = "memory", was = 2' in receipt
    output = tmp_path / "rehearsal" / "output"
    checkpoints.checkpoint_path(output, NAME, 4).unlink()
    again = run(tmp_path, drawn, **narrow)
    assert again.returncode == 0, again.stderr
    assert "resuming after epoch 3" in again.stdout
    assert "out of memory" not in again.stdout


def test_what_a_person_wrote_is_not_changed_for_want_of_memory(drawn: Path, tmp_path: Path) -> None:
    words = ("train_batch_size=4", "gradient_accumulation_steps=1", "gradient_checkpointing=true")
    written = [word for text in words for word in ("--set", f"training.{text}")]
    done = run(tmp_path, drawn, *written, BESPOKE_FAKE_TRAINER_FAULT="oom@600")
    assert done.returncode == 4
    assert "CUDA out of memory" in done.stderr
    assert "22.90 GiB is allocated" in done.stderr
    assert "training.train_batch_size=2, training.gradient_accumulation_steps=2" in done.stderr
    assert "out of memory: resuming" not in done.stdout


def test_the_smaller_plans_keep_the_effective_batch_until_none_is_left() -> None:
    options = {"train_batch_size": 4, "gradient_accumulation_steps": 1}
    seen = []
    while changes := hardware.smaller(options):
        options |= changes
        seen.append((options["train_batch_size"], options["gradient_accumulation_steps"]))
    assert seen == [(4, 1), (2, 2), (1, 4)]
    assert options["gradient_checkpointing"] is True


def test_a_disk_that_is_nearly_full_stops_the_run_before_the_next_epoch_ends(
    tmp_path: Path,
) -> None:
    needed = shutil.disk_usage(tmp_path).free + 10**9
    with pytest.raises(TrainerError, match="stopped while the last state is complete"):
        progress.Watch(tmp_path, needed).take(None)
