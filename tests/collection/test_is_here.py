from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def test_the_artists_203_pictures_and_captions_are_here(real_pictures: Path) -> None:
    assert len(list(real_pictures.glob("*.png"))) == 203
    assert len(list(real_pictures.glob("*.txt"))) == 203
