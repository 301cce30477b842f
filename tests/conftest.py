"""Fixtures that the whole suite shares: what this machine has, and what is skipped without it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from bespoke import signals
from bespoke.files import locked
from bespoke.rehearsal.drawing import draw
from bespoke.trainer import base_model
from tests.rehearsals import REPOSITORY, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A busy machine is no reason to fail.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Where Python may keep no bytecode, each process that a test starts compiles 300 modules again: 5 s
# of a processor for a rehearsal instead of 2.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ.setdefault("PYTHONPYCACHEPREFIX", str(REPOSITORY / ".pytest_cache" / "bytecode"))

# The fake trainer does what the variables of trainer_faults.py say, in each process from here on.
os.environ["BESPOKE_FAKE_TRAINER_HOOK"] = str(REPOSITORY / "tests" / "trainer_faults.py")

# Under nohup, too, the tests' own processes meet HUP.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A copy of the project's own configuration, to be broken."""
    folder = tmp_path / "project"
    shutil.copytree(repository / "experiments", folder / "experiments")
    for name in ("training_config.toml", "dataset_config.toml"):
        shutil.copy(repository / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def sd_scripts() -> Path:
    """The submodule's files."""
    folder = REPOSITORY / "vendor" / "sd-scripts"
    if not (folder / "train_network.py").is_file():
        pytest.skip("the submodule vendor/sd-scripts is not checked out")
    return folder


@pytest.fixture(scope="session")
def trainer_python(sd_scripts: Path) -> str:
    """An interpreter that holds the trainer's packages."""
    for name in ("torch", "diffusers", "accelerate", "open_clip"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the trainer's packages are not installed: {name}")
    return sys.executable


# Reads a script and what it is asked, a line each, and prints what it puts into `answer`.
ASKED = """
import json, sys, warnings
warnings.simplefilter("ignore")
import train_network
for line in sys.stdin:
    script, asked = json.loads(line)
    names = {"asked": asked}
    exec(script, names)
    print("ANSWER " + json.dumps(names["answer"], default=str), flush=True)
    del names  # a model of two gigabytes may be among them
"""


@pytest.fixture(scope="session")
def ask_trainer(
    trainer_python: str, sd_scripts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, Any], Any]]:
    """Runs a script beside the trainer's source, in one process: importing it takes about 15 s."""
    errors = tmp_path_factory.mktemp("asked") / "stderr"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(sd_scripts)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = [trainer_python, "-c", ASKED]
    with (
        errors.open("w") as stderr,
        subprocess.Popen(words, cwd=sd_scripts, env=environment, stderr=stderr, **pipes) as child,
    ):

        def ask(script: str, asked: Any) -> Any:
            print(json.dumps([script, asked]), file=child.stdin, flush=True)
            for line in child.stdout:
                if line.startswith("ANSWER "):
                    return json.loads(line.removeprefix("ANSWER "))
            raise AssertionError(errors.read_text()[-3000:])

        yield ask
        child.stdin.close()


@pytest.fixture(scope="session")
def random_model(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The randomly initialised model, 2 GB and 40 s: kept where BESPOKE_TEST_RANDOM_MODEL says."""
    named = os.environ.get("BESPOKE_TEST_RANDOM_MODEL")
    folder = Path(named) if named else tmp_path_factory.mktemp("models") / "random-sd15"
    base_model.random_sd15(folder, print)
    return folder


# Two epochs, with captions cut to a third, since that is a quarter of a step's time on a processor.
SHORT = ("training.max_train_epochs=2", "training.max_token_length=75")
SMOKE = ("--experiment", "smoke", *(word for each in SHORT for word in ("--set", each)))


@pytest.fixture(scope="session")
def smoke_run(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a whole run of SMOKE by the real trainer; leave it as it is.

    Of the processes that test at a time the first to ask trains, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "smoke"
    place.mkdir(exist_ok=True)
    with locked(place / "lock"):
        if not (place / "trained").exists():
            (place / "models").mkdir()
            (place / "models" / "random-sd15").symlink_to(random_model)
            words = [sys.executable, "-m", "bespoke.run", *SMOKE, "--workspace", str(place)]
            done = run(words, timeout=600, HOME=str(place))
            assert done.returncode == 0, done.stdout + done.stderr
            (place / "trained").touch()
    return place


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """203 drawn pictures with captions, for tests that leave them whole."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    draw(folder, 203)
    return folder


@pytest.fixture(scope="session")
def set_up() -> Callable[[Path], None]:
    """Makes a copy of the project look set up: its .venv leads to this interpreter."""

    def leads_here(folder: Path) -> None:
        python = folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        for name in ("orchestrator", "trainer"):
            sums = f"cksum <locks/{name}.txt | tr ' ' -"
            mark = subprocess.check_output(sums, shell=True, cwd=folder, text=True).strip()
            (folder / f".venv/.installed-{name}-{mark}").touch()

    return leads_here


@pytest.fixture(autouse=True)
def _own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may touch a person's real workspace or caches."""
    monkeypatch.setenv("BESPOKE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (
        "HF_TOKEN",
        "BESPOKE_COPY_TO",
        "BESPOKE_DATABASE_URL",
        "RUNPOD_API_KEY",
        "RUNPOD_POD_ID",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def caught_signals() -> Iterator[None]:
    """This process meets signals as bespoke does, for the length of one test."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.NUMBERS}
    signals.handle_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that run the real trainer come first: they take minutes, and two run at a time."""
    long = {item.path for item in items if item.get_closest_marker("trainer")}
    long |= {item.path for item in items if item.path.name in ("test_evaluator.py", "test_pod.py")}
    items.sort(key=lambda item: item.path not in long)
