"""Which commits these files are of, with git or without, and what a package was made for."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from bespoke.files import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

FILE = "origin.json"
# The commit, and "-dirty" where files differ from it.
DESCRIBE = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def origin(repository: Path = REPOSITORY) -> dict[str, str]:
    """What origin.json says: an image and a package have one, a clone has none and so {}."""
    file = repository / FILE
    return dict(json.loads(file.read_bytes())) if file.exists() else {}


def commits(repository: Path = REPOSITORY) -> dict[str, str]:
    """`bespoke`'s and the `trainer`'s commit, "unknown" where neither file nor git says."""
    written = origin(repository)
    places = {"bespoke": repository, "trainer": repository / "vendor" / "sd-scripts"}
    return {name: written.get(name) or _commit(place) for name, place in places.items()}


def _commit(folder: Path) -> str:
    # Without a .git of its own, git would answer for whatever clone lies around the folder.
    if not (folder / ".git").exists():
        return "unknown"
    try:
        done = subprocess.run(DESCRIBE, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
