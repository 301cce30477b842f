"""Claims about the stand-in trainer, each made of a real child process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import toml
from PIL import Image
from safetensors import safe_open

from bespoke.rehearsal import console, drawing, faults, stand_in

SCRIPT = Path(stand_in.__file__)
NAME = "REHEARSAL_tiny"
# As in the facts of the trainer, where it was matched against the real one's updates.
PROGRESS = re.compile(
    r"steps:\s+(\d+)%\|[^|]*\|\s*(\d+)/(\d+) \[([\d:]+)<([\d:?]+),\s*([\d.]+|\?)(it/s|s/it)"
    r"(?:, ([^\]]*))?\]"
)
STATE_FILES = [
    "train_state.json",
    "model.safetensors",
    "optimizer.bin",
    "scheduler.bin",
    "scaler.pt",
    "random_states_0.pkl",
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    drawing.draw(folder, 7)
    return folder


class Job:
    """One set of TOMLs: 7 pictures x 2 repeats, accumulation 4, so 4 steps an epoch; 3 epochs."""

    def __init__(self, folder: Path, pictures: Path) -> None:
        self.output = folder / "output"
        self.file = folder / "training.toml"
        self.dataset_file = folder / "dataset.toml"
        self.dataset = {
            "general": {"caption_extension": ".txt", "resolution": 512},
            "datasets": [
                {"batch_size": 1, "subsets": [{"image_dir": str(pictures), "num_repeats": 2}]}
            ],
        }
        self.training = {
            "network": {
                "network_module": "networks.lora",
                "network_dim": 32,
                "network_alpha": 16,
            },
            "training": {
                "max_train_epochs": 3,
                "gradient_accumulation_steps": 4,
                "learning_rate": 1e-4,
                "mixed_precision": "fp16",
                "save_precision": "fp16",
                "save_every_n_epochs": 1,
                "save_state": True,
                "seed": 42,
                "console_log_simple": True,
            },
            "output_name": NAME,
            "output_dir": str(self.output),
            "dataset_config": str(self.dataset_file),
            "pretrained_model_name_or_path": "/models/v1-5-pruned-emaonly.safetensors",
        }

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[bytes]:
        self.file.write_text(toml.dumps(self.training), encoding="utf-8")
        self.dataset_file.write_text(toml.dumps(self.dataset), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), "--config_file", str(self.file), *argv],
            cwd=self.file.parent,
            env=os.environ | {"BESPOKE_STAND_IN_SECONDS_PER_STEP": "0"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *argv: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*argv, **environment) as child:
            out, err = child.communicate(timeout=60)
        return child.returncode, out.decode(), err.decode()

    def done(self, *argv: str, **environment: str) -> str:
        code, out, err = self.run(*argv, **environment)
        assert code == 0, err
        return out

    def names(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir())

    def tensors(self, name: str = NAME) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(self.output / f"{name}.safetensors")

    def metadata(self, name: str = NAME) -> dict[str, str]:
        with safe_open(self.output / f"{name}.safetensors", "numpy") as opened:
            return opened.metadata()


@pytest.fixture
def job(tmp_path: Path, pictures: Path) -> Job:
    return Job(tmp_path, pictures)


def test_fourteen_batches_and_accumulation_4_are_4_steps_an_epoch(job: Job) -> None:
    out = job.done()
    assert "  num batches per epoch / 1epochのバッチ数: 14\n" in out
    assert "  total optimization steps / 学習ステップ数: 12\n" in out


def test_the_collection_of_203_at_10_repeats_is_5080_steps(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "203"
    folder.mkdir()
    for number in range(203):
        (folder / f"lad_{number}.png").write_bytes(b"")
        (folder / f"lad_{number}.txt").write_text("pixel art\n", encoding="utf-8")
    job.dataset["datasets"][0]["subsets"] = [{"image_dir": str(folder), "num_repeats": 10}]
    job.training["training"] |= {"max_train_epochs": 10, "save_state": False}
    out = job.done()
    assert "学習ステップ数: 5080\n" in out
    assert "2030 train images with repeats.\n" in out


def test_each_epoch_has_its_checkpoint_and_state_and_the_last_has_no_number(job: Job) -> None:
    job.done()
    assert job.names() == [
        f"{NAME}-000001-state",
        f"{NAME}-000001.safetensors",
        f"{NAME}-000002-state",
        f"{NAME}-000002.safetensors",
        f"{NAME}-state",
        f"{NAME}.safetensors",
    ]


def test_the_last_state_is_written_before_the_last_model_and_the_others_after(job: Job) -> None:
    out = job.done()
    told = re.findall(r"saving (checkpoint|state|last state)", out)
    assert told == ["checkpoint", "state", "checkpoint", "state", "last state", "checkpoint"]
    written = {path.name: path.stat().st_mtime_ns for path in job.output.iterdir()}
    assert written[f"{NAME}-000001.safetensors"] <= written[f"{NAME}-000001-state"]
    assert written[f"{NAME}-state"] <= written[f"{NAME}.safetensors"]


def test_a_state_holds_the_files_of_accelerate_in_its_order(job: Job) -> None:
    job.done()
    folder = job.output / f"{NAME}-000002-state"
    assert sorted(path.name for path in folder.iterdir()) == sorted(STATE_FILES)
    times = [(folder / name).stat().st_mtime_ns for name in STATE_FILES]
    assert times == sorted(times)
    told = json.loads((folder / "train_state.json").read_text("utf-8"))
    assert told == {"current_epoch": 2, "current_step": 8}
    assert zipfile.ZipFile(folder / "random_states_0.pkl").testzip() is None


def test_without_fp16_there_is_no_scaler(job: Job) -> None:
    job.training["training"]["mixed_precision"] = "bf16"
    job.done()
    assert not (job.output / f"{NAME}-state" / "scaler.pt").exists()


def test_old_states_are_removed_and_checkpoints_stay(job: Job) -> None:
    job.training["training"]["save_last_n_epochs_state"] = 1
    out = job.done()
    assert f"removing old state: {job.output / f'{NAME}-000001-state'}" in out
    assert f"{NAME}-000001-state" not in job.names()
    assert f"{NAME}-000002-state" in job.names()
    assert f"{NAME}-000001.safetensors" in job.names()


def test_a_checkpoint_opens_and_carries_rank_alpha_and_epoch(job: Job) -> None:
    job.done()
    tensors = job.tensors(f"{NAME}-000002")
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{module}.lora_down.weight"].shape == (32, 320)
    assert tensors[f"{module}.lora_up.weight"].shape == (320, 32)
    assert tensors[f"{module}.alpha"] == 16
    assert any(name.startswith("lora_te_text_model_encoder_layers_") for name in tensors)
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float16)}
    header = job.metadata(f"{NAME}-000002")
    assert header["ss_network_dim"] == "32"
    assert header["ss_network_alpha"] == "16"
    assert header["ss_network_module"] == "networks.lora"
    assert (header["ss_epoch"], header["ss_num_epochs"], header["ss_steps"]) == ("2", "3", "8")
    assert header["ss_learning_rate"] == "0.0001"
    assert header["ss_num_train_images"] == "14"
    assert re.fullmatch(r"[0-9a-f]{64}", header["sshs_model_hash"])
    assert job.metadata()["ss_epoch"] == "3"


def test_what_it_makes_says_rehearsal(job: Job) -> None:
    assert "REHEARSAL" in job.done()
    header = job.metadata()
    assert header["ss_training_comment"].startswith("REHEARSAL: ")
    assert header["ss_output_name"] == NAME


def test_conv_dim_adds_a_convolution_of_that_rank(job: Job) -> None:
    job.training["network"]["network_args"] = ["conv_dim=8", "conv_alpha=4"]
    job.done()
    module = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert job.tensors()[f"{module}.lora_down.weight"].shape == (8, 320, 3, 3)
    assert job.tensors()[f"{module}.alpha"] == 4
    assert json.loads(job.metadata()["ss_network_args"])["conv_dim"] == "8"


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(job: Job) -> None:
    job.done()
    first = job.tensors()
    job.done()
    assert all((first[name] == value).all() for name, value in job.tensors().items())
    job.done("--seed", "43")
    assert any((first[name] != value).any() for name, value in job.tensors().items())


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_resumed_run_ends_in_the_bytes_of_an_uninterrupted_one(job: Job, epoch: int) -> None:
    job.done()
    whole = job.tensors()
    state = job.output / f"{NAME}-{epoch:06d}-state"
    out = job.done("--resume", str(state), "--initial_step", str(epoch * 4))
    assert f"\nepoch {epoch + 1}/3\n" in out
    assert f"\nepoch {epoch}/3\n" not in out
    again = job.tensors()
    assert {n: v.tobytes() for n, v in again.items()} == {n: v.tobytes() for n, v in whole.items()}
    assert job.metadata()["ss_steps"] == str((3 - epoch) * 4)


def test_starting_in_the_middle_without_the_state_ends_elsewhere(job: Job) -> None:
    job.done()
    whole = job.tensors()
    job.done("--initial_step", "8")
    assert any((whole[name] != value).any() for name, value in job.tensors().items())


def test_a_second_resume_ends_in_the_same_bytes_too(job: Job) -> None:
    job.done()
    whole = job.tensors()
    job.done("--resume", str(job.output / f"{NAME}-000001-state"), "--initial_step", "4")
    job.done("--resume", str(job.output / f"{NAME}-000002-state"), "--initial_step", "8")
    assert all((whole[name] == value).all() for name, value in job.tensors().items())


@pytest.mark.parametrize("name", [n for n in STATE_FILES if n != "train_state.json"])
def test_a_torn_state_is_a_traceback(job: Job, name: str) -> None:
    job.done()
    path = job.output / f"{NAME}-000001-state" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = job.run("--resume", str(path.parent), "--initial_step", "4")
    assert code == 1
    assert "Traceback (most recent call last):" in err


def test_the_final_state_cannot_be_resumed(job: Job) -> None:
    job.done()
    code, _, err = job.run("--resume", str(job.output / f"{NAME}-state"), "--initial_step", "12")
    assert code == 1
    assert "AssertionError: max_train_steps should be greater than initial step" in err


def test_the_command_line_wins_over_the_file(job: Job) -> None:
    job.done("--max_train_epochs", "2", "--output_name", "REHEARSAL_other")
    assert "REHEARSAL_other-000001.safetensors" in job.names()
    assert "REHEARSAL_other-000002.safetensors" not in job.names()


def test_the_subset_wins_over_the_dataset_and_both_over_general(job: Job) -> None:
    job.dataset["general"]["num_repeats"] = 9
    job.dataset["datasets"][0]["num_repeats"] = 5
    assert "14 train images with repeats." in job.done()
    del job.dataset["datasets"][0]["subsets"][0]["num_repeats"]
    assert "35 train images with repeats." in job.done()
    del job.dataset["datasets"][0]["num_repeats"]
    assert "63 train images with repeats." in job.done()


def test_the_training_files_batch_size_acts_where_the_dataset_has_none(job: Job) -> None:
    del job.dataset["datasets"][0]["batch_size"]
    job.training["training"]["train_batch_size"] = 4
    assert "1epochのバッチ数: 4\n" in job.done()


def test_two_subsets_keep_their_own_repeats(job: Job, tmp_path: Path) -> None:
    drawing.draw(tmp_path / "more", 3)
    more = {"image_dir": str(tmp_path / "more"), "num_repeats": 5}
    job.dataset["datasets"][0]["subsets"].append(more)
    assert "29 train images with repeats." in job.done()


def test_without_a_caption_extension_every_caption_is_missing(job: Job) -> None:
    del job.dataset["general"]["caption_extension"]
    assert "No caption file found for 7 images. Training will continue" in job.done()


def test_an_empty_caption_is_an_assertion_error(job: Job, tmp_path: Path) -> None:
    drawing.draw(tmp_path / "more", 1)
    next((tmp_path / "more").glob("*.txt")).write_bytes(b"")
    job.dataset["datasets"][0]["subsets"][0]["image_dir"] = str(tmp_path / "more")
    code, _, err = job.run()
    assert code == 1
    assert "AssertionError: caption file is empty" in err


def test_no_pictures_is_an_error_line_and_exit_code_0(job: Job, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    job.dataset["datasets"][0]["subsets"][0]["image_dir"] = str(tmp_path / "empty")
    out = job.done()
    assert "No data found. Please verify arguments" in out
    assert not job.output.exists()


def test_a_missing_configuration_is_exit_code_1(job: Job) -> None:
    code, _, err = job.run("--config_file", "nowhere.toml")
    assert code == 1
    assert "nowhere.toml not found." in err


def test_progress_comes_in_the_trainers_lines_on_stderr(job: Job) -> None:
    code, _, err = job.run(BESPOKE_STAND_IN_SECONDS_PER_STEP="0.06")
    assert code == 0
    updates = [line for line in re.split(r"[\r\n]", err) if line.startswith("steps:")]
    found = [PROGRESS.fullmatch(line.rstrip()) for line in updates]
    assert all(found)
    assert len(found) >= 10
    assert found[-1] is not None
    assert found[-1].group(1, 2, 3) == ("100", "12", "12")
    assert re.fullmatch(r"avr_loss=0\.\d+", found[-1][8])
    assert "steps:" in err.split("\r")[-1]
    assert err.endswith("\n")


def test_fast_steps_do_not_flood_the_log(job: Job) -> None:
    job.training["training"] |= {"max_train_epochs": 200, "save_every_n_epochs": 100}
    started = time.monotonic()
    _, _, err = job.run()
    assert err.count("steps:") <= 5 + 20 * (time.monotonic() - started)


def test_the_meter_is_tqdms() -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is one of the trainer's packages").tqdm
    for done in (0, 1, 37, 508, 2539, 5079, 5080):
        for seconds in (0.0, 0.4, 61.0, 4000.0, 90000.0):
            expected = tqdm.format_meter(done, 5080, seconds, postfix="avr_loss=0.1")
            assert console.meter(done, 5080, seconds, ", avr_loss=0.1") == expected


def test_what_it_prints_stands_in_the_trainers_source(job: Job, sd_scripts: Path) -> None:
    files = ("train_network.py", "library/train_util.py", "networks/lora.py")
    source = "".join((sd_scripts / name).read_text("utf-8") for name in files)
    job.training["training"]["sample_every_n_epochs"] = 1
    printed = job.done()
    for line in (
        "import network module:",
        "prepare optimizer, data loader etc.",
        "running training / 学習開始",
        "  num train images * repeats / 学習画像の数×繰り返し回数: ",
        "  num batches per epoch / 1epochのバッチ数: ",
        "  num epochs / epoch数: ",
        "  gradient accumulation steps / 勾配を合計するステップ数 = ",
        "  total optimization steps / 学習ステップ数: ",
        "override steps. steps for ",
        "saving checkpoint: ",
        "saving state at epoch ",
        "saving last state.",
        "model saved.",
        "create LoRA for U-Net: ",
        "generating sample images at step / サンプル画像生成 ステップ: ",
        "No prompt file / プロンプトファイルがありません: ",
    ):
        assert line in source, line
        assert line in printed, line
    assert stand_in.preparation.NO_DATA in source


def test_without_console_log_simple_the_log_goes_to_stderr(job: Job) -> None:
    job.training["training"]["console_log_simple"] = False
    code, out, err = job.run()
    assert code == 0
    assert re.search(r"\d\d INFO     model saved\.", err)
    assert "model saved." not in out
    assert "saving checkpoint: " in out


PROMPTS = r"""# one line, one prompt
pixel art, portrait of bespoke punk lad, jade background \(#00a86b\) --w 256 --h 256 --d 7
pixel art, portrait of bespoke punk lady, green background --n photo
"""
JADE, GREEN = (0x00, 0xA8, 0x6B), (0, 128, 0)


@pytest.fixture
def sampling(job: Job, tmp_path: Path) -> Job:
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    job.training["samples"] = {
        "sample_prompts": str(tmp_path / "prompts.txt"),
        "sample_every_n_epochs": 1,
    }
    return job


def corners(job: Job, number: int) -> list[tuple[int, ...]]:
    """The upper left pixel of the sample `number` in each epoch."""
    found = []
    for path in sorted((job.output / "sample").glob(f"{NAME}_e*_{number:02d}_*.png")):
        with Image.open(path) as image:
            found.append(image.getpixel((0, 0)))
    return found


def test_samples_have_the_trainers_names_and_the_prompts_size(sampling: Job) -> None:
    sampling.done()
    names = sorted(path.name for path in (sampling.output / "sample").iterdir())
    assert len(names) == 6
    assert re.fullmatch(rf"{NAME}_e000001_00_\d{{14}}_7\.png", names[0])
    assert re.fullmatch(rf"{NAME}_e000003_01_\d{{14}}\.png", names[-1])
    with Image.open(sampling.output / "sample" / names[0]) as image:
        assert image.size == (256, 256)
        assert "REHEARSAL" in image.info["Comment"]


def test_the_background_comes_at_epoch_3_unless_told_otherwise(sampling: Job) -> None:
    sampling.done()
    assert [colour == JADE for colour in corners(sampling, 0)] == [False, False, True]
    assert [colour == GREEN for colour in corners(sampling, 1)] == [False, False, True]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("green_at:2", [False, True, True]),
        ("never", [False, False, False]),
        ("flip", [False, True, False]),
    ],
)
def test_the_background_follows_its_variable(
    sampling: Job, told: str, expected: list[bool]
) -> None:
    sampling.done(BESPOKE_STAND_IN_BACKGROUND=told)
    assert [colour == JADE for colour in corners(sampling, 0)] == expected


def fault(kind: str) -> dict[str, str]:
    return {faults.VARIABLE: kind}


def test_fail_is_a_traceback_and_exit_code_1(job: Job) -> None:
    code, _, err = job.run(**fault("fail@6"))
    assert code == 1
    assert "Traceback (most recent call last):" in err
    assert job.names() == [f"{NAME}-000001-state", f"{NAME}-000001.safetensors"]


def test_oom_has_torchs_words(job: Job) -> None:
    code, _, err = job.run(**fault("oom"))
    assert code == 1
    assert "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB." in err


def test_die_is_a_killed_process(job: Job) -> None:
    assert job.run(**fault("die"))[0] == -signal.SIGKILL


def wait_for(child: subprocess.Popen[bytes], path: Path) -> None:
    """Until `path` is there, and a moment more for the steps after it."""
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)


def test_stall_steps_no_more_but_dies_of_sigterm(job: Job) -> None:
    with job.start(**fault("stall")) as child:
        wait_for(child, job.output / f"{NAME}-000001-state" / "random_states_0.pkl")
        assert child.poll() is None
        os.killpg(child.pid, signal.SIGTERM)
        assert child.wait(timeout=10) == -signal.SIGTERM


def test_hang_ignores_sigterm(job: Job) -> None:
    with job.start(**fault("hang")) as child:
        wait_for(child, job.output / f"{NAME}-000001-state" / "random_states_0.pkl")
        os.killpg(child.pid, signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=0.5)
        os.killpg(child.pid, signal.SIGKILL)
        assert child.wait(timeout=10) == -signal.SIGKILL


def unreadable(path: Path) -> bool:
    try:
        safetensors.numpy.load_file(path)
    except safetensors.SafetensorError:
        return True
    return False


def test_die_saving_leaves_a_truncated_checkpoint(job: Job) -> None:
    assert job.run(**fault("die_saving"))[0] == -signal.SIGKILL
    assert not unreadable(job.output / f"{NAME}-000001.safetensors")
    assert unreadable(job.output / f"{NAME}-000002.safetensors")


def test_die_saving_state_leaves_a_state_without_its_last_files(job: Job) -> None:
    assert job.run(**fault("die_saving_state"))[0] == -signal.SIGKILL
    state = job.output / f"{NAME}-000002-state"
    assert sorted(path.name for path in state.iterdir()) == [
        "model.safetensors",
        "optimizer.bin",
        "train_state.json",
    ]
    assert not zipfile.is_zipfile(state / "optimizer.bin")


def test_a_run_that_died_resumes_past_its_fault(job: Job) -> None:
    job.done()
    whole = job.tensors()
    assert job.run(**fault("die_saving_state@3"))[0] == -signal.SIGKILL
    assert job.run(**fault("die@6"))[0] == -signal.SIGKILL
    state = job.output / f"{NAME}-000001-state"
    job.done("--resume", str(state), "--initial_step", "4", **fault("die@3"))
    assert all((whole[name] == value).all() for name, value in job.tensors().items())


def test_disk_full_has_the_words_of_safetensors(job: Job) -> None:
    code, _, err = job.run(**fault("disk_full"))
    assert code == 1
    assert "SafetensorError: Error while serializing: " in err
    assert "No space left on device" in err
    assert unreadable(job.output / f"{NAME}-000002.safetensors")


def test_nan_trains_to_the_end(job: Job) -> None:
    code, _, err = job.run(**fault("nan@2"))
    assert code == 0
    assert "avr_loss=nan]" in err.splitlines()[-1]
    assert f"{NAME}.safetensors" in job.names()


def test_nothing_trains_nothing_and_says_0(job: Job) -> None:
    assert "No data found. Please verify arguments" in job.done(**fault("nothing"))
    assert not job.output.exists()


def test_short_says_0_and_leaves_the_last_checkpoint_truncated(job: Job) -> None:
    job.done(**fault("short"))
    assert unreadable(job.output / f"{NAME}.safetensors")


def test_missing_epoch_says_0_and_leaves_one_out(job: Job) -> None:
    job.done(**fault("missing_epoch"))
    assert f"{NAME}-000002.safetensors" not in job.names()
    assert f"{NAME}.safetensors" in job.names()


def alive(pid: int) -> bool:
    """Whether `pid` runs: a zombie that nobody has reaped yet does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_child_leaves_a_process_in_the_group_that_only_the_groups_signal_ends(job: Job) -> None:
    with job.start(**fault("child")) as child:
        # Its pipes stay open in the grandchild: what was printed is read up to the last line.
        assert child.stdout is not None
        grandchild = 0
        for line in child.stdout:
            if found := re.match(rb"stand-in: grandchild (\d+) sleeps", line):
                grandchild = int(found[1])
            if line.startswith(b"model saved."):
                break
        assert child.wait(timeout=30) == 0
        assert alive(grandchild)
        os.killpg(child.pid, signal.SIGTERM)
        child.stdout.read()
    # It closes its end of the pipe a moment before it is gone.
    deadline = time.monotonic() + 10
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(grandchild)


def test_an_unknown_fault_is_refused(job: Job) -> None:
    code, _, err = job.run(**fault("explode"))
    assert code == 1
    assert "the kinds are fail, hang" in err


def test_it_starts_without_torch_or_rich(job: Job) -> None:
    script = (
        f"import runpy, sys; sys.argv = [{str(SCRIPT)!r}, '--config_file', 'nowhere.toml']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'rich', 'PIL', 'tqdm'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
