"""A test's numbers belong to its checkpoint, its pictures and its prompts, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from bespoke import files
from bespoke.errors import TrainerError
from bespoke.evaluation import epoch_result, likeness, metrics, sampling, scoring
from bespoke.evaluation.scoring import Scores
from bespoke.trainer import checkpoints
from tests.evaluation.test_sampling import prompt
from tests.records import a_result
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult

GREEN, BLUE = (prompt(name, f"{name} background") for name in ("green", "blue"))
SAMPLES = sampling.samples_of([GREEN, replace(BLUE, seeds=(1, 2))])
NINES = Scores(visual_quality=9, style_match=9, prompt_adherence=9)


def cells(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)


def evaluated(folder: Path) -> EpochResult:
    known = checkpoints.identify(lora(folder, "a-000004.safetensors", epoch=4))
    for number, each in enumerate(SAMPLES):
        Image.fromarray(cells(number)).resize((480, 480), 0).save(folder / each.file)
    pictures = sampling.copies(folder, SAMPLES)
    test = sampling.folder_for(folder / "tests", known)
    return sampling.evaluate("A_RUN", known, SAMPLES, pictures, test)


def test_a_result_says_what_it_is_of_and_is_read_back_the_same(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    path = tmp_path / "a-000004.safetensors"
    assert result.checkpoint_sha256 == files.sha256(path)
    assert (result.run, result.epoch, result.checkpoint_size) == ("A_RUN", 4, path.stat().st_size)
    folder = tmp_path / "tests" / f"a-000004-{result.checkpoint_sha256[:8]}"
    assert epoch_result.read(folder) == result
    names = [(each.prompt, each.seed, each.file) for each in result.pictures]
    assert names == [(each.prompt.name, each.seed, each.file) for each in SAMPLES]
    assert result.scored_by == "metrics"
    assert evaluated(tmp_path) == result
    with Image.open(folder / "green_42_24.png") as image:
        assert np.array_equal(np.asarray(image), cells(0))


def test_a_missing_picture_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    known = checkpoints.identify(lora(tmp_path, "a.safetensors"))
    with pytest.raises(TrainerError, match=r"pictures are missing: green_42\.png, blue_1\.png"):
        sampling.evaluate("r", known, SAMPLES, {}, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_a_persons_scores_stand_and_those_before_are_kept(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    after = epoch_result.write(epoch_result.rescored(result, NINES, "person"))
    assert (after.verdict, after.scored_by) == ("best", "person")
    assert after.earlier[0]["scored_by"] == "metrics"
    assert after.earlier[0]["verdict"] == result.verdict
    assert evaluated(tmp_path) == after


def test_other_metrics_measure_a_saved_test_again_and_both_results_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(tmp_path)
    monkeypatch.setattr(metrics, "VERSION", 77)
    monkeypatch.setattr(metrics, "measure", lambda *_: {"background": {"verdict": "match"}})
    monkeypatch.setattr(scoring, "suggest", lambda _: NINES)
    after = evaluated(tmp_path)
    assert (after.metrics_version, after.scores, after.tested) == (77, NINES, before.tested)
    (earlier,) = after.earlier
    assert earlier["metrics_version"] == before.metrics_version
    assert earlier["scores"] == vars(before.scores)
    assert earlier["backgrounds"] == before.backgrounds()
    assert f"measured again; until now {before.scores.mean} of 10" in capsys.readouterr().out
    assert evaluated(tmp_path) == after


def test_a_runs_pictures_are_compared_with_its_own_originals(tmp_path: Path) -> None:
    arts = [np.roll(cells(0), number, axis=0) for number in range(12)]
    likeness.keep(tmp_path / "own" / "tests" / "a.likeness.npz", arts, anew=True)
    (tmp_path / "none").mkdir()
    results = [evaluated(tmp_path / name) for name in ("own", "none")]
    own, shipped = (each.pictures[0].measured["unlike"] for each in results)
    assert own["patches"] < shipped["patches"]


@pytest.mark.parametrize("damage", ["", "{}", "null", "[" * 100_000, '{"run": [[]]}'])
def test_a_damaged_result_is_put_aside_and_made_again(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluated(tmp_path)
    (path,) = tmp_path.glob("tests/*/result.json")
    path.write_text(damage)
    after = evaluated(tmp_path)
    assert replace(after, tested=before.tested) == before
    assert f"{path}: damaged (" in capsys.readouterr().out
    assert [each.read_text() for each in path.parent.glob("result.damaged-*")] == [damage]


def test_what_pulled_the_scores_down_is_said_the_most_frequent_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"match": ("face", "noise"), "mismatch": ("noise",), "unmeasured": ()}
    monkeypatch.setattr(scoring, "remarks", lambda each: said[each["background"]["verdict"]])
    result = a_result(backgrounds=tuple(said))
    assert result.remarks == ["noise (2 of 3)", "face (1 of 3)"]


def test_why_a_background_could_not_be_measured_is_said() -> None:
    result = a_result(backgrounds=("unmeasured",))
    unmeasured = {"background": {"verdict": "unmeasured", "reason": "it is black"}}
    black = replace(result, pictures=(replace(result.pictures[0], measured=unmeasured),))
    assert black.background_words().endswith(" of 1 pictures (1: it is black)")
