"""Where features lie in the collection's portraits, and how its originals measure: a small table.

regions.json is learnt by benchmarks/regions.py from the 203 originals; it holds no picture.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE = Path(__file__).with_suffix(".json")

CELLS = 24
"""The side of the collection's art."""


@functools.lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """`regions` (24 rows of 24 digits each), `shares` of a region, `quantiles` of the originals."""
    read: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return read


@functools.lru_cache(maxsize=8)
def region(kind: str) -> NDArray[np.float64]:
    """How likely each cell is the feature's: 0 to 1 in steps of a ninth, shape (24, 24)."""
    rows = table()["regions"][kind]
    return np.array([[int(digit) for digit in row] for row in rows]) / 9


def percentile(name: str, value: float) -> int:
    """Of the originals, the percentage whose number is below `value`, with half of its equals."""
    quantiles = np.array(table()["quantiles"][name])
    places = np.linspace(0, 100, len(quantiles))
    equal = places[quantiles == value]
    place = equal.mean() if equal.size else np.interp(value, quantiles, places)
    return round(float(place))
