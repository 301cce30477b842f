"""Finding a folder of pictures and captions, checking it, taking some of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.dataset.folder import Collection, listed, read
from bespoke.experiment.trainer_options import PICTURE_EXTENSIONS

if TYPE_CHECKING:
    from bespoke.experiment.experiment import DatasetSpec

COLLECTION = "training_data"
"""The name of the collection itself, in the dataset file and as a folder."""


def is_folder(path: Path | str) -> bool:
    """Whether it is there; no name is too long for this, as it is for Path.is_dir."""
    return os.path.isdir(path)  # noqa: PTH112


def holds_pictures(folder: Path) -> bool:
    """Whether it holds any; endings that the trainer ignores count, since `check` names them."""
    names = listed(folder) if is_folder(folder) else ()
    return any(Path(name).suffix.lower() in PICTURE_EXTENSIONS for name in names)


def check(folder: Path, spec: DatasetSpec, *, shuffled: bool = False) -> Collection:
    """Read every file of `folder` once, hold it to `spec`, and captions to their pictures.

    What is in the pictures is looked at only where `spec.cells` says how many cells they have.
    Findings come by file name, the whole folder's first.

    Raises:
        DatasetError: the folder itself cannot be listed.
    """
    from bespoke.dataset import color_checks  # numpy
    from bespoke.dataset.checks import CHECKS

    checks = (*CHECKS, color_checks.check_colors)
    collection = read(folder, spec, shuffled)
    findings = [*collection.findings, *(each for check in checks for each in check(collection))]
    return replace(collection, findings=tuple(sorted(findings, key=lambda each: each.file)))


def take(collection: Collection, count: int, folder: Path) -> Path:
    """Copy `count` pairs, evenly spread over the collection, into `folder`, and name it.

    Raises:
        OSError: where the copies cannot be written.
    """
    folder.mkdir(parents=True)
    pairs = collection.pairs
    for number in range(min(count, len(pairs))):
        pair = pairs[number * len(pairs) // min(count, len(pairs))]
        shutil.copy(pair.picture, folder)
        shutil.copy(pair.caption, folder)
    return folder
