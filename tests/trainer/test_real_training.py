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

from bespoke.trainer import trainer_log
from tests.conftest import SMOKE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "bespoke_baby_sd15_lora_smoke"


def start(workspace: Path, *arguments: str) -> list[str]:
    place = ("--workspace", str(workspace))
    return [sys.executable, "-m", "bespoke.run", *SMOKE, *place, *arguments]


@pytest.mark.trainer
def test_smoke_trains_real_checkpoints_epoch_by_epoch(smoke_run: Path) -> None:
    sums = set()
    for epoch in (1, 2):
        path = smoke_run / "output" / f"{NAME}-{epoch:06d}.safetensors"
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata()
            sums.add(metadata["sshs_model_hash"])
            assert len(opened.keys()) == 792
        assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("32", "16")
        assert metadata["ss_epoch"] == str(epoch)
    assert len(sums) == 2, "an epoch changed nothing"
    (folder,) = (smoke_run / "logs" / NAME).iterdir()
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "total optimization steps" in log
    assert steps([log]) == list(range(5))
    rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows if row["event"] == "checkpoint"] == [1, 2]
    assert list((smoke_run / "logs").glob("smoke_experiment*/network_train/events.out.tfevents*"))


def steps(logs: Iterable[str]) -> list[int]:
    """Every count of the step bar, in order."""
    read = [trainer_log.parse(line) for log in logs for line in log.splitlines()]
    return [at.step for at in read if isinstance(at, trainer_log.Progress)]


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


def pictures(workspace: Path) -> list[tuple[str, str, bytes]]:
    """Each picture of the tests by its checkpoint's file, with what it shows."""
    folder = workspace / "output" / "tests"
    return [
        (path.parent.name[:-9], path.name, path.read_bytes())
        for path in sorted(folder.glob("*/*.png"))
    ]


@pytest.mark.trainer
def test_a_run_killed_before_its_first_picture_ends_in_the_same_bytes_and_pictures(
    repository: Path, smoke_run: Path, random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "random-sd15").symlink_to(random_model)
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(start(tmp_path), cwd=repository, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 400
    # The first epoch's state is complete then; before it come the base model's own pictures.
    while not any(
        "generating sample" in path.read_text().partition("saving state")[2]
        for path in tmp_path.rglob("train.log")
    ):
        assert child.poll() is None, "the run ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not list((tmp_path / "output" / "sample").glob("*_e000001_*.png"))
    again = subprocess.run(
        start(tmp_path), cwd=repository, capture_output=True, text=True, timeout=500, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "epoch 1: not all its test pictures are there; the trainer draws them" in again.stdout
    assert len(tensors(smoke_run)) == 2
    assert tensors(tmp_path) == tensors(smoke_run)
    assert len(pictures(smoke_run)) == 6
    assert pictures(tmp_path) == pictures(smoke_run)


@pytest.mark.trainer
def test_a_finished_run_is_not_trained_again(repository: Path, smoke_run: Path) -> None:
    before = times(smoke_run)
    done = subprocess.run(
        start(smoke_run),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already trained: 2 complete checkpoints" in done.stdout
    assert times(smoke_run) == before
