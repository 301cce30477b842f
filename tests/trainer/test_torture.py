"""A run killed at random moments ends as an undisturbed one: some of benchmarks/torture.py."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from benchmarks.torture import Torture

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_killed_again_and_again_end_as_an_undisturbed_one(tmp_path: Path) -> None:
    torture = Torture(folder=tmp_path, chance=random.Random(7), kills=6)
    torture.run()
    assert torture.report["runs"] >= 1
    assert torture.problems == []
