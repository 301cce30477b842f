"""Whatever is read from outside gives a result or one clear error: no traceback, no hang."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from benchmarks import fuzz
from bespoke.errors import BespokeError, TrainerError
from bespoke.experiment import config, prompts
from bespoke.experiment.effective_options import by_folder
from bespoke.experiment.rendering import Places, render
from bespoke.experiment.settings import DATASET_FILE
from bespoke.experiment.toml_files import parsed, toml_lines
from bespoke.trainer import checkpoints, resume

REPOSITORY = Path(__file__).resolve().parent.parent
WORDS = st.sampled_from(["training", "dataset", "gate", "subsets", "epoch", "learning_rate", "x y"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def project(folder: Path, experiment: str) -> Path:
    shutil.copytree(REPOSITORY / "experiments", folder / "experiments")
    (folder / "experiments" / "odd.toml").write_text(experiment, encoding="utf-8")
    for name in (config.TRAINING_FILE, DATASET_FILE, prompts.PROMPTS_FILE):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


def mutated(project: Path, draw: random.Random) -> str:
    """One of the project's files with a key or three changed, and what was changed."""
    files = sorted((*project.glob("*.toml"), *project.glob("experiments/*.toml")))
    file = draw.choice(files)
    document = fuzz.mutate(parsed(file.read_text(encoding="utf-8")), draw)
    text = "\n".join(toml_lines(document))
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    return file.stem


def test_valid_files_with_a_key_or_three_changed_load_or_are_refused(tmp_path: Path) -> None:
    loaded = 0
    for number in range(400):
        draw = random.Random(number)
        folder = project(tmp_path / str(number), "")
        name = mutated(folder, draw)
        name = name if name in config.names(folder) else draw.choice(config.names(folder))
        began = time.monotonic()
        try:
            experiment = config.load(name, repository=folder)
            config.test_prompts(experiment, folder / prompts.PROMPTS_FILE)
            data = dict.fromkeys(by_folder(experiment), tmp_path)
            places = Places(
                workspace=tmp_path, run=folder, data=data, base_model="m", tokenizer=None
            )
            render(experiment, places, {})
            loaded += 1
        except BespokeError as error:
            assert max(map(len, str(error).splitlines())) < 500, number
        assert time.monotonic() - began < 5, number
    assert loaded > 100, "hardly one was valid enough to be looked at"


def test_the_command_line_answers_mutated_files_and_arguments(repository: Path) -> None:
    """Some cases of the benchmark, which has 10,000: no exit code 1, no hang."""
    command = [sys.executable, "benchmarks/fuzz.py", "--count", "60", "--seed", "7"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_as_an_experiment_is_read_or_refused(content: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name) / "project", "")
        file = folder / "experiments" / "odd.toml"
        raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        file.write_bytes(raw)
        try:
            config.load("odd", repository=folder)
        except BespokeError as error:
            assert "odd.toml" in str(error)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_override_is_taken_or_refused(text: str) -> None:
    for override in (text, f"training.{text}", f"dataset.keep_tokens={text}"):
        with contextlib.suppress(BespokeError):
            config.load("keep_tokens_3", repository=REPOSITORY, overrides=[override])


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=120)
    | st.builds(
        lambda header, tail: struct.pack("<Q", len(header)) + header + tail,
        VALUES.map(lambda value: json.dumps(value, default=str).encode()),
        st.binary(max_size=40),
    )
)
def test_any_bytes_as_a_checkpoint_are_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a-000001.safetensors"
        path.write_bytes(content)
        try:
            epoch = checkpoints.read_epoch(path)
        except TrainerError as error:
            assert "a-000001.safetensors" in str(error)
        else:
            assert epoch >= 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_checkpoint_cut_anywhere_is_never_whole(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a-000001.safetensors"
        save_file({"w": np.ones((8, 8), np.float16)}, path, {"ss_epoch": "1"})
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        try:
            checkpoints.read_epoch(path)
        except TrainerError:
            return
        raise AssertionError("a cut file passed for a whole one")


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["train_state.json", "random_states_0.pkl", "x"]), st.binary(max_size=60)
    )
)
def test_any_files_as_a_state_are_torn(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        assert checkpoints.corruption(Path(name))


@settings(max_examples=100, deadline=None)
@given(VALUES | st.text(max_size=30))
def test_any_record_is_read_or_none(value: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        resume.record_path(Path(name), "a").write_text(text, encoding="utf-8")
        found = resume.read_record(Path(name), "a")
        assert found is None or isinstance(found.settings, dict)
