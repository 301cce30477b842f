"""A folder of pictures and captions as the checks see it: every file named and read once."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import pictures as picture_file
from bespoke.errors import DatasetError
from bespoke.findings import Finding, error
from bespoke.promise import PICTURE_EXTENSIONS, TRAINED_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.bucketing import Bucketing
    from bespoke.pictures import Picture
    from bespoke.promise import Promise

_KINDS = (
    "pictures",
    "captions",
    "ignored pictures",
    "ignored captions",
    "folders",
    "hidden",
    "other",
)


@dataclass(frozen=True, kw_only=True)
class CaptionFile:
    """A caption file's whole text, or the fault that kept it from being read."""

    file: str
    text: str = ""
    fault: Finding | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A folder as the checks see it: names by kind, and what was read, by file name.

    `bucketing` and `shuffled` say how the trainer will treat it, where that is known.
    """

    folder: Path
    promise: Promise
    names: Mapping[str, tuple[str, ...]]
    pictures: Mapping[str, Picture]
    captions: Mapping[str, CaptionFile]
    bucketing: Bucketing | None = None
    shuffled: bool = False

    def art(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Name and cells of each picture whose cells say what is in it."""
        for name, picture in self.pictures.items():
            if picture.art is not None:
                yield name, picture.art

    def readable(self) -> Iterator[tuple[str, str]]:
        """Name and whole text of each caption that could be read."""
        return ((file.file, file.text) for file in self.captions.values() if not file.fault)


def read(
    folder: Path, promise: Promise, *, bucketing: Bucketing | None = None, shuffled: bool = False
) -> Contents:
    """Read every file of `folder` that matters, once.

    Raises:
        DatasetError: the folder itself cannot be listed.
    """
    from concurrent.futures import ThreadPoolExecutor

    names = _names(folder, promise)
    # Decoding and file access let go of Python's lock; a network volume is slow by the file.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        pictures = pool.map(
            lambda name: picture_file.read(folder, name, promise.cells), names["pictures"]
        )
        captions = pool.map(lambda name: _read_caption(folder, name), names["captions"])
        return Contents(
            folder=folder,
            promise=promise,
            names=names,
            pictures=dict(zip(names["pictures"], pictures, strict=True)),
            captions=dict(zip(names["captions"], captions, strict=True)),
            bucketing=bucketing,
            shuffled=shuffled,
        )


def _names(folder: Path, promise: Promise) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                names[_kind(entry, promise.caption_extension)].append(entry.name)
    except OSError as failure:
        raise DatasetError(
            f"{folder}: cannot be read as a data folder: {failure.strerror}"
        ) from None
    return {kind: tuple(sorted(members)) for kind, members in names.items()}


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
    if extension.lower() == caption_extension.lower():
        return "ignored captions"
    return "other"


def _read_caption(folder: Path, name: str) -> CaptionFile:
    try:
        raw = (folder / name).read_bytes()
    except OSError as failure:
        return CaptionFile(
            file=name,
            fault=error("caption_unreadable", name, f"cannot be read: {failure.strerror}"),
        )
    try:
        return CaptionFile(file=name, text=raw.decode("utf-8"))
    except UnicodeDecodeError as failure:
        return CaptionFile(file=name, fault=_not_utf8(name, raw, failure.start))


def _not_utf8(name: str, raw: bytes, position: int) -> Finding:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        what = "UTF-16, as some Windows editors write it"
    else:
        read_as = raw[position : position + 1].decode("latin-1")
        what = f"byte 0x{raw[position]:02x} at position {position}, in Latin-1 {read_as!r}"
    return error(
        "caption_not_utf8",
        name,
        f"is not UTF-8 ({what}); the trainer stops at it: save it as UTF-8",
        position=position,
        byte=raw[position],
    )


def stem_of(name: str) -> str:
    return Path(name).stem


def by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = defaultdict(list)
    for name in names:
        stems[stem_of(name)].append(name)
    return stems


def picture_count(folder: Path) -> int:
    # Endings that the trainer ignores count here: the check then says so, by name.
    with os.scandir(folder) as entries:
        return sum(
            Path(entry.name).suffix.lower() in PICTURE_EXTENSIONS
            for entry in entries
            if not entry.name.startswith(".")
        )
