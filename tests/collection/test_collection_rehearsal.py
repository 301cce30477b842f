"""The drawn pictures are made as the artist's are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import images

if TYPE_CHECKING:
    from pathlib import Path


def test_the_enlarging_rule_is_that_of_the_real_pictures(real_pictures: Path) -> None:
    middle, cell = np.arange(24) * 512 // 24 + 10, (2 * np.arange(512) + 1) * 24 // 1024
    for path in sorted(real_pictures.glob("*.png"))[::20]:
        pixels = images.pixels(path)
        cells = pixels[middle][:, middle]
        assert (cells[cell][:, cell] == pixels).all(axis=2).mean() > 0.9998, path.name
