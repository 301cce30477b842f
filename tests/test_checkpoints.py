"""What the trainer leaves is whole, or it is said what is not."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from bespoke import checkpoints
from bespoke.errors import TrainerError

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(folder: Path, name: str, epoch: int | str = 1, tensors: int = 1) -> Path:
    path = folder / name
    rows = {f"lora_{i}.weight": np.ones((4, 4), np.float16) for i in range(tensors)}
    metadata = {"ss_epoch": str(epoch), "ss_network_dim": "32", "ss_network_alpha": "16"}
    save_file(rows, path, metadata if epoch != "" else None)
    return path


def test_epochs_saved_are_every_nth_and_the_last() -> None:
    assert checkpoints.saved_epochs(10, 1) == list(range(1, 11))
    assert checkpoints.saved_epochs(5, 2) == [2, 4, 5]


def test_whole_checkpoints_of_the_right_epochs_are_verified(tmp_path: Path) -> None:
    for epoch in (1, 2):
        checkpoint(tmp_path, f"a-{epoch:06d}.safetensors", epoch)
    checkpoint(tmp_path, "a.safetensors", 3)
    checkpoints.number_last(tmp_path, "a", 3)
    found = checkpoints.verify(tmp_path, "a", [1, 2, 3])
    assert [c.epoch for c in found] == [1, 2, 3]
    assert (found[0].rank, found[0].alpha) == ("32", "16")
    assert not (tmp_path / "a.safetensors").exists()


def test_everything_wrong_with_the_checkpoints_is_said_together(tmp_path: Path) -> None:
    checkpoint(tmp_path, "a-000001.safetensors", 1)
    whole = checkpoint(tmp_path, "a-000002.safetensors", 2)
    whole.write_bytes(whole.read_bytes()[:-1])
    checkpoint(tmp_path, "a-000003.safetensors", 7)
    checkpoint(tmp_path, "a-000004.safetensors", 4, tensors=0)
    checkpoint(tmp_path, "a-000005.safetensors", "")
    (tmp_path / "a-000006.safetensors").write_bytes(b"")
    with pytest.raises(TrainerError) as caught:
        checkpoints.verify(tmp_path, "a", list(range(1, 8)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("a-000002.safetensors: is not whole")
    assert lines[1] == "a-000003.safetensors: carries epoch 7"
    assert lines[2] == "a-000004.safetensors: holds no weights"
    assert lines[3].startswith("a-000005.safetensors: carries no epoch")
    assert lines[4].startswith("a-000006.safetensors: is not whole")
    assert lines[5] == "a-000007.safetensors: was not written"


def test_numbering_the_last_never_overwrites(tmp_path: Path) -> None:
    numbered = checkpoint(tmp_path, "a-000003.safetensors", 3)
    checkpoint(tmp_path, "a.safetensors", 3, tensors=2)
    before = numbered.read_bytes()
    with pytest.raises(TrainerError, match="is there already"):
        checkpoints.number_last(tmp_path, "a", 3)
    assert numbered.read_bytes() == before


def test_only_files_of_this_very_name_are_an_earlier_runs(tmp_path: Path) -> None:
    mine = ["a-000001.safetensors", "a.safetensors", "a-000001-state", "a-state"]
    others = ["ab-000001.safetensors", "a_b.safetensors", "a-000001.txt", "a-fine.safetensors"]
    for name in (*mine, *others):
        (tmp_path / name).touch()
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "a_e000001_00_20260101000000_42.png").touch()
    (tmp_path / "sample" / "ab_e000001_00_20260101000000_42.png").touch()

    left = checkpoints.left_by(tmp_path, "a")
    assert {path.name for path in left} == {*mine, "a_e000001_00_20260101000000_42.png"}

    folder = checkpoints.set_aside(left, tmp_path, "a", datetime(2026, 1, 2, tzinfo=timezone.utc))
    assert folder == tmp_path / "earlier" / "a-2026-01-02T00-00-00Z"
    assert checkpoints.left_by(tmp_path, "a") == []
    assert (folder / "sample" / "a_e000001_00_20260101000000_42.png").exists()
    assert (tmp_path / "ab-000001.safetensors").exists()
