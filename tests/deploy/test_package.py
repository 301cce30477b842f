"""The zip for a rented machine: whole, the same each time, and nothing in it that is not meant."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bespoke import cli
from bespoke.deploy import package
from tests.rehearsals import run

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-93ab7e-token"
NAME = "runpod_KEEP_TOKENS_3_EXPERIMENT.zip"


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
    assert set(files) - pairs - {"README.md", "SHA256SUMS", "origin.json"} <= set(tracked)
    private = (CANARY, str(repository), "machine-path-canary", sys.prefix)
    for name, content in files.items():
        assert not any(word.encode() in content for word in private), name
        assert ".git" not in Path(name).parts


def test_the_same_inputs_give_the_same_bytes_wherever_and_whenever(
    zip_file: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(collection, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    pack("--data", "elsewhere")
    assert (tmp_path / NAME).read_bytes() == zip_file.read_bytes()


def test_another_file_of_that_name_is_kept_unless_it_is_asked_for(
    zip_file: Path, collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.zip"
    out.write_bytes(b"mine")
    words = ("--data", str(collection), "--out", str(out))
    with pytest.raises(SystemExit) as end:
        pack(*words)
    assert end.value.code == 2
    refusal = f"{out}: another file of that name exists; --replace replaces it"
    assert refusal in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    pack(*words, "--replace")
    pack(*words)
    assert out.read_bytes() == zip_file.read_bytes()


def test_a_secret_of_the_environment_in_a_file_stops_it(drawn: Path, tmp_path: Path) -> None:
    words = ["package", "--data", str(drawn), "--out", str(tmp_path)]
    secret = {"HF_TOKEN": "Keeping the first three tags"}
    done = run([sys.executable, "-m", "bespoke", *words], **secret)
    assert done.returncode == 2
    assert "keep_tokens_3.toml: contains a token, key or password" in done.stderr
    assert not list(tmp_path.iterdir())


def test_unpacked_elsewhere_it_starts_and_names_what_was_tampered_with(
    zip_file: Path, tmp_path: Path, set_up: Callable[[Path], None]
) -> None:
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed")
    subprocess.run(["unzip", "-q", str(zip_file), "-d", str(tmp_path)], check=True)
    folder = tmp_path / package.FOLDER
    set_up(folder)
    start = ["bash", str(folder / "start_training.sh")]
    done = run([*start, "--rehearse", "--experiment", "smoke", "--no-test"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 complete checkpoints" in done.stdout
    (folder / "bespoke/run.py").write_bytes(b"")
    (folder / "vendor/sd-scripts/train_network.py").unlink()
    done = run([*start, "--help"])
    assert (done.returncode, done.stdout) == (2, "")
    for words in ("bespoke/run.py: FAILED\n", "train_network.py: FAILED open or read"):
        assert words in done.stderr
    assert "Unzip the package again" in done.stderr
    origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    shown = run([sys.executable, "-m", "bespoke", "--version"], cwd=folder).stdout
    assert origin["bespoke"] in shown
    assert origin["trainer"] in shown


def test_the_readme_is_made_from_the_experiments_own_data(zip_file: Path) -> None:
    text = contents(zip_file)["README.md"].decode()
    for words in (
        "# SD15_KEEP_TOKENS_3_EXPERIMENT\n",
        "Confidence before the run: 85%.",
        "| `dataset.caption_dropout_rate` | 0.05 |",
        "10 epochs. What it leaves",
        "Epoch 4 decides: where the background is as asked",
    ):
        assert words in text
    assert "{{" not in text
