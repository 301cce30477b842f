"""The real trainer, through bespoke, to whole checkpoints: on the CPU, with random weights."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from bespoke import trainer

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bespoke_baby_sd15_lora_smoke"


@pytest.fixture(scope="module")
def workspace(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "models").mkdir()
    (folder / "models" / "random-sd15").symlink_to(random_model)
    return folder


def start(workspace: Path, *arguments: str) -> list[str]:
    smoke = ("--experiment", "smoke", "--workspace", str(workspace))
    return [sys.executable, "-m", "bespoke.run", *smoke, *arguments]


@pytest.mark.trainer
def test_smoke_trains_three_real_checkpoints_from_the_collection(
    repository: Path, workspace: Path, real_pictures: Path
) -> None:
    done = subprocess.run(
        start(workspace, "--data", str(real_pictures)),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sums = set()
    for epoch in (1, 2, 3):
        path = workspace / "output" / f"{NAME}-{epoch:06d}.safetensors"
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata()
            sums.add(metadata["sshs_model_hash"])
            assert len(opened.keys()) == 792
        assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("32", "16")
        assert metadata["ss_epoch"] == str(epoch)
    assert len(sums) == 3, "an epoch changed nothing"
    (folder,) = (workspace / "logs" / NAME).iterdir()
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "total optimization steps" in log
    read = [trainer.parse(line) for line in log.splitlines()]
    assert [at.step for at in read if isinstance(at, trainer.Progress)] == list(range(7))
    rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "checkpoint"] == [1, 2, 3]
    names = [row["name"] for row in rows if row["event"] == "stage"]
    assert names == [*(name for name, _ in trainer.STAGES), "first step"]
    assert list((workspace / "logs").glob("smoke_experiment*/network_train/events.out.tfevents*"))


def times(workspace: Path) -> dict[Path, int]:
    """When each checkpoint and each file of a state was written."""
    files = [*(workspace / "output").glob("*.safetensors"), *(workspace / "output").glob("*/*")]
    return {path: path.stat().st_mtime_ns for path in files}


def tensors(workspace: Path) -> dict[str, str]:
    """A hash of each numbered checkpoint's tensors."""
    found = {}
    for path in sorted((workspace / "output").glob(f"{NAME}-*.safetensors")):
        rows = load_file(path)
        whole = hashlib.sha256()
        for key in sorted(rows):
            whole.update(key.encode() + rows[key].tobytes())
        found[path.name] = whole.hexdigest()
    return found


@pytest.mark.trainer
def test_a_run_killed_in_its_second_epoch_ends_in_the_same_bytes(
    repository: Path, workspace: Path, random_model: Path, real_pictures: Path, tmp_path: Path
) -> None:
    if not (workspace / "output").exists():
        pytest.skip("the run above did not happen")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "random-sd15").symlink_to(random_model)
    # Without the pictures between the epochs: they must not have touched the training either.
    command = start(tmp_path, "--no-test", "--data", str(real_pictures))
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, cwd=repository, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 400
    # Step 3 of 6 is the second epoch's first: its state is not yet written.
    while not any(" 3/6 " in path.read_text() for path in tmp_path.rglob("train.log")):
        assert child.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    child.kill()
    child.wait()
    again = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, timeout=500, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "goes on after epoch 1" in again.stdout
    assert len(tensors(workspace)) == 3
    assert tensors(tmp_path) == tensors(workspace)


@pytest.mark.trainer
def test_a_finished_run_is_not_trained_again(
    repository: Path, workspace: Path, real_pictures: Path
) -> None:
    if not (workspace / "output").exists():
        pytest.skip("the run above did not happen")
    before = times(workspace)
    done = subprocess.run(
        start(workspace, "--data", str(real_pictures)),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already trained: 3 whole checkpoints" in done.stdout
    assert times(workspace) == before
