"""Any checkpoint is tested, scored and, if asked, committed: its folder and nothing else."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from bespoke import cli, files
from bespoke.evaluation import by_hand, epoch_result, sampling
from bespoke.experiment import config, prompts
from bespoke.record import store
from bespoke.trainer import base_model, checkpoints, launch
from tests.evaluation.test_sampling import pretender, prompt
from tests.records import a_run
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.checkpoints import Lora


DRAW = by_hand._draw


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's repository with one commit, in which they stand."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    run(folder, "init", "--quiet", "--initial-branch", "main")
    run(folder, "config", "user.name", "A. Rtist")
    run(folder, "config", "user.email", "artist@example.org")
    (folder / "notes.txt").write_text("one\n")
    run(folder, "add", ".")
    run(folder, "commit", "--quiet", "-m", "First")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def drawings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Pictures of random cells in the place of gen_img's; the checkpoints drawn are listed."""
    drawn: list[str] = []

    def draw(
        loras: Sequence[Lora], wanted: Sequence[Prompt], place: Path, model: str | None
    ) -> dict[Lora, dict[sampling.SampleSpec, Path]]:
        pictures: dict[Lora, dict[sampling.SampleSpec, Path]] = {}
        for each in loras:
            drawn.append(each.path.name)
            pictures[each] = {}
            for spec in sampling.sample_specs(wanted):
                path = tmp_path / f"{each.sha256[:8]}_{spec.index}.png"
                cells = np.random.default_rng(spec.index).integers(0, 256, (24, 24, 3), np.uint8)
                Image.fromarray(cells).resize((512, 512), Image.Resampling.NEAREST).save(path)
                pictures[each][spec] = path
        return pictures

    monkeypatch.setattr(by_hand, "_draw", draw)
    return drawn


def hand_test(*words: str | Path) -> None:
    assert cli.main(["test", *map(str, words)]) == 0


LOOK = ("--size", "64")


def only_test(repo: Path) -> Path:
    (folder,) = (repo / "epoch_tests").iterdir()
    return folder


def test_a_test_without_scores_leaves_pictures_and_a_table_and_no_record(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand_test(lora(tmp_path, "a-000004.safetensors", epoch=4), *LOOK)
    said = capsys.readouterr().out
    folder = only_test(repo)
    first, second, *_ = said.splitlines()
    assert first == "a-000004.safetensors: a, epoch 4; backgrounds by prompt and seed:"
    assert second.startswith("  green-lady           42  ")
    assert f"pictures: {folder}" in said
    assert epoch_result.read(folder).pictures[0].made["size"] == 64
    assert not (tmp_path / "workspace" / store.FILE).exists()


def test_auto_commits_the_tests_folder_alone_with_its_scores(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repo / "notes.txt").write_text("two\n")
    run(repo, "add", "notes.txt")
    (repo / "loose.txt").write_text("mine\n")
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--auto-score", "--auto-commit")
    assert "committed: Test a-000004" in capsys.readouterr().out
    folder = only_test(repo)
    changed = run(repo, "show", "--name-only", "--format=", "HEAD").splitlines()
    assert len(changed) == len(list(folder.iterdir()))
    assert all(name.startswith(f"epoch_tests/{folder.name}/") for name in changed)
    assert run(repo, "diff", "--cached", "--name-only") == "notes.txt"
    assert run(repo, "status", "--porcelain", "--", "loose.txt") == "?? loose.txt"
    result = epoch_result.read(folder)
    assert run(repo, "log", "-1", "--format=%s") == f"Test {folder.name}: {result.summary()}"
    assert result.scored_by == "metrics"


def test_the_same_test_again_makes_no_picture_and_another_one_its_own_folder(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = lora(tmp_path, "a.safetensors")
    hand_test(path)
    hand_test(path, "--auto-score")
    assert drawings == ["a.safetensors"]
    assert "is tested already" in capsys.readouterr().out
    assert epoch_result.read(only_test(repo)).scored_by == "metrics"
    first = only_test(repo)
    hand_test(path, "--steps", "2")
    (second,) = set((repo / "epoch_tests").iterdir()) - {first}
    assert epoch_result.read(second).pictures[0].made["steps"] == 2


def test_a_damaged_test_is_said_to_be_and_made_again(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lora(tmp_path, "a.safetensors")
    hand_test(path)
    folder = only_test(repo)
    (folder / "result.json").write_text("[" * 100_000)
    hand_test(path)
    assert f"{folder / 'result.json'}: damaged: " in capsys.readouterr().out
    assert epoch_result.read(folder).pictures


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
    assert f"testing {output / 'a-000002.safetensors'}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        hand_test("b")
    assert capsys.readouterr().err == f"bespoke: b: no such file, here or in {output}\n"


def test_what_is_no_checkpoint_is_said_before_any_picture(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.safetensors"
    page.write_text("<html>not found</html>")
    with pytest.raises(SystemExit) as refused:
        hand_test(lora(tmp_path, "a.safetensors"), page)
    assert refused.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert drawings == []


def answer(monkeypatch: pytest.MonkeyPatch, typed: str, *words: str | Path) -> None:
    """The test with a person who types."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    hand_test(*words)


def test_a_person_types_three_numbers_or_takes_the_suggestion(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(tmp_path, "a.safetensors")
    answer(monkeypatch, "9\n11 9 9\nx y z\n9 8 0\n", path, "--score")
    folder = only_test(repo)
    said = capsys.readouterr().out
    assert f"look at the pictures in {folder}" in said
    assert said.count("three whole numbers from 0 to 10 are needed") == 3
    result = epoch_result.read(folder)
    assert (tuple(vars(result.scores).values()), result.scored_by) == ((9, 8, 0), "person")
    answer(monkeypatch, "\n", path, "--score")
    hand_test(path, "--auto-score")
    assert epoch_result.read(folder).scores == result.scores
    # Where nobody types, nothing is scored.
    answer(monkeypatch, "", lora(tmp_path, "c.safetensors", epoch=3), "--score")
    assert "not scored: no terminal to ask at" in capsys.readouterr().out
    before = set((repo / "epoch_tests").iterdir())
    other = lora(tmp_path, "b.safetensors", epoch=2)
    answer(monkeypatch, "\n", other, "--score")
    (second,) = set((repo / "epoch_tests").iterdir()) - before
    result = epoch_result.read(second)
    assert (result.scores, result.scored_by) == (result.suggested, "person")


# The pictures themselves


def test_checkpoints_of_one_clip_skip_share_a_process_and_others_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretender(tmp_path)
    monkeypatch.setattr(launch, "require_submodule", lambda _: tmp_path)
    monkeypatch.setattr(launch, "require_packages", lambda: None)
    monkeypatch.setattr(base_model, "provide", lambda base, **_: base)
    loras = [
        checkpoints.identify(lora(tmp_path, f"{name}.safetensors", epoch=number, clip_skip=skip))
        for number, (name, skip) in enumerate((("a", "None"), ("b", "2"), ("c", "None")), start=1)
    ]
    wanted = [prompt("x"), prompt("y", seeds=(1, 2))]
    pictures = DRAW(loras, wanted, tmp_path, "random")
    assert [list(pictures[each]) for each in loras] == [list(sampling.sample_specs(wanted))] * 3
    commands = sorted(path.read_text() for path in tmp_path.rglob("command.txt"))
    weights = [[f"{name}.safetensors" in each for name in "abc"] for each in commands]
    assert sorted(weights) == [[False, True, False], [True, False, True]]
    assert ["--clip_skip 2" in each for each in commands] == [row[1] for row in weights]
    assert all(f"--ckpt {tmp_path / 'models' / 'random-sd15'} " in each for each in commands)


# What keeps git from committing


@pytest.mark.parametrize(
    ("prevent", "said"),
    [
        ("cp .git/refs/heads/main .git/MERGE_HEAD", "cannot do a partial commit during a merge"),
        ("touch .git/index.lock", "index.lock': File exists"),
        ("echo epoch_tests/ > .gitignore", "ignored by one of your .gitignore files"),
        ("printf '#!/bin/sh\\necho no such luck\\nexit 1' > .git/hooks/pre-commit", "no such luck"),
        ("rm -r .git", "not a git repository"),
    ],
)
def test_what_git_refuses_is_said_in_its_words(repo: Path, prevent: str, said: str) -> None:
    folder = repo / "epoch_tests" / "a"
    folder.mkdir(parents=True)
    (folder / "result.json").touch()
    (repo / ".git" / "hooks").mkdir(exist_ok=True)
    subprocess.run(f"{prevent}; chmod -f +x .git/hooks/pre-commit || true", shell=True, check=True)
    refused = by_hand.commit(folder, "m")
    assert refused.startswith("not committed: ")
    assert said in refused


@pytest.mark.parametrize("script", ["quick_test_epoch.py", "auto_test_epoch.py"])
def test_the_two_scripts_are_the_same_command(
    repository: Path, tmp_path: Path, script: str
) -> None:
    path = tmp_path / "none.safetensors"
    done = subprocess.run(
        [sys.executable, script, str(path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"bespoke: {path}: there is no such file\n"


def recorded(place: Path, name: str) -> store.RunRecord:
    with store.opened(place) as record:
        return record.run(name)


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


def test_a_test_by_hand_never_takes_the_place_of_the_runs_own(
    repo: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    checkpoint = checkpoints.identify(path)
    asked = prompts.load(repository / prompts.PROMPTS_FILE)
    tested = epoch_result.evaluate(
        run="A_RUN",
        lora=checkpoint,
        pictures=by_hand._draw([checkpoint], asked, place, None)[checkpoint],
        prompts=asked,
        folder=place / "output" / "tests" / "a-000004",
    )
    settings = {"training.output_name": {"value": "a", "from": "training_config.toml"}}
    with store.opened(place) as record:
        record.begin(a_run("A_RUN", settings=settings))
        record.epoch("A_RUN", tested, None)
    (own,) = recorded(place, "A_RUN").epochs
    there = ("--workspace", place)
    hand_test(path, "--auto-score", *LOOK, "--steps", "2", *there)
    hand_test(path, "--auto-score", *there)
    assert recorded(place, "A_RUN").epochs == (own,)
    # What a person says of this very checkpoint is put to it; its pictures stay.
    answer(monkeypatch, "9 9 9\n", path, "--score", *there)
    (judged,) = recorded(place, "A_RUN").epochs
    assert (judged.pictures, judged.folder) == (own.pictures, own.folder)
    assert (judged.scores.mean, judged.scored_by) == (9.0, "person")
    # Another checkpoint under the same name is none of this run's.
    (tmp_path / "other").mkdir()
    other = lora(tmp_path / "other", "a-000004.safetensors", epoch=4, clip_skip="2")
    answer(monkeypatch, "1 1 1\n", other, "--score", *there)
    assert recorded(place, "A_RUN").epochs == (judged,)


def test_a_saved_test_is_scored_again_and_both_verdicts_stay(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("--workspace", tmp_path / "place")
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--auto-score", *there)
    folder = only_test(repo)
    hand_test("--again", folder, *there)
    said = capsys.readouterr().out
    assert "before: " in said
    again = epoch_result.read(folder)
    assert [each["scores"] for each in again.earlier] == [vars(again.scores)]
    (kept,) = recorded(tmp_path / "place", "a").epochs
    assert (kept.test, len(kept.earlier)) == (again.test, 1)
    picture = folder / again.pictures[0].file
    Image.new("RGB", (512, 512)).save(picture)
    with pytest.raises(SystemExit) as refused:
        hand_test("--again", folder, *there)
    assert refused.value.code == 2
    assert "is not the picture that was tested" in capsys.readouterr().err


def test_other_prompts_and_another_folder_stand_in_the_place_of_the_usual_ones(
    repo: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "generate.toml"
    asked.write_text('[prompts.one]\ntext = "punk lad, solid teal background (#008080)"\n')
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--prompts", asked, "--out", tmp_path / "candidates", "--auto-score")
    (folder,) = (tmp_path / "candidates").iterdir()
    result = epoch_result.read(folder)
    assert [picture.prompt for picture in result.pictures] == ["one"]
    assert not (repo / "epoch_tests").exists()
