"""How like a collection's own pictures a picture is, learnt from them without any label.

Each part is a distance, said in the originals' own spread: 0 for what half of them have when they
are left out of the learning, 1 for what one in twenty has.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation.view import CELLS, LIKELIHOOD
from bespoke.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# The least spread of each part: drawn pictures all have one face, and most grounds are even.
LEAST_SPREAD = {"face": 0.2, "patches": 4.0, "skin": 25.0, "ground": 2.0}

# Where the collection's faces lie, in rows and columns of cells.
FACE = (slice(8, 20), slice(6, 18))

# Principal components of the faces' lightness; patches that the codebook starts from, and how many
# originals' patches one of it must stand for, so that no picture can be put together from them.
COMPONENTS, CODES, MEMBERS = 15, 1024, 3

# Learnt from the artist's 203 by tools/learn_likeness.py: numbers, and no picture.
SHIPPED = Path(__file__).with_name("likeness.npz")


class Likeness(NamedTuple):
    """What a collection's pictures have in common: the mean face's lightness and what varies in it,
    the codebook of its patches, each original's skin; and of the parts what is usual, and spread.
    """

    face: Floats
    components: Floats
    patches: Floats
    skins: Floats
    usual: Floats = np.zeros(len(LEAST_SPREAD))
    spread: Floats = np.ones(len(LEAST_SPREAD))

    def unlike(self, lab: Floats) -> dict[str, float]:
        """By part how many spreads it is beyond the originals' middle.

        `lab` is CIELAB of the cells, shape (24, 24, 3).
        """
        beyond = np.maximum(self.distances(lab) - self.usual, 0) / self.spread
        return dict(zip(LEAST_SPREAD, np.round(beyond, 2).tolist(), strict=True))

    def distances(self, lab: Floats) -> Floats:
        """Each part's distance, in the order of LEAST_SPREAD."""
        face, patches, skin = read_face(lab)
        unlike = face - self.face
        unlike -= unlike @ self.components.T @ self.components
        # What has no contrast has no face, and must not pass for the mean one.
        far = np.sqrt((unlike**2).mean()) if face.any() else 1.0
        details = np.sqrt(squares(patches, self.patches).min(axis=1) / 9).mean()
        # The third nearest, as one odd original makes no skin usual; squared, as skin may be a
        # little off and not far.
        apart = np.sort(colors.difference(self.skins, skin))[2] ** 2
        return np.array([far, details, apart, _roughness(lab)])


def learn(arts: Sequence[NDArray[np.uint8]]) -> Likeness:
    """The likeness of eight pictures or more, by their cells: each uint8 of (24, 24, 3)."""
    labs = colors.lab(np.array(arts))
    halves = [_learnt(labs[::2]), _learnt(labs[1::2])]
    left_out = [halves[number % 2 - 1].distances(lab) for number, lab in enumerate(labs)]
    usual, high = np.quantile(left_out, (0.5, 0.95), axis=0)
    spread = np.maximum(high - usual, list(LEAST_SPREAD.values()))
    return _learnt(labs)._replace(usual=usual, spread=spread)


def keep(path: Path, arts: Iterable[NDArray[np.uint8]], *, anew: bool) -> None:
    """Learn a run's own pictures at its start; what an earlier start kept stays, unless `anew`."""
    usable = [art for art in arts if art.shape == (CELLS, CELLS, 3)]
    if len(usable) >= 8 and (anew or not path.exists()):
        numbers, buffer = learn(usable)._asdict(), io.BytesIO()
        np.savez_compressed(buffer, **{name: numbers[name].astype("float16") for name in numbers})
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())
        read.cache_clear()


@functools.lru_cache(maxsize=4)
def read(path: Path = SHIPPED) -> Likeness:
    """What a run kept; where it kept none, what is shipped."""
    with np.load(path if path.exists() else SHIPPED, allow_pickle=False) as arrays:
        return Likeness(**{name: arrays[name].astype(np.float64) for name in arrays.files})


def _learnt(labs: Floats) -> Likeness:
    faces, patches, skins = (np.array(each) for each in zip(*map(read_face, labs), strict=True))
    mean = faces.mean(axis=0)
    components = np.linalg.svd(faces - mean, full_matrices=False)[2]
    components = components[: min(COMPONENTS, len(labs) // 3)]
    # One step of k-means from patches taken by chance.
    patches = patches.reshape(-1, 27)
    chosen = np.random.default_rng(0).permutation(len(patches))[:CODES]
    nearest = squares(patches, patches[chosen]).argmin(axis=1)
    members = np.equal.outer(np.arange(len(chosen)), nearest).astype(np.float32)
    counts = members.sum(axis=1)
    middles = (members @ patches.astype(np.float32))[counts >= MEMBERS]
    codebook = (middles / counts[counts >= MEMBERS, None]).astype(np.float64)
    return Likeness(face=mean, components=components, patches=codebook, skins=skins)


def read_face(lab: Floats) -> tuple[Floats, Floats, Floats]:
    """The face's lightness, shape (144,), of mean 0 and contrast 1, but 0 where there is next to
    none; its 3x3 cells, shape (100, 27); and the median of what is skin in most originals.
    """
    lightness = lab[FACE][..., 0].ravel()
    contrast = lightness.std()
    face = (lightness - lightness.mean()) / (contrast + 5) * (contrast > 2)
    windows = np.lib.stride_tricks.sliding_window_view(lab[FACE], (3, 3), axis=(0, 1))
    skin = np.median(lab[LIKELIHOOD["skin"] >= 0.7], axis=0)
    return np.asarray(face), windows.reshape(-1, 27), np.asarray(skin)


def squares(points: Floats, others: Floats) -> NDArray[np.float32]:
    """Squared distances, shape (points, others): |a|² + |b|² - 2ab."""
    first, second = points.astype(np.float32), others.astype(np.float32)
    between = first @ (-2 * second.T) + (second**2).sum(axis=1)
    between += (first**2).sum(axis=1)[:, None]
    return np.asarray(np.maximum(between, 0))


def _roughness(lab: Floats) -> float:
    """The median step in CIELAB from cell to cell where the ground is: even and striped have 0."""
    where = LIKELIHOOD["background"] > 0.5
    down = np.linalg.norm(np.diff(lab, axis=0), axis=2)[where[:-1]]
    right = np.linalg.norm(np.diff(lab, axis=1), axis=2)[where[:, :-1]]
    return float(np.median(np.concatenate([down, right])))
