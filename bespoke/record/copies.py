"""Copies of a run off the machine, made as its epochs end, and a run fetched from such copies.

`ADDRESS/NAME.copied.json` says what is complete there, and is written last. The files lie below
`ADDRESS/NAME/START-ID/` as they do in the workspace; a run that is started anew has a folder of its
own, so that nothing is written over. Only states that are too old are deleted.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import logging
import os
import queue
import threading
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bespoke.console import duration, say
from bespoke.errors import ConfigError, GateStoppedError, InterruptedRunError, TrainerError, is_full
from bespoke.files import document_path, locked, sha256, write_whole
from bespoke.record import report
from bespoke.record.run_record import first_line
from bespoke.signals import signal_count
from bespoke.trainer import checkpoints, resume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bespoke.trainer.job import Job

VARIABLE = "BESPOKE_COPY_TO"
# How long a run's end waits for its copies. A machine that is taken away is gone in half a minute.
PATIENCE_S, INTERRUPTED_S = 600.0, 20.0
READ_BACK = 16 * 2**20  # bytes of the largest file that is, where a store gives no hash of it
# At debug level some of them write requests with their keys.
LOGGERS = ("aiobotocore", "aiohttp", "asyncio", "botocore", "fsspec", "gcsfs", "s3fs", "urllib3")

# {"uid": the run's, "epoch": the last that had ended, "folder": where its files are, "files": by
# their paths in the workspace, size in bytes and sha256}
MANIFEST = ".copied.json"


def _store(address: str, option: str) -> Any:
    """The files below an address, by fsspec, not connected to yet; ConfigError where it is none."""
    import fsspec

    try:
        files, root = fsspec.url_to_fs(address, skip_instance_cache=True, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{option}: {address}: {first_line(error)}") from None
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # A mount that is not there must not be made on this machine's own disk.
    if "file" in files.protocol and not files.isdir(root):
        raise ConfigError(f"{option}: {address}: no such directory; mount it, or make it")
    return fsspec.filesystem("dir", path=root.rstrip("/"), fs=files, skip_instance_cache=True)


def _write(store: Any, path: str, data: bytes) -> None:
    """Write a file whole and verify it: by S3's ETag where that is a hash, else read back."""
    if "file" in store.fs.protocol:
        target = Path(store.path, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data)
    else:
        store.pipe_file(path, data)
    row = store.info(path)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    known = str(row.get("ETag")).strip('"') == md5 or len(data) > READ_BACK
    if row["size"] != len(data) or not (known or store.cat_file(path) == data):
        raise OSError(f"{path}: what arrived there is not what was sent")


@functools.cache
def _about(path: Path, size: int, _changed_ns: int) -> tuple[int, str]:
    return size, sha256(path)


@contextlib.contextmanager
def copying(job: Job, epoch: int) -> Iterator[Callable[[int], None]]:
    """Copy to BESPOKE_COPY_TO what there is when what this gives is called, as an epoch has ended.

    `epoch` is the one that this start goes on after. The end is copied too, and waited for: a
    TrainerError where a run that is over is not all there, and BESPOKE_COPY_REQUIRED is set.
    """
    address = os.environ.get(VARIABLE, "").strip()
    if not address:
        yield lambda _: None
        return
    patience = float(os.environ.get("BESPOKE_COPY_PATIENCE_S") or PATIENCE_S)
    copies = _Copies(job, address, epoch)
    ending: BaseException | None = None
    try:
        yield copies.epoch
    except BaseException as error:
        ending = error
        raise
    finally:
        hurried = isinstance(ending, InterruptedRunError)
        if lacking := copies.finish(min(patience, INTERRUPTED_S) if hurried else patience):
            required = os.environ.get("BESPOKE_COPY_REQUIRED", "0") not in ("", "0")
            if required and (ending is None or isinstance(ending, GateStoppedError)):
                raise TrainerError(f"{ending}\n{lacking}" if ending else lacking) from ending
            say(f"warning: {lacking}")


class _Copies:
    """One start's copies, made in a thread. An epoch that ends while another is copied waits, and
    makes way for a later one. Whatever the store does, training goes on.
    """

    def __init__(self, job: Job, address: str, epoch: int) -> None:
        self._job, self._address, self._store = job, address, _store(address, VARIABLE)
        self._due: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self._first = self._epoch = epoch
        # What is known to be there.
        self._there: dict[str, tuple[int, str]] = {}
        self._lacking: list[str] = []
        self._trouble = ""
        # A store that hangs does not keep the process.
        self._thread = threading.Thread(target=self._work, name="copies", daemon=True)
        self._thread.start()

    def epoch(self, epoch: int) -> None:
        """Have all copied that there is up to this epoch; returns at once."""
        self._epoch = max(self._epoch, epoch)
        self._due.put((self._epoch, False))

    def finish(self, patience: float) -> str | None:
        """Copy the end, for so many seconds: one line on what is not there then, or None."""
        self._due.put((self._epoch, True))
        deadline = time.monotonic() + patience
        self._thread.join(min(patience, 2.0))
        if self._thread.is_alive():
            say(f"copying the rest to {self._address}, for {duration(patience)} at the most")
        while self._thread.is_alive() and time.monotonic() < deadline and signal_count() < 2:
            self._thread.join(0.2)
        if not self._lacking and not self._thread.is_alive():
            later = [n for n, _ in checkpoints.states(self._job.output, self._job.name)]
            here = max([self._epoch, *later])
            alone = f"; epoch {here} is here alone, not tested yet" if here > self._epoch else ""
            say(f"copied to {self._address}: all up to epoch {self._epoch}{alone}")
            return None
        why = self._trouble or f"it takes longer than {duration(patience)}"
        names = ", ".join(PurePosixPath(name).name for name in self._lacking[:3])
        return f"not copied to {self._address}: {len(self._lacking)} files ({names} …): {why}"

    def _work(self) -> None:
        last = False
        while not last:
            epoch, last = self._due.get()
            while not self._due.empty():
                epoch, last = self._due.get()
            before = self._trouble
            try:
                self._copy(epoch)
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - training goes on
                self._trouble = first_line(error)
                if not before and not last:
                    why = f"cannot copy to {self._address}: {self._trouble}"
                    say(f"warning: {why}; training goes on, and each epoch's end tries again")

    def _copy(self, epoch: int) -> None:
        """Copy what is not there yet, then the manifest, and only then drop what is too old."""
        job, store = self._job, self._store
        files = (path for path in self._files(epoch) if path.is_file())
        paths = {path.relative_to(job.workspace).as_posix(): path for path in files}
        self._lacking = [*paths, job.name + MANIFEST]
        run = json.loads(document_path(job.output, job.name).read_bytes())
        folder = f"{job.name}/{run['started'][:19].replace(':', '-')}-{run['uid'][:6]}"
        found = store.find(folder, detail=True)
        sizes = {path.removeprefix(f"{folder}/"): row["size"] for path, row in found.items()}
        self._there = self._there or self._known(folder)
        copied = {}
        for name, path in paths.items():
            # The run deletes old states meanwhile.
            if path.exists():
                about = _about(path, path.stat().st_size, path.stat().st_mtime_ns)
                if self._there.get(name) != about or sizes.get(name) != about[0]:
                    data = path.read_bytes()
                    # A log has grown since.
                    about = len(data), hashlib.sha256(data).hexdigest()
                    _write(store, f"{folder}/{name}", data)
                copied[name] = self._there[name] = about
            self._lacking.remove(name)
        copied = {name: about for name, about in copied.items() if paths[name].exists()}
        manifest = {"uid": run["uid"], "epoch": epoch, "folder": folder, "files": copied}
        _write(store, job.name + MANIFEST, json.dumps(manifest, indent=1).encode())
        self._lacking = []
        for name in sizes.keys() - copied.keys():
            if 0 < checkpoints.epoch_of(PurePosixPath(name).parent.name, job.name) < epoch:
                store.rm_file(f"{folder}/{name}")

    def _known(self, folder: str) -> dict[str, tuple[int, str]]:
        """What is in a folder of the store by the manifest there."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            manifest = json.loads(self._store.cat_file(self._job.name + MANIFEST))
            if manifest["folder"] == folder and manifest["epoch"] > self._first:
                raise ConfigError(
                    f"this run is there up to epoch {manifest['epoch']}, and was begun after "
                    f"{self._first} here; go on with --from, or copy to another address"
                )
            if manifest["folder"] == folder:
                return {name: tuple(about) for name, about in manifest["files"].items()}
        return {}

    def _files(self, epoch: int) -> Iterator[Path]:
        """All that a run has come to, and needs to go on, once `epoch` has ended; states last."""
        output, name, place = self._job.output, self._job.name, self._job.workspace
        # Epoch 0 is the base model's own, without a checkpoint.
        for number in range(epoch + 1):
            path = checkpoints.checkpoint_path(output, name, number)
            tests = (output / "tests").glob(f"{glob.escape(path.stem)}-*/[!.]*")
            yield from (path, *sorted(tests))
        page = report.page_name(self._job.experiment.run_name)
        yield from (document_path(output, name), resume.record_path(output, name))
        yield from (output / "tests" / f"{name}.likeness.npz", place / report.FOLDER / page)
        yield from sorted((place / "logs" / name).glob("*/[!.]*"))
        for number, state in checkpoints.states(output, name):
            if number <= epoch:
                yield from sorted(state.glob("[!.]*"))


def fetch(job: Job) -> None:
    """Bring a run here from where `--from` says; ConfigError where it, or what is here, forbids."""
    address, name = str(job.request.copied_from), job.name + MANIFEST
    store = _store(address, "--from")
    try:
        manifest = json.loads(store.cat_file(name))
        with locked(job.output / f".{job.name}.lock", job.name):
            for name in _to_fetch(job, address, manifest):
                data = store.cat_file(f"{manifest['folder']}/{name}")
                if [len(data), hashlib.sha256(data).hexdigest()] != manifest["files"][name]:
                    raise ConfigError(f"--from: {address}: {name} there is not what was copied")
                (job.workspace / name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(job.workspace / name, data)
    except FileNotFoundError as error:
        raise ConfigError(f"--from: {address}: no {name} there; copied runs have one") from error
    except Exception as error:
        if is_full(error) or isinstance(error, ConfigError):
            raise
        why = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"--from: {address}: cannot read {name}: {why}") from error


def _to_fetch(job: Job, address: str, manifest: Mapping[str, Any]) -> list[str]:
    """The files that are not here, the run's own last: with that here, all is."""
    run_file, document = (of(job.output, job.name) for of in (resume.record_path, document_path))
    paths = {name: job.workspace / name for name in manifest["files"]}
    if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in paths):
        raise ConfigError(f"--from: {address}: {job.name}{MANIFEST} names files of elsewhere")
    lacking = [name for name, path in paths.items() if not path.exists()]
    is_here = run_file.exists() and json.loads(document.read_bytes())["uid"] == manifest["uid"]
    if is_here and not any(checkpoints.epoch_of(paths[name].name, job.name) for name in lacking):
        say(f"{job.name} is here, with every checkpoint of {address}: it goes on from here")
        return []
    for name, path in paths.items():
        if path.exists() and sha256(path) != manifest["files"][name][1]:
            why = f"is here with other content than in {address}"
            way_out = "name an empty --workspace, or leave --from out to go on with what is here"
            raise ConfigError(f"{path}: {why}; {way_out}")
    say(f"fetching {job.name} from {address}: {len(lacking)} files, to epoch {manifest['epoch']}")
    return sorted(lacking, key=lambda name: paths[name] == run_file)
