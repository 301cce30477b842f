"""Experiments and drawn art as the tests of checks make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.experiment.experiment import Experiment
from bespoke.experiment.trainer_options import Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

GREEN, BROWN, SKIN, RED, BLUE = "#10c040", "#6a4020", "#f0c0a0", "#c02040", "#2040c0"


def put(values: dict[str, Any], origin: str = "a test") -> dict[str, Setting]:
    return {key: Setting(value=value, origin=origin) for key, value in values.items()}


def an_experiment(
    training: dict[str, Any],
    general: dict[str, Any] | None = None,
    *subsets: dict[str, Any],
    name: str = "one",
    origin: str = "a test",
) -> Experiment:
    """Of one subset `all` where none is given."""
    return Experiment(
        name=name,
        run_name=name,
        output_name=name,
        subject="background",
        training=put(training, origin),
        general=put(general or {}, origin),
        subsets=tuple(put(each) for each in subsets or ({"image_dir": "all"},)),
    )


def portrait(top: str = GREEN) -> NDArray[np.uint8]:
    """A head before a green ground, whose top row can have another colour; the shirt reaches the
    lower edge from side to side."""
    cells = np.empty((24, 24, 3), dtype=np.uint8)
    for rows, columns, code in (
        (slice(0, 18), slice(0, 24), GREEN),
        (slice(0, 1), slice(0, 24), top),
        (slice(18, 24), slice(0, 24), BLUE),
        (slice(4, 9), slice(7, 17), BROWN),
        (slice(9, 18), slice(8, 16), SKIN),
        (slice(15, 16), slice(10, 14), RED),
    ):
        cells[rows, columns] = list(bytes.fromhex(code[1:]))
    return cells
