"""Several runs: one a GPU, one after another, each ends by itself, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.multirun import RunStatus, Schedule, _command, jobs_of, worst
from bespoke.request import Request
from bespoke.signals import raising
from bespoke.trainer.job import Journal
from tests.rehearsals import NAME, command, is_empty, run, start, trainers, wait_for
from tests.test_interrupted import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = ("--no-test", "--set", "training.max_train_epochs=1")
CPU: tuple[None, ...] = (None,)


def shell(name: str, script: str) -> RunStatus:
    return RunStatus(name, ("/bin/sh", "-c", script, name))


def test_a_gate_or_a_failure_frees_the_place_for_the_next_and_decides_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [shell("a", "echo bespoke: too green; exit 5"), shell("b", "true"), shell("c", "true")]
    Schedule(runs, CPU, Journal()).train()
    assert [run.outcome for run in runs] == ["stopped by its gate: too green", "done", "done"]
    assert worst(runs) == 5
    assert "bespoke: a: too green\nbespoke: a: stopped by its gate: too green\n" in (
        capsys.readouterr().out
    )
    runs = [shell("a", "exit 5"), shell("b", "exit 3"), shell("c", "exit 4"), shell("d", "true")]
    Schedule(runs, CPU, Journal()).train()
    assert [run.code for run in runs] == [5, 3, 4, 0]
    assert worst(runs) == 3


def test_one_run_is_on_each_gpu_and_the_next_takes_the_one_that_is_free(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = f"echo $0 $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER >> {book}"
    # The first stays until the last was there: all others follow each other on the other GPU.
    stay = f"{script}; until grep -q '^3' {book}; do sleep 0.02; done"
    runs = [shell(str(number), script if number else stay) for number in range(4)]
    Schedule(runs, "01", Journal()).train()
    rows = [line.split() for line in book.read_text(encoding="utf-8").splitlines()]
    where = {row[0]: row[1:] for row in rows}
    assert where["0"] == ["0", "PCI_BUS_ID"]
    assert [where[number] for number in "123"] == [["1", "PCI_BUS_ID"]] * 3


def test_a_run_that_ignores_term_is_killed_by_the_third_and_those_that_wait_never_start(
    tmp_path: Path, caught_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESPOKE_STOP_PATIENCE_S", "0.1")
    told = f"kill -TERM {os.getpid()}; sleep 0.7"
    deaf = f"trap '' TERM; {told}; {told}; {told}; while :; do sleep 0.1; done"
    runs = [shell("deaf", deaf), shell("next", f"touch {tmp_path}/started")]
    with raising(), pytest.raises(InterruptedRunError, match="stopped by SIGTERM"):
        Schedule(runs, CPU, Journal()).train()
    assert not (tmp_path / "started").exists()
    assert [run.outcome for run in runs] == ["failed (SIGKILL)", "not started"]
    assert worst(runs[:1]) == 1


def test_lines_are_told_apart_however_the_bytes_come() -> None:
    run = RunStatus("a", ())
    lines = b"bespoke: keep_tokens_3 can start\nand so on\n"
    texts = [text for byte in lines for text in run.take(bytes([byte]))]
    assert texts == ["keep_tokens_3 can start", "and so on"]


# From here on, what a person starts.


def processes(place: Path, *words: str) -> list[int]:
    """Those whose command line names the workspace and all of these words."""
    shown = subprocess.check_output(["ps", "-e", "-ww", "-o", "pid=,args="], text=True)
    rows = [line.split(maxsplit=1) for line in shown.splitlines()]
    return [int(pid) for pid, line in rows if all(word in line for word in (str(place), *words))]


@pytest.fixture
def with_gpus(tmp_path: Path) -> dict[str, str]:
    """A PATH whose nvidia-smi shows two GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    rows = "".join(f'echo "NVIDIA X, 143771, 570.1, 0, 9.0, GPU-{gpu}"\n' for gpu in (0, 1))
    program.write_text(f"#!/bin/sh\n{rows}")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_runs_on_two_gpus_are_spread_and_none_outlives_the_one_that_started_them(
    tmp_path: Path, with_gpus: dict[str, str], number: signal.Signals
) -> None:
    place = tmp_path / "place"
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", **with_gpus}
    child = start(command(place, "--seeds", "42,43,44", "--no-test"), **hang)
    try:
        wait_for(lambda: len(processes(place, "fake_trainer.py")) == 2)
        environments = [
            Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            for pid in processes(place, "fake_trainer.py")
        ]
        for gpu in (b"0", b"1"):
            assert sum(b"CUDA_VISIBLE_DEVICES=" + gpu in each for each in environments) == 1
        groups = trainers(place)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
        if number is signal.SIGINT:
            # At once: it ends only when every group is empty.
            assert (processes(place), [*map(is_empty, groups)]) == ([], [True] * 2)
            assert child.returncode == 130, out + err
            assert err == "bespoke: stopped by SIGINT: run the same command again to resume\n"
            assert out.count(": interrupted: stopped by SIGTERM") >= 2
            assert "smoke_seed_44: not started" in out
        wait_for(lambda: not processes(place) and all(map(is_empty, groups)), seconds=30)
    finally:
        child.kill()
        child.communicate()


# In every Python process: the first to write an epoch's test tells the one that started it to stop.
STOPS = """
import os, sys, time
def aim(event, arguments, sent=[]):
    if event == "open" and "/output/tests/" in str(arguments[0]) and not sent:
        sent.append(os.kill(os.getppid(), 15))
        time.sleep(1)
sys.addaudithook(aim)
"""


def test_runs_that_are_stopped_while_an_epoch_is_tested_finish_the_test_and_resume(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOPS)
    words = command(tmp_path, "--seeds", "42,43")
    done = run(words, PYTHONPATH=str(tmp_path))
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stderr == "bespoke: stopped by SIGTERM: run the same command again to resume\n"
    assert "smoke: interrupted: stopped by SIGTERM" in done.stdout
    assert "smoke_seed_43: not started" in done.stdout
    tested = outcome(tmp_path)["epochs"]
    assert [epoch for epoch, _ in tested] == [1]
    assert run(words).returncode == 0
    assert outcome(tmp_path)["epochs"][0] == tested[0]
    assert [epoch for epoch, _ in outcome(tmp_path)["epochs"]] == [1, 2, 3]


def test_a_run_that_is_killed_frees_its_place_once_its_trainer_is_gone(tmp_path: Path) -> None:
    words = command(tmp_path, "--seeds", "42,43", *SHORT)
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", "BESPOKE_FAKE_TRAINER_FAULT_IN": NAME}
    child = start(words, **hang)
    try:
        wait_for(lambda: trainers(tmp_path))
        (group,) = trainers(tmp_path)
        (first,) = processes(tmp_path, "--seeds 42 ")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: processes(tmp_path, "--seeds 43 "))
        assert is_empty(group)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 1, out + err
    assert "bespoke: smoke: failed (SIGKILL)" in out
    assert out.endswith("bespoke: smoke_seed_43: done\n")
    # The same command resumes the one that was killed: it is one run, and has one row.
    assert run(words).returncode == 0
    place = ["--workspace", str(tmp_path / "rehearsal")]
    rows = run([sys.executable, "-m", "bespoke", "record", "list", *place]).stdout.splitlines()
    assert rows.count("REHEARSAL_SD15_SMOKE") == 1
    assert not [row for row in rows if "SMOKE (" in row]


def test_each_seed_has_names_of_its_own_and_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    words = command(tmp_path, "--seeds", "42,43,44", *SHORT)
    second = f"{NAME}_seed_43"
    fault = {"BESPOKE_FAKE_TRAINER_FAULT": "fail@1", "BESPOKE_FAKE_TRAINER_FAULT_IN": second}
    done = run(words, **fault)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "bespoke: 3 runs, one after another" in done.stdout
    last = done.stdout.splitlines()[-3:]
    assert last[0] == "bespoke: smoke: done"
    assert last[1].startswith("bespoke: smoke_seed_43: failed (exit code 4): ")
    assert last[2] == "bespoke: smoke_seed_44: done"
    seeds = {}
    for path in (tmp_path / "rehearsal" / "output").glob("*.safetensors"):
        with safe_open(path, framework="numpy") as opened:
            seeds[path.name] = opened.metadata()["ss_seed"]
    assert seeds == {
        f"{NAME}-000001.safetensors": "42", f"{NAME}_seed_44-000001.safetensors": "44",
    }  # fmt: skip


def jobs(tmp_path: Path, *experiments: str, **wanted: object) -> Iterator[tuple[str, list[str]]]:
    request = Request(experiments=experiments, workspace=tmp_path, **wanted)  # type: ignore[arg-type]
    for job in jobs_of(request, Journal()):
        yield job.name.removeprefix("bespoke_baby_sd15_lora_"), _command(job)


def test_a_parent_runs_under_its_own_names_once_with_each_seed(tmp_path: Path) -> None:
    wanted = jobs(tmp_path, "keep_tokens_5", "conv_dim_8", with_parent=True, seeds=(42, 7))
    own = ["keep_tokens_5", "conv_dim_8", "keep_tokens_3"]
    assert [name for name, _ in wanted] == [*own, *(f"{name}_seed_7" for name in own)]


def test_a_parent_is_given_only_the_folders_of_subsets_that_it_has(tmp_path: Path) -> None:
    data = ("training_data=/one", "generated=/two")
    (_, child), (_, parent) = jobs(tmp_path, "expanded_dataset", with_parent=True, data=data)
    assert [word for word in child if "data=" in word or "generated=" in word] == [*data]
    assert [word for word in parent if "data=" in word or "generated=" in word] == [data[0]]


@pytest.mark.parametrize(
    ("experiments", "wanted", "words"),
    [
        (["final_corrected_captions"], {"with_parent": True}, "no parent; leave --with-parent out"),
        (["smoke", "smoke"], {}, "smoke, smoke: 2 of these runs would write"),
        (["smoke"], {"seeds": (1, 42, 1)}, "smoke_seed_1, smoke_seed_1"),
        (["smoke", "smok"], {}, 'no experiment "smok": did you mean'),
        (["expanded_dataset"], {"data": ("generate=/two",)}, "did you mean 'generated'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_starts(
    tmp_path: Path, experiments: list[str], wanted: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        list(jobs(tmp_path, *experiments, **wanted))
    assert not (tmp_path / "logs").exists()


@pytest.mark.trainer
def test_the_real_trainer_trains_two_seeds_one_after_another(
    repository: Path, random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "random-sd15").symlink_to(random_model)
    words = ["--experiment", "smoke", "--seeds", "42,43", *SHORT, "--workspace", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "bespoke.run", *words], cwd=repository, timeout=900, check=True
    )
    sums = set()
    for name in ("smoke", "smoke_seed_43"):
        path = tmp_path / "output" / f"bespoke_baby_sd15_lora_{name}-000001.safetensors"
        with safe_open(path, framework="numpy") as opened:
            sums.add(opened.metadata()["sshs_model_hash"])
    assert len(sums) == 2, "both seeds made the same weights"
