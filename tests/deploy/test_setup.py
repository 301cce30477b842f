"""The set-up that start_training.sh and run_tests.sh share: once, whoever starts, however often."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# Stands for uv: takes its time, and notes what it was asked.
UV = """#!/bin/sh
echo "$1 $2" >>asked
sleep 0.5
mkdir -p .venv/bin .venv/lib/python3.11/site-packages
printf '#!/bin/sh\\necho "python $*"\\n' >.venv/bin/python
chmod +x .venv/bin/python
"""


@pytest.fixture
def project(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "locks").mkdir(parents=True)
    (folder / "locks" / "orchestrator.txt").write_text("a\n", encoding="utf-8")
    shutil.copy(repository / "setup.sh", folder)
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV, encoding="utf-8")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:{os.environ['PATH']}")
    return folder


def start(project: Path) -> subprocess.Popen[str]:
    script = "set -euo pipefail; source ./setup.sh; install orchestrator"
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(["bash", "-c", script], cwd=project, **how)


def test_two_first_starts_at_once_install_once(project: Path) -> None:
    both = [start(project), start(project)]
    printed = [child.communicate(timeout=30)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    lines = (project / "asked").read_text("utf-8").splitlines()
    assert [line.split()[0] for line in lines] == ["venv", "pip"]
    assert sum("waiting for another set-up of this folder to end" in text for text in printed) == 1
    command = [project / ".venv" / "bin" / "bespoke", "check", "a b"]
    assert subprocess.check_output(command, text=True) == "python -m bespoke check a b\n"
    (pth,) = project.glob(".venv/lib/python3.*/site-packages/bespoke.pth")
    assert pth.read_text(encoding="utf-8") == f"{project}\n"


def test_a_killed_set_up_leaves_neither_a_lock_nor_parts(project: Path) -> None:
    (project / ".uv.part").mkdir()
    first = start(project)
    first.kill()
    first.communicate()
    start(project).communicate(timeout=30)
    assert not (project / ".uv.part").exists()
    assert start(project).communicate(timeout=30)[0] == ""


def test_packages_that_cannot_be_had_are_exit_code_2(project: Path) -> None:
    uv = project.parent / "bin" / "uv"
    uv.write_text(UV + '[ "$1" = venv ]\n', encoding="utf-8")
    child = start(project)
    text = child.communicate(timeout=30)[0]
    assert child.returncode == 2
    assert "packages could not be installed" in text
    assert not list(project.glob(".venv/.installed-*"))
