from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from bespoke.evaluation import metrics
from bespoke.evaluation.scoring import Scores, remarks, suggest
from tests.evaluation.test_metrics import (
    PROMPT,
    Pixels,
    blurred,
    enlarged,
    jpeg,
    noisy,
    portrait,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
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


def test_nothing_measured_gives_no_score() -> None:
    none = Scores(visual_quality=None, style_match=None, prompt_adherence=None)
    assert suggest([]) == suggest([{}]) == none
    partly = Scores(visual_quality=9, style_match=None, prompt_adherence=9)
    assert (partly.mean, partly.verdict) == (None, None)


def test_a_ground_that_was_asked_and_not_measured_counts_as_missed() -> None:
    asked = {"hex": ["#00ff00"], "words": []}
    unmeasured = {"background": {"verdict": "unmeasured", "asked": asked}, "features": {}}
    assert suggest([unmeasured]).prompt_adherence == 0


def test_remarks_say_what_is_missing_and_what_no_one_asked_the_worst_first() -> None:
    green, blonde = ({"hex": [], "words": [word]} for word in ("green", "blonde"))
    measured = {
        "background": {"verdict": "mismatch", "name": "pink", "asked": green},
        "features": {
            "hair": {"verdict": "mismatch", "name": "brown", "asked": blonde},
            "crown": {"verdict": "mismatch", "probability": 0.1},
            "eyes": {"verdict": "unmeasured", "reason": "none"},
        },
        "unasked": {"background over the face": "seen", "unasked glasses": "none"},
    }
    said = (
        "background pink, green asked",
        "hair brown, blonde asked",
        "no crown",
        "green over the face",
    )
    assert remarks(measured) == said
    assert suggest([measured]).prompt_adherence == 0
    measured["background"] = {"verdict": "match", "name": "green", "asked": green}
    assert remarks(measured)[1:] == ("no crown", "green over the face")
    assert suggest([measured]).prompt_adherence == 3
    faceless = {**measured, "face": {"verdict": "mismatch"}}
    assert remarks(faceless) == ("no face",)
    assert suggest([faceless]).prompt_adherence == 0


def means_of_versions(originals: Iterable[tuple[Pixels, str]]) -> dict[str, float]:
    """The mean score of pictures as they are, and of what is done to them."""
    measured: dict[str, list[dict[str, Any]]] = {}
    for picture, prompt in originals:
        versions = {
            "original": picture,
            "jpeg": jpeg(picture, 75),
            "blurred": blurred(picture),
            "noisy": noisy(picture, 30),
            "photo": photo_like(picture),
        }
        for name, version in versions.items():
            measured.setdefault(name, []).append(metrics.measure(version, prompt))
    return {name: suggest(each).mean or 0.0 for name, each in measured.items()}


def falls_in_order(means: dict[str, float]) -> bool:
    worst = min(means["blurred"], means["noisy"])
    order = means["original"] > means["jpeg"] > max(means["blurred"], means["noisy"])
    return means["original"] >= 9 and order and worst > means["photo"]


def test_art_scores_near_the_top_and_what_is_done_to_it_lower_in_order() -> None:
    grounds = ("#00ff00", "#00aa3c", "#228b22")
    assert falls_in_order(means_of_versions((enlarged(portrait(code)), PROMPT) for code in grounds))


@pytest.mark.parametrize(("labels", "code"), [((9, 7, 4, 1), 0), ((1, 4, 7, 9), 1)])
def test_the_benchmark_fails_where_scores_rank_against_the_labels(
    labels: tuple[int, ...], code: int, repository: Path, tmp_path: Path
) -> None:
    rows = []
    for run, ground in (("A", "#00ff00"), ("B", "#ff69b4"), ("C", "#00aa3c")):
        fine = enlarged(portrait(ground))
        versions = (fine, jpeg(fine, 50), blurred(fine), noisy(fine, 30))
        for number, (version, label) in enumerate(zip(versions, labels, strict=True)):
            Image.fromarray(version).save(tmp_path / f"{run}{number}.png")
            right = "wrong" if run == "B" else "right"
            row = {"file": f"{run}{number}.png", "run": run, "prompt": PROMPT, "epoch": number}
            row |= {"background": right, "faults": ["noise"] if number == 3 else []}
            rows.append(row | dict.fromkeys(("visual", "adherence", "overall"), label))
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    command = [sys.executable, repository / "benchmarks" / "scores.py", tmp_path, "--overall=0.4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("FAIL visual_quality" in done.stdout) == bool(code)
