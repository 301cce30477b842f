"""What the fake trainer prints and leaves is what bespoke reads of the real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import toml
from safetensors.numpy import load_file

from bespoke.rehearsal import drawing, fake_trainer
from bespoke.trainer import checkpoints, trainer_log

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = [{"prompt": "lad, jade background", "seed": 7, "width": 256, "height": 256}]


class Job:
    """7 pictures x 2 repeats, accumulation 4: 4 steps an epoch, of which there are 3."""

    def __init__(self, place: Path) -> None:
        self.place, self.output = place, place / "output"
        drawing.draw(place / "pictures", 7)
        subset = {"image_dir": str(place / "pictures"), "num_repeats": 2}
        dataset = {"general": {"batch_size": 1}, "datasets": [{"subsets": [subset]}]}
        (place / "dataset.toml").write_text(toml.dumps(dataset))
        (place / "prompts.json").write_text(json.dumps(SAMPLES))

    def train(self, *argv: str, **changed: Any) -> bytes:
        """The last checkpoint's weights."""
        words: dict[str, Any] = dict.fromkeys(("save_every_n_epochs", "sample_every_n_epochs"), 1)
        words |= {"max_train_epochs": 3, "gradient_accumulation_steps": 4, "save_state": True}
        words |= {"output_name": "a", "seed": 42, "network_dim": 4, "network_alpha": 2}
        words |= dict.fromkeys(("mixed_precision", "save_precision"), "fp16")
        places = {"output_dir": "output", "dataset_config": "dataset.toml"}
        places |= {"sample_prompts": "prompts.json"}
        words |= {key: str(self.place / name) for key, name in places.items()}
        (self.place / "training.toml").write_text(toml.dumps({**words, **changed}))
        fake_trainer.main(["--config_file", str(self.place / "training.toml"), *argv])
        tensors = load_file(self.output / "a.safetensors")
        return b"".join(tensors[name].tobytes() for name in sorted(tensors))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_checkpoints_states_and_samples_open_where_the_trainers_do(job: Job) -> None:
    job.train()
    for epoch in (1, 2):
        lora = checkpoints.identify(checkpoints.checkpoint_path(job.output, "a", epoch))
        assert (lora.epoch, lora.name) == (epoch, "a")
        assert checkpoints.corruption(job.output / f"a-{epoch:06d}-state", scaled=True) is None
    assert checkpoints.read_epoch(job.output / "a.safetensors") == 3
    names = sorted(path.name for path in (job.output / "sample").iterdir())
    assert [name[:13] for name in names] == ["a_e000001_00_", "a_e000002_00_", "a_e000003_00_"]


def test_a_resumed_run_ends_in_the_bytes_of_an_uninterrupted_one(job: Job) -> None:
    whole = job.train()
    state = ("--resume", str(job.output / "a-000002-state"))
    assert job.train(*state, "--initial_step", "8") == whole
    assert job.train("--initial_step", "8") != whole
    assert job.train(seed=43) != whole


def test_it_prints_the_trainers_own_lines(
    job: Job, sd_scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job.train()
    printed, bars = capsys.readouterr()
    last = trainer_log.parse(bars.replace("\r", "\n").strip().splitlines()[-1])
    assert isinstance(last, trainer_log.Progress)
    assert (last.step, last.total) == (12, 12)
    source = (sd_scripts / "train_network.py").read_text("utf-8")
    for line in ("running training / 学習開始", "saving checkpoint: "):
        assert line in printed
        assert line in source
