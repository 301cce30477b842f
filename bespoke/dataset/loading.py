"""A folder of pictures and captions: every file of it read once, and some of it taken."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.errors import DatasetError
from bespoke.experiment.caption_text import first_line
from bespoke.experiment.trainer_options import PICTURE_EXTENSIONS, TRAINED_EXTENSIONS
from bespoke.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.dataset.images import Picture
    from bespoke.experiment.experiment import DatasetSpec

COLLECTION = "training_data"
"""The name of the collection itself, in the dataset file and as a folder."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A folder: its file names by kind, what could be read of them by name, and the findings."""

    folder: Path
    spec: DatasetSpec
    names: Mapping[str, list[str]]
    pictures: Mapping[str, Picture]
    texts: Mapping[str, str]
    findings: list[Finding]

    @cached_property
    def pairs(self) -> tuple[tuple[Path, Path], ...]:
        """The pictures that have a caption, each with it, in the trainer's order."""
        captions = set(self.names["captions"])
        pictures = (self.folder / name for name in self.names["pictures"])
        pairs = ((each, each.with_suffix(self.spec.caption_extension)) for each in pictures)
        return tuple(pair for pair in pairs if pair[1].name in captions)

    @property
    def captions(self) -> dict[str, str]:
        """By stem the first line, stripped, which is all that the trainer reads."""
        return {Path(name).stem: first_line(text) for name, text in self.texts.items()}

    @property
    def arts(self) -> dict[str, NDArray[np.uint8]]:
        """By name the cells of each picture that is made of them."""
        return {name: each.art for name, each in self.pictures.items() if each.art is not None}


def is_folder(path: Path | str) -> bool:
    """Whether it is there; no name is too long for this, as it is for Path.is_dir."""
    return os.path.isdir(path)  # noqa: PTH112


def holds_pictures(folder: Path) -> bool:
    """Whether it holds any; endings that the trainer ignores count, since `check` names them."""
    names = _listed(folder) if is_folder(folder) else ()
    return any(Path(name).suffix.lower() in PICTURE_EXTENSIONS for name in names)


def read(folder: Path, spec: DatasetSpec) -> Collection:
    """Read every file of `folder` that matters, once; what cannot be read is a finding, and a
    folder that cannot be listed a DatasetError."""
    from bespoke.dataset import images  # numpy

    names: dict[str, list[str]] = defaultdict(list)
    for name in _listed(folder):
        # By name alone, as the trainer's glob: a folder `x.png` is a picture.
        extension = Path(name).suffix
        if extension in TRAINED_EXTENSIONS:
            names["pictures"].append(name)
        elif extension == spec.caption_extension:
            names["captions"].append(name)
        elif extension.lower() in PICTURE_EXTENSIONS:
            names["ignored"].append(name)
    # Decoding and file access let go of Python's lock; a network volume is slow by the file.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        pictures = pool.map(lambda name: images.read(folder, name, spec.cells), names["pictures"])
        captions = pool.map(lambda name: _caption(folder, name), names["captions"])
        files = names["pictures"] + names["captions"]
        every = dict(zip(files, [*pictures, *captions], strict=True))
    return Collection(
        folder=folder,
        spec=spec,
        names=names,
        pictures={name: each for name, each in every.items() if isinstance(each, images.Picture)},
        texts={name: each for name, each in every.items() if isinstance(each, str)},
        findings=[each for each in every.values() if isinstance(each, Finding)],
    )


def _listed(folder: Path) -> list[str]:
    """The names in `folder` that are not hidden, sorted."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except OSError as failure:
        message = f"{folder}: cannot be read as a data folder: {failure.strerror}"
        raise DatasetError(message) from None


def _caption(folder: Path, name: str) -> str | Finding:
    try:
        return (folder / name).read_bytes().decode("utf-8")
    except OSError as failure:
        message = f"cannot be read: {failure.strerror}"
    except UnicodeDecodeError as failure:
        message = f"is not UTF-8, and the trainer stops at it: save it as UTF-8 ({failure})"
    return finding("error", "caption_unreadable", name, message)
