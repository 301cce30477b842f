"""What of an unpacked package is not as it was packed is named, before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bespoke import manifest

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "bespoke/run.py": "run",
    "experiments/a.toml": "a",
    "training_data/a.png": "picture",
    "training_data/a.txt": "caption",
    "vendor/sd-scripts/train_network.py": "train",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    listed = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in FILES.items()}
    told = {"data": ["training_data"], "sha256": listed}
    (tmp_path / manifest.FILE).write_text(json.dumps(told), encoding="utf-8")
    return tmp_path


def test_what_is_as_it_was_packed_is_passed(package: Path) -> None:
    assert manifest.verify(package) == ([], 0)


@pytest.mark.parametrize(
    ("name", "code"),
    [("bespoke/run.py", 2), ("vendor/sd-scripts/train_network.py", 2), ("training_data/a.txt", 3)],
)
def test_a_missing_or_changed_file_is_named(package: Path, name: str, code: int) -> None:
    (package / name).write_text("else", encoding="utf-8")
    assert manifest.verify(package) == ([f"{name}: has changed"], code)
    (package / name).unlink()
    assert manifest.verify(package) == ([f"{name}: is missing"], code)
    (package / name).mkdir()
    assert manifest.verify(package) == ([f"{name}: cannot be read: Is a directory"], code)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("bespoke/random.py", 2),
        ("vendor/sd-scripts/library/more.so", 2),
        ("sitecustomize.py", 2),
        ("training_data/b.png", 3),
        ("training_data/.DS_Store", 3),
    ],
)
def test_code_or_data_that_was_not_packed_is_named(package: Path, name: str, code: int) -> None:
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).touch()
    assert manifest.verify(package) == ([f"{name}: is not of the package"], code)


def test_what_set_up_a_run_and_a_person_add_is_passed(package: Path) -> None:
    for name in (
        ".venv/lib/a.py",
        ".uv/b.py",
        "workspace/output/c.py",
        "bespoke/__pycache__/run.cpython-311.pyc",
        "experiments/mine.toml",
        "notes.txt",
    ):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).touch()
    assert manifest.verify(package) == ([], 0)


def test_code_weighs_more_than_data_where_both_differ(package: Path) -> None:
    (package / "training_data/a.png").unlink()
    (package / "bespoke/run.py").unlink()
    problems, code = manifest.verify(package)
    assert (len(problems), code) == (2, 2)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sha256": {}}', '{"sha256": 3, "data": []}'])
def test_a_manifest_that_is_none_is_named(package: Path, text: str) -> None:
    (package / manifest.FILE).write_text(text, encoding="utf-8")
    problems, code = manifest.verify(package)
    assert problems[0].startswith("manifest.json: cannot be read")
    assert code == 2


def test_it_runs_with_nothing_else_of_the_package(package: Path) -> None:
    shutil.copy(manifest.__file__, package / "bespoke" / "manifest.py")
    # Its neighbours may be damaged, or named as a module of Python's own.
    (package / "bespoke" / "errors.py").write_text("broken(", encoding="utf-8")
    (package / "bespoke" / "json.py").write_text("broken(", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "bespoke/manifest.py"],
        cwd=package,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "bespoke: bespoke/json.py: is not of the package\n" in done.stderr
    assert done.stderr.endswith("unpack the zip again; where this is meant, delete manifest.json\n")
