"""`bespoke package`: one zip with all that a rented machine needs, the same bytes each time.

It holds the experiment's pictures, the tracked files of the project and of the trainer, a README
made from the experiment's own data, and SHA256SUMS, which start_training.sh checks first. Files
are stored, not deflated: compressors differ from one Python to the next.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from bespoke import version
from bespoke.dataset import preflight
from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.experiment.toml_files import toml_value
from bespoke.files import REPOSITORY, write_whole
from bespoke.redact import holds_secret
from bespoke.trainer.child_process import answer
from bespoke.trainer.sd_scripts import SUBMODULE, require_submodule

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from bespoke.dataset.preflight import Preflight
    from bespoke.experiment.experiment import Experiment

FOLDER = "runpod_package"
TEMPLATE = Path(__file__).with_name("package_readme.md.j2")
PROJECT = (
    *("bespoke", "experiments", "locks", "LICENSE", "pyproject.toml", "docs/findings.md"),
    *("start_training.sh", "setup.sh", "training_config.toml", "dataset_config.toml"),
    *("test_prompts.toml", "quick_test_epoch.py", "auto_test_epoch.py"),
)
# What no Stable Diffusion 1.5 LoRA needs: 8 of the trainer's 11 MB.
UNNEEDED = tuple(
    f"{SUBMODULE}/{name}/"
    for name in ("bitsandbytes_windows", "configs", "docs", "images", "tests", ".ai", ".github")
)
# The first moment that a zip can name: a file's own time would make other bytes of the same files.
EPOCH = (1980, 1, 1, 0, 0, 0)


class Entry(NamedTuple):
    """One file of the package; `name` is its place in it, with "/"."""

    name: str
    content: bytes
    executable: bool = False


def show(chosen: argparse.Namespace) -> None:
    """Pack what the command line names, and say what was packed.

    Raises a ConfigError where it is no clone, a file holds a secret, or another zip of that name is
    there, and what the run itself would be refused for.
    """
    report = preflight.examined(chosen)
    if refusal := report.refusal():
        raise refusal
    entries = collect(report)
    content = zipped(entries)
    out = chosen.out or Path()
    # Only what ends in .zip is no folder.
    if out.suffix.lower() != ".zip":
        out /= file_name(report.experiment)
    try:
        if out.exists() and not chosen.replace and out.read_bytes() != content:
            raise ConfigError(f"{out}: another file of that name exists; --replace replaces it")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, content)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror}") from error
    print("\n".join(report.verdict))
    print(f"{out}: {len(entries)} files, {len(content) / 1e6:.1f} MB")
    print(f"sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"on the other machine: unzip {out.name} && cd {FOLDER} && bash start_training.sh")


def file_name(experiment: Experiment) -> str:
    """`runpod_KEEP_TOKENS_3_EXPERIMENT.zip`."""
    return f"runpod_{experiment.name.upper()}_EXPERIMENT.zip"


def collect(report: Preflight) -> list[Entry]:
    """Every file of the package, by name, then the sha256 of all of them."""
    require_submodule(REPOSITORY)
    origin = {**version.commits(), "experiment": report.experiment.name}
    # An experiment that was written a minute ago is not tracked yet.
    experiments = (f"experiments/{name}.toml" for name in config.names(REPOSITORY))
    trainer = (f"{SUBMODULE}/{name}" for name in _tracked(REPOSITORY / SUBMODULE, ()))
    tracked = {*_tracked(REPOSITORY, PROJECT), *experiments, *trainer}
    entries = [
        *(_entry(name) for name in tracked if not name.startswith(UNNEEDED)),
        *(
            Entry(f"{name}/{path.name}", path.read_bytes())
            for name, collection in report.collections.items()
            for pair in collection.pairs
            for path in pair
        ),
        Entry(version.FILE, json.dumps(origin, sort_keys=True).encode() + b"\n"),
        Entry("README.md", _readme(report, origin).encode()),
    ]
    for entry in entries:
        if holds_secret(entry.content.decode("utf-8", errors="replace")):
            raise ConfigError(
                f"{entry.name}: contains a token, key or password from this machine's environment; "
                "remove it, since a package is made to be passed on"
            )
    entries.sort()
    sums = (f"{hashlib.sha256(each.content).hexdigest()}  {each.name}\n" for each in entries)
    return [*entries, Entry("SHA256SUMS", "".join(sums).encode())]


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


def _tracked(folder: Path, paths: Sequence[str]) -> list[str]:
    """What git tracks of `paths`: nothing else can slip in."""
    listed = None
    if (folder / ".git").exists():
        listed = answer(["git", "ls-files", "-z", "--", *paths], cwd=folder)
    if not listed:
        raise ConfigError(f"{folder}: not a git clone; only tracked files are packed: clone it")
    return listed.strip("\0").split("\0")


def _entry(name: str) -> Entry:
    path = REPOSITORY / name
    if not path.is_file():
        raise ConfigError(f"{name}: tracked by git but missing: restore it")
    return Entry(name, path.read_bytes(), os.access(path, os.X_OK))


def _readme(report: Preflight, origin: Mapping[str, str]) -> str:
    """The README of the package; everything in it comes from the experiment's own data."""
    experiment = report.experiment
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, of the person's own words
    )
    environment.filters["toml"] = toml_value
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        experiment=experiment,
        verdict=report.lines,
        commits=origin,
        zip_name=file_name(experiment),
        pictures=sum(len(each.pairs) for each in report.collections.values()),
        children=[each for each in config.known(REPOSITORY) if each.parent == experiment.name],
    )
