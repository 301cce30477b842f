"""Pictures and captions in pairs: finding the folder, checking it, taking some of it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bespoke.dataset.folder import Collection, Pair, picture_count, read
from bespoke.errors import ConfigError, DatasetError
from bespoke.findings import Finding, listing, summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bespoke.experiment.dataset_spec import DatasetSpec

__all__ = [
    "COLLECTION", "Collection", "Finding", "Pair", "check", "listing", "locate",
    "summary", "take",
]  # fmt: skip

COLLECTION = "training_data"
"""The name of the collection itself, in the dataset file and as a folder."""

_REPEATS_FOLDER = re.compile(r"\d+_.+")


def is_folder(path: Path | str) -> bool:
    """Whether it is there; no name is too long for this, as it is for Path.is_dir."""
    return os.path.isdir(path)  # noqa: PTH112


def locate(
    wanted: Path | None, *, repository: Path, workspace: Path, name: str = COLLECTION
) -> Path:
    """The folder that holds the pictures: `--data` as given, else `name` in either place.

    Where a folder itself holds none, its one sub-folder in kohya's old manner (`10_bespoke_baby`,
    repeats and name) is taken.

    Raises:
        ConfigError: `wanted` is no folder.
        DatasetError: no pictures anywhere, or in several such sub-folders.
    """
    if wanted is not None and not is_folder(wanted):
        raise ConfigError(f"no such directory: {wanted}. Give the pictures' folder with --data DIR")
    places = [wanted] if wanted else [repository / name, workspace / name]
    looked: list[str] = []
    for place in places:
        folder, state = _with_pictures(place)
        if folder is not None:
            return folder
        looked.append(f"{place} ({state})")
    where = "there, or name another" if wanted else f"into {places[-1]}, or name their"
    option = "--data DIR" if name == COLLECTION else f"--data {name}=DIR"
    raise DatasetError(
        f"no pictures found in {' or in '.join(looked)}. Put the pictures and captions {where} "
        f"folder with {option}"
    )


def _with_pictures(place: Path) -> tuple[Path | None, str]:
    """The folder with pictures at or just below `place`; else None and why."""
    try:
        if picture_count(place):
            return place, ""
        below = sorted(
            folder
            for folder in place.iterdir()
            if _REPEATS_FOLDER.fullmatch(folder.name) and folder.is_dir() and picture_count(folder)
        )
    except FileNotFoundError:
        return None, "not there"
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    if len(below) > 1:
        named = ", ".join(folder.name for folder in below)
        raise DatasetError(f"{place}: pictures in several folders ({named}); name one with --data")
    return (below[0], "") if below else (None, "no pictures in it")


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
