"""The model that a LoRA is trained on, and its tokenizer: found, downloaded once, verified."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bespoke.errors import ConfigError, TrainerError
from bespoke.files import sha256, write_whole
from bespoke.trainer import checkpoints
from bespoke.trainer.process import Group
from bespoke.trainer.random_model import TOKENIZER, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Announce = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One file of one revision of a repository on the hub; `size` in bytes."""

    repository: str
    revision: str
    file: str
    size: int
    sha256: str
    # Holds the same file, of the same hash; tried where the first one refuses or is gone.
    fallback: str


SD15 = Pinned(
    repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    file="v1-5-pruned-emaonly.safetensors",
    size=4_265_146_304,
    sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    fallback="Comfy-Org/stable-diffusion-v1-5-archive",
)
RANDOM_FOLDER = "random-sd15"


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """What pretrained_model_name_or_path becomes in the rendered file.

    `path` is an absolute path, or a hub id where `hub` is true: the trainer then fetches it itself.
    `sha256` is known for the pinned file alone, which `provide` holds to it.
    """

    path: str
    sha256: str | None = None
    hub: bool = False


# A download leaves this much free: a run writes its first checkpoint and state soon after.
MARGIN = 1 << 30
_REMOVED = "runwayml/stable-diffusion-v1-5"
# The hub's own rule for names, less its finer points.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
# By what the trainer's converter knows the parts in a single file (model_util.py:1002 at v0.10.1);
# the text encoders of Stable Diffusion 2 and XL have other names.
_CHECKPOINT_PARTS = {
    "model.diffusion_model.": "UNet",
    "first_stage_model.": "VAE",
    "cond_stage_model.transformer.": "text encoder",
}


def locate(wanted: str, *, models: Path, pinned: Pinned = SD15) -> BaseModel:
    """The model that pretrained_model_name_or_path means; nothing is downloaded or written.

    The pinned id is a file in `models`, the workspace's folder for them; "random" a randomly
    initialised Stable Diffusion 1.5 there; a local path is used as it is after a look at its
    header; another hub id is passed through.

    Raises:
        ConfigError: for what is neither, or is not a complete Stable Diffusion 1.5.
    """
    if wanted.casefold() in (pinned.repository.casefold(), pinned.fallback.casefold()):
        return BaseModel(path=str(models.absolute() / pinned.file), sha256=pinned.sha256)
    path = Path(wanted).expanduser().absolute()
    random = models.absolute() / RANDOM_FOLDER
    if wanted == "random" or path == random:
        return BaseModel(path=str(random))
    if wanted and path.exists():
        _look_at(path)
        return BaseModel(path=str(path))
    if _REMOVED in wanted.casefold():
        raise ConfigError(
            f"pretrained_model_name_or_path: {wanted} was removed from the hub in August 2024; "
            f'write pretrained_model_name_or_path = "{pinned.repository}"'
        )
    if _HUB_ID.fullmatch(wanted) and not wanted.endswith(_FILE_SUFFIXES):
        return BaseModel(path=wanted, hub=True)
    raise ConfigError(
        f"pretrained_model_name_or_path: {wanted!r} is neither a file or folder on this machine "
        f"({path} does not exist) nor a hub id (owner/name); write the path of a "
        f'.safetensors file or of a diffusers folder, or "{pinned.repository}"'
    )


def provide(base: BaseModel, *, models: Path, announce: Announce) -> BaseModel:
    """Have the tokenizer in `tokenizer_folder`, and what `locate` named where it said.

    Raises:
        ConfigError: for what cannot be had or made.
    """
    write_tokenizer(tokenizer_folder(models) / TOKENIZER)
    if base.sha256 is not None:
        fetch(SD15, models=models, announce=announce)
    elif Path(base.path) == models.absolute() / RANDOM_FOLDER:
        random_sd15(Path(base.path), announce)
    else:
        by = "a hub id, which the trainer fetches itself" if base.hub else "used as it is"
        announce(f"base model {base.path}: {by}; not verified")
    return base


def tokenizer_folder(models: Path) -> Path:
    """Where `provide` puts the tokenizer: the trainer's `tokenizer_cache_dir`."""
    return models.absolute() / "tokenizer"


def _look_at(path: Path) -> None:
    if path.is_dir():
        _look_at_folder(path)
    elif path.suffix == ".safetensors":
        names = _tensor_names(path)
        for prefix, part in _CHECKPOINT_PARTS.items():
            if not any(name.startswith(prefix) for name in names):
                raise ConfigError(
                    f"{path}: no {part} of Stable Diffusion 1.5 in it ({prefix}*); a whole "
                    "checkpoint is needed, not Stable Diffusion 2 or XL, a LoRA or a single part"
                )
    elif path.suffix != ".ckpt" or path.stat().st_size == 0:
        raise ConfigError(f"{path}: not a base model (.safetensors, .ckpt or diffusers folder)")


def _look_at_folder(path: Path) -> None:
    if not (path / "model_index.json").is_file():
        raise ConfigError(
            f"{path}: not a diffusers folder; name a .safetensors file, or a folder that holds "
            "model_index.json, unet/, text_encoder/ and vae/"
        )
    if (path / "text_encoder_2").is_dir():
        raise ConfigError(f"{path}: Stable Diffusion XL; bespoke trains Stable Diffusion 1.5")
    for part in (path / name for name in ("unet", "text_encoder", "vae")):
        weights = [*part.glob("*.safetensors"), *part.glob("*.bin")]
        if not weights or not (part / "config.json").is_file():
            raise ConfigError(f"{part}: no config.json or no weights in it; copy the folder again")
        for file in part.glob("*.safetensors"):
            _tensor_names(file)


def _tensor_names(path: Path) -> list[str]:
    try:
        return checkpoints.opened(path)[0]
    except TrainerError as error:
        raise ConfigError(
            f"{path}: incomplete or damaged ({error.__cause__}); copy or fetch it again"
        ) from None


def random_sd15(folder: Path, announce: Announce) -> BaseModel:
    """The randomly initialised model in `folder`, built there (2 GB) where it is not complete.

    Raises:
        ConfigError: where it cannot be built, with the builder's last words.
    """
    model = BaseModel(path=str(folder.absolute()))
    with _alone(folder.parent, announce):
        with contextlib.suppress(ConfigError):
            _look_at_folder(folder)
            return model
        if folder.exists():
            aside = folder.rename(folder.with_name(f"{folder.name}.broken-{time.time_ns()}"))
            announce(f"{folder}: incomplete; moved to {aside.name}")
        announce(f"{folder}: building a randomly initialised model (about 40 s, 2 GB)")
        _build(folder)
    return model


def _build(folder: Path) -> None:
    with Group(
        [sys.executable, "-m", "bespoke.trainer.random_model", str(folder.absolute())],
        environment={**os.environ, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).resolve().parents[2],
    ) as builder:
        said = b"".join(builder.output()).decode(errors="replace").split("\n")
        code = builder.wait()
    if code != 0:
        last_words = next((line for line in reversed(said) if line.strip()), f"exit code {code}")
        raise ConfigError(
            f"{folder}: the randomly initialised model could not be built ({last_words}); "
            "it needs the trainer's packages (start_training.sh) and 2 GB of disk"
        )


def fetch(pinned: Pinned, *, models: Path, announce: Announce) -> None:
    """Have the pinned file in `models`: downloaded where it is missing, hashed where it is new.

    Raises:
        ConfigError: where it cannot be had, or is another file.
    """
    final = models.absolute() / pinned.file
    sidecar = final.with_name(f"{final.name}.verified")
    with _alone(models, announce):
        if not final.exists():
            _obtain(pinned, final, announce)
        elif sidecar.is_file() and sidecar.read_bytes() == _identity(final, pinned):
            return
        elif wrong := _mismatch(final, pinned, announce):
            raise ConfigError(f"{final}: {wrong}; move it away, and it is downloaded again")
        write_whole(sidecar, _identity(final, pinned))


def _obtain(pinned: Pinned, final: Path, announce: Announce) -> None:
    """Fetch into a folder beside it, which keeps what came of a broken download, then verify."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigError(
            f"{final}: missing, and HF_HUB_OFFLINE forbids downloading it; unset that for the "
            "first start, or place the file there"
        )
    folder = final.with_name(f".{final.name}.part")
    came = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free, needed = shutil.disk_usage(final.parent).free, pinned.size - came + MARGIN
    if free < needed:
        raise ConfigError(
            f"{final.parent}: {_gigabytes(free)} free, and the base model needs "
            f"{_gigabytes(needed)} with the room for a run; free some, or name another "
            "workspace (--workspace)"
        )
    announce(f"downloading {pinned.file} ({_gigabytes(pinned.size)}) from {pinned.repository}")
    part = _download(pinned, folder, final, announce)
    if wrong := _mismatch(part, pinned, announce):
        rejected = part.rename(final.with_name(f"{final.name}.rejected-{time.time_ns()}"))
        shutil.rmtree(folder)
        raise ConfigError(
            f"{rejected}: the downloaded file {wrong}; start again to download it once more, or "
            f"place the right file at {final}"
        )
    part.replace(final)
    shutil.rmtree(folder)


def _download(pinned: Pinned, folder: Path, final: Path, announce: Announce) -> Path:
    # The copy's own revisions are not ours to pin: the hash is what holds it.
    for repository, revision in ((pinned.repository, pinned.revision), (pinned.fallback, "main")):
        part = _attempt(repository, revision, pinned.file, folder)
        if isinstance(part, Path):
            return part
        announce(part)
    raise ConfigError(
        f"{pinned.file}: {part}; start again to resume the download, or place the file at {final}"
    )


def _attempt(repository: str, revision: str, file: str, folder: Path) -> Path | str:
    """The file by the hub's own client, which resumes and retries; or why it is not to be had.

    The client's messages are not passed on: they may quote a signed address.
    """
    # Plain HTTP, which resumes; RunPod's images ask for a transfer that may not be installed.
    os.environ |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ENABLE_HF_TRANSFER": "0"}
    from huggingface_hub import hf_hub_download

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    host = urlsplit(endpoint).hostname
    try:
        return Path(
            hf_hub_download(
                repository, file, revision=revision, local_dir=folder, endpoint=endpoint
            )
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        # What it met as it asked for the file's size is the cause of what it raises.
        answers = [getattr(each, "response", None) for each in (error, error.__cause__)]
        status = next((each.status_code for each in answers if each is not None), None)
        if status is None:
            return (
                f"{host} cannot be reached or broke off ({type(error).__name__}); check the "
                "network, or name a mirror in HF_ENDPOINT"
            )
        token = "; set or unset HF_TOKEN" if status in (401, 403) else ""
        return f"{host} answered {status} for {repository}{token}"


def _mismatch(path: Path, pinned: Pinned, announce: Announce) -> str | None:
    """What makes `path` another file than the pinned one, or None."""
    if _size(path) != pinned.size:
        return f"is {_size(path):,} bytes, not {pinned.size:,}"
    announce(f"verifying the sha256 of {path.name} ({_gigabytes(pinned.size)})")
    found = sha256(path)
    return None if found == pinned.sha256 else f"has sha256 {found}, not {pinned.sha256}"


def _identity(path: Path, pinned: Pinned) -> bytes:
    """What tells a verified file from one that was changed since."""
    stat = path.stat()
    known = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": pinned.sha256}
    return json.dumps(known).encode() + b"\n"


@contextlib.contextmanager
def _alone(models: Path, announce: Announce) -> Iterator[None]:
    """Let one process at a time fill `models`: several runs may start at once on one pod."""
    models.mkdir(parents=True, exist_ok=True)
    with (models / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"{models}: another run is preparing the base model; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            # Some network volumes have no locks; alone is then the common case.
            pass
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
