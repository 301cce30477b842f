"""What a portrait wears, and whether it has a face: a linear model of each over its 24x24 cells.

tools/learn_accessories.py learns them from the captions' words; `auc` is how many of the pairs of a
picture with it and one without were told right among originals that were left out of the learning.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bespoke.evaluation.view import PictureGrid

SHIPPED = Path(__file__).with_name("accessories.npz")
with np.load(SHIPPED, allow_pickle=False) as _arrays:
    _MODELS = dict(_arrays)

# The words that ask for each, and the rows and columns of cells where it is looked for.
WORDS = {
    "crown": r"\bcrown|\btiara",
    "hat": r"\bhats?\b|\bcapp?s?\b|\bberet|\bbeanie",
    "bow": r"\bbow\b|headband|bandana|\bflower",
    "glasses": r"glasses|goggles?|\bshades\b(?! and| of)|\blenses",
    "earrings": r"\bearr?ings?",
    "beard": r"\bbeards?\b|stubble|mo?ustach|goatee|facial hair|soul patch",
    "necklace": r"necklaces?|\bchain\b|pendant",
    "smile": r"\bsmil",
}
PLACES = {
    "crown": np.s_[0:10, 3:21], "hat": np.s_[0:13, 2:22], "bow": np.s_[0:12, 2:22],
    "glasses": np.s_[8:15, 5:20], "earrings": np.s_[10:20, 3:21], "beard": np.s_[13:22, 5:19],
    "necklace": np.s_[17:24, 5:20], "smile": np.s_[15:19, 8:17], "face": np.s_[8:20, 6:18],
}  # fmt: skip

# The least `auc` with which a model is believed.
GOOD = 0.75

_DENIED = re.compile(r"\b(?:no|without)\s(?:\w+\s)?$")


def said(prompt: str) -> dict[str, str]:
    """By accessory that `prompt` asks, the words up to it; one that is denied is not asked."""
    asked: dict[str, str] = {}
    for name, words in WORDS.items():
        for each in re.finditer(words, prompt.lower()):
            before = prompt.lower()[: each.start()].rpartition(",")[2]
            if not _DENIED.search(before):
                asked[name] = " ".join((asked.get(name, ""), *before.split()[-3:]))
    return asked


def seen(grid: PictureGrid) -> dict[str, tuple[float, float]]:
    """By name, those of WORDS and "face", how likely it is there, and the model's `auc`."""
    logits = np.tensordot(_MODELS["weights"], planes(grid), axes=3) + _MODELS["biases"]
    sure = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    told = np.round([sure, _MODELS["aucs"]], 3).T.tolist()
    return dict(zip(_MODELS["names"].tolist(), map(tuple, told), strict=True))


def planes(grid: PictureGrid) -> NDArray[np.float64]:
    """What the models read, shape (3, 24, 24): lightness by that of the skin, and the steps in
    colour to the cell below and to the right, so that no colour of its own counts.
    """
    lab = grid.lab / (30, 20, 20)
    lighter = (lab[..., 0] - np.median(lab[13:17, 10:15, 0])) * ~grid.ground
    down = np.diff(lab, axis=0, append=lab[-1:])
    right = np.diff(lab, axis=1, append=lab[:, -1:])
    steps = (np.minimum(np.sqrt((step**2).sum(axis=-1)), 2) for step in (down, right))
    return np.stack([lighter, *steps])
