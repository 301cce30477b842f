"""Whatever happens, no finished epoch is lost, none is trained twice, and the end is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bespoke.errors import ConfigError
from bespoke.request import Request
from bespoke.trainer import checkpoints, resume
from bespoke.trainer.job import Journal
from bespoke.trainer.training import open_job
from tests.trainer.rehearsals import NAME, REPOSITORY, command, job, rehearse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EPOCHS = 5


def start(
    place: Path, drawn: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return rehearse(place, drawn, "--no-test", *arguments, epochs=EPOCHS, **variables)


def tensors(place: Path) -> dict[str, bytes]:
    """Every numbered checkpoint's tensors, as bytes."""
    found = {}
    for path in sorted((place / "rehearsal" / "output").glob(f"{NAME}-*.safetensors")):
        rows = load_file(path)
        found[path.name] = b"".join(rows[key].tobytes() for key in sorted(rows))
    return found


def epochs_trained(place: Path) -> list[int]:
    """The epochs of all starts' journals whose checkpoint was noted, in time's order."""
    rows = []
    for file in sorted((place / "rehearsal" / "logs" / NAME).glob("*/events.jsonl")):
        rows += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row["epoch"] for row in rows if row["event"] == "checkpoint"]


@pytest.fixture(scope="module")
def untouched(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("untouched")
    done = start(place, drawn)
    assert done.returncode == 0, done.stderr
    return tensors(place)


@pytest.mark.parametrize(
    "fault", ["die@1300", "die_saving@1300", "die_saving_state@1300", "disk_full@1600"]
)
def test_the_same_command_goes_on_and_ends_as_if_nothing_had_happened(
    drawn: Path, tmp_path: Path, untouched: dict[str, bytes], fault: str
) -> None:
    assert start(tmp_path, drawn, BESPOKE_FAKE_TRAINER_FAULT=fault).returncode == 4
    done = start(tmp_path, drawn)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch " in done.stdout
    assert tensors(tmp_path) == untouched
    assert epochs_trained(tmp_path) == sorted(set(epochs_trained(tmp_path)))


def trainers(place: Path) -> list[int]:
    """The fake trainers that work for this workspace."""
    shown = subprocess.run(
        ["ps", "-e", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 1) for line in shown.splitlines()]
    return [int(pid) for pid, text in rows if "fake_trainer.py" in text and str(place) in text]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_start_says_who_has_the_run_and_a_killed_one_leaves_no_trainer_and_no_lock(
    drawn: Path, tmp_path: Path, untouched: dict[str, bytes]
) -> None:
    hang = {"BESPOKE_FAKE_TRAINER_FAULT": "hang@20", "BESPOKE_STOP_PATIENCE_S": "0.5"}
    child = subprocess.Popen(
        command(tmp_path, drawn, "--no-test", epochs=EPOCHS),
        cwd=REPOSITORY,
        env={**os.environ, **hang},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: bool(trainers(tmp_path)))
    second = start(tmp_path, drawn)
    assert second.returncode == 2
    assert f"{NAME}: locked by process {child.pid} on " in second.stderr
    child.kill()
    child.wait()
    wait_until(lambda: not trainers(tmp_path))
    assert start(tmp_path, drawn).returncode == 0
    assert tensors(tmp_path) == untouched


def test_a_changed_option_is_not_resumed_and_a_new_start_keeps_what_was(
    drawn: Path, tmp_path: Path
) -> None:
    assert start(tmp_path, drawn, BESPOKE_FAKE_TRAINER_FAULT="die@1300").returncode == 4
    output = tmp_path / "rehearsal" / "output"
    record = resume.read_record(output, NAME)
    assert record is not None
    changed = {**record.settings, "training.unet_lr": 5e-5, "data training_data": "other"}
    said = r"the pictures or captions have changed\n.*unet_lr: was 0.0001, is 5e-05\n.*--fresh"
    with pytest.raises(ConfigError, match=said):
        resume.decide(job(tmp_path, epochs=EPOCHS), changed)
    before = tensors(tmp_path)
    # A rehearsal, of which nothing is a result, starts again unasked.
    done = start(tmp_path, drawn, "--set", "training.unet_lr=5e-5")
    assert done.returncode == 0, done.stderr
    assert "earlier files to" in done.stdout
    (aside,) = (tmp_path / "rehearsal" / "output" / "earlier").iterdir()
    kept = {path.name for path in aside.glob("*.safetensors")}
    assert kept == set(before)


def test_two_states_are_kept_and_the_incomplete_are_named_and_kept(
    drawn: Path, tmp_path: Path
) -> None:
    assert (
        start(tmp_path, drawn, BESPOKE_FAKE_TRAINER_FAULT="die_saving_state@1600").returncode == 4
    )
    output = tmp_path / "rehearsal" / "output"
    # Epoch 4's state was being written; 2 and 3 were whole and are the two that are kept.
    assert [epoch for epoch, _ in checkpoints.states(output, NAME)] == [4, 3, 2]
    done = start(tmp_path, drawn)
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 3" in done.stdout
    assert list((output / "incomplete").glob(f"{NAME}-*/{NAME}-000004-state"))
    assert [epoch for epoch, _ in checkpoints.states(output, NAME)] == [4, 3]


def test_files_without_a_record_are_left_alone(tmp_path: Path) -> None:
    run = job(tmp_path, epochs=2)
    run.output.mkdir()
    (run.output / f"{NAME}-000001.safetensors").touch()
    with pytest.raises(ConfigError, match=r"run.json: missing or unreadable.*--fresh"):
        resume.decide(run, {})
    assert [path.name for path in run.output.iterdir()] == [f"{NAME}-000001.safetensors"]


def test_an_unreadable_record_is_as_good_as_none(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"settings": 3, "steps_per_epoch": 1}', "\x00", "[" * 100_000):
        resume.record_path(tmp_path, "a").write_text(text, encoding="utf-8")
        assert resume.read_record(tmp_path, "a") is None


def test_a_complete_last_checkpoint_without_its_number_is_a_finished_run(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "w")
    run = job(tmp_path / "w", epochs=4)
    last = checkpoints.checkpoint_path(run.output, NAME, 4)
    last.rename(run.output / f"{NAME}.safetensors")
    record = resume.read_record(run.output, NAME)
    assert record is not None
    assert resume.prepare(run, record.settings).finished
    assert last.exists()


def test_a_checkpoint_taken_away_is_asked_for_and_nothing_is_trained_again(
    drawn: Path, tmp_path: Path, untouched: dict[str, bytes]
) -> None:
    assert start(tmp_path, drawn, BESPOKE_FAKE_TRAINER_FAULT="die@1300").returncode == 4
    output = tmp_path / "rehearsal" / "output"
    taken = checkpoints.checkpoint_path(output, NAME, 1)
    taken.rename(tmp_path / "taken")
    before = sorted(path.name for path in output.iterdir())
    record = resume.read_record(output, NAME)
    assert record is not None
    with pytest.raises(ConfigError, match=rf"{taken.name} is missing or incomplete; put it back"):
        resume.prepare(job(tmp_path, epochs=EPOCHS), record.settings)
    assert sorted(path.name for path in output.iterdir()) == before
    (tmp_path / "taken").rename(taken)
    assert start(tmp_path, drawn).returncode == 0
    assert tensors(tmp_path) == untouched


def with_tests(place: Path, drawn: Path, *arguments: str, epochs: int = 4, **variables: str) -> str:
    """What a start with tests and a gate said, of short epochs."""
    short = ("--set", "dataset.num_repeats=1", *arguments)
    done = rehearse(place, drawn, *short, epochs=epochs, **variables)
    return f"{done.stdout}{done.stderr}exit code {done.returncode}"


@pytest.fixture(scope="module")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of four epochs with tests; to be copied."""
    place = tmp_path_factory.mktemp("finished")
    assert "exit code 0" in with_tests(place, drawn)
    return place


def interrupted(finished: Path, place: Path, after: int) -> Path:
    """A copy of a finished run as it was at the end of epoch `after`; returns its output."""
    shutil.copytree(finished, place)
    output = place / "rehearsal" / "output"
    for epoch in range(after + 1, 5):
        checkpoints.checkpoint_path(output, NAME, epoch).unlink()
        shutil.rmtree(output / f"{NAME}-{epoch:06d}-state", ignore_errors=True)
        for folder in (output / "tests").glob(f"{NAME}-{epoch:06d}-*"):
            shutil.rmtree(folder)
    shutil.rmtree(output / f"{NAME}-state", ignore_errors=True)
    return output


def test_what_a_resumed_epoch_lacks_in_pictures_is_drawn_and_tested(
    drawn: Path, finished: Path, tmp_path: Path
) -> None:
    output = interrupted(finished, tmp_path / "w", 3)
    (folder,) = (output / "tests").glob(f"{NAME}-000003-*")
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    shutil.rmtree(folder)
    for path in sorted((output / "sample").glob(f"{NAME}_e000003_*"))[4:]:
        path.unlink()
    said = with_tests(tmp_path / "w", drawn)
    assert "epoch 3: not all its test pictures are there; the trainer draws them" in said
    assert "epoch 3: background right in 9 of 9" in said
    assert "exit code 0" in said
    (folder,) = (output / "tests").glob(f"{NAME}-000003-*")
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before


@pytest.mark.parametrize("damage", ["torn", "gone"])
def test_a_gate_that_stopped_a_run_stops_it_again_whatever_became_of_its_test(
    drawn: Path, tmp_path: Path, damage: str
) -> None:
    never = {
        "BESPOKE_FAKE_TRAINER_BACKGROUND": "never",
        "BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": "0.6@205",
    }
    assert "exit code 5" in with_tests(tmp_path, drawn, epochs=7, **never)
    output = tmp_path / "rehearsal" / "output"
    (folder,) = (output / "tests").glob(f"{NAME}-000004-*")
    if damage == "torn":
        result = folder / "result.json"
        result.write_bytes(result.read_bytes()[:200])
    else:
        shutil.rmtree(folder)
        for path in (output / "sample").glob("*.png"):
            path.unlink()
        # A later state is there, so that nothing is drawn for the gate's epoch.
        for kind in (".safetensors", "-state"):
            source, target = (output / f"{NAME}-00000{n}{kind}" for n in (4, 5))
            shutil.copytree(source, target) if kind == "-state" else save_epoch(source, target, 5)
    again = with_tests(tmp_path, drawn, epochs=7, **never)
    assert "the same command with --no-gate resumes" in again
    assert "exit code 5" in again
    assert "the trainer starts" not in again


def save_epoch(source: Path, target: Path, epoch: int) -> None:
    """A copy of a checkpoint that carries another epoch."""
    with safe_open(source, framework="numpy") as opened:
        metadata = {**opened.metadata(), "ss_epoch": str(epoch)}
    save_file(load_file(source), target, metadata)


def test_a_state_whose_weights_were_changed_is_passed_over_for_the_one_before(
    drawn: Path, finished: Path, tmp_path: Path
) -> None:
    output = interrupted(finished, tmp_path / "w", 3)
    weights = output / f"{NAME}-000003-state" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = with_tests(tmp_path / "w", drawn)
    assert "resuming after epoch 2" in said
    assert tensors(tmp_path / "w") == tensors(finished)


def test_a_wrong_number_of_steps_is_mended_by_the_trainers_own(
    drawn: Path, finished: Path, tmp_path: Path
) -> None:
    output = interrupted(finished, tmp_path / "w", 3)
    file = resume.record_path(output, NAME)
    content = json.loads(file.read_text(encoding="utf-8"))
    steps = content["steps_per_epoch"]
    file.write_text(json.dumps({**content, "steps_per_epoch": steps - 20}), encoding="utf-8")
    said = with_tests(tmp_path / "w", drawn)
    assert f"said {steps - 20} steps an epoch, the trainer says {steps}" in said
    assert "exit code 0" in said
    assert tensors(tmp_path / "w") == tensors(finished)


def test_a_run_with_set_leaves_one_with_other_values_alone_and_is_found_again(
    tmp_path: Path,
) -> None:
    def name(*overrides: str) -> str:
        request = Request(experiments=("keep_tokens_3",), workspace=tmp_path, overrides=overrides)
        return open_job(request, Journal()).name

    plain = name()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / f"{plain}-000001.safetensors").touch()
    settings = {"training.network_dim": 32}
    record = resume.RunFile(settings=settings).model_dump_json()
    (tmp_path / "output" / f"{plain}.run.json").write_text(record, encoding="utf-8")
    assert name("training.network_dim=32") == plain
    assert name("training.network_dim=16") == f"{plain}_network_dim_16"
    # Where a thing lies on this machine makes no other run.
    assert name("training.pretrained_model_name_or_path=random") == plain
