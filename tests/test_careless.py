"""What a careless start is answered with: one clear line, its exit code, no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def pictures(drawn: Path, tmp_path: Path) -> Path:
    """The drawn 203, to be broken: hard links, replaced and never written through."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in drawn.iterdir():
        os.link(path, folder / path.name)
    return folder


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """The project as a person has it, without the submodule and to be broken."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("bespoke", "experiments"):
        shutil.copytree(
            repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("training_config.toml", "dataset_config.toml", "test_prompts.toml"):
        shutil.copy(repository / name, folder / name)
    return folder


def start(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bespoke.run", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for text in said:
        assert text in done.stderr
    assert all(line.startswith("bespoke: ") for line in done.stderr.splitlines())


def replaced(path: Path, content: bytes) -> Path:
    path.unlink()
    path.write_bytes(content)
    return path


def test_no_data_folder_lists_every_place_looked_at(project: Path) -> None:
    done = start(project)
    workspace = os.environ["BESPOKE_WORKSPACE"]
    refused(done, 3, f"{project}/training_data", f"{workspace}/training_data", "--data DIR")


def test_202_pictures_are_not_203(project: Path, pictures: Path) -> None:
    stem = min(pictures.glob("*.png"))
    stem.unlink()
    stem.with_suffix(".txt").unlink()
    done = start(project, "--rehearse", "--data", str(pictures))
    refused(done, 3, "203 pictures are declared, and 202 are there")


def resized(path: Path, width: int, height: int) -> None:
    with Image.open(path) as image:
        loaded = image.resize((width, height), Image.Resampling.NEAREST)
    path.unlink()
    loaded.save(path)


def test_all_damages_are_reported_together(project: Path, pictures: Path) -> None:
    chosen = sorted(pictures.glob("*.png"))[:3]
    chosen[0].with_suffix(".txt").unlink()
    replaced(chosen[1], b"")
    resized(chosen[2], 500, 512)
    done = start(project, "--rehearse", "--data", str(pictures))
    refused(done, 3, *(path.stem for path in chosen))


def test_an_unknown_experiment_is_answered_with_the_nearest(project: Path) -> None:
    refused(start(project, "--experiment", "keeptokens3"), 2, "'keep_tokens_3'")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training_config.toml", "learning_rate =", "learnign_rate ="),
        ("dataset_config.toml", "num_repeats", "num_repeat"),
        ("experiments/keep_tokens_3.toml", "keep_tokens = 3", "keep_token = 3"),
        ("training_config.toml", "network_dim = 32", 'network_dim = "32"'),
        ("training_config.toml", "lr_warmup_steps = 100", "lr_warmup_steps = 100.0"),
    ],
)
def test_a_slip_in_any_toml_names_file_and_key(
    project: Path, file: str, old: str, new: str
) -> None:
    text = (project / file).read_text(encoding="utf-8")
    assert old in text
    (project / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(start(project), 2, f"{file}: {new.split(' ')[0]}:")


def test_an_experiment_that_is_its_own_ancestor_shows_the_circle(project: Path) -> None:
    (project / "experiments" / "loop.toml").write_text('parent = "loop"\n', encoding="utf-8")
    refused(start(project, "--experiment", "loop"), 2, "loop -> loop")


def test_a_workspace_that_cannot_be_written_says_so(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = start(project, "--workspace", str(tmp_path / "file"))
    refused(done, 2, "cannot write to the workspace", "--workspace")


def test_a_submodule_that_is_not_there_is_named_before_anything_large_is_fetched(
    project: Path, pictures: Path
) -> None:
    refused(start(project, "--data", str(pictures)), 2, "git submodule update --init")


def test_without_a_gpu_the_options_of_record_are_refused_with_what_can_be_done(
    repository: Path, trainer_python: str, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    done = start(repository, "--data", str(drawn))
    refused(done, 2, 'no NVIDIA GPU found, and mixed_precision = "fp16" needs one', "--rehearse")


def test_a_data_name_that_no_subset_has_is_refused(project: Path, drawn: Path) -> None:
    done = start(project, "--data", str(drawn), "--data", f"generate={drawn}")
    refused(done, 2, "--data generate=")


def test_a_dry_run_prints_the_command_and_both_files_and_starts_nothing(
    repository: Path, sd_scripts: Path, drawn: Path, tmp_path: Path
) -> None:
    done = start(repository, "--dry-run", "--data", str(drawn), "--workspace", str(tmp_path / "w"))
    assert done.returncode == 0, done.stderr
    assert 'output_name = "bespoke_baby_sd15_lora_keep_tokens_3"' in done.stdout
    assert "keep_tokens = 3" in done.stdout
    assert "train_network.py --config_file" in done.stdout
    assert not (tmp_path / "w" / "models").exists()
    assert not (tmp_path / "w" / "output").exists()


def test_a_relative_data_folder_is_taken_from_where_the_person_stands(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bespoke.run", "--rehearse", "--data", drawn.name),
            *("--set", "training.max_train_epochs=1"),
        ],
        cwd=drawn.parent,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    receipt = next(Path(os.environ["BESPOKE_WORKSPACE"]).rglob("receipt.toml"))
    assert f'value = "{drawn}"' in receipt.read_text(encoding="utf-8")
