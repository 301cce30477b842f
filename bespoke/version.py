"""Which commits these files are of, with git or without, and what a package was made for."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from bespoke.files import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

FILE = "origin.json"


def origin(repository: Path = REPOSITORY) -> dict[str, str]:
    """What origin.json says: an image and a package have one, a clone has none and so {}."""
    try:
        return dict(json.loads((repository / FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return {}


def commits(repository: Path = REPOSITORY) -> dict[str, str]:
    """`bespoke`'s and the `trainer`'s commit: "-dirty" follows where files differ from it."""
    written = origin(repository)
    places = {"bespoke": repository, "trainer": repository / "vendor" / "sd-scripts"}
    return {name: written.get(name) or _commit(place) for name, place in places.items()}


def _commit(folder: Path) -> str:
    # Without a .git of its own, git would answer for whatever clone lies around the folder.
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        if (folder / ".git").exists():
            return subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=True
            ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return "unknown"
