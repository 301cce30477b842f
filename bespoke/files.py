"""Files written whole or not at all, and the folder that holds all of them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError, is_full
from bespoke.redact import veiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENT = ".record.json"


def write_whole(path: Path, data: str | bytes) -> None:
    """Write `data` to `path` so that a reader, or a power cut, meets the old file or the new one.

    Text is written as UTF-8 with "\\n" line ends, and with no secret in it.
    """
    content = veiled(data).encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, what: str = "") -> Iterator[None]:
    """Own `path` while inside; the system lets go of it when the process ends, however it ends.

    Where another process has it, it is waited for, or refused with a ConfigError that names `what`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (fcntl.LOCK_NB if what else 0))
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise ConfigError(f"{what}: locked by {holder}; wait, or stop it") from None
        if what:
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()} since {when}\n")
            stream.flush()
        yield


def workspace_path(wanted: Path | None) -> Path:
    """Where pictures, checkpoints and logs are.

    `wanted`, else BESPOKE_WORKSPACE, else /workspace where it can be written, else ./workspace.
    """
    default = "/workspace" if os.access("/workspace", os.W_OK) else "workspace"
    folder = wanted or Path(os.environ.get("BESPOKE_WORKSPACE") or default)
    try:
        # The rendered files and the record are UTF-8, and hold it.
        str(folder).encode()
        folder = folder.expanduser().absolute()
        folder.exists()  # fails where the name is too long for the disk
        return folder
    except (UnicodeEncodeError, RuntimeError, OSError) as error:
        shown = os.fsencode(folder).decode(errors="replace")[:200]
        why = "not UTF-8" if isinstance(error, UnicodeEncodeError) else str(error.args[-1])
        raise ConfigError(f"--workspace: {shown}: {why}; name another folder") from None


def workspace(wanted: Path | None) -> Path:
    """`workspace_path`, made where it is missing; a ConfigError where it cannot be written."""
    folder = workspace_path(wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Asking for permission is not enough: root may write, a read-only mount may not.
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        if is_full(error):
            raise
        raise ConfigError(
            f"{folder}: cannot write to the workspace: {error.strerror}; name another with "
            "--workspace or BESPOKE_WORKSPACE"
        ) from error


def document_path(output: Path, name: str) -> Path:
    """The record's own file of the run whose checkpoints are `output/NAME-….safetensors`."""
    return output / f"{name}{DOCUMENT}"


def digest(folder: Path, wanted: Callable[[Path], bool]) -> str:
    """One hash of the names and contents of a folder's files that are `wanted`."""
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.is_file() and wanted(path)):
        whole.update(repr((path.name, hashlib.blake2b(path.read_bytes()).hexdigest())).encode())
    return whole.hexdigest()


def sha256(path: Path) -> str:
    """A file's hash, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
