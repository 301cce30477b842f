"""The model that a LoRA is trained on, and its tokenizer: located, downloaded or built here.

`python -m bespoke.trainer.base_model FOLDER` builds a Stable Diffusion 1.5 of random weights, so
that the real trainer can be tried anywhere: in a child process, since it imports torch.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import logging
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError, is_full
from bespoke.files import REPOSITORY, locked, sha256, write_whole
from bespoke.trainer.child_process import Group

if TYPE_CHECKING:
    from collections.abc import Callable


# The file that runs are trained on, by its size in bytes and its hash, and the repository's other
# names on the hub: the first is tried where its own is gone, and many files still name the second.
PINNED = "stable-diffusion-v1-5/stable-diffusion-v1-5"
REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
COPIES = ("Comfy-Org/stable-diffusion-v1-5-archive", "runwayml/stable-diffusion-v1-5")
FILE = "v1-5-pruned-emaonly.safetensors"
SIZE = 4_265_146_304
SHA256 = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"
RANDOM_FOLDER = "random-sd15"
# The trainer's name for it below tokenizer_cache_dir (strategy_base.py:60 at v0.10.1).
TOKENIZER = "openai_clip-vit-large-patch14"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """An absolute path for the trainer; `sha256` is known for the pinned file alone."""

    path: str
    sha256: str | None = None


def locate(wanted: str, *, models: Path) -> BaseModel:
    """The model that pretrained_model_name_or_path means; nothing is downloaded or written.

    The pinned id is a file in the folder `models`, "random" a folder there, a local path itself.
    """
    if wanted.casefold() in (name.casefold() for name in (PINNED, *COPIES)):
        return BaseModel(path=str(models.absolute() / FILE), sha256=SHA256)
    if wanted == "random":
        return BaseModel(path=str(models.absolute() / RANDOM_FOLDER))
    path = Path(wanted).expanduser().absolute()
    if not wanted or not path.exists():
        raise ConfigError(
            f"pretrained_model_name_or_path: no such file or folder: {wanted!r}; write the "
            f'path of a model on this machine, or "{PINNED}"'
        )
    return BaseModel(path=str(path))


def provide(base: BaseModel, *, models: Path, announce: Callable[[str], None]) -> BaseModel:
    """Have the tokenizer in `tokenizer_folder`, and what `locate` named where it said."""
    with locked(models / ".lock"):
        write_tokenizer(tokenizer_folder(models) / TOKENIZER)
    if base.sha256 is not None:
        fetch(models, announce)
    elif Path(base.path) == models.absolute() / RANDOM_FOLDER:
        random_sd15(Path(base.path), announce)
    return base


def tokenizer_folder(models: Path) -> Path:
    """Where `provide` puts the tokenizer: the trainer's `tokenizer_cache_dir`."""
    return models.absolute() / "tokenizer"


def fetch(models: Path, announce: Callable[[str], None]) -> None:
    """Have the pinned file in `models`: downloaded where it is missing, hashed where it is new."""
    path = models.absolute() / FILE
    verified = path.with_name(f"{FILE}.verified")
    with locked(models / ".lock"):
        if not path.exists():
            announce(f"downloading {FILE} ({SIZE / 1e9:.1f} GB)")
            _download(path.parent, announce)
        size, mark = path.stat().st_size, f"{path.stat().st_size} {path.stat().st_mtime_ns}\n"
        if verified.is_file() and verified.read_text(encoding="utf-8") == mark:
            return
        announce(f"verifying {FILE} by its sha256")
        if size != SIZE or sha256(path) != SHA256:
            raise ConfigError(
                f"{path}: {size:,} bytes, and not the file of {SIZE:,} bytes with sha256 {SHA256}; "
                "delete it, and it is downloaded again"
            )
        write_whole(verified, mark)


def _download(folder: Path, announce: Callable[[str], None]) -> None:
    """By the hub's own client, whose messages are not shown: they may quote a signed address."""
    # Plain HTTP, which resumes; RunPod's images ask for a transfer that may not be installed.
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ENABLE_HF_TRANSFER": "0"}
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    # The copy's own revisions are not ours to pin: the hash is what holds it.
    for name, revision in ((PINNED, REVISION), (COPIES[0], "main")):
        try:
            hf_hub_download(name, FILE, revision=revision, local_dir=folder, endpoint=endpoint)
            return
        except OSError as error:  # noqa: PERF203 - two attempts
            if is_full(error):
                raise
            # What it met as it asked for the file's size is the cause of what it raises.
            answers = [getattr(each, "response", None) for each in (error, error.__cause__)]
            status = next((f"HTTP {it.status_code}" for it in answers if it is not None), None)
            problem = f"{name}: {status or type(error).__name__}"
            announce(f"download failed: {problem}")
    raise ConfigError(
        f"{FILE}: download failed: {problem}; check the network, HF_ENDPOINT, HF_TOKEN and "
        f"HF_HUB_OFFLINE, then start again to resume; or place the file at {folder / FILE}"
    )


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of openai/clip-vit-large-patch14 to `folder`, where it is missing."""
    if (folder / "vocab.json").is_file():
        return
    # find_spec alone: importing open_clip would import torch.
    spec = importlib.util.find_spec("open_clip")
    packed = Path(str(spec and spec.origin)).with_name("bpe_simple_vocab_16e6.txt.gz").read_bytes()
    # A printable character for each byte, the printable bytes first: CLIP's and GPT-2's order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    units = [chr(code) for code in (*printable, *range(256, 512 - len(printable)))]
    # The first line is a version; merges beyond the vocabulary of 49,408 were never trained.
    merges = gzip.decompress(packed).decode().split("\n")[1 : 49_407 - 2 * len(units)]
    entries = [*units, *(f"{unit}</w>" for unit in units)]
    entries += [*(merge.replace(" ", "") for merge in merges), "<|startoftext|>", "<|endoftext|>"]
    ids = {entry: number for number, entry in enumerate(entries)}
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    write_whole(folder / "tokenizer_config.json", json.dumps(config, indent=2))
    write_whole(folder / "vocab.json", json.dumps(ids, ensure_ascii=False))


def random_sd15(folder: Path, announce: Callable[[str], None]) -> None:
    """Build the model of random weights (2 GB) in `folder`, where it is not there yet."""
    with locked(folder.parent / ".lock"):
        if folder.exists():
            return
        announce(f"{folder}: building a randomly initialised model (about 40 s, 2 GB)")
        with Group(
            [sys.executable, "-m", "bespoke.trainer.base_model", str(folder.absolute())],
            environment={**os.environ, "HF_HUB_OFFLINE": "1"},
            cwd=REPOSITORY,
        ) as builder:
            lines = b"".join(builder.output()).decode(errors="replace").strip().split("\n")
            if code := builder.wait():
                raise ConfigError(
                    f"{folder}: the randomly initialised model could not be built (exit code "
                    f"{code}: {lines[-1]}); it needs the trainer's packages and 2 GB of disk"
                )


def _build(folder: Path) -> None:
    """Write the model in the diffusers layout and its published shapes, complete or not at all."""
    torch: Any = importlib.import_module("torch")
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    part = folder.with_name(f".{folder.name}.part")
    # What a killed builder left; the caller sees to it that only one builds at a time.
    shutil.rmtree(part, ignore_errors=True)
    write_tokenizer(part / "tokenizer")
    torch.manual_seed(42)
    # Drawn in fp16 at once: less than half the time and the memory of drawing in fp32. torch's own
    # initial weights keep every activation small, so that losses are finite in fp16 too.
    torch.set_default_dtype(torch.float16)
    text = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
    )
    pipeline = diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(part / "tokenizer"),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Both samplers divide a prompt by its mean; where that is 0, as initialised, all is black.
    torch.nn.init.constant_(pipeline.text_encoder.text_model.final_layer_norm.bias, 0.1)
    pipeline.save_pretrained(part, safe_serialization=True)
    part.rename(folder)


if __name__ == "__main__":
    _build(Path(sys.argv[1]).absolute())
