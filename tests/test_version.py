"""Both commits: by git in a clone, by origin.json elsewhere, and never those of a clone around."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from bespoke import version

if TYPE_CHECKING:
    from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    return tmp_path


def test_a_clone_is_asked_and_says_where_files_differ(clone: Path) -> None:
    head = git(clone, "rev-parse", "HEAD")
    assert version.commits(clone) == {"bespoke": head, "trainer": "unknown"}
    git(clone, "tag", "-am", "v1", "v1")
    assert version.commits(clone)["bespoke"] == head
    (clone / "a").write_text("b", encoding="utf-8")
    assert version.commits(clone)["bespoke"] == f"{head}-dirty"


def test_the_clone_around_an_unpacked_package_is_not_asked(clone: Path) -> None:
    inner = clone / "runpod_package"
    inner.mkdir()
    assert version.commits(inner) == {"bespoke": "unknown", "trainer": "unknown"}
    (inner / version.FILE).write_text(json.dumps({"bespoke": "1" * 40, "trainer": "2" * 40}))
    assert version.commits(inner) == {"bespoke": "1" * 40, "trainer": "2" * 40}
