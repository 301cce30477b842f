"""The command line answers at once, imports nothing heavy, and ends with the right code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bespoke import version
from tests.rehearsals import run

if TYPE_CHECKING:
    from pathlib import Path


def bespoke(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "bespoke", *arguments], **variables)


@pytest.mark.parametrize("module", ["bespoke", "bespoke.run"])
def test_help_imports_nothing_heavy(module: str) -> None:
    done = run([sys.executable, "-X", "importtime", "-m", module, "--help"])
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    heavy = {"torch", "numpy", "PIL", "rich", "safetensors", "transformers", "pydantic"}
    assert not heavy & loaded


def test_experiments_are_listed_and_a_reader_that_goes_away_is_no_error(repository: Path) -> None:
    lines = bespoke("experiments").stdout.splitlines()
    assert {path.stem for path in (repository / "experiments").glob("*.toml")} <= set(lines)
    listing = f"set -o pipefail; {sys.executable} -m bespoke experiments | head -n 1"
    done = run(["bash", "-c", listing])
    assert (done.returncode, done.stdout, done.stderr) == (0, "conv_dim_8\n", "")
    assert "name a verb; --help lists them" in bespoke().stderr


def test_version_names_both_commits_with_git_or_without(tmp_path: Path) -> None:
    commit = r"commit ([0-9a-f]{40}(-dirty)?|unknown)"
    for variables in ({}, {"PATH": str(tmp_path)}):
        done = bespoke("--version", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        pattern = rf"bespoke \d+\.\d+\.\d+, {commit}\nsd-scripts, {commit}\n"
        assert re.fullmatch(pattern, done.stdout)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.check_output(["git", *identity, *arguments], cwd=folder, text=True).strip()


def test_a_clone_is_asked_and_not_one_around_an_unpacked_package(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    git(tmp_path, "tag", "-am", "v1", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert version.commits(tmp_path) == {"bespoke": head, "trainer": "unknown"}
    (tmp_path / "a").write_text("b", encoding="utf-8")
    assert version.commits(tmp_path)["bespoke"] == f"{head}-dirty"
    inner = tmp_path / "runpod_package"
    inner.mkdir()
    assert version.commits(inner) == {"bespoke": "unknown", "trainer": "unknown"}
    written = {"bespoke": "1" * 40, "trainer": "2" * 40}
    (inner / version.FILE).write_text(json.dumps(written))
    assert version.commits(inner) == written
