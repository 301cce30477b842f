"""Which commits these files are of, with git or without, and what a package was made for."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "origin.json"


def told(repository: Path) -> dict[str, str]:
    """What origin.json says: an image and a package have one, a clone has none and so {}."""
    try:
        found = json.loads((repository / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def commits(repository: Path) -> dict[str, str]:
    """`bespoke`'s and the `trainer`'s commit: "-dirty" follows where files differ from it."""
    written = told(repository)
    places = {"bespoke": repository, "trainer": repository / "vendor" / "sd-scripts"}
    return {name: written.get(name) or _commit(place) for name, place in places.items()}


def _commit(folder: Path) -> str:
    # Without a .git of its own, git would answer for whatever clone lies around the folder.
    if not (folder / ".git").exists():
        return "unknown"
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
