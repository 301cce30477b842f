"""The model that a LoRA is trained on, and its tokenizer: found, downloaded once, verified."""

from __future__ import annotations

import errno
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.files import REPOSITORY, locked, sha256, write_whole
from bespoke.trainer.process import Group
from bespoke.trainer.random_model import TOKENIZER, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One file of one revision of a repository on the hub; `size` in bytes.

    `copies` are other repositories' names for the same file; the first one is tried where the
    repository refuses or is gone.
    """

    repository: str
    revision: str
    file: str
    size: int
    sha256: str
    copies: tuple[str, ...]


SD15 = Pinned(
    repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    file="v1-5-pruned-emaonly.safetensors",
    size=4_265_146_304,
    sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    # The second one was removed from the hub in August 2024, and many files still name it.
    copies=("Comfy-Org/stable-diffusion-v1-5-archive", "runwayml/stable-diffusion-v1-5"),
)
RANDOM_FOLDER = "random-sd15"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """What pretrained_model_name_or_path becomes in the rendered file.

    `path` is absolute; `sha256` is known for the pinned file alone.
    """

    path: str
    sha256: str | None = None


def locate(wanted: str, *, models: Path, pinned: Pinned = SD15) -> BaseModel:
    """The model that pretrained_model_name_or_path means; nothing is downloaded or written.

    The pinned id is a file in `models`, the workspace's folder for them; "random" is a randomly
    initialised model there; a local path is used as it is.
    """
    names = [name.casefold() for name in (pinned.repository, *pinned.copies)]
    path = Path(wanted).expanduser().absolute()
    random = models.absolute() / RANDOM_FOLDER
    if wanted.casefold() in names:
        return BaseModel(path=str(models.absolute() / pinned.file), sha256=pinned.sha256)
    if wanted == "random" or path == random:
        return BaseModel(path=str(random))
    if wanted and path.exists():
        return BaseModel(path=str(path))
    raise ConfigError(
        f"pretrained_model_name_or_path: no such file or folder: {wanted!r}; write the "
        f'path of a model on this machine, or "{pinned.repository}"'
    )


def provide(base: BaseModel, *, models: Path, announce: Announce) -> BaseModel:
    """Have the tokenizer in `tokenizer_folder`, and what `locate` named where it said."""
    with locked(models / ".lock"):
        write_tokenizer(tokenizer_folder(models) / TOKENIZER)
    if base.sha256 is not None:
        fetch(SD15, models=models, announce=announce)
    elif Path(base.path) == models.absolute() / RANDOM_FOLDER:
        random_sd15(Path(base.path), announce)
    else:
        announce(f"base model {base.path}: used as it is, not verified")
    return base


def tokenizer_folder(models: Path) -> Path:
    """Where `provide` puts the tokenizer: the trainer's `tokenizer_cache_dir`."""
    return models.absolute() / "tokenizer"


def random_sd15(folder: Path, announce: Announce) -> None:
    """Build the randomly initialised model (2 GB) in `folder`, where it is not there yet."""
    with locked(folder.parent / ".lock"):
        if folder.exists():
            return
        announce(f"{folder}: building a randomly initialised model (about 40 s, 2 GB)")
        with Group(
            [sys.executable, "-m", "bespoke.trainer.random_model", str(folder.absolute())],
            environment={**os.environ, "HF_HUB_OFFLINE": "1"},
            cwd=REPOSITORY,
        ) as builder:
            lines = b"".join(builder.output()).decode(errors="replace").split("\n")
            code = builder.wait()
    if code != 0:
        last_words = next(filter(str.strip, reversed(lines)), f"exit code {code}")
        raise ConfigError(
            f"{folder}: the randomly initialised model could not be built ({last_words}); "
            "it needs the trainer's packages (start_training.sh) and 2 GB of disk"
        )


def fetch(pinned: Pinned, *, models: Path, announce: Announce) -> None:
    """Have the pinned file in `models`: downloaded where it is missing, hashed where it is new."""
    path = models.absolute() / pinned.file
    verified = path.with_name(f"{path.name}.verified")
    with locked(models / ".lock"):
        if not path.exists():
            announce(f"downloading {pinned.file} ({pinned.size / 1e9:.1f} GB)")
            _download(pinned, path.parent, announce)
        elif verified.is_file() and verified.read_text(encoding="utf-8") == _identity(path):
            return
        size = path.stat().st_size
        announce(f"verifying {path.name} by its sha256")
        if size != pinned.size or sha256(path) != pinned.sha256:
            raise ConfigError(
                f"{path}: {size:,} bytes, and not the file of {pinned.size:,} bytes with sha256 "
                f"{pinned.sha256}; delete it, and it is downloaded again"
            )
        write_whole(verified, _identity(path))


def _identity(path: Path) -> str:
    """What tells a verified file from one that was changed since."""
    return f"{path.stat().st_size} {path.stat().st_mtime_ns}\n"


def _download(pinned: Pinned, folder: Path, announce: Announce) -> None:
    # The copy's own revisions are not ours to pin: the hash is what holds it.
    for name, revision in ((pinned.repository, pinned.revision), (pinned.copies[0], "main")):
        problem = _attempt(name, revision, pinned.file, folder)
        if problem is None:
            return
        announce(f"download failed: {problem}")
    raise ConfigError(
        f"{pinned.file}: download failed: {problem}; check the network, HF_ENDPOINT, HF_TOKEN and "
        f"HF_HUB_OFFLINE, then start again to resume; or place the file at {folder / pinned.file}"
    )


def _attempt(repository: str, revision: str, file: str, folder: Path) -> str | None:
    """Download by the hub's own client, which resumes and retries; returns what went wrong.

    The client's messages are not passed on: they may quote a signed address.
    """
    # Plain HTTP, which resumes; RunPod's images ask for a transfer that may not be installed.
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ENABLE_HF_TRANSFER": "0"}
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        hf_hub_download(repository, file, revision=revision, local_dir=folder, endpoint=endpoint)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        # What it met as it asked for the file's size is the cause of what it raises.
        answers = [getattr(each, "response", None) for each in (error, error.__cause__)]
        status = next((each.status_code for each in answers if each is not None), None)
        return f"{repository}: " + (f"HTTP {status}" if status else type(error).__name__)
    return None
