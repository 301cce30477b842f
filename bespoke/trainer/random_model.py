"""What can be made here and need not be fetched: CLIP's tokenizer, and a model of random weights.

`python -m bespoke.trainer.random_model FOLDER` builds the model, in a child process since it
imports torch: a Stable Diffusion 1.5 in its real shapes, 2 GB in fp16, so that the real trainer
can be tried anywhere. What is trained on it means nothing.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from bespoke.errors import ConfigError
from bespoke.files import write_whole

SEED = 42
VOCABULARY_SIZE = 49_408
# The trainer's name for it below tokenizer_cache_dir (strategy_base.py:60 at v0.10.1).
TOKENIZER = "openai_clip-vit-large-patch14"
_TOKENIZER_FILES = ("merges.txt", "tokenizer_config.json", "vocab.json")


def write_tokenizer(folder: Path) -> None:
    """Write CLIP's tokenizer to `folder`, where a file of it is missing."""
    if all((folder / name).is_file() for name in _TOKENIZER_FILES):
        return
    # find_spec alone: importing open_clip would import torch.
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ConfigError("open-clip-torch is not installed; start_training.sh installs it")
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    for name, text in _tokenizer_texts(vocabulary).items():
        write_whole(folder / name, text)


def _byte_units() -> list[str]:
    """A printable character for each byte, in the vocabulary's order: the printable bytes first.

    From CLIP's and GPT-2's byte-level BPE; the other bytes take the characters from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def _tokenizer_texts(vocabulary: Path) -> dict[str, str]:
    """The files' text: openai/clip-vit-large-patch14's, less what CLIPTokenizer assumes anyway."""
    units = _byte_units()
    room = VOCABULARY_SIZE - 2 * len(units) - 2
    # The first line is a version; merges beyond the room were never trained.
    merges = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")[1 : 1 + room]
    entries = [*units, *(f"{unit}</w>" for unit in units)]
    entries += ["".join(merge.split()) for merge in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    ids = {entry: number for number, entry in enumerate(entries)}
    config = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    return {
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2),
        "vocab.json": json.dumps(ids, ensure_ascii=False),
    }


def build(folder: Path) -> None:
    """Write the model in the diffusers layout to `folder`, complete or not at all."""
    part = folder.with_name(f".{folder.name}.part")
    # What a killed builder left; the caller sees to it that only one builds at a time.
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_tokenizer(part / "tokenizer")
        _pipeline(part / "tokenizer").save_pretrained(part, safe_serialization=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _pipeline(tokenizer: Path) -> Any:
    """The parts with the configurations of the published Stable Diffusion 1.5.

    torch's own initial weights keep every activation small (their variance is a third of what
    would carry a signal's), so that losses and samples are finite in fp16 too.
    """
    torch: Any = importlib.import_module("torch")
    diffusers: Any = importlib.import_module("diffusers")
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(SEED)
    # Drawn in fp16 at once: less than half the time and the memory of drawing in fp32.
    torch.set_default_dtype(torch.float16)
    text = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768
    )
    return diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        ),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(tokenizer),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]).absolute())
