"""Several runs: one a GPU, one after another, each ends by itself, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError, InterruptedRunError
from bespoke.multirun import RunStatus, Schedule, _command, jobs_of, worst
from bespoke.request import Request
from bespoke.signals import raising
from bespoke.trainer.job import Journal
from tests.rehearsals import NAME, command, is_empty, run, start, trainers, wait_for
from tests.test_interrupted import outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHORT = ("--no-test", "--set", "training.max_train_epochs=1")
CPU: tuple[None, ...] = (None,)


def shell(name: str, script: str) -> RunStatus:
    return RunStatus(name, ("/bin/sh", "-c", script, name))


def test_a_gate_or_a_failure_frees_the_place_for_the_next_and_decides_the_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = "printf 'bespoke: too '; sleep 0.2; echo green; exit 5"
    runs = [shell("a", first), shell("b", "true")]
    Schedule(runs).train(CPU)
    assert [run.outcome for run in runs] == ["stopped by its gate: too green", "done"]
    assert worst(runs) == 5
    assert "bespoke: a: too green\nbespoke: a: stopped by its gate" in capsys.readouterr().out
    runs = [shell("a", "exit 5"), shell("b", "exit 3"), shell("c", "exit 4"), shell("d", "true")]
    Schedule(runs).train(CPU)
    assert [run.code for run in runs] == [5, 3, 4, 0]
    assert worst(runs) == 3


def test_one_run_is_on_each_gpu_and_the_next_takes_the_one_that_is_free(tmp_path: Path) -> None:
    book = tmp_path / "book"
    script = f"echo $0 $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER >> {book}"
    # The first stays until the last was there: all others follow each other on the other GPU.
    stay = f"{script}; until grep -q '^3' {book}; do sleep 0.02; done"
    runs = [shell(str(number), script if number else stay) for number in range(4)]
    Schedule(runs).train("01")
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
        Schedule(runs).train(CPU)
    assert not (tmp_path / "started").exists()
    assert [run.outcome for run in runs] == ["failed (SIGKILL)", "not started"]
    assert worst(runs[:1]) == 1


def processes(place: Path, *words: str) -> list[int]:
    """Those whose command line names the workspace and all of these words."""
    shown = subprocess.check_output(["ps", "-e", "-ww", "-o", "pid=,args="], text=True)
    rows = [line.split(maxsplit=1) for line in shown.splitlines()]
    return [int(pid) for pid, line in rows if all(word in line for word in (str(place), *words))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_runs_on_two_gpus_are_spread_and_none_outlives_the_one_that_started_them(
    tmp_path: Path, number: signal.Signals
) -> None:
    place, program = tmp_path / "place", tmp_path / "nvidia-smi"
    rows = "".join(f'echo "NVIDIA X, 143771, 0, 9.0, GPU-{gpu}"\n' for gpu in (0, 1))
    program.write_text(f"#!/bin/sh\n{rows}")
    program.chmod(0o755)
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    child = start(command(place, "--seeds", "42,43,44", "--no-test"), **hang)
    try:
        wait_for(lambda: len(processes(place, "fake_trainer.py")) == 2)
        groups = trainers(place)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
        if number is signal.SIGINT:
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
    words = command(tmp_path, "--seeds", "42,43", "--set", "training.max_train_epochs=2")
    done = run(words, PYTHONPATH=str(tmp_path))
    assert done.returncode == 130, done.stdout + done.stderr
    assert done.stderr == "bespoke: stopped by SIGTERM: run the same command again to resume\n"
    assert "smoke: interrupted: stopped by SIGTERM" in done.stdout
    assert "smoke_seed_43: not started" in done.stdout
    tested = outcome(tmp_path)["epochs"]
    assert [epoch for epoch, _ in tested] == [0]
    assert run(words).returncode == 0
    assert outcome(tmp_path)["epochs"][0] == tested[0]
    assert [epoch for epoch, _ in outcome(tmp_path)["epochs"]] == [0, 1, 2]


def test_a_run_that_is_killed_frees_its_place_once_its_trainer_is_gone(tmp_path: Path) -> None:
    words = command(tmp_path, "--seeds", "42,43", *SHORT)
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@1", "BESPOKE_FAKE_TRAINER_FAULT_IN": NAME}
    child = start(words, **hang)
    try:
        wait_for(lambda: trainers(tmp_path))
        (group,) = trainers(tmp_path)
        (first,) = processes(tmp_path, "--seeds=42")
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: processes(tmp_path, "--seeds=43"))
        assert is_empty(group)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 1, out + err
    assert "bespoke: smoke: failed (SIGKILL)" in out
    assert out.endswith("bespoke: smoke_seed_43: done\n")


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
    words = [f"--data={each}" for each in data]
    assert [word for word in child if "--data" in word] == words
    assert [word for word in parent if "--data" in word] == words[:1]


@pytest.mark.parametrize(
    ("experiments", "wanted", "words"),
    [
        (["final_corrected_captions"], {"with_parent": True}, "no parent; leave --with-parent out"),
        (["smoke", "smoke"], {}, "smoke, smoke: 2 of these runs would write"),
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
