"""The real trainer, through bespoke, to whole checkpoints: on the CPU, with random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

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
    assert list((workspace / "logs").glob("smoke_experiment*/network_train/events.out.tfevents*"))


@pytest.mark.trainer
def test_a_finished_run_is_not_trained_again(repository: Path, workspace: Path) -> None:
    if not (workspace / "output").exists():
        pytest.skip("the run above did not happen")
    before = {path: path.stat().st_mtime_ns for path in (workspace / "output").rglob("*")}
    done = subprocess.run(
        start(workspace),
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "already trained: 3 whole checkpoints" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (workspace / "output").rglob("*")} == before
