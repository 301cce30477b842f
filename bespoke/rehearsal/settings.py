"""The rendered TOMLs read with the trainer's own meaning, as far as the stand-in acts on it."""

from __future__ import annotations

import argparse
import math
import sys
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import toml

from bespoke.options import table
from bespoke.promise import TRAINED_EXTENSIONS

_TYPES = {"int": int, "float": float}


@dataclass(frozen=True, kw_only=True)
class Subset:
    """One folder: its pictures, and how many of them have no caption file."""

    folder: str
    repeats: int
    images: int
    uncaptioned: int


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One `[[datasets]]` table. All its pictures have one size, so there is one bucket."""

    batch_size: int
    subsets: tuple[Subset, ...]

    @property
    def images(self) -> int:
        """Pictures times repeats."""
        return sum(subset.images * subset.repeats for subset in self.subsets)

    @property
    def batches(self) -> int:
        return math.ceil(self.images / self.batch_size)


def read_arguments(argv: list[str]) -> argparse.Namespace:
    """The options of the TOML named by --config_file with the command line's parsed over them.

    One level of sections is flattened, a later key wins, and names that are no option are passed
    over (train_util.py:4760 at v0.10.1).

    Raises:
        SystemExit: 1, with the trainer's line, where the file is not there.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in table().training.values():
        given: dict[str, Any] = {"action": "store_true"}
        if option.kind != "bool":
            given = {"type": _TYPES.get(option.kind, str), "default": option.default}
            given["nargs"] = "*" if option.many else None
        parser.add_argument(f"--{option.name}", **given)
    path = Path(parser.parse_known_args(argv)[0].config_file or "")
    if not path.is_file():
        sys.exit(f"{path} not found.")
    flat: dict[str, Any] = {}
    for key, value in toml.loads(path.read_text(encoding="utf-8")).items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return parser.parse_known_args(argv, argparse.Namespace(**flat))[0]


def read_datasets(args: argparse.Namespace) -> tuple[Dataset, ...]:
    """The datasets of the file `args.dataset_config`, with their pictures and captions.

    A key is looked for in the subset, the dataset, `[general]`, the training file, and last in the
    trainer's defaults (config_util.py:455 at v0.10.1).

    Raises:
        AssertionError, UnicodeDecodeError: for a caption that the trainer cannot read either.
    """
    config = toml.load(args.dataset_config)
    training = {key: value for key, value in vars(args).items() if value is not None}
    training |= {"batch_size": args.train_batch_size, "num_repeats": args.dataset_repeats}
    shared = ChainMap(config.get("general", {}), training)
    datasets = []
    for block in config.get("datasets", []):
        options = shared.new_child(block)
        seen: dict[str, Subset] = {}
        for entry in block.get("subsets", []):
            subset = _subset(options.new_child(entry))
            if subset.images and subset.repeats >= 1:
                seen.setdefault(subset.folder, subset)
        datasets.append(Dataset(batch_size=options["batch_size"], subsets=tuple(seen.values())))
    return tuple(datasets)


def _subset(options: ChainMap[str, Any]) -> Subset:
    folder = Path(options["image_dir"])
    found = folder.iterdir() if folder.is_dir() else ()
    images = sorted(path for path in found if path.suffix in TRAINED_EXTENSIONS)
    captions = [image.with_suffix(options["caption_extension"]) for image in images]
    present = [caption for caption in captions if caption.is_file()]
    for caption in present:
        lines = caption.read_text(encoding="utf-8").splitlines()
        assert lines, f"caption file is empty / キャプションファイルが空です: {caption}"
    return Subset(
        folder=str(folder),
        repeats=options["num_repeats"],
        images=len(images),
        uncaptioned=len(images) - len(present),
    )
