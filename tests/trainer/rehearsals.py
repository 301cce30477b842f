"""Rehearsals, as a person starts them, for the tests of what they meet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bespoke.request import Request
from bespoke.trainer.job import Job, Journal
from bespoke.trainer.training import open_job

NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
REPOSITORY = Path(__file__).parents[2]


def command(place: Path, drawn: Path, *arguments: str, epochs: int) -> list[str]:
    run = (sys.executable, "-m", "bespoke.run", "--rehearse", "--workspace", str(place))
    length = ("--set", f"training.max_train_epochs={epochs}")
    return [*run, *length, "--data", str(drawn), *arguments]


def rehearse(
    place: Path, drawn: Path, *arguments: str, epochs: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(place, drawn, *arguments, epochs=epochs),
        cwd=REPOSITORY,
        env={**os.environ, "BESPOKE_STOP_PATIENCE_S": "1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def job(place: Path, *, epochs: int) -> Job:
    """The run that such a rehearsal is."""
    length = (f"training.max_train_epochs={epochs}",)
    return open_job(Request(rehearse=True, workspace=place, overrides=length), Journal())


def driver(folder: Path, row: str) -> dict[str, str]:
    """Variables under which nvidia-smi answers with one card."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\necho "{row}"\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}
