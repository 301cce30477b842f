"""Claims about the artist's own 203 pictures, which are never part of the repository.

Skipped as a whole where they are not on this machine. No other test may need them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE = REPOSITORY.parent / "shared" / "data" / "bespoke_baby_203"


@pytest.fixture(scope="session", autouse=True)
def real_pictures() -> Path:
    """The folder of the 203 pictures and captions; leave it as it is."""
    folder = Path(os.environ.get("BESPOKE_TEST_PICTURES") or BESIDE)
    if not folder.is_dir():
        pytest.skip("the artist's collection is not on this machine: BESPOKE_TEST_PICTURES=DIR")
    return folder
