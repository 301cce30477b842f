"""A fake of vendor/sd-scripts/train_network.py: same options, log and files; nothing is trained.

    python fake_trainer.py --config_file FILE.toml [--OPTION VALUE ...]

It needs no GPU, no torch and no model. It reads the rendered TOMLs, prints the lines that bespoke
looks for, and writes checkpoints, states and samples that open where the trainer's do.
BESPOKE_FAKE_TRAINER_HOOK names a file to run in its place: tests/trainer_faults.py. Line numbers
are those of sd-scripts v0.10.1.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import runpy
import sys
import time
import zipfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy
import toml
from tqdm import tqdm

if __name__ == "__main__":
    # Run by its path, as the trainer is: the package's folder, not this one, has to be found.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from bespoke.experiment.trainer_options import TRAINED_EXTENSIONS, table

if TYPE_CHECKING:
    from collections.abc import Collection

MARK = "REHEARSAL"
SECONDS_PER_STEP = 0.0008
# Module, inputs and outputs: a few of the names and shapes of networks.lora.
MODULES = (
    ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, 768),
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320, 320),
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 768, 640),
)
# Which colours of the prompts the samples of each epoch follow: they improve, falter once, and a
# late epoch wins.
ALL = ("background", "hair", "skin", "lips", "eyes")
LEARNED: tuple[tuple[str, ...], ...] = (
    (), ("hair",), ALL[:1], ALL[:2], ALL[:3], ALL[:1], ALL[:4], ALL, ALL[:4], ALL[:3],
)  # fmt: skip


def say(text: str) -> None:
    print(text, flush=True)


class Training:
    """One process's run. Its weights are a sum over the epochs: without the state they differ."""

    def __init__(self, args: argparse.Namespace, batches: int) -> None:
        self.args = args
        self.steps_per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
        self.epochs = args.max_train_epochs
        self.output = Path(args.output_dir)
        self.losses: deque[float] = deque(maxlen=self.steps_per_epoch)
        self.began = time.time()
        self.weights = self._noise(0)

    def run(self) -> None:
        args = self.args
        say("running training / 学習開始")
        if args.resume:
            self.weights = safetensors.numpy.load_file(Path(args.resume) / "model.safetensors")
        first = (args.initial_step or 0) // self.steps_per_epoch
        if args.sample_at_first:
            # The weights are those of epoch `first`, and the name says 0 (train_network.py:1332).
            self._sample(0, first)
        # No more than 20 lines a second.
        often: dict[str, float] = {"mininterval": 0.05, "miniters": 1}
        bar = tqdm(total=self.epochs * self.steps_per_epoch, smoothing=0, desc="steps", **often)
        for epoch in range(first + 1, self.epochs + 1):
            say(f"\nepoch {epoch}/{self.epochs}\n")
            self._train_epoch(epoch, bar)
            every = args.save_every_n_epochs or self.epochs
            if epoch % every == 0 and epoch < self.epochs:
                self._save(f"{args.output_name}-{epoch:06d}", epoch)
            if args.sample_every_n_epochs and epoch % args.sample_every_n_epochs == 0:
                self._sample(epoch, epoch)
        self._save_model(f"{args.output_name}.safetensors", self.epochs)
        bar.close()

    def _train_epoch(self, epoch: int, bar: tqdm[Any]) -> None:
        last = epoch * self.steps_per_epoch
        for step in range(last - self.steps_per_epoch + 1, last + 1):
            self.begin_step(step)
            time.sleep(self.pace(step))
            self.losses.append(self.loss(step))
            # The mean of an epoch's length, as the trainer's (train_util.py:6668).
            bar.set_postfix(avr_loss=sum(self.losses) / len(self.losses), refresh=False)
            bar.update()
        noise = self._noise(epoch)
        self.weights = {name: value + noise[name] for name, value in self.weights.items()}

    def _noise(self, epoch: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
        """What an epoch adds to each tensor: the same for the same seed; 0 makes the first ones."""
        rng, rank = np.random.default_rng((self.args.seed, epoch)), self.args.network_dim
        noise = {}
        for name, inputs, outputs in MODULES:
            for part, shape in (("down", (rank, inputs)), ("up", (outputs, rank))):
                drawn = rng.standard_normal(shape, dtype=np.float32)
                noise[f"{name}.lora_{part}.weight"] = drawn * np.float32(1e-3)
            noise[f"{name}.alpha"] = np.array(0 if epoch else self.args.network_alpha, "f4")
        return noise

    # What tests/trainer_faults.py overrides; steps count from the run's first, also after a resume.

    def begin_step(self, step: int) -> None:
        """Do nothing: each step of this trainer begins well."""

    def pace(self, step: int) -> float:  # noqa: ARG002
        """Seconds that a step takes."""
        return SECONDS_PER_STEP

    def loss(self, step: int) -> float:
        """A loss that falls from 0.15 to 0.09 with noise, the same for the same seed and step."""
        noise = random.Random(self.args.seed * 1_000_003 + step).random() - 0.5  # noqa: S311
        return 0.09 + 0.06 / (1 + step / 400) + 0.04 * noise

    def write(self, path: Path, data: bytes, epoch: int) -> None:  # noqa: ARG002
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def learned(self, epoch: int) -> Collection[str]:
        """The features whose colours are as the prompt asks in the samples of an epoch."""
        return LEARNED[min(epoch, len(LEARNED)) - 1] if epoch else ()

    def _save(self, name: str, epoch: int) -> None:
        """Checkpoint, then state (train_network.py:1690), in the order of accelerate 1.6."""
        self._save_model(f"{name}.safetensors", epoch)
        if not self.args.save_state:
            return
        say(f"\nsaving state at epoch {epoch}")
        archives = ["optimizer.bin", "scheduler.bin"]
        archives += ["scaler.pt"] if self.args.mixed_precision == "fp16" else []
        files = {
            "train_state.json": json.dumps({"current_epoch": epoch}).encode(),
            "model.safetensors": safetensors.numpy.save(self.weights, {"format": "pt"}),
            **{file: archive() for file in (*archives, "random_states_0.pkl")},
        }
        for file, data in files.items():
            self.write(self.output / f"{name}-state" / file, data, epoch)

    def _save_model(self, file: str, epoch: int) -> None:
        """A checkpoint in `save_precision`, but bf16 as fp32: numpy has no bfloat16."""
        say(f"\nsaving checkpoint: {self.output / file}")
        dtype = np.float16 if self.args.save_precision == "fp16" else np.float32
        header = {
            **{key: value for key, value in vars(self.args).items() if value is not None},
            "epoch": epoch,
            "num_epochs": self.epochs,
            "training_started_at": self.began,
            "training_comment": f"{MARK}: weights of a fake trainer, nothing was trained",
            "base_model_version": "sd_v1",
        }
        data = safetensors.numpy.save(
            {name: value.astype(dtype) for name, value in self.weights.items()},
            {f"ss_{key}": str(value) for key, value in header.items()},
        )
        self.write(self.output / file, data, epoch)

    def _sample(self, named: int, epoch: int) -> None:
        """Pictures of the weights after `epoch`, in files that say `named` (train_util.py:6572)."""
        from bespoke.rehearsal import drawing

        folder = self.output / "sample"
        folder.mkdir(parents=True, exist_ok=True)
        for number, prompt in enumerate(json.loads(Path(self.args.sample_prompts).read_bytes())):
            when, seed = time.strftime("%Y%m%d%H%M%S"), prompt["seed"]
            name = f"{self.args.output_name}_e{named:06d}_{number:02d}_{when}_{seed}.png"
            size, learned = (prompt["width"], prompt["height"]), self.learned(epoch)
            image = drawing.sample(prompt["prompt"], seed=seed, size=size, learned=learned)
            image.save(folder / name, compress_level=1)


def archive() -> bytes:
    """The container that torch.save writes: a zip, whose checksums tell that it is whole."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("archive/data.pkl", MARK)
    return target.getvalue()


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """The options of the TOML named by --config_file, with the command line's over them."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config_file", required=True)
    parser.add_argument("--resume")
    parser.add_argument("--initial_step", type=int)
    parser.add_argument("--sample_at_first", action="store_true")
    given = vars(parser.parse_args(argv))
    defaults = {option.name: option.default for option in table().training.values()}
    return argparse.Namespace(**{**defaults, **toml.load(given["config_file"]), **given})


def count_batches(args: argparse.Namespace) -> int:
    """Batches an epoch of the one dataset that bespoke renders, whose pictures have one size.

    A key is looked for in the subset, then in `[general]` (config_util.py:455).
    """
    config, count = toml.load(args.dataset_config), 0
    general = {"batch_size": args.train_batch_size, "num_repeats": 1, **config["general"]}
    for subset in config["datasets"][0]["subsets"]:
        files = Path(subset["image_dir"]).iterdir()
        images = sum(path.suffix in TRAINED_EXTENSIONS for path in files)
        count += images * int({**general, **subset}["num_repeats"])
    return math.ceil(count / int(general["batch_size"]))


def main(argv: list[str], training: type[Training] = Training) -> None:
    args = read_arguments(argv)
    say(f"{MARK}: a fake train_network.py, nothing is trained")
    training(args, count_batches(args)).run()


if __name__ == "__main__":
    if hook := os.environ.get("BESPOKE_FAKE_TRAINER_HOOK"):
        runpy.run_path(hook, run_name="__main__")
    else:
        main(sys.argv[1:])
