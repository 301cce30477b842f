"""The command line answers at once, imports nothing heavy, and ends with the right code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def bespoke(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("bespoke", "--help"), ("bespoke.run", "--help")])
def test_help_imports_nothing_heavy(repository: Path, arguments: tuple[str, ...]) -> None:
    done = bespoke(repository, "bespoke", "--version")
    assert done.returncode == 0
    script = (
        "import runpy, sys\n"
        f"sys.argv = {list(arguments)!r}\n"
        "try:\n"
        f"    runpy.run_module({arguments[0]!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'safetensors', 'transformers'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_experiments_are_listed_with_what_each_changes(repository: Path) -> None:
    done = bespoke(repository, "bespoke", "experiments", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["keep_tokens_3"]["parent"] == "final_corrected_captions"
    assert rows["keep_tokens_3"]["changes"] == {
        "dataset.keep_tokens": 3,
        "dataset.caption_dropout_rate": 0.05,
    }
    assert rows["conv_dim_8"]["changes"] == {
        "training.network_args": ["conv_dim=8", "conv_alpha=4"]
    }
    assert set(rows) == {
        "conv_dim_8",
        "expanded_dataset",
        "final_corrected_captions",
        "keep_tokens_3",
        "keep_tokens_5",
        "longer_15_epochs",
        "lower_lr_5e-5",
        "smoke",
    }
    shown = bespoke(repository, "bespoke", "experiments")
    assert all(name in shown.stdout.splitlines() for name in rows)


def test_a_reader_that_goes_away_is_no_error_worth_a_traceback(repository: Path) -> None:
    listing = f"set -o pipefail; {sys.executable} -m bespoke experiments | head -n 1"
    done = subprocess.run(
        ["bash", "-c", listing],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.strip() == "conv_dim_8"
    assert "Traceback" not in done.stderr


def test_version_names_both_commits(repository: Path) -> None:
    done = bespoke(repository, "bespoke", "--version")
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"bespoke \d+\.\d+\.\d+, commit ([0-9a-f]{40}(-dirty)?|unknown)", first)
    assert re.fullmatch(r"sd-scripts, commit ([0-9a-f]{40}(-dirty)?|unknown)", second)


def test_version_asks_no_git_that_is_not_there(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "bespoke").symlink_to(repository / "bespoke")
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", "--version"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.startswith("bespoke 0.1.0, commit ")
    assert done.stderr == ""


def test_no_home_is_needed(repository: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "bespoke.run", "--rehearse", "--set", "training.max_train_epochs=1"],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
