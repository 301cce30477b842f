"""The table that the package ships is what its script learns from the originals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bespoke import view

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table_is_what_the_originals_teach(
    real_pictures: Path, repository: Path, tmp_path: Path
) -> None:
    learnt = tmp_path / "regions.json"
    script = repository / "benchmarks" / "regions.py"
    subprocess.run([sys.executable, script, real_pictures, "--out", learnt], check=True)
    found, shipped = json.loads(learnt.read_text()), view.table()
    assert found["regions"] == shipped["regions"]
    assert found["shares"] == pytest.approx(shipped["shares"], abs=0.011)


def test_every_region_is_of_the_collections_size_and_holds_something() -> None:
    for kind in view.table()["regions"]:
        assert view.region(kind).shape == (24, 24)
        assert view.region(kind).max() > 0.5
