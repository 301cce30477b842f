"""The command line answers at once, imports nothing heavy, and ends with the right code."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.rehearsals import run

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def bespoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "bespoke", *arguments])


@pytest.mark.parametrize("module", ["bespoke", "bespoke.run"])
def test_help_imports_nothing_heavy(module: str) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = [{module!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'safetensors', 'transformers'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_experiments_are_listed_with_what_each_changes(repository: Path) -> None:
    lines = bespoke("experiments").stdout.splitlines()
    assert {path.stem for path in (repository / "experiments").glob("*.toml")} <= set(lines)
    shown = lines[lines.index("keep_tokens_3") :]
    assert shown[1] == "    parent final_corrected_captions"
    assert shown[3:5] == ["    dataset.keep_tokens = 3", "    dataset.caption_dropout_rate = 0.05"]


def test_a_reader_that_goes_away_is_no_error_worth_a_traceback() -> None:
    listing = f"set -o pipefail; {sys.executable} -m bespoke experiments | head -n 1"
    done = run(["bash", "-c", listing])
    assert (done.returncode, done.stdout, done.stderr) == (0, "conv_dim_8\n", "")


def test_version_names_both_commits_and_asks_no_git_that_is_not_there(
    repository: Path, tmp_path: Path
) -> None:
    first, second = bespoke("--version").stdout.splitlines()
    assert re.fullmatch(r"bespoke \d+\.\d+\.\d+, commit ([0-9a-f]{40}(-dirty)?|unknown)", first)
    assert re.fullmatch(r"sd-scripts, commit ([0-9a-f]{40}(-dirty)?|unknown)", second)
    (tmp_path / "bespoke").symlink_to(repository / "bespoke")
    done = run([sys.executable, "-m", "bespoke", "--version"], PATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_verb_is_needed() -> None:
    done = bespoke()
    assert done.returncode == 2
    assert "name a verb; --help lists them" in done.stderr
