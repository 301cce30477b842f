"""Each epoch is tested as it ends, and a run whose hypothesis has failed is stopped: whole runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bespoke.record import store
from bespoke.trainer import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
RUN = "REHEARSAL_SD15_KEEP_TOKENS_3_EXPERIMENT"

# A fake trainer's epochs are over before an epoch is judged: of these the fifth takes half a
# minute, so that the gate at the fourth stops the run within it however busy the machine is.
SLOW = ("--set", "dataset.num_repeats=1", "--set", "training.max_train_epochs=7")


def rehearse(
    repository: Path, place: Path, drawn: Path, background: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    pace = "0.6@205" if SLOW[1] in arguments and "--no-gate" not in arguments else ""
    command = [sys.executable, "-m", "bespoke.run", "--rehearse", "--workspace", str(place)]
    command += ["--data", str(drawn), "--set", "training.max_train_epochs=5", *arguments]
    fake = "BESPOKE_FAKE_TRAINER"
    variables = {f"{fake}_BACKGROUND": background, f"{fake}_SECONDS_PER_STEP": pace}
    return subprocess.run(
        command,
        cwd=repository,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(place: Path) -> Path:
    return place / "rehearsal" / "output"


def recorded(place: Path) -> store.RunRecord:
    return next(each for each in store.runs(place / "rehearsal") if each.name == RUN)


def test_a_hypothesis_that_stands_is_trained_to_the_end_with_every_epoch_tested(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    done = rehearse(repository, tmp_path, drawn, "green_at:3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Gate passed at epoch 4: background right in 7 of 7 prompts" in done.stdout
    assert "epoch 2: background right in 0 of 9 pictures" in done.stdout
    assert "epoch 5: background right in 9 of 9 pictures" in done.stdout
    run = recorded(tmp_path)
    assert (run.status, run.experiment) == ("completed", "keep_tokens_3")
    # The first are the base model's own pictures, which are never the best.
    assert [each.epoch for each in run.epochs] == [0, 1, 2, 3, 4, 5]
    assert [each.backgrounds()["match"] for each in run.epochs] == [0, 0, 0, 9, 9, 9]
    assert "epoch 0 (before training): background right in 0 of 9 pictures" in done.stdout
    assert run.best_epoch
    assert {len(each.pictures) for each in run.epochs} == {9}
    assert [each.outcome for each in run.decisions] == ["GO"]
    assert (output(tmp_path) / "tests" / f"{NAME}.likeness.npz").exists()
    page = (tmp_path / "rehearsal" / "reports" / f"{RUN}.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 45


def test_a_hypothesis_that_failed_is_stopped_at_its_gate_with_the_state_whole(
    repository: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounted").mkdir()
    monkeypatch.setenv("BESPOKE_COPY_TO", str(tmp_path / "mounted"))
    # Right at last, but not where it is decided.
    done = rehearse(repository, tmp_path, drawn, "green_at:9", *SLOW)
    assert done.returncode == 5, done.stdout + done.stderr
    said, way_on = done.stderr.splitlines()
    assert said.startswith("bespoke: Gate failed at epoch 4: background right in 0 of 7 prompts, ")
    assert ", asked green #00ff00, " in said
    # Later epochs may have been trained while this one was judged.
    assert way_on == "bespoke: the same command with --no-gate resumes from its newest state"
    names = {path.name for path in output(tmp_path).glob("*.safetensors")}
    assert names == {f"{NAME}-{epoch:06d}.safetensors" for epoch in (1, 2, 3, 4)}
    assert checkpoints.corruption(output(tmp_path) / f"{NAME}-000004-state") is None
    run = recorded(tmp_path)
    assert (run.status, run.ending) == ("completed", said.removeprefix("bespoke: "))
    # The same command says the same again, and trains nothing.
    again = rehearse(repository, tmp_path, drawn, "green_at:9", *SLOW)
    assert again.returncode == 5
    assert again.stderr == done.stderr
    assert all("/mounted: all up to epoch 4" in each.stdout for each in (done, again))
    assert "the trainer starts" not in again.stdout
    # Told so, it goes on from there.
    on = rehearse(repository, tmp_path, drawn, "green_at:9", "--no-gate", *SLOW)
    assert on.returncode == 0, on.stderr
    assert "resuming after epoch 4" in on.stdout
    assert len(recorded(tmp_path).epochs) == 8


def test_what_cannot_be_tested_costs_no_training(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    place = output(tmp_path)
    place.mkdir(parents=True)
    # Where the results belong lies a file: nothing can be kept there.
    (place / "tests").write_text("in the way", encoding="utf-8")
    done = rehearse(repository, tmp_path, drawn, "never")
    assert done.returncode == 0, done.stderr
    assert "epoch 4 could not be tested" in done.stdout
    assert "gate at epoch 4: not measured; training goes on" in done.stdout
