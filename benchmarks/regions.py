"""Learn where in a portrait each feature lies; write the table.

    python benchmarks/regions.py DATA [--out bespoke/evaluation/regions.json]

DATA is the folder of the 203 pictures and captions. What it writes holds no picture: for each
feature a grid of digits 0 to 9.

The captions' hex codes alone would teach little: in 167 the background's is another feature's too,
and those of lips and eyes are mostly the skin's. So hair, eyes and clothing are learnt from the
colour words: where the cells are a shade of the word more often than in the other pictures. Skin is
learnt from its hex where no feature but eyes and lips has it as well, lips from the captions' codes
(palette and loose ones too) that are redder than that skin and lie within it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.dataset import colors, images
from bespoke.dataset.images import PixelGrid
from bespoke.evaluation.view import CELLS, REGIONS
from bespoke.experiment import caption_text

WORDED = ("hair", "eyes", "clothing")
LIKE = 10.0
"""CIEDE2000 up to which a cell is a shade of a word; colours.FAR would take in most of a face."""

REDDER = 6.0
"""CIELAB a* by which a code must be redder than the skin, less a third of what it is yellower."""

FAINT = 0.5
"""Of a region's brightest cell; what is fainter is chance and left out."""

Grid = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Original:
    caption: str
    features: list[caption_text.Feature]
    grid: PixelGrid
    lab: NDArray[np.float64]

    def cells_of(self, codes: set[str]) -> Grid:
        """The cells of `codes` outside the ground."""
        numbers = [int(code[1:], 16) for code in codes]
        return np.isin(self.grid.packed, numbers) & ~self.grid.ground

    def codes(self, *kinds: str) -> set[str]:
        return {code for each in self.features if each.kind in kinds for code in each.codes}


def originals(folder: Path) -> list[Original]:
    found = []
    for path in sorted(folder.glob("*.txt")):
        name = f"{path.stem}.png"
        art = images.read(folder, name, CELLS).art
        assert art is not None, f"{name} is not 24x24 pixel art"
        text = path.read_text(encoding="utf-8")
        found.append(
            Original(
                caption=text,
                features=caption_text.features(text),
                grid=PixelGrid(cells=art),
                lab=colors.lab(art),
            )
        )
    return found


def by_word(known: list[Original], kind: str) -> NDArray[np.float64]:
    """How much more often a cell is a shade of the word where the caption says it of `kind`."""
    labs = np.array([each.lab for each in known])
    # Each colour is compared once, not in every cell that has it.
    points, place = np.unique(labs.reshape(-1, 3), axis=0, return_inverse=True)
    place = place.reshape(labs.shape[:3])
    outside = ~np.array([each.grid.ground for each in known])
    shades: dict[tuple[str, str], Grid] = {}
    lifts = []
    for number, each in enumerate(known):
        said = [f for f in each.features if f.kinds == (kind,)]
        names = {name for feature in said for name in colors.named_in(feature.text)}
        for name in names - shades.keys():
            apart = colors.difference(points[:, None], colors.shades(*name)).min(axis=1)
            shades[name] = (apart <= LIKE)[place] & outside
        if names:
            like = np.any([shades[name] for name in sorted(names)], axis=0)
            lifts.append(like[number] - like.mean(axis=0))
    return np.asarray(np.mean(lifts, axis=0))


def by_skin(known: list[Original]) -> NDArray[np.float64]:
    """How often a cell has the skin's own hex, and one of the caption's that is redder than it."""
    skins, lips = [], []
    for each in known:
        other = {k for k in caption_text.FEATURES if k not in ("skin", "eyes", "lips")}
        own = each.codes("skin") - each.codes(*other)
        if not own:
            continue
        skins.append(each.cells_of(own))
        _, a0, b0 = colors.lab([colors.rgb_of(code) for code in sorted(own)]).mean(axis=0)
        codes = sorted(
            set(caption_text.HEX.findall(each.caption.lower())) - each.codes("clothing", "hair")
        )
        points = colors.lab([colors.rgb_of(code) for code in codes])
        redder = points[:, 1] - a0 - (points[:, 2] - b0) / 3 > REDDER
        red = each.cells_of({code for code, is_so in zip(codes, redder, strict=True) if is_so})
        lips.append(red & within(skins[-1]))
    return np.array([np.mean(skins, axis=0), np.mean(lips, axis=0)])


def within(skin: Grid) -> Grid:
    """The cells that have skin on both sides in their row and above them in their column."""
    left, right = np.maximum.accumulate(skin, 1), np.maximum.accumulate(skin[:, ::-1], 1)[:, ::-1]
    return left & right & np.maximum.accumulate(skin, 0)


def digits(likely: NDArray[np.float64], brightest: float | None = None) -> list[str]:
    """A grid as 24 rows of digits, nine the brightest."""
    scaled = np.clip(likely / (brightest or likely.max()), 0, 1)
    scaled[scaled < FAINT] = 0
    return ["".join(str(int(value)) for value in row) for row in np.rint(scaled * 9)]


def learnt(known: list[Original]) -> dict[str, Any]:
    """By feature, in `regions`, how likely each cell is its."""
    ground = np.mean([each.grid.ground for each in known], axis=0)
    grids = {"background": digits(ground, 1.0)}
    grids |= {kind: digits(by_word(known, kind)) for kind in WORDED}
    grids |= dict(zip(("skin", "lips"), map(digits, by_skin(known)), strict=True))
    return {"regions": grids}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=REGIONS)
    chosen = parser.parse_args()
    learned = learnt(originals(chosen.data))
    chosen.out.write_text(json.dumps(learned, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
