"""How like a collection's own pictures a picture is, learnt from them without any label.

Each part is a distance, said in the originals' own spread: 0 for what half of them have when they
are left out of the learning, 1 for what one in twenty has.
"""

from __future__ import annotations

import functools
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation.view import CELLS, LIKELIHOOD
from bespoke.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# The least spread of each part: drawn pictures all have one face, and most grounds are even.
LEAST_SPREAD = {"face": 0.1, "patches": 4.0, "skin": 5.0, "ground": 4.0, "stray": 5.0}

# Where the collection's faces lie, in rows and columns of cells.
FACE = (slice(8, 20), slice(6, 18))

# Principal components of the faces' lightness; patches looked for to begin the codebook with, and
# how many originals' patches one of it must stand for, so that it holds none of them.
COMPONENTS, CODES, MEMBERS = 15, 1024, 3

# The third nearest original's skin counts: one odd original makes no skin usual.
NEIGHBOURS = 3

# Distance in CIELAB from all eight neighbours from which on a cell is a stray one.
STRAY = 15.0

# Pictures that are too few to learn from, and parts that each is left out of in turn.
FEWEST, FOLDS = 8, 2

SHIPPED = Path(__file__).with_name("likeness.npz")

_SKIN = LIKELIHOOD["skin"] >= 0.7
_GROUND = LIKELIHOOD["background"] > 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """What a collection's pictures have in common; no picture can be put together from it.

    `face` is the mean face's lightness and `components` what varies in it, `patches` the codebook
    of its 3x3 cells in CIELAB, `skins` each original's skin in CIELAB; `usual` and `spread` are
    those of the parts, in the order of LEAST_SPREAD.
    """

    face: Floats
    components: Floats
    patches: Floats
    skins: Floats
    usual: Floats
    spread: Floats

    def parts(self, lab: Floats) -> dict[str, dict[str, float]]:
        """By part its `value`, and how far it is `beyond` the originals' middle, in spreads.

        `lab` is CIELAB of the cells, shape (24, 24, 3).
        """
        values = _distances(self, lab)
        beyond = np.maximum(values - self.usual, 0) / self.spread
        return {
            name: {"value": round(float(value), 3), "beyond": round(float(far), 2)}
            for name, value, far in zip(LEAST_SPREAD, values, beyond, strict=True)
        }

    def save(self, path: Path) -> None:
        """Write it as numbers that numpy reads."""
        buffer = io.BytesIO()
        whole = {name: np.float16(value) for name, value in asdict(self).items()}
        np.savez_compressed(buffer, **whole)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getvalue())


def learn(arts: Sequence[NDArray[np.uint8]]) -> Likeness:
    """The likeness of pictures by their cells, each uint8 of shape (24, 24, 3); FEWEST or more."""
    labs = colors.lab(np.array(arts))
    left_out = []
    for fold in range(FOLDS):
        own = np.arange(len(labs)) % FOLDS == fold
        others = _learnt(labs[~own])
        left_out += [_distances(others, lab) for lab in labs[own]]
    usual, high = np.quantile(left_out, (0.5, 0.95), axis=0)
    least = np.array(list(LEAST_SPREAD.values()))
    return _learnt(labs, usual=usual, spread=np.maximum(high - usual, least))


def read(path: Path) -> Likeness:
    """What `Likeness.save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Likeness(**{name: arrays[name].astype(np.float64) for name in arrays.files})


def keep(path: Path, arts: Sequence[NDArray[np.uint8]], *, anew: bool) -> None:
    """Learn a run's own pictures at its start; what an earlier start kept stays, unless `anew`."""
    usable = [art for art in arts if art.shape == (CELLS, CELLS, 3)]
    if len(usable) >= FEWEST and (anew or not path.exists()):
        learn(usable).save(path)


def kept(tests: Path, name: str) -> Path:
    """Where a run keeps what it learnt: beside the folders of its tests."""
    return tests / f"{name}.likeness.npz"


@functools.lru_cache(maxsize=4)
def of_run(tests: Path, name: str) -> Likeness:
    """What run `name` learnt from its own pictures, or without it the shipped collection's."""
    path = kept(tests, name)
    return read(path) if path.exists() else shipped()


@functools.lru_cache(maxsize=1)
def shipped() -> Likeness:
    """The artist's 203, in numbers: for pictures of no run that is here."""
    return read(SHIPPED)


def _learnt(labs: Floats, usual: Floats | None = None, spread: Floats | None = None) -> Likeness:
    faces = np.array([_face(lab) for lab in labs])
    mean = faces.mean(axis=0)
    components = np.linalg.svd(faces - mean, full_matrices=False)[2]
    none = np.zeros(len(LEAST_SPREAD))
    return Likeness(
        face=mean,
        components=components[: min(COMPONENTS, len(labs) // 3)],
        patches=_codebook(np.concatenate([_patches(lab) for lab in labs])),
        skins=np.array([_skin(lab) for lab in labs]),
        usual=none if usual is None else usual,
        spread=none if spread is None else spread,
    )


def _distances(known: Likeness, lab: Floats) -> Floats:
    """Each part's distance, in the order of LEAST_SPREAD."""
    face = _face(lab)
    unlike = face - known.face
    unlike -= unlike @ known.components.T @ known.components
    # What has no contrast has no face, and must not pass for the mean one.
    far = np.sqrt((unlike**2).mean()) if face.any() else 1.0
    patches = np.sqrt(_squares(_patches(lab), known.patches).min(axis=1) / 9)
    skins = np.sort(colors.difference(known.skins, _skin(lab)))
    return np.array(
        [
            far,
            patches.mean(),
            skins[min(NEIGHBOURS, len(skins)) - 1],
            _roughness(lab),
            stray_cells(lab),
        ]
    )


def _face(lab: Floats) -> Floats:
    """The face's lightness, its mean taken off and its contrast made the same, shape (144,).

    It is 0 all over where there is next to no contrast.
    """
    lightness = lab[FACE][..., 0].ravel()
    contrast = lightness.std()
    return np.asarray((lightness - lightness.mean()) / (contrast + 5) * (contrast > 2))


def _patches(lab: Floats) -> Floats:
    """The face's 3x3 cells, shape (100, 27)."""
    windows = np.lib.stride_tricks.sliding_window_view(lab[FACE], (3, 3), axis=(0, 1))
    return windows.reshape(-1, 27)


def _codebook(patches: Floats) -> Floats:
    """Middles of like patches, shape (n, 27): one step of k-means from patches taken by chance."""
    chosen = np.random.default_rng(0).permutation(len(patches))[:CODES]
    nearest = _squares(patches, patches[chosen]).argmin(axis=1)
    order = np.argsort(nearest, kind="stable")
    counts = np.bincount(nearest, minlength=len(chosen))
    sums = np.add.reduceat(patches[order], (np.cumsum(counts) - counts)[counts > 0], axis=0)
    middles = sums / counts[counts > 0, None]
    return np.asarray(middles[counts[counts > 0] >= MEMBERS])


def _squares(points: Floats, others: Floats) -> NDArray[np.float32]:
    """Squared distances, shape (points, others): |a|² + |b|² - 2ab."""
    first, second = points.astype(np.float32), others.astype(np.float32)
    squares = first @ (-2 * second.T) + (second**2).sum(axis=1)
    squares += (first**2).sum(axis=1)[:, None]
    return np.asarray(np.maximum(squares, 0))


def _skin(lab: Floats) -> Floats:
    """The median of the cells that are skin in most originals, CIELAB."""
    return np.asarray(np.median(lab[_SKIN], axis=0))


def _roughness(lab: Floats) -> float:
    """The median step in CIELAB from cell to cell where the ground is: even and striped have 0."""
    across = _apart(lab[:, 1:], lab[:, :-1])[_GROUND[:, 1:] & _GROUND[:, :-1]]
    down = _apart(lab[1:], lab[:-1])[_GROUND[1:] & _GROUND[:-1]]
    return float(np.median(np.concatenate((across, down))))


def stray_cells(lab: Floats) -> int:
    """How many cells have no like among their eight neighbours."""
    alike = np.zeros(lab.shape[:2], dtype=bool)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left = max(0, -right)
        one = np.s_[: CELLS - down, left : CELLS - max(0, right)]
        other = np.s_[down:, left + right : CELLS + min(0, right)]
        near = _apart(lab[one], lab[other]) <= STRAY
        alike[one] |= near
        alike[other] |= near
    return int((~alike).sum())


def _apart(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.sqrt(((first - second) ** 2).sum(axis=-1)))
