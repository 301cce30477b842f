"""A folder of pictures and captions as the checks see it: every file named and read once."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.dataset import images as picture_file
from bespoke.errors import DatasetError
from bespoke.experiment.caption_text import first_line
from bespoke.experiment.dataset_spec import PICTURE_EXTENSIONS, TRAINED_EXTENSIONS
from bespoke.findings import Finding, error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.dataset.images import Picture
    from bespoke.experiment.dataset_spec import DatasetSpec


@dataclass(frozen=True, kw_only=True)
class Pair:
    stem: str
    picture: Path
    caption: Path


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A folder: its file names by kind, what could be read of them by name, and the findings.

    `texts` holds the captions' whole texts. `options` are the subset's as the trainer merges them,
    empty where they are not known.
    """

    folder: Path
    spec: DatasetSpec
    options: Mapping[str, Any]
    names: Mapping[str, list[str]]
    pictures: Mapping[str, Picture]
    texts: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def stems(self) -> dict[str, list[str]]:
        """The names of the pictures, read or not, by stem."""
        stems: dict[str, list[str]] = defaultdict(list)
        for name in self.names["pictures"]:
            stems[Path(name).stem].append(name)
        return stems

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pictures that have a caption, in the trainer's order."""
        extension, captions = self.spec.caption_extension, set(self.names["captions"])
        return tuple(
            Pair(
                stem=stem, picture=self.folder / names[0], caption=self.folder / (stem + extension)
            )
            for stem, names in self.stems.items()
            if stem + extension in captions
        )

    @property
    def captions(self) -> dict[str, str]:
        """By stem the first line, stripped, which is all that the trainer reads."""
        return {Path(name).stem: first_line(text) for name, text in self.texts.items()}

    def art(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Name and cells of each picture whose cells say what is in it."""
        for name, picture in self.pictures.items():
            if picture.art is not None:
                yield name, picture.art


def read(folder: Path, spec: DatasetSpec, options: Mapping[str, Any]) -> Collection:
    """Read every file of `folder` that matters, once; what cannot be read is a finding.

    Raises:
        DatasetError: the folder itself cannot be listed.
    """
    names = _names(folder, spec.caption_extension)
    # Decoding and file access let go of Python's lock; a network volume is slow by the file.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        decoded = pool.map(lambda n: picture_file.read(folder, n, spec.cells), names["pictures"])
        captions = pool.map(lambda name: _caption(folder, name), names["captions"])
        pictures = dict(zip(names["pictures"], decoded, strict=True))
        texts = dict(zip(names["captions"], captions, strict=True))
    every = (*pictures.values(), *texts.values())
    return Collection(
        folder=folder,
        spec=spec,
        options=options,
        names=names,
        pictures={name: each for name, each in pictures.items() if not isinstance(each, Finding)},
        texts={name: each for name, each in texts.items() if not isinstance(each, Finding)},
        findings=tuple(each for each in every if isinstance(each, Finding)),
    )


def _names(folder: Path, caption_extension: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                names[_kind(entry, caption_extension)].append(entry.name)
    except OSError as failure:
        message = f"{folder}: cannot be read as a data folder: {failure.strerror}"
        raise DatasetError(message) from None
    return names


def _kind(entry: os.DirEntry[str], caption_extension: str) -> str:
    """By name alone where the trainer's glob goes by name alone: a folder `x.png` is a picture."""
    extension = Path(entry.name).suffix
    if entry.name.startswith("."):
        return "hidden"
    if extension in TRAINED_EXTENSIONS:
        return "pictures"
    if extension == caption_extension:
        return "captions"
    if entry.is_dir():
        return "folders"
    if extension.lower() in PICTURE_EXTENSIONS:
        return "ignored pictures"
    return "ignored captions" if extension.lower() == caption_extension.lower() else "other"


def _caption(folder: Path, name: str) -> str | Finding:
    raw = b""
    try:
        raw = (folder / name).read_bytes()
        return raw.decode("utf-8")
    except OSError as failure:
        return error("caption_unreadable", name, f"cannot be read: {failure.strerror}")
    except UnicodeDecodeError as failure:
        at, byte = failure.start, raw[failure.start]
    what = f"byte 0x{byte:02x} at position {at}, in Latin-1 {chr(byte)!r}"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        what = "UTF-16, as some Windows editors write it"
    message = f"is not UTF-8 ({what}); the trainer stops at it: save it as UTF-8"
    return error("caption_not_utf8", name, message, position=at, byte=byte)


def picture_count(folder: Path) -> int:
    # Endings that the trainer ignores count here: the check then says so, by name.
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    return sum(Path(name).suffix.lower() in PICTURE_EXTENSIONS for name in names)
