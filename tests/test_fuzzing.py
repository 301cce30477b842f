"""Whatever is read from outside gives a result or one clear error: no traceback, no hang."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import struct
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from benchmarks import fuzz
from bespoke.errors import BespokeError, TrainerError
from bespoke.experiment import config, prompts
from bespoke.experiment.rendering import Places, render
from bespoke.experiment.toml_files import parsed, toml_lines
from bespoke.trainer import checkpoints, resume
from tests.rehearsals import REPOSITORY, run

WORDS = st.sampled_from(["training", "dataset", "gate", "subsets", "epoch", "learning_rate", "x y"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a-000001.safetensors"


# A file of a test's own is written anew for each example.
examples = settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def test_valid_files_with_a_key_or_three_changed_load_or_are_refused(
    project: Path, tmp_path: Path
) -> None:
    shutil.copy(REPOSITORY / prompts.PROMPTS_FILE, project)
    files = sorted((*project.glob("*.toml"), *project.glob("experiments/*.toml")))
    loaded = 0
    for number in range(250):
        draw = random.Random(number)
        file = draw.choice(files)
        before = file.read_text(encoding="utf-8")
        text = "\n".join(toml_lines(fuzz.mutate(parsed(before), draw)))
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        names = config.names(project)
        began = time.monotonic()
        try:
            name = file.stem if file.stem in names else draw.choice(names)
            experiment = config.load(name, repository=project)
            config.test_prompts(experiment, project / prompts.PROMPTS_FILE)
            data = dict.fromkeys(experiment.by_folder(), project)
            places = Places(
                workspace=tmp_path, run=tmp_path, data=data, base_model="m", tokenizer=None
            )
            render(experiment, places, {})
            loaded += 1
        except BespokeError as error:
            assert max(map(len, str(error).splitlines())) < 500, number
        file.write_text(before, encoding="utf-8")
        assert time.monotonic() - began < 5, number
    assert loaded > 25, "hardly one was valid enough to be looked at"


def test_the_command_line_answers_mutated_files_and_arguments() -> None:
    """Some cases of the benchmark, which has 10,000: no exit code 1, no hang."""
    done = run([sys.executable, "benchmarks/fuzz.py", "--count", "30", "--seed", "7"])
    assert done.returncode == 0, done.stdout + done.stderr


@examples
@given(content=st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_as_an_experiment_is_read_or_refused(project: Path, content: str | bytes) -> None:
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    (project / "experiments" / "odd.toml").write_bytes(raw)
    try:
        config.load("odd", repository=project)
    except BespokeError as error:
        assert "odd.toml" in str(error)


@examples
@given(text=st.text(max_size=60))
def test_any_override_is_taken_or_refused(text: str) -> None:
    for override in (text, f"training.{text}", f"dataset.keep_tokens={text}"):
        with contextlib.suppress(BespokeError):
            config.load("keep_tokens_3", repository=REPOSITORY, overrides=[override])


HEADERS = st.builds(
    lambda header, tail: struct.pack("<Q", len(header)) + header + tail,
    VALUES.map(lambda value: json.dumps(value, default=str).encode()),
    st.binary(max_size=40),
)


@examples
@given(content=st.binary(max_size=120) | HEADERS)
def test_any_bytes_as_a_checkpoint_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        assert checkpoints.read_epoch(path) >= 0
    except TrainerError as error:
        assert path.name in str(error)


@examples
@given(share=st.floats(0, 0.999))
def test_a_checkpoint_cut_anywhere_is_never_whole(path: Path, share: float) -> None:
    save_file({"w": np.ones((8, 8), np.float16)}, path, {"ss_epoch": "1"})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(TrainerError):
        checkpoints.read_epoch(path)


NAMES = st.sampled_from(["train_state.json", "random_states_0.pkl", "x"])


@examples
@given(files=st.dictionaries(NAMES, st.binary(max_size=60)))
def test_any_files_as_a_state_are_corrupt(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_bytes(content)
        assert checkpoints.corruption(Path(name))


@examples
@given(value=VALUES | st.text(max_size=30))
def test_any_file_of_a_run_is_read_or_none(tmp_path: Path, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    resume.record_path(tmp_path, "a").write_text(text, encoding="utf-8")
    found = resume.read_record(tmp_path, "a")
    assert found is None or isinstance(found.settings, dict)
