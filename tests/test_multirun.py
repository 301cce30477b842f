"""Several runs at once: each gets a place, each ends by itself, and none is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.multirun import RunStatus, Schedule, _command, jobs_of, worst
from bespoke.rehearsal.drawing import draw
from bespoke.request import Request
from bespoke.signals import raising
from bespoke.trainer.journal import Journal
from tests.test_console import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "REHEARSAL_bespoke_baby_sd15_lora_smoke"
SEEDS = (42, 43, 44, 45, 46, 47)
SHORT = ("--set", "training.max_train_epochs=1")
CPU: tuple[None, ...] = (None, None)


def shell(name: str, script: str) -> RunStatus:
    return RunStatus(name, ("/bin/sh", "-c", script))


def seen(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def test_six_runs_in_two_places_are_never_more_than_two(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = f"echo + >> {book}; sleep 0.1; echo - >> {book}"
    runs = [shell(str(number), script) for number in range(6)]
    Schedule(runs, CPU, Journal()).train()
    marks = [1 if mark == "+" else -1 for (mark,) in seen(book)]
    assert max(sum(marks[: end + 1]) for end in range(len(marks))) == 2
    assert len(marks) == 12
    assert worst(runs) == 0


def test_a_gate_or_a_failure_frees_the_place_for_the_next_and_decides_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = 'echo \'bespoke-event: {"event": "failed", "message": "too green"}\'; exit'
    runs = [shell("a", f"{failed} 5"), shell("b", "true"), shell("c", "true")]
    Schedule(runs, CPU[:1], Journal()).train()
    assert [run.outcome for run in runs] == ["stopped by its gate: too green", "done", "done"]
    assert worst(runs) == 5
    assert "bespoke: a: stopped by its gate: too green\n" in capsys.readouterr().out
    runs = [shell("a", "exit 5"), shell("b", "exit 3"), shell("c", "exit 4"), shell("d", "true")]
    Schedule(runs, CPU[:1], Journal()).train()
    assert [run.code for run in runs] == [5, 3, 4, 0]
    assert worst(runs) == 3
    killed = shell("a", "kill -9 $$")
    Schedule([killed], CPU[:1], Journal()).train()
    assert (killed.outcome, worst([killed])) == ("failed (SIGKILL)", 1)


def test_one_run_is_on_each_gpu_and_the_next_takes_the_one_that_is_free(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = f"echo $0 $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER >> {book}"
    # The first stays until the last was there: all others follow each other on the other GPU.
    stay = f"{script}; until grep -q '^3' {book}; do sleep 0.02; done"
    runs = [RunStatus(str(n), ("sh", "-c", script if n else stay, str(n))) for n in range(4)]
    Schedule(runs, "01", Journal()).train()
    where = {row[0]: row[1:] for row in seen(book)}
    assert where["0"] == ["0", "PCI_BUS_ID"]
    assert [where[number] for number in "123"] == [["1", "PCI_BUS_ID"]] * 3


def test_a_run_that_ignores_term_is_killed_by_the_third_and_those_that_wait_never_start(
    tmp_path: Path, caught_signals: None
) -> None:
    ready = tmp_path / "ready"
    told = f"kill -TERM {os.getpid()}; sleep 0.7"
    deaf = f"trap '' TERM; touch {ready}; {told}; {told}; {told}; while :; do sleep 0.1; done"
    runs = [shell("deaf", deaf), shell("next", f"touch {tmp_path}/started")]
    with raising(), pytest.raises(InterruptedRunError, match="stopped by SIGTERM"):
        Schedule(runs, CPU[:1], Journal()).train()
    assert ready.exists()
    assert not (tmp_path / "started").exists()
    assert [run.outcome for run in runs] == ["failed (SIGKILL)", "not started"]


def event(kind: str, **facts: object) -> bytes:
    return f"bespoke-event: {json.dumps({'event': kind, **facts})}\n".encode()


TRAINING = (
    event("started")
    + b"bespoke: keep_tokens_3 can start\n"
    + event("launched", pid=77)
    + event("epoch_started", epoch=2, epochs=10)
    + event("progress", step=60, total=100, steps_per_second=2.5, loss=0.125)
)


def test_lines_and_events_are_told_apart_however_the_bytes_come() -> None:
    run = RunStatus("a", ())
    texts = [text for byte in TRAINING for text in run.take(bytes([byte]))]
    assert texts == ["keep_tokens_3 can start"]
    assert (run.state, run.trainers) == ("training", [77])
    assert run.cells() == ("a", "", "training", "2/10", "0:16", "60/100", "0.1250")


def test_a_text_that_looks_like_an_event_stays_a_text() -> None:
    run = RunStatus("a", ())
    line = b"bespoke: " + event("launched", pid=1)
    assert list(run.take(line)) == [line.decode().strip().removeprefix("bespoke: ")]
    assert run.trainers == []


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, "done"),
        (5, "stopped by its gate: the first word"),
        (3, "failed (exit code 3): the first word"),
        (-9, "failed (SIGKILL): the first word"),
    ],
)
def test_an_end_is_put_in_words_with_its_reason(code: int, told: str) -> None:
    run = RunStatus("a", ())
    if code:
        assert not list(run.take(event("failed", message="the first word\nand more")))
    run.end(code)
    assert run.outcome == told


def test_on_a_terminal_all_runs_are_one_table_and_lines_stand_above_it() -> None:
    script = (
        "from bespoke.console import say\n"
        "from bespoke.trainer.journal import Journal\n"
        "from bespoke.trainer.progress import Frame\n"
        "from bespoke.multirun import RunStatus, Schedule\n"
        "runs = [RunStatus('first', ()), RunStatus('second', ()), RunStatus('third', ())]\n"
        "with Frame(Schedule(runs, '0', Journal())._table):\n"
        "    for run in runs[:2]:\n"
        "        run.gpu = '0'\n"
        f"        list(run.take({TRAINING!r}))\n"
        "    runs[2].reason = '[red]hostile'\n"
        "    say('first: epoch 1: [bold]a-000001.safetensors')\n"
    )
    text = on_a_terminal(script, COLUMNS="100")
    rows = [line.split() for line in text.splitlines() if "second" in line]
    assert rows[-1] == ["second", "GPU", "0", "training", "2/10", "0:16", "60/100", "0.1250"]
    assert "bespoke: first: epoch 1: [bold]a-000001.safetensors" in text


# From here on, what a person starts: bespoke.run, with the fake trainer trainer.


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few") / "pictures"
    draw(folder, 4)
    return folder


def start(
    place: Path,
    few: Path,
    *arguments: str,
    **variables: str,
) -> subprocess.Popen[str]:
    shared = ("--rehearse", "--no-test", "--workspace", str(place), "--data", str(few))
    return subprocess.Popen(
        [sys.executable, "-m", "bespoke.run", *shared, *arguments],
        env={**os.environ, "BESPOKE_STOP_PATIENCE_S": "0.5", **variables},
        cwd=Path(__file__).resolve().parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=200)
    return child.returncode, out, err


def with_gpus(folder: Path, count: int) -> dict[str, str]:
    """A PATH whose nvidia-smi shows so many GPUs."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nfor gpu in {' '.join(map(str, range(count)))}; do\n"
        f'echo "NVIDIA X, 143771, 570.1, 0, 9.0, GPU-$gpu"; done\n'
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def processes(place: Path, what: str = "") -> list[Path]:
    """The folders in /proc of the processes whose command line names the workspace and `what`."""
    shown = subprocess.run(
        ["ps", "-e", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(maxsplit=1) for line in shown.splitlines()]
    return [Path("/proc") / pid for pid, line in rows if str(place) in line and what in line]


def trainers(place: Path) -> list[Path]:
    return processes(place, "fake_trainer.py")


def launched(place: Path) -> list[int]:
    """The process groups of all trainers that were started."""
    rows = [
        json.loads(line)
        for file in (place / "rehearsal" / "logs").glob("REHEARSAL*/*/events.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [row["pid"] for row in rows if row["event"] == "launched"]


def is_empty(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(ready: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"nothing came of it in {seconds} s"
        time.sleep(0.2)


def variable(process: Path, name: str) -> str:
    rows = (process / "environ").read_bytes().decode().split("\0")
    return dict(row.partition("=")[::2] for row in rows)[name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_runs_on_two_gpus_are_spread_and_none_outlives_the_one_that_started_them(
    tmp_path: Path, few: Path, number: signal.Signals
) -> None:
    place = tmp_path / "place"
    faulty = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", **with_gpus(tmp_path, 2)}
    child = start(place, few, "--experiment", "smoke", "--seeds", "42,43,44", **faulty)
    try:
        wait_for(lambda: len(trainers(place)) == 2 or child.poll() is not None)
        on = {variable(each, "CUDA_VISIBLE_DEVICES") for each in trainers(place)}
        assert on == {"0", "1"}
        groups = launched(place)
        child.send_signal(number)
        code, out, err = finished(child)
        if number is signal.SIGINT:
            # At once: it ends only when every group is empty.
            assert (processes(place), [*map(is_empty, groups)]) == ([], [True] * 2)
            assert code == 130, out + err
            assert err == "bespoke: stopped by SIGINT: run the same command again to resume\n"
            assert out.count(": interrupted: stopped by SIGTERM") >= 2
            assert "smoke_seed_44: not started" in out
        wait_for(lambda: not processes(place) and all(map(is_empty, groups)), seconds=30)
        assert len(groups) == 2
    finally:
        child.kill()
        child.communicate()


def test_a_run_that_is_killed_frees_its_place_once_its_trainer_is_gone(
    tmp_path: Path, few: Path
) -> None:
    place = tmp_path / "place"
    asked = ("--experiment", "smoke", "--seeds", "42,43", *SHORT)
    deaf = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", "BESPOKE_FAKE_TRAINER_FAULT_IN": NAME}
    child = start(place, few, *asked, **deaf)
    try:
        wait_for(lambda: bool(trainers(place)) or child.poll() is not None)
        (run_itself,) = processes(place, "--events")
        (group,) = launched(place)
        os.kill(int(run_itself.name), signal.SIGKILL)
        wait_for(lambda: bool(processes(place, "--seeds=43")) or child.poll() is not None)
        assert is_empty(group)
        code, out, err = finished(child)
    finally:
        child.kill()
        child.communicate()
    assert code == 1, out + err
    assert out.endswith("bespoke: smoke: failed (SIGKILL)\nbespoke: smoke_seed_43: done\n")
    # The same command resumes the one that was killed: it is one run, and has one row.
    code, out, err = finished(start(place, few, *asked))
    assert code == 0, out + err
    records = [*(place / "rehearsal").rglob(f"{NAME}.record.json")]
    assert len(records) == 1
    listed = subprocess.run(
        [sys.executable, "-m", "bespoke", "record", "list", "--workspace", place / "rehearsal"],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (line,) = [row for row in listed.splitlines() if row.endswith("SMOKE") or "SMOKE (" in row]
    assert line == "REHEARSAL_SD15_SMOKE"


def test_each_seed_has_names_of_its_own_and_one_that_fails_stops_no_other(
    tmp_path: Path, few: Path
) -> None:
    place = tmp_path / "place"
    asked = ("--experiment", "smoke", "--seeds", "42,43,44", *SHORT)
    fault = {
        "BESPOKE_FAKE_TRAINER_FAULT": "fail@1",
        "BESPOKE_FAKE_TRAINER_FAULT_IN": f"{NAME}_seed_43",
    }
    code, out, err = finished(start(place, few, *asked, **fault))
    assert code == 4, out + err
    assert "bespoke: 3 runs, one after another" in out
    last = out.splitlines()[-3:]
    assert last[0] == "bespoke: smoke: done"
    assert last[1].startswith("bespoke: smoke_seed_43: failed (exit code 4): the trainer ended")
    assert last[2] == "bespoke: smoke_seed_44: done"
    output = place / "rehearsal" / "output"
    assert not list(output.glob(f"{NAME}_seed_43-*.safetensors"))
    seeds = {}
    for name in (NAME, f"{NAME}_seed_44"):
        with safe_open(output / f"{name}-000001.safetensors", framework="numpy") as opened:
            seeds[name] = opened.metadata()["ss_seed"]
    assert seeds == {NAME: "42", f"{NAME}_seed_44": "44"}


def test_an_experiment_whose_pictures_are_wrong_does_not_stop_the_other(
    tmp_path: Path, few: Path
) -> None:
    asked = ("--experiment", "final_corrected_captions", "--experiment", "smoke")
    code, out, err = finished(start(tmp_path, few, *asked, *SHORT))
    assert code == 3, out + err
    assert "bespoke: final_corrected_captions: failed (exit code 3): " in out
    assert out.endswith("bespoke: smoke: done\n")


def several(tmp_path: Path, *experiments: str, **wanted: object) -> Request:
    return Request(experiments=experiments, workspace=tmp_path, **wanted)  # type: ignore[arg-type]


def names(request: Request) -> list[str]:
    start = "bespoke_baby_sd15_lora_"
    return [job.name.removeprefix(start) for job in jobs_of(request, Journal())]


def test_a_parent_runs_under_its_own_names_once_with_each_seed(tmp_path: Path) -> None:
    both = several(tmp_path, "keep_tokens_5", "conv_dim_8", with_parent=True, seeds=(42, 7))
    own = ["keep_tokens_5", "conv_dim_8", "keep_tokens_3"]
    assert names(both) == [*own, *(f"{name}_seed_7" for name in own)]


def test_what_cannot_be_asked_for_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no parent; leave --with-parent out"):
        names(several(tmp_path, "final_corrected_captions", with_parent=True))
    with pytest.raises(ConfigError, match="smoke, smoke: 2 of these runs would write"):
        names(several(tmp_path, "smoke", "smoke"))
    with pytest.raises(ConfigError, match="smoke_seed_1, smoke_seed_1"):
        names(several(tmp_path, "smoke", seeds=(1, 42, 1)))
    with pytest.raises(ConfigError, match='no experiment "smok": did you mean'):
        names(several(tmp_path, "smoke", "smok"))
    assert not (tmp_path / "logs").exists()


@pytest.mark.trainer
def test_the_real_trainer_trains_two_seeds_one_after_another(
    repository: Path, random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "random-sd15").symlink_to(random_model)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bespoke.run", "--experiment", "smoke", "--seeds", "42,43"),
            *("--set", "training.max_train_epochs=1"),
            *("--workspace", str(tmp_path)),
        ],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sums = set()
    for name in ("smoke", "smoke_seed_43"):
        path = tmp_path / "output" / f"bespoke_baby_sd15_lora_{name}-000001.safetensors"
        with safe_open(path, framework="numpy") as opened:
            sums.add(opened.metadata()["sshs_model_hash"])
    assert len(sums) == 2, "both seeds made the same weights"
    spans = []
    for file in (tmp_path / "logs").glob("bespoke_baby*/*/events.jsonl"):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        told = {row["event"]: row["time"] for row in rows}
        spans.append((told["launched"], told["ended"]))
    assert max(begun for begun, _ in spans) > min(ended for _, ended in spans)


def test_a_parent_is_given_only_the_folders_of_subsets_that_it_has(tmp_path: Path) -> None:
    data = ("training_data=/one", "generated=/two")
    asked = several(tmp_path, "expanded_dataset", with_parent=True, data=data)
    child, parent = (_command(job) for job in jobs_of(asked, Journal()))
    assert [word for word in child if word.startswith("--data")] == [
        f"--data={each}" for each in data
    ]
    assert [word for word in parent if word.startswith("--data")] == ["--data=training_data=/one"]
    with pytest.raises(ConfigError, match="--data generate=…: did you mean 'generated'"):
        names(several(tmp_path, "expanded_dataset", data=("generate=/two",)))
