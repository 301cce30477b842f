"""The shapes that drawn portraits are put together from, as text on the 24x24 grid: sprites.txt.

In masks every `#` belongs to one feature, shaded by code. Elsewhere a letter names its ink: o
outline; s, t skin and its shade; w, e the eyes; p lips; c, v clothing and its shade; k what shows
at the neck; a, b an accessory and its shade; g a detail of it; a dot leaves what lies below.
"""

from __future__ import annotations

import re
from pathlib import Path

# Top row, left column, rows.
Sprite = tuple[int, int, tuple[str, ...]]
# Name in the caption; a hair's texture, or the name of a garment's neck or an accessory's detail
# (empty: none).
Named = tuple[str, str, Sprite]


def _read() -> dict[str, list[Named]]:
    """The sprites of every sheet; those of a sheet stand side by side, from its first row on."""
    sheets: dict[str, list[Named]] = {}
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    for title, body in re.findall(r"^\[(.+)\]\n((?:.+\n)+)", text, re.MULTILINE):
        lines = body.splitlines()
        described = [line.split("|") for line in lines if "|" in line]
        rows = lines[len(described) :]
        columns = re.finditer(r"\S+", rows[0])
        for (name, second, place), column in zip(described, columns, strict=True):
            top, left = map(int, place.split())
            cells = (row[slice(*column.span())].strip() for row in rows)
            sprite = (top, left, tuple(filter(None, cells)))
            sheets.setdefault(title, []).append((name.strip(), second.strip(), sprite))
    return sheets


_SHEETS = _read()
HEAD, BEARD, BROWS, LASHES, SMILE = (sprite for _, _, sprite in _SHEETS["face"])
LAD_HAIR, LADY_HAIR = _SHEETS["hair of lads"], _SHEETS["hair of ladies"]
CLOTHES, ACCESSORIES = _SHEETS["clothes"], _SHEETS["accessories"]
# Drawn over the hair; the bow, the last, is the ladies'.
HEADWEAR = _SHEETS["headwear"]
