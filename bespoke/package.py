"""`bespoke package`: one zip that a rented machine needs nothing besides, the same bytes each time.

It holds the experiment's pictures, the tracked files of the project and of the trainer, a README
made from the experiment's own data, and a manifest that `bespoke.manifest` verifies before the
first start. Files are stored, not deflated: compressors differ from one Python to the next.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import config, manifest, origin, package_readme, preflight
from bespoke.errors import ConfigError
from bespoke.files import write_whole
from bespoke.processes import answer
from bespoke.trainer import SUBMODULE, require_submodule
from bespoke.veil import holds_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from bespoke.preflight import Preflight

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = "runpod_package"
PROJECT = (
    *("bespoke", "experiments", "locks", "LICENSE", "pyproject.toml", "docs/findings.md"),
    *("start_training.sh", "setup.sh", "training_config.toml", "dataset_config.toml"),
    *("test_prompts.toml", "quick_test_epoch.py", "auto_test_epoch.py"),
)
# What no Stable Diffusion 1.5 LoRA needs: 8 of the trainer's 11 MB.
UNNEEDED = ("bitsandbytes_windows/", "configs/", "docs/", "images/", "tests/", ".ai/", ".github/")
# The first moment that a zip can name: a file's own time would make other bytes of the same files.
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the package; `name` is its place in it, with "/"."""

    name: str
    content: bytes
    executable: bool = False


def file_name(experiment: config.Experiment) -> str:
    """`runpod_KEEP_TOKENS_3_EXPERIMENT.zip`."""
    return f"runpod_{experiment.name.upper()}_EXPERIMENT.zip"


def show(chosen: argparse.Namespace) -> None:
    """Pack what the command line names, and say what was packed.

    Raises:
        ConfigError: no clone, a secret in a file, or another zip of that name.
        ConfigError, DatasetError: what the run itself would be refused for.
    """
    flight = preflight.examined(chosen)
    refusal = flight.refusal()
    if refusal is not None:
        raise refusal
    entries = collect(flight, REPOSITORY)
    content = zipped(entries)
    out = Path(chosen.out or ".")
    if out.is_dir():
        out /= file_name(flight.experiment)
    if out.exists() and not chosen.replace and out.read_bytes() != content:
        raise ConfigError(f"{out}: another file of that name is there: --replace, or --out FILE")
    try:
        write_whole(out, content)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from error
    print("\n".join(flight.verdict))
    print(f"{out}: {len(entries)} files, {len(content) / 1e6:.1f} MB")
    print(f"sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"on the other side: unzip {out.name} && cd {FOLDER} && bash start_training.sh")


def collect(flight: Preflight, repository: Path) -> list[Entry]:
    """Every file of the package, by name, the manifest with the sha256 of all the others.

    Raises:
        ConfigError: where the project is no clone, or a file holds a secret of the environment.
    """
    require_submodule(repository)
    written = {**origin.commits(repository), "experiment": flight.experiment.name}
    entries = [
        *_pictures(flight),
        *_project(repository),
        *_tracked(repository / SUBMODULE, (), f"{SUBMODULE}/", UNNEEDED),
        Entry(name=origin.FILE, content=_json(written)),
    ]
    readme = package_readme.text(
        flight,
        commits=written,
        zip_name=file_name(flight.experiment),
        names={entry.name for entry in entries},
        repository=repository,
    )
    entries.append(Entry(name="README.md", content=readme.encode()))
    for entry in entries:
        if holds_secret(entry.content.decode("utf-8", errors="replace")):
            raise ConfigError(
                f"{entry.name}: holds a token, key or password of this machine's environment: "
                "take it out; a package is made to be passed on"
            )
    entries.sort(key=lambda entry: entry.name)
    listed = {
        "data": sorted(flight.collections),
        "sha256": {entry.name: hashlib.sha256(entry.content).hexdigest() for entry in entries},
    }
    return [*entries, Entry(name=manifest.FILE, content=_json(listed))]


def zipped(entries: Iterable[Entry]) -> bytes:
    """The zip of `entries` below runpod_package/: the same bytes for the same entries."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in entries:
            info = zipfile.ZipInfo(f"{FOLDER}/{entry.name}", date_time=EPOCH)
            info.create_system = 3  # Unix, whose modes follow
            info.external_attr = (0o100755 if entry.executable else 0o100644) << 16
            archive.writestr(info, entry.content)
    return buffer.getvalue()


def _pictures(flight: Preflight) -> Iterator[Entry]:
    for name, collection in flight.collections.items():
        for pair in collection.pairs:
            for path in (pair.picture, pair.caption):
                yield Entry(name=f"{name}/{path.name}", content=path.read_bytes())


def _project(repository: Path) -> Iterator[Entry]:
    tracked = list(_tracked(repository, PROJECT))
    yield from tracked
    # An experiment that was written a minute ago is not tracked yet.
    files = (f"experiments/{name}.toml" for name in config.names(repository))
    for name in sorted(set(files) - {entry.name for entry in tracked}):
        yield Entry(name=name, content=(repository / name).read_bytes())


def _tracked(
    folder: Path, paths: Sequence[str], prefix: str = "", without: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """What git tracks of `paths`, as it is on the disk: nothing else can slip in."""
    listed = None
    if (folder / ".git").exists():
        listed = answer(["git", "ls-files", "--stage", "-z", "--", *paths], cwd=folder)
    if not listed:
        raise ConfigError(f"{folder}: is no git clone, and only tracked files are packed: clone it")
    for line in listed.strip("\0").split("\0"):
        head, _, name = line.partition("\t")
        if name.startswith(without):
            continue
        if not (folder / name).is_file():
            raise ConfigError(f"{prefix}{name}: git tracks it, but it is not there: restore it")
        content = (folder / name).read_bytes()
        yield Entry(name=prefix + name, content=content, executable=head.startswith("100755"))


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
