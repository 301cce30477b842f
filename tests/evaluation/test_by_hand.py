"""Any checkpoint is tested, scored and, if asked, committed: its folder and nothing else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bespoke import cli, files
from bespoke.evaluation import by_hand, epoch_result, sampling
from bespoke.experiment import config
from bespoke.record import store
from tests.evaluation.test_metrics import PROMPT, enlarged, portrait
from tests.records import a_run
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.sampling import Sample
    from bespoke.trainer.checkpoints import Lora


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's repository with one commit, in which they stand."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "A. Rtist")
    git(folder, "config", "user.email", "artist@example.org")
    (folder / "notes.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "First")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pictures of random cells in the place of gen_img's; the checkpoints drawn are listed."""
    drawn: list[str] = []

    def draw(
        known: Lora, samples: Sequence[Sample], model: Sequence[str], folder: Path
    ) -> dict[str, Path]:
        drawn.append(known.path.name)
        folder.mkdir(parents=True, exist_ok=True)
        for number, each in enumerate(samples):
            cells = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(cells).resize((512, 512), 0).save(folder / each.file)
        return sampling.copies(folder, samples)

    monkeypatch.setattr(sampling, "draw", draw)
    monkeypatch.setattr(by_hand, "_base_model", lambda *_: ())
    return drawn


def hand_test(*words: str | Path) -> None:
    assert cli.main(["test", *map(str, words)]) == 0


def answer(monkeypatch: pytest.MonkeyPatch, typed: str, *words: str | Path) -> None:
    """The test with a person who types."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    hand_test("--score", *words)


def result_in(folder: Path) -> EpochResult:
    result = epoch_result.read(folder)
    assert result is not None
    return result


def only_test(repo: Path) -> Path:
    (folder,) = (repo / "epoch_tests").iterdir()
    return folder


def recorded(place: Path, name: str) -> store.RunRecord:
    with store.opened(place) as record:
        return record.run(name)


# A test's folder


def test_a_test_without_scores_leaves_pictures_and_a_table_and_no_record(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_test(lora(tmp_path, "a-000004.safetensors", epoch=4), "--size", "64")
    said = capsys.readouterr().out
    first, second, *_ = said.splitlines()
    assert first == "a-000004.safetensors: a, epoch 4"
    assert second.startswith("  green-lady              42  ")
    assert f"pictures: {only_test(repo)}" in said
    assert not (tmp_path / "workspace" / store.FILE).exists()


def test_the_same_test_again_makes_no_picture_and_another_one_its_own_folder(
    repo: Path, tmp_path: Path, drawings: list[str]
) -> None:
    path = lora(tmp_path, "a.safetensors")
    hand_test(path)
    hand_test(path, "--auto-score")
    assert drawings == ["a.safetensors"]
    assert result_in(only_test(repo)).scored_by == "metrics"
    hand_test(path, "--steps", "2")
    assert len(drawings) == len(list((repo / "epoch_tests").iterdir())) == 2


def test_a_checkpoint_is_found_in_the_workspace_by_its_own_or_its_runs_name(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "workspace" / "output"
    output.mkdir(parents=True)
    for epoch in (1, 2):
        lora(output, f"a-{epoch:06d}.safetensors", epoch=epoch)
    # The same file twice is tested once.
    hand_test("a-000001.safetensors", output / "a-000001.safetensors")
    hand_test("a")
    assert drawings == ["a-000001.safetensors", "a-000002.safetensors"]
    with pytest.raises(SystemExit):
        hand_test("b")
    assert capsys.readouterr().err == f"bespoke: b: no such file, here or in {output}\n"


def test_what_is_no_checkpoint_is_said_before_any_picture(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wide = lora(tmp_path, "wide.safetensors", width=1024)
    with pytest.raises(SystemExit) as refused:
        hand_test(lora(tmp_path, "a.safetensors"), wide)
    assert refused.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert drawings == []


def test_other_prompts_and_another_folder_stand_in_the_place_of_the_usual_ones(
    repo: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "generate.toml"
    asked.write_text('[prompts.one]\ntext = "punk lad, solid teal background (#008080)"\n')
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--prompts", asked, "--out", tmp_path / "candidates", "--auto-score")
    (folder,) = (tmp_path / "candidates").iterdir()
    assert [picture.prompt for picture in result_in(folder).pictures] == ["one"]
    assert not (repo / "epoch_tests").exists()


# Scores and the record


def test_a_person_types_three_numbers_or_takes_the_suggestion(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(tmp_path, "a.safetensors")
    answer(monkeypatch, "9\n11\nx\n8\n0\n", path)
    folder = only_test(repo)
    assert f"look at the pictures in {folder}" in capsys.readouterr().out
    result = result_in(folder)
    assert (tuple(vars(result.scores).values()), result.scored_by) == ((9, 8, 0), "person")
    answer(monkeypatch, "\n\n\n", path)
    hand_test(path, "--auto-score")
    assert result_in(folder).scores == result.scores
    # Where nobody types, nothing is scored.
    answer(monkeypatch, "", lora(tmp_path, "c.safetensors", epoch=3))
    assert "not scored: no terminal to ask at" in capsys.readouterr().out


def test_a_test_of_a_run_made_elsewhere_is_recorded_with_its_experiment(
    repo: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    name = config.load("keep_tokens_3", repository=repository).output_name
    path = lora(tmp_path, f"{name}-000004.safetensors", epoch=4)
    hand_test(path, "--auto-score", "--workspace", place)
    assert f"recorded as epoch 4 of {name}" in capsys.readouterr().out
    run = recorded(place, name)
    (result,) = run.epochs
    assert result.checkpoint_sha256 == files.sha256(path)
    assert (result.epoch, result.scored_by) == (4, "metrics")
    assert (run.experiment, run.status) == ("keep_tokens_3", "completed")


def test_what_its_run_has_tested_is_not_drawn_again_and_no_other_test_takes_its_place(
    repo: Path, tmp_path: Path, drawings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "place" / "output"
    output.mkdir(parents=True)
    there = ("--workspace", output.parent)
    path = lora(output, "a-000004.safetensors", epoch=4)
    hand_test(path, *there)
    (output / "tests").mkdir()
    drawn = only_test(repo)
    tested = result_in(drawn)
    own = output / "tests" / drawn.name.rpartition("-")[0]
    drawn.rename(own)
    epoch_result.write(tested := epoch_result.replace(tested, run="A_RUN", folder=str(own)))
    settings = {"training.output_name": {"value": "a", "from": "training_config.toml"}}
    with store.opened(output.parent) as record:
        record.begin(a_run("A_RUN", settings=settings))
        record.epoch("A_RUN", tested, None)
    hand_test(path, "--auto-score", "--steps", "2", *there)
    hand_test(path, "--auto-score", *there)
    assert len(drawings) == 2
    (kept,) = recorded(output.parent, "A_RUN").epochs
    assert kept == tested
    answer(monkeypatch, "9\n9\n9\n", path, *there)
    (judged,) = recorded(output.parent, "A_RUN").epochs
    assert (judged.pictures, judged.scores.mean, judged.scored_by) == (kept.pictures, 9.0, "person")


# The commit


def test_auto_commits_the_tests_folder_alone_with_its_scores(repo: Path, tmp_path: Path) -> None:
    (repo / "notes.txt").write_text("two\n")
    git(repo, "add", "notes.txt")
    (repo / "loose.txt").write_text("mine\n")
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--auto-score", "--auto-commit")
    folder = only_test(repo)
    changed = git(repo, "show", "--name-only", "--format=", "HEAD").splitlines()
    assert len(changed) == len(list(folder.iterdir()))
    assert all(name.startswith(f"epoch_tests/{folder.name}/") for name in changed)
    assert git(repo, "diff", "--cached", "--name-only") == "notes.txt"
    assert git(repo, "status", "--porcelain", "--", "loose.txt") == "?? loose.txt"
    summary = result_in(folder).summary()
    assert git(repo, "log", "-1", "--format=%s") == f"Test {folder.name}: {summary}"


@pytest.mark.parametrize(
    ("prevent", "said"),
    [
        ("touch .git/index.lock", "index.lock': File exists"),
        ("echo epoch_tests/ > .gitignore", "ignored by one of your .gitignore files"),
        ("rm -r .git", "not a git repository"),
    ],
)
def test_what_git_refuses_is_said_in_its_words(
    repo: Path, prevent: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = repo / "epoch_tests" / "a"
    folder.mkdir(parents=True)
    (folder / "result.json").touch()
    subprocess.run(prevent, shell=True, check=True)
    by_hand.commit(folder, "m")
    shown = capsys.readouterr().out
    assert f"{folder}: not committed: " in shown
    assert said in shown


@pytest.mark.parametrize("script", ["quick_test_epoch.py", "auto_test_epoch.py"])
def test_the_two_scripts_are_the_same_command(
    repository: Path, tmp_path: Path, script: str
) -> None:
    path, words = tmp_path / "none.safetensors", [sys.executable, script]
    done = subprocess.run(
        [*words, str(path)], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"bespoke: {path}: no such file")


# Any picture


def saved(path: Path, ground: str) -> Path:
    Image.fromarray(enlarged(portrait(ground))).save(path)
    return path


def test_score_prints_one_object_a_picture_or_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    green, pink = saved(tmp_path / "a.png", "#00aa3c"), saved(tmp_path / "b.png", "#ff69b4")
    cli.main(["score", str(green), str(pink), "--prompt", PROMPT, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [str(green), str(pink)]
    assert [row["background"]["verdict"] for row in rows] == ["match", "mismatch"]
    assert rows[0]["scores"]["prompt_adherence"] == 10
    cli.main(["score", str(pink), "--prompt", PROMPT])
    shown = capsys.readouterr().out
    assert "background: mismatch, pink (#ff69b4), asked green #00ff00, ΔE" in shown
    assert "scores: {'visual_quality': " in shown


def test_a_picture_that_cannot_be_read_is_named_and_nothing_else_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, torn = saved(tmp_path / "a.png", "#ff69b4"), tmp_path / "torn.png"
    torn.write_bytes(good.read_bytes()[:300])
    with pytest.raises(SystemExit) as ended:
        cli.main(["score", str(good), str(torn), "--prompt", "x", "--json"])
    printed = capsys.readouterr()
    assert ended.value.code == 3
    assert "torn.png" in printed.err
    assert printed.out == ""
