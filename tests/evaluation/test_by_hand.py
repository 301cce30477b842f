"""Any checkpoint is tested, scored and, if asked, committed: its folder and nothing else."""

from __future__ import annotations

import os
import pty
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
    """Pictures of random cells in the place of gen_img's; what was asked for is listed."""
    asked_for: list[str] = []

    def draw(
        loras: Sequence[Lora], asked: Sequence[Prompt], place: Path, model: str | None
    ) -> dict[Lora, dict[sampling.SampleSpec, Path]]:
        made: dict[Lora, dict[sampling.SampleSpec, Path]] = {}
        for each in loras:
            asked_for.append(each.path.name)
            made[each] = {}
            for spec in sampling.sample_specs(asked):
                path = tmp_path / f"{each.sha256[:8]}_{spec.index}.png"
                cells = np.random.default_rng(spec.index).integers(0, 256, (24, 24, 3), np.uint8)
                Image.fromarray(cells).resize((512, 512), Image.Resampling.NEAREST).save(path)
                made[each][spec] = path
        return made

    monkeypatch.setattr(by_hand, "_draw", draw)
    return asked_for


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
    result = epoch_result.read(folder)
    assert (result.scored_by, result.verdict) == ("nobody", None)
    assert result.pictures[0].made["size"] == 64
    hand_test("--again", folder)
    assert not (tmp_path / "workspace" / store.FILE).exists()


def test_auto_commits_the_tests_folder_alone_with_its_scores(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repo / "notes.txt").write_text("two\n")
    run(repo, "add", "notes.txt")
    (repo / "loose.txt").write_text("mine\n")
    path = lora(tmp_path, "a-000004.safetensors", epoch=4)
    hand_test(path, "--auto-score", "--auto-commit")
    assert "committed as" in capsys.readouterr().out
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
    with pytest.raises(SystemExit) as refused:
        hand_test("--again", folder)
    assert refused.value.code == 2
    assert f"bespoke: {folder / 'result.json'}: damaged: " in capsys.readouterr().err
    hand_test(path)
    assert "damaged: " in capsys.readouterr().out
    assert epoch_result.read(folder).pictures
    assert [each.read_text() for each in folder.glob("result.damaged-*")] == ["[" * 100_000]


def test_another_checkpoint_of_the_same_name_never_shares_a_folder(
    repo: Path, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    hand_test(lora(tmp_path / "one", "a.safetensors", epoch=1))
    hand_test(lora(tmp_path / "two", "a.safetensors", epoch=2))
    hashes = {
        epoch_result.read(each).checkpoint_sha256 for each in (repo / "epoch_tests").iterdir()
    }
    assert len(hashes) == 2


def test_a_checkpoint_is_found_in_the_workspace_by_its_own_or_its_runs_name(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "workspace" / "output"
    output.mkdir(parents=True)
    for epoch in (1, 2):
        lora(output, f"a-{epoch:06d}.safetensors", epoch=epoch)
    hand_test("a-000001.safetensors")
    hand_test("a")
    assert drawings == ["a-000001.safetensors", "a-000002.safetensors"]
    assert f"testing {output / 'a-000002.safetensors'}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        hand_test("b")
    assert capsys.readouterr().err == f"bespoke: b: no such file, here or in {output}\n"


def test_the_same_file_twice_is_tested_once(
    repo: Path, tmp_path: Path, drawings: list[str]
) -> None:
    first = lora(tmp_path, "a-000004.safetensors")
    copy = tmp_path / "a-000004 (1).safetensors"
    copy.write_bytes(first.read_bytes())
    hand_test(first, copy)
    assert drawings == ["a-000004.safetensors"]


def test_all_that_is_wrong_is_said_before_any_picture(
    repo: Path, tmp_path: Path, drawings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wide = lora(tmp_path, "wide.safetensors", width=1024)
    with pytest.raises(SystemExit) as refused:
        hand_test(tmp_path / "none.safetensors", wide, lora(tmp_path, "a.safetensors"))
    assert refused.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert drawings == []


def test_off_a_terminal_no_scores_are_taken_unless_told(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        hand_test(lora(tmp_path, "a-000001.safetensors", epoch=1), "--score")
    assert "not scored: no terminal to ask at" in capsys.readouterr().out
    result = epoch_result.read(only_test(repo))
    assert (result.scored_by, result.verdict) == ("nobody", None)
    assert result.suggested.verdict is not None
    assert not (tmp_path / "workspace" / store.FILE).exists()


def ask(monkeypatch: pytest.MonkeyPatch, typed: bytes, *words: str | Path) -> None:
    """The test at a terminal at which a person types."""
    main, side = pty.openpty()
    os.write(main, typed)
    with os.fdopen(side) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        hand_test(*words)
    os.close(main)


def test_at_a_terminal_a_person_is_asked_with_the_suggestion_as_default(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lora(tmp_path, "a.safetensors")
    ask(monkeypatch, b"11\n9\n\n0\n", path, "--score")
    said = capsys.readouterr().out
    folder = only_test(repo)
    assert f"look at the pictures in {folder}" in said
    assert "'11': a whole number from 0 to 10 is needed" in said
    result = epoch_result.read(folder)
    assert (result.scores.visual_quality, result.scores.prompt_adherence) == (9, 0)
    assert result.scores.style_match == result.suggested.style_match
    assert result.scored_by == "person"
    hand_test(path, "--auto-score")
    assert epoch_result.read(folder).scores == result.scores


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
    asked = [prompt("x"), prompt("y", seeds=(1, 2))]
    place = tmp_path / "place"
    made = DRAW(loras, asked, place, "random")
    assert [list(made[each]) for each in loras] == [list(sampling.sample_specs(asked))] * 3
    commands = sorted(path.read_text() for path in place.rglob("command.txt"))
    assert len(commands) == 2
    weights = [[f"{name}.safetensors" in each for name in "abc"] for each in commands]
    assert sorted(weights) == [[False, True, False], [True, False, True]]
    assert ["--clip_skip 2" in each for each in commands] == [row[1] for row in weights]
    assert all(f"--ckpt {place / 'models' / 'random-sd15'} " in each for each in commands)


# What keeps git from committing


def folder_in(repo: Path) -> Path:
    folder = repo / "epoch_tests" / "a"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}\n")
    return folder


@pytest.mark.parametrize("state", ["MERGE_HEAD", "CHERRY_PICK_HEAD", "index.lock"])
def test_a_busy_repository_is_left_as_it_is(repo: Path, state: str) -> None:
    folder = folder_in(repo)
    (repo / ".git" / state).write_text(run(repo, "rev-parse", "HEAD"))
    assert by_hand.commit(folder, "m").startswith("not committed: git says: ")
    (repo / ".git" / state).unlink()
    assert run(repo, "log", "--format=%s") == "First"
    assert run(repo, "status", "--porcelain") == "?? epoch_tests/"


def test_a_detached_head_is_not_committed_to(repo: Path) -> None:
    folder = folder_in(repo)
    run(repo, "checkout", "--quiet", "--detach")
    assert "HEAD is detached" in by_hand.commit(folder, "m")
    assert run(repo, "status", "--porcelain") == "?? epoch_tests/"


def test_an_ignored_folder_stays_ignored_and_ignored_files_are_counted(repo: Path) -> None:
    folder = folder_in(repo)
    (repo / ".gitignore").write_text("epoch_tests/\n")
    assert ".gitignore leaves a out" in by_hand.commit(folder, "m")
    (repo / ".gitignore").write_text("*.png\n")
    (folder / "a.png").touch()
    assert by_hand.commit(folder, "m").endswith("without 1 files that .gitignore leaves out")


def test_a_commit_that_git_refuses_leaves_the_index_as_it_was(repo: Path) -> None:
    folder = folder_in(repo)
    hook = repo / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    hook.chmod(0o755)
    assert by_hand.commit(folder, "m") == "not committed: git says: no such luck"
    assert run(repo, "status", "--porcelain") == "?? epoch_tests/"


def test_outside_a_repository_or_without_git_it_is_said(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no git repository holds" in by_hand.commit(tmp_path, "m")
    folder = folder_in(repo)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert by_hand.commit(folder, "m").startswith("not committed: ")


def test_what_is_committed_already_is_said_to_be(repo: Path) -> None:
    folder = folder_in(repo)
    assert by_hand.commit(folder, "m").startswith("committed as ")
    assert by_hand.commit(folder, "m").startswith("committed already")


@pytest.mark.parametrize("script", ["quick_test_epoch.py", "auto_test_epoch.py"])
def test_the_two_commands_answer_and_refuse_by_their_names(
    repository: Path, tmp_path: Path, script: str
) -> None:
    helped = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"usage: {script}" in helped.stdout
    done = subprocess.run(
        [sys.executable, script, str(tmp_path / "none.safetensors")],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"bespoke: {tmp_path / 'none.safetensors'}: there is no such file\n"


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
    ask(monkeypatch, b"9\n9\n9\n", path, "--score", *there)
    (judged,) = recorded(place, "A_RUN").epochs
    assert (judged.pictures, judged.folder) == (own.pictures, own.folder)
    assert (judged.scores.mean, judged.scored_by) == (9.0, "person")
    # Another checkpoint under the same name is none of this run's.
    (tmp_path / "other").mkdir()
    other = lora(tmp_path / "other", "a-000004.safetensors", epoch=4, clip_skip="2")
    ask(monkeypatch, b"1\n1\n1\n", other, "--score", *there)
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
