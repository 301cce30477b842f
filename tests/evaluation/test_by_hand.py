"""Any checkpoint is tested, scored and, if asked, committed: its folder and nothing else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bespoke import cli, files
from bespoke.evaluation import by_hand, epoch_result, sampling
from bespoke.record import store
from tests.evaluation.test_metrics import PROMPT, enlarged, portrait
from tests.records import a_recorded, a_run
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bespoke.evaluation.sampling import Sample
    from bespoke.trainer.checkpoints import Lora


def git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=folder, text=True).strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's repository with one commit, in which they stand."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A. Rtist")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    git(folder, "init", "--quiet")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", "First")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pictures of random cells in the place of gen_img's; the checkpoints drawn are listed."""
    drawn: list[str] = []

    def draw(known: Lora, samples: Sequence[Sample], _: object, folder: Path) -> dict[str, Path]:
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


def only_test(repo: Path) -> Path:
    (folder,) = (repo / "epoch_tests").iterdir()
    return folder


def recorded(place: Path, name: str) -> store.RunRecord:
    return next(each for each in store.runs(place) if each.name == name)


def test_a_test_is_a_table_and_a_folder_that_the_same_test_takes_again(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path)
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "a-000004.safetensors: a, epoch 4"
    assert second.startswith("  green-lady              42  ")
    assert rest[-1] == f"pictures: {only_test(repo)}"
    assert store.runs(tmp_path / "workspace") == []
    hand_test(path, "--auto-score")
    assert epoch_result.read(only_test(repo)).scored_by == "metrics"
    assert drawings == ["a-000004.safetensors"]
    hand_test(path, "--steps", "2")
    assert len(drawings) == len(list((repo / "epoch_tests").iterdir())) == 2
    asked, out = tmp_path / "generate.toml", tmp_path / "candidates"
    asked.write_text('[prompts.one]\ntext = "punk lad, solid teal background (#008080)"\n')
    hand_test(path, "--prompts", asked, "--out", out)
    assert [picture.prompt for picture in epoch_result.read(next(out.iterdir())).pictures] == [
        "one"
    ]


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


def test_a_person_types_three_numbers_or_takes_the_suggestion(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(tmp_path, "a.safetensors")
    answer(monkeypatch, "9\n11\nx\n8\n0\n", path)
    folder = only_test(repo)
    assert f"look at the pictures in {folder}" in capsys.readouterr().out
    answer(monkeypatch, "\n\n\n", path)
    hand_test(path, "--auto-score")
    result = epoch_result.read(folder)
    assert (tuple(vars(result.scores).values()), result.scored_by) == ((9, 8, 0), "person")
    # Where nobody types, nothing is scored.
    answer(monkeypatch, "", lora(tmp_path, "c.safetensors", epoch=3))
    assert "not scored: no terminal to ask at" in capsys.readouterr().out


def test_a_test_of_a_run_made_elsewhere_is_recorded(repo: Path, tmp_path: Path) -> None:
    hand_test(path := lora(tmp_path, "a-000004.safetensors", epoch=4), "--auto-score")
    run = recorded(tmp_path / "workspace", "a")
    assert [each.checkpoint_sha256 for each in run.epochs] == [files.sha256(path)]


def test_what_its_run_has_tested_is_not_drawn_again_and_no_other_test_takes_its_place(
    repo: Path, tmp_path: Path, drawings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "place" / "output"
    (output / "tests").mkdir(parents=True)
    path, there = lora(output, "a-000004.safetensors", epoch=4), ("--workspace", output.parent)
    hand_test(path, *there)
    folder = only_test(repo)
    own = folder.rename(output / "tests" / folder.name.rpartition("-")[0])
    tested = epoch_result.write(replace(epoch_result.read(own), run="A_RUN"))
    run = a_run("A_RUN", settings={"training.output_name": {"value": "a"}})
    a_recorded(output.parent, run, tested)
    hand_test(path, "--auto-score", "--steps", "2", *there)
    hand_test(path, "--auto-score", *there)
    assert len(drawings) == 2
    assert recorded(output.parent, "A_RUN").epochs == (tested,)
    answer(monkeypatch, "9\n9\n9\n", path, *there)
    (judged,) = recorded(output.parent, "A_RUN").epochs
    assert (judged.pictures, judged.scores.mean) == (tested.pictures, 9.0)


def test_auto_commits_the_tests_folder_alone_with_its_scores(repo: Path, tmp_path: Path) -> None:
    for name in ("staged.txt", "loose.txt"):
        (repo / name).write_text("mine\n")
    git(repo, "add", "staged.txt")
    hand_test(lora(tmp_path, "a.safetensors"), "--auto-score", "--auto-commit")
    folder = only_test(repo)
    changed = git(repo, "show", "--name-only", "--format=%s", "HEAD").splitlines()
    assert changed[0] == f"Test {folder.name}: {epoch_result.read(folder).summary()}"
    assert len(changed[2:]) == len(list(folder.iterdir()))
    assert all(name.startswith(f"epoch_tests/{folder.name}/") for name in changed[2:])
    assert git(repo, "status", "--porcelain").splitlines() == ["A  staged.txt", "?? loose.txt"]


def test_what_git_refuses_is_said_in_its_words(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repo / ".gitignore").write_text("epoch_tests/\n")
    hand_test(lora(tmp_path, "a.safetensors"), "--auto-score", "--auto-commit")
    shown = capsys.readouterr().out
    assert f"{only_test(repo)}: not committed: " in shown
    assert "ignored by one of your .gitignore files" in shown


@pytest.mark.parametrize("script", ["quick_test_epoch.py", "auto_test_epoch.py"])
def test_the_two_scripts_are_the_same_command(repository: Path, script: str) -> None:
    words = [sys.executable, script, "none.safetensors"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("bespoke: none.safetensors: no such file")


def test_score_prints_one_object_a_picture_or_a_few_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    green, pink, torn = (str(tmp_path / f"{name}.png") for name in ("green", "pink", "torn"))
    for path, ground in ((green, "#00aa3c"), (pink, "#ff69b4")):
        Image.fromarray(enlarged(portrait(ground))).save(path)
    cli.main(["score", green, pink, "--prompt", PROMPT, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [green, pink]
    assert [row["background"]["verdict"] for row in rows] == ["match", "mismatch"]
    cli.main(["score", pink, "--prompt", PROMPT])
    seen = "background: mismatch, pink (#ff69b4), asked green #00ff00, ΔE"
    assert seen in capsys.readouterr().out
    # Nothing is printed where a picture cannot be read.
    (tmp_path / "torn.png").write_bytes((tmp_path / "pink.png").read_bytes()[:300])
    with pytest.raises(SystemExit) as ended:
        cli.main(["score", pink, torn, "--prompt", "x", "--json"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (3, "")
    assert "torn.png" in printed.err
