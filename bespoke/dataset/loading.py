"""Finding a folder of pictures and captions, checking it, taking some of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.dataset.folder import Collection, listed, read
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment.dataset_spec import PICTURE_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.experiment.dataset_spec import DatasetSpec

COLLECTION = "training_data"
"""The name of the collection itself, in the dataset file and as a folder."""


def is_folder(path: Path | str) -> bool:
    """Whether it is there; no name is too long for this, as it is for Path.is_dir."""
    return os.path.isdir(path)  # noqa: PTH112


def locate(
    wanted: Path | None, *, repository: Path, workspace: Path, name: str = COLLECTION
) -> Path:
    """The folder that holds the pictures: `--data` as given, else `name` in either place.

    Raises:
        ConfigError: `wanted` is no folder.
        DatasetError: no pictures anywhere.
    """
    if wanted is not None and not is_folder(wanted):
        raise ConfigError(f"no such directory: {wanted}. Give the pictures' folder with --data DIR")
    places = [wanted] if wanted else [repository / name, workspace / name]
    for place in places:
        # Endings that the trainer ignores count: the check then says so, by name.
        names = listed(place) if is_folder(place) else ()
        if any(Path(file).suffix.lower() in PICTURE_EXTENSIONS for file in names):
            return place
    option = "--data DIR" if name == COLLECTION else f"--data {name}=DIR"
    raise DatasetError(
        f"no pictures found in {' or in '.join(map(str, places))}. Put the pictures and captions "
        f"there, or name their folder with {option}"
    )


def check(folder: Path, spec: DatasetSpec, options: Mapping[str, Any] | None = None) -> Collection:
    """Read every file of `folder` once, hold it to `spec`, and captions to their pictures.

    `options` are the subset's as the trainer merges them: whether it shuffles the tags, and at what
    size it trains. What is in the pictures is looked at only where `spec.cells` says how many cells
    they have. Findings come by file name, the whole folder's first.

    Raises:
        DatasetError: the folder itself cannot be listed.
    """
    from bespoke.dataset import color_checks, file_checks, image_checks  # numpy

    checks = (*file_checks.CHECKS, *image_checks.CHECKS, *color_checks.CHECKS)
    collection = read(folder, spec, options or {})
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
