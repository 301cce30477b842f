"""Files are whole or absent, and the workspace is where it was said to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bespoke.errors import ConfigError
from bespoke.files import workspace, write_whole


def test_a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    write_whole(file, "first ✓\n")
    write_whole(file, b"second\n")
    assert file.read_bytes() == b"second\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "folder", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "folder"]


def test_the_workspace_is_the_one_asked_for_before_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESPOKE_WORKSPACE", str(tmp_path / "named"))
    assert workspace(tmp_path / "asked") == tmp_path / "asked"
    assert workspace(None) == tmp_path / "named"
    monkeypatch.delenv("BESPOKE_WORKSPACE")
    monkeypatch.chdir(tmp_path)
    if not os.access("/workspace", os.W_OK):
        assert workspace(None) == tmp_path / "workspace"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        # /proc refuses new files even to root, as a read-only mount would.
        ("/proc", "cannot write to the workspace: .*; name another"),
        ("~nosuchuser/x", "name another folder"),
        (os.fsdecode(b"\xff/x"), "not UTF-8"),
        ("a" * 5000, "too long"),
    ],
)
def test_a_workspace_that_cannot_be_one_is_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        workspace(Path(name))
