from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter
from test_metrics import ASKED, enlarged, jpeg, noisy, portrait

from bespoke import metrics, pictures
from bespoke.scoring import Scores, suggest

if TYPE_CHECKING:
    from pathlib import Path


def photo_like(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, Any]:
    """Smooth shapes, uneven light, texture and grain."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(picture).resize((24, 24)).resize((512, 512), Image.Resampling.BICUBIC)
    smooth = np.asarray(small.filter(ImageFilter.GaussianBlur(12)), dtype=float)
    patches = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    texture = np.asarray(patches.resize((512, 512), Image.Resampling.BICUBIC), dtype=float) - 127
    light = np.linspace(-40, 40, 512)[:, None, None]
    grain = rng.normal(0, 6, smooth.shape)
    return np.clip(smooth + light + texture * 0.35 + grain, 0, 255).astype(np.uint8)


def test_a_missing_score_gives_neither_mean_nor_verdict() -> None:
    scores = Scores(visual_quality=9, style_match=None, prompt_adherence=9)
    assert (scores.mean, scores.verdict) == (None, None)


def test_nothing_measured_gives_no_score() -> None:
    none = Scores(visual_quality=None, style_match=None, prompt_adherence=None)
    assert suggest([]) == suggest([{}]) == none


def test_a_ground_that_was_asked_and_not_measured_counts_as_missed() -> None:
    asked = {"hex": ["#00ff00"], "words": []}
    unmeasured = {"background": {"verdict": "unmeasured", "asked": asked}, "features": {}}
    assert suggest([unmeasured]).prompt_adherence == 0


def test_adherence_follows_the_ground() -> None:
    right, wrong = (
        suggest([metrics.measure(enlarged(portrait(code)), ASKED)]).prompt_adherence
        for code in ("#00ff00", "#ff69b4")
    )
    assert right == 10
    assert wrong is not None
    assert wrong <= 4


def test_originals_score_near_the_top_and_what_is_done_to_them_lower_in_order(
    real_pictures: Path,
) -> None:
    measured: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(real_pictures.glob("*.png"))[::20]:
        picture = pictures.pixels(path)
        asked = metrics.read_prompt(path.with_suffix(".txt").read_text(encoding="utf-8"))
        blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(6)))
        versions = {
            "original": picture,
            "jpeg": jpeg(picture, 75),
            "blurred": blurred,
            "noisy": noisy(picture, 30),
            "photo": photo_like(picture),
        }
        for name, version in versions.items():
            measured.setdefault(name, []).append(metrics.measure(version, asked))
    scores = {name: suggest(each) for name, each in measured.items()}
    means = {name: score.mean or 0.0 for name, score in scores.items()}
    assert means["original"] >= 9
    assert means["original"] > means["jpeg"] > max(means["blurred"], means["noisy"])
    assert min(means["blurred"], means["noisy"]) > means["photo"]
    assert (scores["photo"].visual_quality or 0) <= 2
