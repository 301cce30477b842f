"""Is an unpacked package what was packed? Run by start_training.sh before anything of it is used.

Hence it imports nothing of the package, and is started as a file: `python3 -I bespoke/manifest.py`.
It finds what an upload, an unpacking or a hand has changed. It is no defence against someone who
can also write the manifest.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "manifest.json"
# Made on the other side; everything else that can be imported or trained on must be listed.
MADE_LATER = (".venv", ".uv", ".uv.part", "workspace")
CODE = (".py", ".so")
CURE = f"unpack the zip again; where this is meant, delete {FILE}"
SHOWN = 20


def verify(folder: Path) -> tuple[list[str], int]:
    """What differs from the manifest, and the exit code: 0, 3 for pictures and captions, else 2."""
    try:
        told = json.loads((folder / FILE).read_bytes())
        listed: dict[str, str] = dict(told["sha256"])
        data = tuple(f"{name}/" for name in told["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{FILE}: cannot be read ({error})"], 2
    found: list[str] = []
    for name, digest in listed.items():
        problem = _differs(folder / name, digest)
        if problem:
            found.append(f"{name}: {problem}")
    found += [
        f"{name}: is not of the package" for name in _more(folder, data) if name not in listed
    ]
    if not found:
        return [], 0
    return found, 3 if all(line.startswith(data) for line in found) else 2


def _differs(path: Path, digest: str) -> str | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if hashlib.sha256(content).hexdigest() == digest else "has changed"


def _more(folder: Path, data: tuple[str, ...]) -> Iterator[str]:
    """Code, and whatever lies beside the pictures, listed or not."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        matters = path.suffix in CODE or name.startswith(data)
        if matters and name.split("/")[0] not in MADE_LATER and path.is_file():
            yield name


if __name__ == "__main__":
    problems, code = verify(Path(__file__).resolve().parent.parent)
    for problem in problems[:SHOWN]:
        print(f"bespoke: {problem}", file=sys.stderr)
    if problems:
        rest = f"{len(problems)} files are not as they were packed"
        print(f"bespoke: {rest}: {CURE}", file=sys.stderr)
    sys.exit(code)
