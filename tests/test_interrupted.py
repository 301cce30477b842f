"""A signal at any moment ends a run with 130 and one line, and the same command resumes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests import aimed

if TYPE_CHECKING:
    from pathlib import Path

NAME = "REHEARSAL_bespoke_baby_sd15_lora_keep_tokens_3"
EPOCHS = ("--set", "training.max_train_epochs=3", "--set", "training.save_every_n_epochs=1")
# What each phase writes first.
PHASES = {
    "the test of an epoch": "/output/tests/",
    "the record": "/record.sqlite",
    "the page": "/reports/",
    "the state": ".run.json",
}


def outcome(place: Path) -> dict[str, Any]:
    """What a run came to, by its record, without what is time, path or machine."""
    output = place / "rehearsal" / "output"
    record = json.loads((output / f"{NAME}.record.json").read_text(encoding="utf-8"))
    kept = ("name", "status", "ending", "decisions", "settings", "hypothesis")
    return {
        **{key: without_places(record[key], place) for key in kept},
        "loss": [step for step, _ in record["curves"]["loss"]][-1],
        "epochs": [(epoch["epoch"], epoch["scores"]) for epoch in record["epochs"]],
        "checkpoints": [path.name for path in sorted(output.glob("*.safetensors"))],
        "page": (place / "rehearsal" / "reports" / f"{record['name']}.html").is_file(),
    }


def without_places(value: Any, place: Path) -> Any:
    text = json.dumps(value).replace(str(place), "")
    return json.loads(re.sub(r"\d{4}-\d\d-\d\dT[0-9:.Z+-]+", "", text))


@pytest.fixture(scope="module")
def undisturbed(
    repository: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("undisturbed")
    run(repository, place, drawn)
    return outcome(place)


def arguments(place: Path, drawn: Path) -> tuple[str, ...]:
    return ("--workspace", str(place), "--data", str(drawn), *EPOCHS)


def run(repository: Path, place: Path, drawn: Path) -> None:
    done = aimed.rehearse(repository, "/no/such/file", "pass", *arguments(place, drawn))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        *((phase, signal.SIGTERM) for phase in PHASES),
        ("the test of an epoch", signal.SIGINT),
        ("the test of an epoch", signal.SIGHUP),
    ],
)
def test_a_signal_while_a_run_writes_is_neither_lost_nor_does_it_cut_what_is_written(
    repository: Path,
    tmp_path: Path,
    drawn: Path,
    undisturbed: dict[str, Any],
    phase: str,
    number: signal.Signals,
) -> None:
    action = aimed.SIGNAL.format(int(number))
    done = aimed.rehearse(repository, PHASES[phase], action, *arguments(tmp_path, drawn))
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stderr == (
        f"bespoke: stopped by {number.name}: run the same command again to resume\n"
    )
    assert "could not be" not in done.stdout
    run(repository, tmp_path, drawn)
    assert outcome(tmp_path) == undisturbed


def test_two_signals_at_once_end_as_one_does(repository: Path, tmp_path: Path, drawn: Path) -> None:
    action = "\n".join(aimed.SIGNAL.format(int(n)) for n in (signal.SIGTERM, signal.SIGINT))
    for text in ("/output/tests/", "preflight.json"):
        done = aimed.rehearse(repository, text, action, *arguments(tmp_path, drawn))
        assert done.returncode == 130, done.stdout + done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("program", ["bespoke.run", "bespoke"])
def test_from_its_first_line_on_a_start_ends_with_130(
    repository: Path, tmp_path: Path, number: signal.Signals, program: str
) -> None:
    """At each of the modules that the start imports, however early."""
    verb = ["check"] if program == "bespoke" else []
    for text in ("bespoke/cli", "argparse", "bespoke/files", "bespoke/experiment/config"):
        script = aimed.PROGRAM.format(text=text, action=aimed.SIGNAL.format(int(number)))
        script = script.replace('"bespoke.run"', repr(program))
        place = ["--workspace", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-c", script, *verb, *place],
            cwd=repository,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 130, (text, done.stdout + done.stderr)
        assert done.stderr.startswith(f"bespoke: stopped by {number.name}"), text
        assert done.stderr.count("\n") == 1


def test_nohup_keeps_a_run_from_ending_with_its_terminal(
    repository: Path, tmp_path: Path, drawn: Path
) -> None:
    ignored = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    given = aimed.command(
        "/output/tests/", aimed.SIGNAL.format(int(signal.SIGHUP)), *arguments(tmp_path, drawn)
    )
    given[2] = ignored + given[2]
    done = subprocess.run(
        given, cwd=repository, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_signal_kills_a_trainer_that_takes_its_time(
    repository: Path, tmp_path: Path, drawn: Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "bespoke.run", "--rehearse", *arguments(tmp_path, drawn)],
        cwd=repository,
        env={**os.environ, "BESPOKE_FAKE_TRAINER_FAULT": "hang@9", "BESPOKE_STOP_PATIENCE_S": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert any("the trainer starts" in line for line in child.stdout)
    time.sleep(3)
    child.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert errors == "bespoke: stopped by SIGTERM: run the same command again to resume\n"
