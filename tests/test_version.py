"""Both commits: by git in a clone, by origin.json elsewhere, and never those of a clone around."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from bespoke import version

if TYPE_CHECKING:
    from pathlib import Path


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
