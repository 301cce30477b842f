"""The table that the package ships is what its script learns from the originals."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bespoke import regions

if TYPE_CHECKING:
    from pathlib import Path


def test_the_table_is_what_the_originals_teach(
    real_pictures: Path, repository: Path, tmp_path: Path
) -> None:
    learnt = tmp_path / "regions.json"
    script = repository / "benchmarks" / "regions.py"
    subprocess.run([sys.executable, script, real_pictures, "--out", learnt], check=True)
    found, shipped = json.loads(learnt.read_text()), regions.table()
    assert found["regions"] == shipped["regions"]
    assert found["shares"] == pytest.approx(shipped["shares"], abs=0.011)
    assert found["quantiles"].keys() == shipped["quantiles"].keys()
    for name, numbers in shipped["quantiles"].items():
        assert found["quantiles"][name] == pytest.approx(numbers, abs=0.01), name


def test_a_number_stands_among_the_originals() -> None:
    for name, numbers in regions.table()["quantiles"].items():
        assert regions.percentile(name, numbers[0] - 1) == 0
        assert regions.percentile(name, numbers[-1] + 1) == 100
        assert 0 <= regions.percentile(name, float(np.median(numbers))) <= 100


def test_every_region_is_of_the_collections_size_and_holds_something() -> None:
    for kind in regions.table()["regions"]:
        assert regions.region(kind).shape == (24, 24)
        assert regions.region(kind).max() > 0.5
