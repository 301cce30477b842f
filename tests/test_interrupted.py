"""A signal or a full disk at any moment ends a run with one line, and the same command resumes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.rehearsals import NAME, SIGNAL, aimed, command, run, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What each phase writes first: an epoch's test, the record, the page, the state.
PHASES = ("/output/tests/", "record.sqlite", "/reports/", ".run.json")


def outcome(place: Path) -> dict[str, Any]:
    """What a run came to, by its record, without what is time, path or machine."""
    output = place / "rehearsal" / "output"
    text = (output / f"{NAME}.record.json").read_text(encoding="utf-8").replace(str(place), "")
    record = json.loads(re.sub(r"\d{4}-\d\d-\d\dT[0-9:.Z+-]+", "", text))
    kept = ("name", "status", "ending", "decisions", "settings", "hypothesis")
    return {
        **{key: record[key] for key in kept},
        "epochs": [(epoch["epoch"], epoch["scores"]) for epoch in record["epochs"]],
        "checkpoints": [path.name for path in sorted(output.glob("*.safetensors"))],
        "page": (place / "rehearsal" / "reports" / f"{record['name']}.html").is_file(),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("undisturbed")
    assert run(command(place)).returncode == 0
    return outcome(place)


@pytest.mark.parametrize(
    ("phase", "numbers"),
    [
        *((phase, [signal.SIGTERM]) for phase in PHASES),
        (PHASES[0], [signal.SIGHUP]),
        (PHASES[0], [signal.SIGINT, signal.SIGTERM]),
    ],
)
def test_signals_while_a_run_writes_are_neither_lost_nor_do_they_cut_what_is_written(
    tmp_path: Path, undisturbed: dict[str, Any], phase: str, numbers: list[signal.Signals]
) -> None:
    action = "\n".join(SIGNAL.format(int(number)) for number in numbers)
    done = run(aimed(phase, action, command(tmp_path)))
    assert done.returncode == 130, done.stdout + done.stderr
    said = re.fullmatch(r"bespoke: stopped by (\w+): run the same .* to resume\n", done.stderr)
    assert said, done.stderr
    assert said[1] in [number.name for number in numbers]
    assert "could not be" not in done.stdout
    assert run(command(tmp_path)).returncode == 0
    assert outcome(tmp_path) == undisturbed


@pytest.mark.parametrize("module", ["bespoke.run", "bespoke"])
def test_from_its_first_line_on_a_start_ends_with_130(tmp_path: Path, module: str) -> None:
    """At modules that the start imports, however early."""
    words = [sys.executable, "-m", module, *(["check"] if module == "bespoke" else [])]
    for text in ("bespoke/cli", "bespoke/files", "bespoke/experiment/config"):
        action = SIGNAL.format(int(signal.SIGINT))
        done = run(aimed(text, action, [*words, "--workspace", str(tmp_path)]))
        assert done.returncode == 130, (text, done.stdout + done.stderr)
        assert done.stderr.startswith("bespoke: stopped by SIGINT"), text
        assert done.stderr.count("\n") == 1


def test_nohup_keeps_a_run_from_ending_with_its_terminal(tmp_path: Path) -> None:
    words = aimed("/output/tests/", SIGNAL.format(int(signal.SIGHUP)), command(tmp_path))
    words[2] = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{words[2]}"
    assert run(words).returncode == 0


def test_a_second_signal_kills_a_trainer_that_takes_its_time(tmp_path: Path) -> None:
    patient = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@3", "BESPOKE_STOP_PATIENCE_S": "60"}
    child = start(command(tmp_path), **patient)
    assert any("epoch 1: REHEARSAL" in line for line in child.stdout or ())
    child.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 130
    assert errors == "bespoke: stopped by SIGTERM: run the same command again to resume\n"


FULL_AT = ("/logs/", "receipt.toml", ".run.json", "train.log", "/output/tests/", "record.sqlite")
# Fills the disk that the file is on, to its last byte.
FILL = """
filler = os.open({!r}, os.O_WRONLY | os.O_CREAT)
for size in (1 << 20, 1 << 12, 1):
    try:
        while True:
            os.write(filler, bytes(size))
    except OSError:
        pass
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: it takes root and the right to mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("phase", FULL_AT)
def test_a_disk_that_is_full_is_one_line_and_the_same_command_resumes_once_there_is_room(
    small_disk: Path, phase: str
) -> None:
    filler = small_disk / "filler"
    words = command(small_disk / "place")
    done = run(aimed(phase, FILL.format(str(filler)), words))
    assert filler.exists(), f"nothing was opened whose path holds {phase}"
    assert done.returncode == 4, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    remedy = f"no space left on the disk of {small_disk}/"
    assert remedy in done.stderr or "No space left on device" in done.stderr
    filler.unlink()
    assert run(words).returncode == 0
    assert [epoch for epoch, _ in outcome(small_disk / "place")["epochs"]] == [0, 1, 2, 3]
