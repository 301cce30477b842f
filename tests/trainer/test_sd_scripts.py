"""How the trainer is started, in which environment, and with what it needs."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.trainer import sd_scripts

if TYPE_CHECKING:
    from pathlib import Path


def test_the_command_names_one_process_and_a_launcher_file_of_its_own(tmp_path: Path) -> None:
    command = sd_scripts.command(
        tmp_path,
        tmp_path / "training.toml",
        script=tmp_path / "train_network.py",
        precision="fp16",
    )
    text = shlex.join(command)
    assert "--num_processes 1" in text
    assert "--num_cpu_threads_per_process 1" in text
    assert "--mixed_precision fp16" in text
    assert text.endswith(f"train_network.py --config_file {tmp_path}/training.toml")
    launcher = json.loads((tmp_path / "accelerate.json").read_text(encoding="utf-8"))
    assert launcher["distributed_type"] == "NO"


def test_the_environment_keeps_the_trainer_offline_and_readable() -> None:
    made = sd_scripts.environment(
        {"PATH": "/bin", "ACCELERATE_MIXED_PRECISION": "bf16", "COLUMNS": "20"}
    )
    assert made["PATH"] == "/bin"
    assert made["HF_HUB_OFFLINE"] == "1"
    assert made["PYTHONUNBUFFERED"] == "1"
    assert made["COLUMNS"] == "160"
    assert "ACCELERATE_MIXED_PRECISION" not in made


def test_a_submodule_that_is_not_there_is_answered_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="git submodule update --init"):
        sd_scripts.require_submodule(tmp_path)
