"""A folder of pictures and captions as the checks see it: every file named and read once."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.dataset import images
from bespoke.errors import DatasetError
from bespoke.experiment.caption_text import first_line
from bespoke.experiment.trainer_options import PICTURE_EXTENSIONS, TRAINED_EXTENSIONS
from bespoke.findings import Finding, error

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.dataset.images import Picture
    from bespoke.experiment.experiment import DatasetSpec


@dataclass(frozen=True, kw_only=True)
class Pair:
    picture: Path
    caption: Path


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A folder: its file names by kind, what could be read of them by name, and the findings.

    `texts` holds the captions' whole texts; `shuffled` is whether the trainer shuffles their tags.
    """

    folder: Path
    spec: DatasetSpec
    shuffled: bool
    names: Mapping[str, list[str]]
    pictures: Mapping[str, Picture]
    texts: Mapping[str, str]
    findings: tuple[Finding, ...]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pictures that have a caption, in the trainer's order."""
        captions = set(self.names["captions"])
        pictures = (self.folder / name for name in self.names["pictures"])
        pairs = (
            Pair(picture=each, caption=each.with_suffix(self.spec.caption_extension))
            for each in pictures
        )
        return tuple(pair for pair in pairs if pair.caption.name in captions)

    @property
    def captions(self) -> dict[str, str]:
        """By stem the first line, stripped, which is all that the trainer reads."""
        return {Path(name).stem: first_line(text) for name, text in self.texts.items()}

    @property
    def arts(self) -> dict[str, NDArray[np.uint8]]:
        """By name the cells of each picture that is made of them."""
        return {name: each.art for name, each in self.pictures.items() if each.art is not None}


def read(folder: Path, spec: DatasetSpec, shuffled: bool) -> Collection:
    """Read every file of `folder` that matters, once; what cannot be read is a finding.

    Raises:
        DatasetError: the folder itself cannot be listed.
    """
    names = _names(folder, spec.caption_extension)
    # Decoding and file access let go of Python's lock; a network volume is slow by the file.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        decoded = pool.map(lambda name: images.read(folder, name, spec.cells), names["pictures"])
        captions = pool.map(lambda name: _caption(folder, name), names["captions"])
        pictures = dict(zip(names["pictures"], decoded, strict=True))
        texts = dict(zip(names["captions"], captions, strict=True))
    every = (*pictures.values(), *texts.values())
    return Collection(
        folder=folder,
        spec=spec,
        shuffled=shuffled,
        names=names,
        pictures={name: each for name, each in pictures.items() if not isinstance(each, Finding)},
        texts={name: each for name, each in texts.items() if not isinstance(each, Finding)},
        findings=tuple(each for each in every if isinstance(each, Finding)),
    )


def _names(folder: Path, caption_extension: str) -> dict[str, list[str]]:
    """By name alone, as the trainer's glob: a folder `x.png` is a picture."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in listed(folder):
        extension = Path(name).suffix
        if extension in TRAINED_EXTENSIONS:
            names["pictures"].append(name)
        elif extension == caption_extension:
            names["captions"].append(name)
        elif extension.lower() in PICTURE_EXTENSIONS:
            names["ignored"].append(name)
    return names


def listed(folder: Path) -> list[str]:
    """The names in `folder` that are not hidden, sorted.

    Raises:
        DatasetError: where it cannot be listed.
    """
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
    return error("caption_unreadable", name, message)
