"""The zip for a rented machine: whole, the same each time, and nothing in it that is not meant."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bespoke import cli
from bespoke.deploy import package
from bespoke.experiment import config

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-93ab7e-token"
NAME = "runpod_KEEP_TOKENS_3_EXPERIMENT.zip"
MADE_HERE = ("README.md", "SHA256SUMS", "origin.json")


def pack(*arguments: str) -> None:
    assert cli.main(["package", *arguments]) == 0


@pytest.fixture(scope="module")
def collection(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn pictures, in a folder with a telling name, beside what must stay at home."""
    folder = tmp_path_factory.mktemp("machine-path-canary") / "pictures"
    shutil.copytree(drawn, folder)
    (folder / ".hidden").write_text(CANARY, encoding="utf-8")
    (folder / "notes.md").write_text(CANARY, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def zip_file(collection: Path, sd_scripts: Path) -> Path:
    out = collection.parent / "zips"
    out.mkdir()
    pack("--data", str(collection), "--out", str(out))
    return out / NAME


@pytest.fixture
def unpacked(zip_file: Path, tmp_path: Path, set_up: Callable[[Path], None]) -> Path:
    """Unpacked elsewhere as a person does, on a machine where set-up is done."""
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    subprocess.run(["unzip", "-q", str(zip_file), "-d", str(tmp_path)], check=True)
    set_up(tmp_path / package.FOLDER)
    return tmp_path / package.FOLDER


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "start_training.sh", *arguments],
        cwd=folder,
        env={**os.environ, "BESPOKE_WORKSPACE": str(folder / "workspace")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def contents(zip_file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(zip_file) as archive:
        prefix = f"{package.FOLDER}/"
        assert all(name.startswith(prefix) for name in archive.namelist())
        return {name.removeprefix(prefix): archive.read(name) for name in archive.namelist()}


def test_it_holds_the_pairs_the_project_and_the_trainer_and_nothing_else(
    zip_file: Path, collection: Path, repository: Path
) -> None:
    files = contents(zip_file)
    pairs = {name for name in files if name.startswith("training_data/")}
    assert len(pairs) == 406
    assert all(files[name] == (collection / Path(name).name).read_bytes() for name in pairs)
    for name in ("start_training.sh", "experiments/keep_tokens_3.toml", "bespoke/run.py"):
        assert files[name] == (repository / name).read_bytes()
    assert "vendor/sd-scripts/library/train_util.py" in files
    listed = [line.split("  ", 1)[1] for line in files["SHA256SUMS"].decode().splitlines()]
    assert set(listed) == set(files) - {"SHA256SUMS"}
    git = ["git", "ls-files", "--recurse-submodules"]
    tracked = subprocess.check_output(git, cwd=repository, text=True).splitlines()
    assert set(files) - pairs - set(MADE_HERE) <= set(tracked)


def test_no_secret_no_history_and_no_path_of_this_machine_is_in_it(
    zip_file: Path, collection: Path, repository: Path
) -> None:
    private = (CANARY, str(repository), str(collection.parent), "machine-path-canary", sys.prefix)
    for name, content in contents(zip_file).items():
        assert not any(word.encode() in content for word in private), name
        assert ".git" not in Path(name).parts


def test_the_same_inputs_give_the_same_bytes_wherever_and_whenever(
    zip_file: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(collection, elsewhere, copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    umask = os.umask(0o077)
    try:
        pack("--data", "elsewhere")
    finally:
        os.umask(umask)
    assert (tmp_path / NAME).read_bytes() == zip_file.read_bytes()


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of one file, of which nothing is checked."""

    class Untroubled:
        verdict = ("can start",)
        experiment = config.load("keep_tokens_3", repository=package.REPOSITORY)

        def refusal(self) -> None:
            return None

    monkeypatch.setattr(package.preflight, "examined", lambda _: Untroubled())
    monkeypatch.setattr(package, "collect", lambda *_: [package.Entry(name="a", content=b"new")])


def test_another_file_of_that_name_is_kept_unless_it_is_asked_for(
    empty: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.zip"
    out.write_bytes(b"mine")
    with pytest.raises(SystemExit) as end:
        pack("--out", str(out))
    assert end.value.code == 2
    refusal = f"{out}: another file of that name exists; add --replace to replace it"
    assert refusal in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    pack("--out", str(out), "--replace")
    content = out.read_bytes()
    pack("--out", str(out))
    assert out.read_bytes() == content != b"mine"


def test_what_would_not_pass_the_check_is_not_packed(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = tmp_path / "fewer"
    shutil.copytree(collection, fewer)
    next(fewer.glob("*.txt")).unlink()
    with pytest.raises(SystemExit) as end:
        pack("--data", str(fewer), "--out", str(tmp_path))
    assert end.value.code == 3
    assert "caption" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zip"))


def test_a_secret_of_the_environment_in_a_file_stops_it(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    words = ["package", "--data", str(drawn), "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", *words],
        cwd=repository,
        env={**os.environ, "HF_TOKEN": "Keeping the first three tags"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "keep_tokens_3.toml: contains a token, key or password" in done.stderr
    assert not list(tmp_path.iterdir())


def test_unpacked_elsewhere_it_starts_and_names_what_was_tampered_with(unpacked: Path) -> None:
    short = ("--rehearse", "--experiment", "smoke", "--data", "training_data", "--no-test")
    done = start(unpacked, *short)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 complete checkpoints" in done.stdout
    trainer = unpacked / "vendor/sd-scripts/train_network.py"
    for path, tamper, problem in (
        (unpacked / "bespoke/run.py", lambda path: path.write_bytes(b""), "FAILED"),
        (trainer, Path.unlink, "FAILED open or read"),
        (next(unpacked.glob("training_data/*.txt")), lambda path: path.write_text(""), "FAILED"),
    ):
        before = path.read_bytes()
        tamper(path)
        done = start(unpacked, "--help")
        path.write_bytes(before)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{path.relative_to(unpacked)}: {problem}\n" in done.stderr
        assert "Unzip the package again" in done.stderr
    (unpacked / "SHA256SUMS").unlink()
    done = start(unpacked, "--help")
    assert done.returncode == 0
    assert "keep_tokens_3); may be given again" in done.stdout
    assert os.access(unpacked / "start_training.sh", os.X_OK)
    origin = json.loads((unpacked / "origin.json").read_text(encoding="utf-8"))
    version = [sys.executable, "-m", "bespoke", "--version"]
    shown = subprocess.check_output(version, cwd=unpacked, text=True)
    assert origin["experiment"] == "keep_tokens_3"
    assert origin["bespoke"] in shown
    assert origin["trainer"] in shown


def test_the_readme_is_made_from_the_experiments_own_data(zip_file: Path) -> None:
    text = contents(zip_file)["README.md"].decode()
    for words in (
        "# SD15_KEEP_TOKENS_3_EXPERIMENT\n",
        "Confidence before the run: 85%.",
        "- expected: green background by epoch 3 to 4",
        "| `dataset.caption_dropout_rate` | 0.05 |",
        "203 pictures with captions,",
        "10 epochs. What it leaves",
        "Epoch 4 decides: where the background is as asked",
        "- `keep_tokens_5`: ",
        "- best mean score from 8: The colours hold: now widen what the LoRA can draw. "
        "`expanded_dataset` `conv_dim_8`",
    ):
        assert words in text
    assert "{{" not in text


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        (None, NAME),
        ("new/folder", f"new/folder/{NAME}"),
        ("new/mine.zip", "new/mine.zip"),
        ("here", f"here/{NAME}"),
    ],
)
def test_out_names_a_folder_which_is_made_or_a_zip(
    empty: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    pack(*(("--out", out) if out else ()))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / expected]


def test_without_a_clone_nothing_is_packed(tmp_path: Path) -> None:
    with pytest.raises(package.ConfigError, match="not a git clone"):
        package._tracked(tmp_path, ("bespoke",))
