"""Claims about the artist's own 203 pictures, which are never part of the repository.

Where they are not on this machine, test_is_here.py says so once, and the other files are left out.
No test elsewhere may need them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BESIDE = REPOSITORY.parent / "shared" / "data" / "bespoke_baby_203"
FOLDER = Path(os.environ.get("BESPOKE_TEST_PICTURES") or BESIDE)
collect_ignore_glob = [] if FOLDER.is_dir() else ["test_collection_*.py"]


@pytest.fixture(scope="session")
def real_pictures() -> Path:
    """The folder of the 203 pictures and captions; leave it as it is."""
    if not FOLDER.is_dir():
        pytest.skip("the artist's collection is not on this machine: BESPOKE_TEST_PICTURES=DIR")
    return FOLDER
