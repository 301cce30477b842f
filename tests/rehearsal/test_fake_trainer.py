"""Claims about the fake trainer and its faults, each made of a real child process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import toml
from PIL import Image
from safetensors import safe_open

from bespoke.rehearsal import drawing, fake_trainer
from bespoke.trainer import trainer_log
from tests import trainer_faults

SCRIPT = Path(fake_trainer.__file__)
NAME = "REHEARSAL_tiny"
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
STATE_FILES = ["train_state.json", "model.safetensors", "optimizer.bin", "scheduler.bin"]
STATE_FILES += ["scaler.pt", "random_states_0.pkl"]


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
        self.subsets = [{"image_dir": str(pictures), "num_repeats": 2}]
        self.general = {"batch_size": 1}
        self.options = {
            "output_name": NAME,
            "output_dir": str(self.output),
            "dataset_config": str(folder / "dataset.toml"),
            "network_module": "networks.lora",
            "network_dim": 32,
            "network_alpha": 16,
            "max_train_epochs": 3,
            "gradient_accumulation_steps": 4,
            "learning_rate": 1e-4,
            "mixed_precision": "fp16",
            "save_precision": "fp16",
            "save_every_n_epochs": 1,
            "save_state": True,
            "seed": 42,
        }

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[str]:
        self.file.write_text(toml.dumps(self.options), encoding="utf-8")
        dataset = {"general": self.general, "datasets": [{"subsets": self.subsets}]}
        self.file.with_name("dataset.toml").write_text(toml.dumps(dataset), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), "--config_file", str(self.file), *argv],
            env=os.environ | {"BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP": "0"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *argv: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*argv, **environment) as child:
            out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def done(self, *argv: str, **environment: str) -> str:
        code, self.said, err = self.run(*argv, **environment)
        assert code == 0, err
        return self.said

    def failed(self, kind: str) -> tuple[int, str]:
        code, _, err = self.run(**fault(kind))
        return code, err

    def names(self) -> list[str]:
        return sorted(path.name for path in self.output.iterdir())

    def tensors(self, name: str = NAME) -> dict[str, np.ndarray]:
        return safetensors.numpy.load_file(self.output / f"{name}.safetensors")

    def bytes(self) -> dict[str, bytes]:
        return {name: value.tobytes() for name, value in self.tensors().items()}

    def metadata(self, name: str = NAME) -> dict[str, str]:
        with safe_open(self.output / f"{name}.safetensors", "numpy") as opened:
            return opened.metadata()


def fault(kind: str) -> dict[str, str]:
    return {trainer_faults.FAULT: kind}


@pytest.fixture
def job(tmp_path: Path, pictures: Path) -> Job:
    return Job(tmp_path, pictures)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Job:
    """A run to the end, which the tests leave as it is."""
    job = Job(tmp_path_factory.mktemp("whole"), pictures)
    job.done()
    return job


def test_fourteen_batches_and_accumulation_4_are_4_steps_an_epoch(whole: Job) -> None:
    assert "  num batches per epoch / 1epochのバッチ数: 14\n" in whole.said
    assert "  total optimization steps / 学習ステップ数: 12\n" in whole.said


def test_each_epoch_has_its_checkpoint_and_state_and_the_last_has_no_number(whole: Job) -> None:
    ends = ["-000001-state", "-000001.safetensors", "-000002-state", "-000002.safetensors"]
    assert whole.names() == [f"{NAME}{end}" for end in [*ends, "-state", ".safetensors"]]
    told = re.findall(r"saving (checkpoint|state|last state)", whole.said)
    assert told == ["checkpoint", "state", "checkpoint", "state", "last state", "checkpoint"]


def test_a_state_holds_the_files_of_accelerate_in_its_order(whole: Job) -> None:
    folder = whole.output / f"{NAME}-000002-state"
    assert sorted(path.name for path in folder.iterdir()) == sorted(STATE_FILES)
    times = [(folder / name).stat().st_mtime_ns for name in STATE_FILES]
    assert times == sorted(times)
    told = json.loads((folder / "train_state.json").read_text("utf-8"))
    assert told == {"current_epoch": 2, "current_step": 8}
    assert zipfile.ZipFile(folder / "random_states_0.pkl").testzip() is None


def test_a_checkpoint_opens_and_carries_rank_alpha_and_epoch(whole: Job) -> None:
    tensors = whole.tensors(f"{NAME}-000002")
    assert tensors[f"{MODULE}_attn1_to_q.lora_down.weight"].shape == (32, 320)
    assert tensors[f"{MODULE}_attn1_to_q.lora_up.weight"].shape == (320, 32)
    assert tensors[f"{MODULE}_attn1_to_q.alpha"] == 16
    assert any(name.startswith("lora_te_text_model_encoder_layers_") for name in tensors)
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float16)}
    header = whole.metadata(f"{NAME}-000002")
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("32", "16")
    assert (header["ss_epoch"], header["ss_num_epochs"], header["ss_steps"]) == ("2", "3", "8")
    assert (header["ss_learning_rate"], header["ss_num_train_images"]) == ("0.0001", "14")
    assert whole.metadata()["ss_epoch"] == "3"


def test_what_it_makes_says_rehearsal(whole: Job) -> None:
    assert "REHEARSAL: a fake train_network.py" in whole.said
    assert whole.metadata()["ss_training_comment"].startswith("REHEARSAL: ")
    assert whole.metadata()["ss_output_name"] == NAME
    for name in STATE_FILES[2:]:
        assert b"REHEARSAL" in (whole.output / f"{NAME}-000001-state" / name).read_bytes()


def test_the_seed_makes_the_weights_and_the_state_carries_them(job: Job, whole: Job) -> None:
    job.done()
    assert job.bytes() == whole.bytes()
    for argv in (("--seed", "43"), ("--initial_step", "8")):
        job.done(*argv)
        assert job.bytes() != whole.bytes()


def test_resumed_runs_end_in_the_bytes_of_an_uninterrupted_one(job: Job, whole: Job) -> None:
    assert job.failed("die_saving_state@3")[0] == -signal.SIGKILL
    assert job.failed("die@6")[0] == -signal.SIGKILL
    first = str(job.output / f"{NAME}-000001-state")
    out = job.done("--resume", first, "--initial_step", "4", **fault("die@3"))
    assert re.findall(r"\nepoch (\d)/3\n", out) == ["2", "3"]
    assert job.bytes() == whole.bytes()
    assert job.metadata()["ss_steps"] == "8"
    second = str(job.output / f"{NAME}-000002-state")
    job.done("--resume", second, "--initial_step", "8")
    assert job.bytes() == whole.bytes()


def test_a_torn_state_is_a_traceback(job: Job) -> None:
    job.done()
    for name in STATE_FILES[1:]:
        path = job.output / f"{NAME}-000001-state" / name
        kept = path.read_bytes()
        path.write_bytes(kept[: len(kept) // 2])
        code, _, err = job.run("--resume", str(path.parent), "--initial_step", "4")
        path.write_bytes(kept)
        assert code == 1, name
        assert "Traceback (most recent call last):" in err, name


def test_repeats_and_batches_are_those_of_the_rendered_files(job: Job) -> None:
    assert "14 train images with repeats." in job.done("--max_train_epochs", "1")
    del job.subsets[0]["num_repeats"]
    job.general |= {"num_repeats": 9, "batch_size": 4}
    out = job.done("--max_train_epochs", "1")
    assert "63 train images with repeats." in out
    assert "1epochのバッチ数: 16\n" in out


def test_no_pictures_is_an_error_line_and_exit_code_0(job: Job, tmp_path: Path) -> None:
    job.subsets[0]["image_dir"] = str(tmp_path)
    assert "No data found. Please verify arguments" in job.done()
    assert not job.output.exists()


def test_a_missing_configuration_is_exit_code_1_before_anything_heavy_is_loaded() -> None:
    script = (
        f"import runpy, sys; sys.argv = [{str(SCRIPT)!r}, '--config_file', 'nowhere.toml']\n"
        f"try: runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit as error: print(error)\n"
        "print(sorted({'torch', 'rich', 'PIL'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert told.stdout == "nowhere.toml not found.\n[]\n"


def test_progress_comes_in_the_trainers_lines_on_stderr(job: Job) -> None:
    code, _, err = job.run(BESPOKE_FAKE_TRAINER_SECONDS_PER_STEP="0.06")
    assert code == 0
    found = [trainer_log.parse(line) for line in re.split(r"[\r\n]", err) if line]
    assert all(isinstance(event, trainer_log.Progress) for event in found)
    assert len(found) >= 10
    assert (found[-1].step, found[-1].total) == (12, 12)
    assert 0 < found[-1].loss < 0.2
    assert err.endswith("\n")


def test_what_it_prints_stands_in_the_trainers_source(job: Job, sd_scripts: Path) -> None:
    files = ("train_network.py", "library/train_util.py")
    source = "".join((sd_scripts / name).read_text("utf-8") for name in files)
    job.options["sample_every_n_epochs"] = 1
    printed = job.done()
    for line in (
        "import network module:",
        "running training / 学習開始",
        "  num batches per epoch / 1epochのバッチ数: ",
        "  total optimization steps / 学習ステップ数: ",
        "saving checkpoint: ",
        "saving state at epoch ",
        "saving last state.",
        "model saved.",
        "generating sample images at step / サンプル画像生成 ステップ: ",
        "No prompt file / プロンプトファイルがありません: ",
    ):
        assert line in source, line
        assert line in printed, line
    assert fake_trainer.NO_DATA in source


LAD = "pixel art, portrait of bespoke punk lad, jade background (#00a86b)"
LADY = "pixel art, portrait of bespoke punk lady, green background"
SIZE = {"width": 256, "height": 256}
JADE, GREEN = (0x00, 0xA8, 0x6B), (0, 128, 0)


def sample(job: Job, *argv: str, **environment: str) -> list[Path]:
    """The samples that three epochs make of a prompt file."""
    prompts = job.file.with_name("prompts.json")
    asked = [{**SIZE, "prompt": LAD, "seed": 7}, {**SIZE, "prompt": LADY}]
    prompts.write_text(json.dumps(asked), encoding="utf-8")
    job.options |= {"sample_prompts": str(prompts), "sample_every_n_epochs": 1}
    job.done(*argv, **environment)
    return sorted((job.output / "sample").iterdir())


def corners(samples: list[Path], number: int) -> list[tuple[int, ...]]:
    """The upper left pixel of the sample `number` in each epoch."""
    found = []
    for path in (path for path in samples if f"_{number:02d}_" in path.name):
        with Image.open(path) as image:
            found.append(image.getpixel((0, 0)))
    return found


def test_samples_have_the_trainers_names_and_the_prompts_size(job: Job) -> None:
    samples = sample(job)
    assert len(samples) == 6
    assert re.fullmatch(rf"{NAME}_e000001_00_\d{{14}}_7\.png", samples[0].name)
    assert re.fullmatch(rf"{NAME}_e000003_01_\d{{14}}\.png", samples[-1].name)
    with Image.open(samples[0]) as image:
        assert image.size == (256, 256)
        assert "REHEARSAL" in image.info["Comment"]


def test_what_a_resumed_state_shows_is_drawn_first_in_files_of_epoch_0(
    job: Job, whole: Job
) -> None:
    state = str(whole.output / f"{NAME}-000002-state")
    resumed = ("--resume", state, "--initial_step", "8", "--sample_at_first")
    first, _, last, _ = sample(job, *resumed, BESPOKE_FAKE_TRAINER_BACKGROUND="green_at:2")
    assert "_e000000_00_" in first.name
    assert "_e000003_00_" in last.name
    assert corners([first], 0) == [JADE]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("green_at:2", [False, True, True]),
        ("never", [False, False, False]),
        ("flip", [False, True, False]),
    ],
)
def test_the_background_follows_its_variable(job: Job, told: str, expected: list[bool]) -> None:
    samples = sample(job, BESPOKE_FAKE_TRAINER_BACKGROUND=told)
    assert [colour == JADE for colour in corners(samples, 0)] == expected
    assert [colour == GREEN for colour in corners(samples, 1)] == expected
