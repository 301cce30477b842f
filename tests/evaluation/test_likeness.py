"""What is learnt from drawn pictures tells them from what was done to them, and holds none."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bespoke.dataset import colors
from bespoke.evaluation import likeness, metrics, scoring
from bespoke.rehearsal import drawing
from tests.evaluation.test_metrics import PROMPT, enlarged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def art(seed: int) -> NDArray[np.uint8]:
    return np.array(drawing.portrait(seed, ("lad", "lady")[seed % 2]).cells, dtype=np.uint8)


@functools.cache
def learnt() -> likeness.Likeness:
    return likeness.learn([art(seed) for seed in range(60)])


def beyond(cells: NDArray[np.uint8]) -> dict[str, float]:
    return learnt().unlike(colors.lab(cells))


def green_skin(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    face = cells[likeness.FACE].reshape(-1, 3)
    colours, counts = np.unique(face, axis=0, return_counts=True)
    skin = colours[counts.argmax()]
    return np.where((cells == skin).all(axis=2, keepdims=True), (0, 255, 0), cells).astype(np.uint8)


def moved_face(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.roll(cells, (4, 4), axis=(0, 1))


def rough(cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(4).normal(0, 20, cells.shape)
    return np.clip(cells + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (moved_face, "face"),
        (green_skin, "patches"),
        (green_skin, "skin"),
        (rough, "ground"),
        (np.zeros_like, "face"),
    ],
)
def test_each_part_notices_what_it_is_for(change: object, part: str) -> None:
    assert callable(change)
    seeds = range(100, 112)
    fine = np.median([beyond(art(seed))[part] for seed in seeds])
    worse = np.median([beyond(change(art(seed)))[part] for seed in seeds])
    assert fine < 0.6
    assert worse > fine + 0.6


def test_pictures_that_it_has_not_seen_score_near_the_top_and_changed_ones_below() -> None:
    scores = {}
    for change in (np.copy, green_skin, moved_face, rough):
        pictures = [enlarged(change(art(seed))) for seed in range(100, 110)]
        scores[change] = scoring.suggest(
            [metrics.measure(picture, PROMPT, learnt()) for picture in pictures]
        )
    for name in ("visual_quality", "style_match"):
        fine, *worse = (getattr(each, name) for each in scores.values())
        assert fine >= 9
        assert max(worse) < fine


def test_what_a_run_learnt_is_kept_and_only_made_anew_where_that_is_asked(tmp_path: Path) -> None:
    path, arts = tmp_path / "tests" / "run.npz", [art(seed) for seed in range(20)]
    assert likeness.read(path).skins.shape == (203, 3), "the shipped one, where none was kept"
    likeness.keep(path, arts[:3], anew=False)
    assert not path.exists()
    likeness.keep(path, arts, anew=False)
    first = path.read_bytes()
    likeness.keep(path, arts[5:], anew=False)
    assert path.read_bytes() == first
    unlike = likeness.read(path).unlike(colors.lab(art(40)))
    assert unlike == pytest.approx(likeness.learn(arts).unlike(colors.lab(art(40))), abs=0.1)
    likeness.keep(path, arts[5:], anew=True)
    assert path.read_bytes() != first


def test_remarks_name_the_worst_first_and_nothing_where_all_is_well() -> None:
    fine = metrics.measure(enlarged(art(100)), "", learnt())
    assert scoring.remarks(fine) == ()
    green = metrics.measure(enlarged(green_skin(art(100))), "", learnt())
    assert "skin of a colour that no original has" in scoring.remarks(green)
    shown = metrics.measure(enlarged(art(100), 768)[:512, :512], "", learnt())
    assert scoring.remarks(shown)[0].startswith("not on the grid: cells are about 32 px")
