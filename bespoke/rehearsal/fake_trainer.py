"""A fake of vendor/sd-scripts/train_network.py: same options, log and files; nothing is trained.

    python fake_trainer.py --config_file FILE.toml [--OPTION VALUE ...]

It needs no GPU, no torch and no model. It reads the rendered TOMLs, prints those of the trainer's
lines that bespoke looks for, and writes checkpoints, states and samples that open where the
trainer's do; all of them say REHEARSAL. BESPOKE_FAKE_TRAINER_HOOK names a file to run in its place:
tests/trainer_faults.py. Line numbers are those of sd-scripts v0.10.1.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import pickle
import random
import runpy
import shutil
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

NO_DATA = (
    "No data found. Please verify arguments (train_data_dir must be the parent of folders with"
    " images) / 画像がありません。引数指定を確認してください（train_data_dirには画像があるフォルダ"
    "ではなく、画像があるフォルダの親フォルダを指定する必要があります）"
)
MARK = "REHEARSAL"
SECONDS_PER_STEP = 0.0008
# Module, inputs, outputs, kernel of a Conv2d: a few of the names and shapes of networks.lora.
MODULES: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, 768, ()),
    ("lora_unet_down_blocks_0_attentions_0_proj_in", 320, 320, (1, 1)),
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320, 320, ()),
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 768, 640, ()),
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
    """One process's run. `done` counts its own steps, as the trainer's global_step does."""

    def __init__(self, args: argparse.Namespace, images: int, batches: int) -> None:
        self.args, self.images, self.batches = args, images, batches
        self.steps_per_epoch = math.ceil(batches / args.gradient_accumulation_steps)
        if args.max_train_epochs is not None:
            args.max_train_steps = args.max_train_epochs * self.steps_per_epoch
        self.epochs = math.ceil(args.max_train_steps / self.steps_per_epoch)
        self.network = Network(args)
        self.output = Path(args.output_dir)
        self.name = args.output_name or "last"
        self.losses: deque[float] = deque(maxlen=self.steps_per_epoch)
        self.began, self.done = time.time(), 0

    def run(self) -> None:
        args = self.args
        self._introduce()
        first = self._resume() // self.steps_per_epoch
        if args.sample_at_first:
            # The weights are those of epoch `first`, and the name says 0 (train_network.py:1332).
            self._sample(0, first)
        # No more than 20 lines a second.
        often: dict[str, float] = {"mininterval": 0.05, "miniters": 1}
        bar = tqdm(total=args.max_train_steps, smoothing=0, desc="steps", **often)
        for epoch in range(first + 1, self.epochs + 1):
            say(f"\nepoch {epoch}/{self.epochs}\n")
            self._train_epoch(epoch, bar)
            every = args.save_every_n_epochs
            if every is not None and epoch % every == 0 and epoch < self.epochs:
                self._save_epoch(epoch, every)
            if args.sample_every_n_epochs and epoch % args.sample_every_n_epochs == 0:
                self._sample(epoch, epoch)
        if args.save_state or args.save_state_on_train_end:
            say("\nsaving last state.")
            self._save_state(self.output / f"{self.name}-state", self.epochs)
        self._save_model(self.output / f"{self.name}.safetensors", self.epochs)
        say("model saved.")
        bar.close()

    def _introduce(self) -> None:
        """The lines that tell how far the start has come (train_network.py:593 to 1000)."""
        say(f"import network module: {self.args.network_module}")
        say("running training / 学習開始")
        say(f"  num batches per epoch / 1epochのバッチ数: {self.batches}")
        say(f"  total optimization steps / 学習ステップ数: {self.args.max_train_steps}")

    def _resume(self) -> int:
        """The step that training starts from (train_network.py:1210 to 1270)."""
        first, total = 0, self.args.max_train_steps
        if self.args.resume:
            folder = Path(self.args.resume)
            say(f"resume training from local state: {folder}")
            first = self.network.load_state(folder)
        if self.args.initial_step is not None:
            first = self.args.initial_step
        assert first == 0 or total > first, (
            "max_train_steps should be greater than initial step / "
            f"max_train_stepsは初期ステップより大きい必要があります: {total} vs {first}"
        )
        return first

    def _train_epoch(self, epoch: int, bar: tqdm[Any]) -> None:
        due = time.monotonic()
        last = epoch * self.steps_per_epoch
        for step in range(last - self.steps_per_epoch + 1, last + 1):
            self.begin_step(step)
            due += self.pace(step)
            # Sleeping for each of a few thousand short steps would take longer than they do.
            if (ahead := due - time.monotonic()) > 0.005:
                time.sleep(ahead)
            self.losses.append(self.loss(step))
            self.done += 1
            # The mean of an epoch's length, as the trainer's (train_util.py:6668).
            bar.set_postfix(avr_loss=sum(self.losses) / len(self.losses), refresh=False)
            bar.update()
        self.network.walk(self.steps_per_epoch)

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
        path.write_bytes(data)

    def learned(self, epoch: int) -> Collection[str]:
        """The features whose colours are as the prompt asks in the samples of an epoch."""
        return LEARNED[min(epoch, len(LEARNED)) - 1]

    def _save_epoch(self, epoch: int, every: int) -> None:
        """Checkpoint, then state, then the state that is old by now (train_network.py:1690)."""
        self._save_model(self._numbered(epoch, ".safetensors"), epoch)
        if not self.args.save_state:
            return
        say(f"\nsaving state at epoch {epoch}")
        self._save_state(self._numbered(epoch, "-state"), epoch)
        kept = self.args.save_last_n_epochs_state or self.epochs
        if (old := self._numbered(epoch - every * kept, "-state")).exists():
            say(f"removing old state: {old}")
            shutil.rmtree(old)

    def _numbered(self, epoch: int, ending: str) -> Path:
        return self.output / f"{self.name}-{epoch:06d}{ending}"

    def _save_model(self, path: Path, epoch: int) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        say(f"\nsaving checkpoint: {path}")
        facts = {"epoch": epoch, "steps": self.done, "num_epochs": self.epochs}
        facts |= {"training_started_at": self.began, "num_train_images": self.images}
        self.write(path, self.network.checkpoint(facts), epoch)

    def _save_state(self, folder: Path, epoch: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        position = {"current_epoch": epoch, "current_step": self.done}
        for name, data in self.network.state(position).items():
            self.write(folder / name, data, epoch)

    def _sample(self, named: int, epoch: int) -> None:
        """Pictures of the weights after `epoch`, in files that say `named` (train_util.py:6572)."""
        say(f"\ngenerating sample images at step / サンプル画像生成 ステップ: {self.done}")
        file = Path(self.args.sample_prompts or "")
        if not file.is_file():
            say(f"No prompt file / プロンプトファイルがありません: {file}")
            return
        from bespoke.rehearsal import drawing

        folder = self.output / "sample"
        folder.mkdir(parents=True, exist_ok=True)
        for number, prompt in enumerate(json.loads(file.read_bytes())):
            seed = prompt.get("seed")
            tail = f"_{seed}" if seed is not None else ""
            when = time.strftime("%Y%m%d%H%M%S")
            name = f"{self.name}_e{named:06d}_{number:02d}_{when}{tail}.png"
            image, note = drawing.sample(
                prompt.get("prompt", ""),
                seed=seed or number,
                size=(prompt.get("width", 512), prompt.get("height", 512)),
                learned=self.learned(epoch),
            )
            image.save(folder / name, pnginfo=note, compress_level=1)


class Network:
    """Weights in fp32 and the generator that they walk at random by, one stride an epoch.

    The generator is part of the saved state: a resume that did not load it ends in other weights.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rng = np.random.default_rng(args.seed)
        self.weights: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
        rank = args.network_dim or 4
        for name, inputs, outputs, ones in MODULES:
            down = self.rng.standard_normal((rank, inputs, *ones), dtype=np.float32)
            self.weights[f"{name}.lora_down.weight"] = down * np.float32(0.02)
            self.weights[f"{name}.lora_up.weight"] = np.zeros((outputs, rank, *ones), np.float32)
            self.weights[f"{name}.alpha"] = np.array(args.network_alpha, np.float32)

    def walk(self, steps: int) -> None:
        """Train for `steps` optimizer steps, an epoch."""
        for name in sorted(self.weights):
            if not name.endswith(".alpha"):
                stride = self.rng.standard_normal(self.weights[name].shape, dtype=np.float32)
                self.weights[name] = self.weights[name] + stride * np.float32(1e-5 * steps)

    def checkpoint(self, facts: dict[str, Any]) -> bytes:
        """A .safetensors file in `save_precision`, but bf16 as fp32: numpy has no bfloat16."""
        dtype = np.float16 if self.args.save_precision == "fp16" else np.float32
        tensors = {name: value.astype(dtype) for name, value in self.weights.items()}
        digest = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors)))
        options = {key: value for key, value in vars(self.args).items() if value is not None}
        header = {
            **{f"ss_{key}": str(value) for key, value in {**options, **facts}.items()},
            "ss_training_comment": f"{MARK}: weights of a fake trainer, nothing was trained",
            "ss_base_model_version": "sd_v1",
            "modelspec.title": f"{MARK} {self.args.output_name}",
            "sshs_model_hash": digest.hexdigest(),
        }
        return safetensors.numpy.save(tensors, header)

    def state(self, position: dict[str, int]) -> dict[str, bytes]:
        """A state folder's files in the order in which accelerate 1.6 writes them."""
        generator = {"generator": self.rng.bit_generator.state}
        return {
            "train_state.json": json.dumps(position).encode(),
            "model.safetensors": safetensors.numpy.save(self.weights, {"format": "pt"}),
            **{name: archive(name.partition(".")[0], {}) for name in self._archives()},
            "random_states_0.pkl": archive("random_states_0", generator),
        }

    def load_state(self, folder: Path) -> int:
        """Take over a state's content, in any error of a corrupt one; returns the step it says."""
        weights = safetensors.numpy.load_file(folder / "model.safetensors")
        for name in self._archives():
            unarchive(folder / name)
        generator = unarchive(folder / "random_states_0.pkl")["generator"]
        self.rng.bit_generator.state, self.weights = generator, weights
        return int(json.loads((folder / "train_state.json").read_bytes())["current_step"])

    def _archives(self) -> list[str]:
        scaler = ["scaler.pt"] if self.args.mixed_precision == "fp16" else []
        return ["optimizer.bin", "scheduler.bin", *scaler]


def archive(name: str, content: dict[str, Any]) -> bytes:
    """The container that torch.save writes: a stored zip with the pickle as NAME/data.pkl."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        # A fixed date, as torch.save has it: the same state is the same bytes.
        member = zipfile.ZipInfo(f"{name}/data.pkl", (1980, 1, 1, 0, 0, 0))
        file.writestr(member, pickle.dumps({"mark": MARK, **content}, protocol=2))
    return target.getvalue()


def unarchive(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        data = file.read(file.namelist()[0])
    content: dict[str, Any] = pickle.loads(data)  # noqa: S301 - the trainer trusts it as well
    return content


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """The options of the TOML named by --config_file with the command line's over them.

    Names that are no option are passed over (train_util.py:4760).

    Raises:
        SystemExit: 1, with the trainer's line, where the file is not there.
    """
    types = {"int": int, "float": float}
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in table().training.values():
        given: dict[str, Any] = {"action": "store_true"}
        if option.kind != "bool":
            given = {"type": types.get(option.kind, str), "default": option.default}
            given["nargs"] = "*" if option.many else None
        parser.add_argument(f"--{option.name}", **given)
    path = Path(parser.parse_known_args(argv)[0].config_file or "")
    if not path.is_file():
        sys.exit(f"{path} not found.")
    args = parser.parse_known_args(argv, argparse.Namespace(**toml.load(path)))[0]
    if args.seed is None:
        args.seed = random.randint(0, 2**32)  # noqa: S311 - the trainer's own default
    return args


def read_datasets(args: argparse.Namespace) -> tuple[int, int]:
    """Pictures times repeats, and batches an epoch, of the one dataset that bespoke renders.

    A key is looked for in the subset, `[general]` and last in the training file
    (config_util.py:455). All pictures have one size: there is one bucket.
    """
    config = toml.load(args.dataset_config)
    defaults = {"batch_size": args.train_batch_size, "num_repeats": args.dataset_repeats}
    general, count = {**defaults, **config["general"]}, 0
    for subset in config["datasets"][0]["subsets"]:
        options = {**general, **subset}
        folder = Path(options["image_dir"])
        paths = folder.iterdir() if folder.is_dir() else ()
        images = sum(path.suffix in TRAINED_EXTENSIONS for path in paths)
        say(f"found directory {folder} contains {images} image files")
        count += images * options["num_repeats"]
    say(f"{count} train images with repeats.")
    return count, math.ceil(count / general["batch_size"])


def main(argv: list[str], training: type[Training] = Training) -> None:
    args = read_arguments(argv)
    say(f"{MARK}: a fake train_network.py, nothing is trained")
    images, batches = read_datasets(args)
    if images:
        training(args, images, batches).run()
    else:
        say(NO_DATA)


if __name__ == "__main__":
    if hook := os.environ.get("BESPOKE_FAKE_TRAINER_HOOK"):
        runpy.run_path(hook, run_name="__main__")
    else:
        main(sys.argv[1:])
