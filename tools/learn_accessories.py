"""Learn what portraits wear from the captions' words; write the numbers that the package ships.

    python tools/learn_accessories.py DATA [--out bespoke/evaluation/accessories.npz]

DATA is the folder of the 203 pictures and captions. A logistic regression each, with a ridge and
both classes weighing the same; each picture is also shown a cell to every side. What it prints, and
writes beside, is the AUC of eight parts left out in turn, pictures that are alike in one part.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.dataset import images
from bespoke.evaluation.figure import ACCESSORIES, MODELS, accessories, planes
from bespoke.evaluation.view import CELLS, PictureGrid

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# The rows and columns of cells where each is looked for.
PLACES = {
    "crown": np.s_[0:10, 3:21], "hat": np.s_[0:13, 2:22], "bow": np.s_[0:12, 2:22],
    "glasses": np.s_[8:15, 5:20], "earrings": np.s_[10:20, 3:21], "beard": np.s_[13:22, 5:19],
    "necklace": np.s_[17:24, 5:20], "smile": np.s_[15:19, 8:17], "face": np.s_[8:20, 6:18],
}  # fmt: skip

RIDGE, FOLDS = 0.1, 8
SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))

# Shifts by which a face is no longer in a face's place.
AWAY = ((0, 5), (0, -6), (5, 0), (-5, 2), (-7, -4), (8, 7))


def fitted(rows: Floats, has: Bools, ridge: float) -> tuple[Floats, float]:
    """Weights and bias of a logistic regression, by Newton's steps."""
    middle, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = (spread + 0.3 * spread.mean()) * np.sqrt(rows.shape[1])
    scaled = (rows - middle) / spread
    axes = np.linalg.eigh(scaled.T @ scaled)[1][:, -len(rows) :]
    points = np.c_[scaled @ axes, np.ones(len(rows))]
    weight = np.where(has, 0.5 / has.mean(), 0.5 / (1 - has.mean()))
    held = np.append(np.full(axes.shape[1], ridge), 1e-6)
    solution = np.zeros(points.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-points @ solution))
        slope = points.T @ (weight * (chance - has)) + held * solution
        bend = (points.T * (weight * chance * (1 - chance))) @ points + np.diag(held)
        solution -= np.linalg.solve(bend, slope)
    weights = axes @ solution[:-1] / spread
    return weights, float(solution[-1] - weights @ middle)


def auc(scores: Floats, has: Bools) -> float:
    """The share of the pairs of one with it and one without that are in the right order."""
    own, other = scores[has][:, None], scores[~has]
    return float(((own > other) + 0.5 * (own == other)).mean())


def parts(grids: list[PictureGrid]) -> NDArray[np.intp]:
    """By picture the part that it is left out with; those of much the same figure go together."""
    labs = np.array([grid.lab for grid in grids])
    figures = ~np.array([grid.ground for grid in grids])
    groups = np.arange(len(grids))
    for i in range(len(grids)):
        both = figures[i] & figures[:i]
        same = ((np.abs(labs[:i] - labs[i]) < 2).all(axis=-1) & both).sum(axis=(1, 2))
        like = same > 0.6 * both.sum(axis=(1, 2))
        like &= both.sum(axis=(1, 2)) > 0.8 * (figures[i] | figures[:i]).sum(axis=(1, 2))
        for j in np.flatnonzero(like):
            groups[groups == groups[i]] = groups[j]
    names, numbers = np.unique(groups, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[numbers] % FOLDS


def shifted(every: Floats, shifts: tuple[tuple[int, int], ...], name: str) -> list[Floats]:
    """`every`, shape (pictures, 3, 24, 24), a shift each; of each the place of `name` in rows."""
    rolled = (np.roll(every, shift, axis=(2, 3)) for shift in shifts)
    return [each[(..., *PLACES[name])].reshape(len(each), -1) for each in rolled]


def drawn() -> Floats:
    """What patterns without a face show: flat, stripes, halves, boxes, blocks and noise."""
    rng, made = np.random.default_rng(1), []
    y, x = np.mgrid[:CELLS, :CELLS]
    for number in range(20):
        one, other, (row, column) = *rng.integers(0, 256, (2, 3)), rng.integers(4, 20, 2)
        width = 1 + number % 4
        masks = [0 * x, x // width % 2, y // width % 2, (x // width + y // width) % 2, y > row]
        masks += [(abs(y - row) < 8) & (abs(x - column) < 6), np.hypot(y - row, x - column) < 6]
        made += [np.where(mask[..., None] > 0, one, other) for mask in (*masks, masks[4].T)]
        made += [
            one + (other - one) * (y / CELLS)[..., None],
            rng.integers(0, 256, (CELLS, CELLS, 3)),
        ]
        made += [np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((4, 4, 1)))]
    return np.array([planes(PictureGrid(pixels=each.astype(np.uint8))) for each in made])


def faceless(every: Floats) -> list[Floats]:
    """What is no face: faces out of place, upside down or on a side, strewn cells, patterns."""
    rng = np.random.default_rng(1)
    strewn = rng.permuted(every.reshape(len(every), 3, -1), axis=2).reshape(every.shape)
    patterns = np.resize(drawn(), (3 * len(every), *every.shape[1:]))
    others = [every[:, :, ::-1], every.swapaxes(2, 3), strewn, *np.split(patterns, 3)]
    return shifted(every, AWAY, "face") + [shifted(each, SHIFTS[:1], "face")[0] for each in others]


def learnt(
    every: Floats, has: Bools, left_out: NDArray[np.intp], name: str
) -> tuple[Floats, float, float]:
    """Weights of shape (3, 24, 24), bias and AUC of one model."""
    yes, no = shifted(every, SHIFTS, name), faceless(every) if name == "face" else []
    rows, folds = np.concatenate(yes + no), np.tile(left_out, len(yes) + len(no))
    truth = np.concatenate([np.tile(has, len(yes)), np.zeros(len(every) * len(no), dtype=bool)])
    ridge = RIDGE * len(rows) / len(every)
    scores = np.zeros(len(rows))
    for fold in range(FOLDS):
        weights, bias = fitted(rows[folds != fold], truth[folds != fold], ridge)
        scores[folds == fold] = rows[folds == fold] @ weights + bias
    tested = np.r_[: len(every), len(every) * len(yes) : len(rows)]
    weights, bias = fitted(rows, truth, ridge)
    grid = np.zeros((3, CELLS, CELLS))
    grid[(..., *PLACES[name])] = weights.reshape(grid[(..., *PLACES[name])].shape)
    return grid, bias, auc(scores[tested], truth[tested])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=MODELS)
    chosen = parser.parse_args()
    files = sorted(chosen.data.glob("*.png"))
    captions = [
        accessories(re.sub(r"#\w{6}", "", f.with_suffix(".txt").read_text())) for f in files
    ]
    grids = [PictureGrid(pixels=images.pixels(file)) for file in files]
    every, left_out = np.array([planes(grid) for grid in grids]), parts(grids)
    models = {}
    for name in (*ACCESSORIES, "face"):
        has = np.array([name == "face" or name in caption for caption in captions])
        models[name] = learnt(every, has, left_out, name)
        print(f"{name:10} {has.sum():4} of {len(files)}  AUC {models[name][2]:.2f}")
    weights, biases, aucs = zip(*models.values(), strict=True)
    np.savez_compressed(
        chosen.out, names=list(models), weights=np.float16(weights), biases=biases, aucs=aucs
    )


if __name__ == "__main__":
    main()
