"""A test's numbers belong to its checkpoint, its pictures and its prompts, and to nothing else."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bespoke import files
from bespoke.errors import ConfigError, TrainerError
from bespoke.evaluation import epoch_result, metrics, sampling
from bespoke.evaluation.scoring import Scores
from bespoke.trainer import checkpoints
from tests.evaluation.test_sampling import prompt
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from pathlib import Path

ASKED = [
    prompt("green", "green background (#00ff00)"),
    prompt("blue", "blue background (#0000ff)", (1, 2)),
]


def shot_pictures(folder: Path) -> dict[sampling.SampleSpec, Path]:
    """512x512 pictures of random cells, one for each spec."""
    made = {}
    for spec in sampling.sample_specs(ASKED):
        cells = np.random.default_rng(spec.index).integers(0, 256, (24, 24, 3), np.uint8)
        at = (np.arange(512) * 2 + 1) * 24 // 1024
        path = folder / f"made_{spec.index}.png"
        Image.fromarray(cells[at][:, at]).save(path)
        made[spec] = path
    return made


def evaluated(folder: Path) -> epoch_result.EpochResult:
    found = checkpoints.identify(lora(folder, "a-000004.safetensors", epoch=4))
    return epoch_result.evaluate(
        run="A_RUN",
        lora=found,
        pictures=shot_pictures(folder),
        prompts=ASKED,
        folder=epoch_result.folder_for(folder / "output" / "tests", found),
    )


def test_a_result_says_what_it_is_of_and_is_read_back_the_same(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    path = tmp_path / "a-000004.safetensors"
    assert result.checkpoint_sha256 == files.sha256(path)
    assert (result.run, result.epoch, result.checkpoint_size) == ("A_RUN", 4, path.stat().st_size)
    folder = tmp_path / "output" / "tests" / f"a-000004-{result.checkpoint_sha256[:8]}"
    assert result.folder == str(folder)
    assert epoch_result.read(folder) == result
    assert [(each.prompt, each.seed, each.file) for each in result.pictures] == [
        ("green", 42, "green_42.png"),
        ("blue", 1, "blue_1.png"),
        ("blue", 2, "blue_2.png"),
    ]
    assert result.pictures[0].made["steps"] == 2
    assert (result.scores, result.scored_by) == (result.suggested, "metrics")


def test_each_picture_is_kept_as_its_24_by_24_cells_too(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "tests"
    result = evaluated(tmp_path)
    (kept,) = folder.iterdir()
    for number, picture in enumerate(result.pictures):
        with Image.open(kept / f"{picture.prompt}_{picture.seed}_24.png") as image:
            cells = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
            assert np.array_equal(np.asarray(image), cells)


def test_a_missing_picture_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    pictures = shot_pictures(tmp_path)
    del pictures[sampling.sample_specs(ASKED)[2]]
    found = checkpoints.identify(lora(tmp_path, "a.safetensors"))
    with pytest.raises(TrainerError, match=r"1 pictures are not there: blue \(seed 2\)"):
        epoch_result.evaluate(
            run="r", lora=found, pictures=pictures, prompts=ASKED, folder=tmp_path / "t"
        )
    assert not (tmp_path / "t").exists()


def test_a_persons_scores_stand_and_those_before_are_kept(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    given = Scores(visual_quality=9, style_match=9, prompt_adherence=9)
    folder = tmp_path / "output" / "tests"
    (kept,) = folder.iterdir()
    after = epoch_result.write(epoch_result.rescored(result, given, "person"))
    assert (after.verdict, after.scored_by) == ("best", "person")
    assert after.earlier[0]["scored_by"] == "metrics"
    assert after.earlier[0]["verdict"] == result.verdict
    again = epoch_result.measure_again(kept)
    assert again.scores == given
    assert len(again.earlier) == 2
    assert epoch_result.read(kept) == again


def test_scoring_again_measures_with_the_metrics_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluated(tmp_path)
    (kept,) = (tmp_path / "output" / "tests").iterdir()
    monkeypatch.setattr(metrics, "VERSION", 77)
    monkeypatch.setattr(metrics, "measure", lambda *_: {"background": {"verdict": "mismatch"}})
    monkeypatch.setattr(
        "bespoke.evaluation.scoring.suggest",
        lambda _: Scores(visual_quality=1, style_match=1, prompt_adherence=1),
    )
    after = epoch_result.measure_again(kept)
    assert (after.metrics_version, after.verdict) == (77, "skip")
    assert after.backgrounds() == {"match": 0, "mismatch": 3, "unmeasured": 0}
    assert after.earlier[0]["metrics_version"] == before.metrics_version
    assert after.earlier[0]["backgrounds"] == before.backgrounds()


def test_a_picture_that_was_exchanged_is_not_scored_again(tmp_path: Path) -> None:
    evaluated(tmp_path)
    (kept,) = (tmp_path / "output" / "tests").iterdir()
    Image.new("RGB", (512, 512)).save(kept / "blue_1.png")
    before = (kept / "result.json").read_bytes()
    with pytest.raises(ConfigError, match=r"blue_1.png: is not the picture that was tested"):
        epoch_result.measure_again(kept)
    assert (kept / "result.json").read_bytes() == before


def test_a_damaged_result_is_said_to_be_and_nothing_of_it_is_taken(tmp_path: Path) -> None:
    evaluated(tmp_path)
    (kept,) = (tmp_path / "output" / "tests").iterdir()
    path = kept / "result.json"
    text = path.read_text()
    document = json.loads(text)
    picture = document["pictures"][0]
    damaged = [
        *("", "{}", "null", "[" * 100_000, text[: len(text) // 2]),
        *(
            json.dumps({**document, key: value})
            for key in document
            for value in ({}, [[]])
            if key not in ("verdict", "mean", "earlier")
        ),
        *(
            json.dumps({**document, "pictures": [{**picture, **changed}]})
            for changed in (
                {"measured": {"background": 5}},
                {"measured": {"background": {"asked": 7}}},
                {"measured": {"grid": {"value": math.nan}}},
                {"measured": {"features": {"hair": []}}},
                {"measured": {"features": [1]}},
                {"file": "/dev/zero"},
            )
        ),
    ]
    for content in damaged:
        path.write_text(content)
        with pytest.raises(ConfigError, match="damaged"):
            epoch_result.measure_again(kept)
    path.write_text(text)
    said: list[str] = []
    assert epoch_result.read_saved(kept, said.append) == epoch_result.read(kept)
    path.write_text("{}")
    assert epoch_result.read_saved(kept, said.append) is None
    assert epoch_result.read_saved(kept, said.append) is None
    (line,) = said
    assert line.startswith(f"{path}: damaged: ")
    assert [each.read_text() for each in kept.glob("result.damaged-*")] == ["{}"]


def test_a_black_picture_is_counted_and_said(tmp_path: Path) -> None:
    found = checkpoints.identify(lora(tmp_path, "a.safetensors"))
    pictures = shot_pictures(tmp_path)
    Image.new("RGB", (512, 512)).save(next(iter(pictures.values())))
    result = epoch_result.evaluate(
        run="r", lora=found, pictures=pictures, prompts=ASKED, folder=tmp_path / "t"
    )
    assert "pictures (1 black, as where the model gives NaN)" in result.summary()
