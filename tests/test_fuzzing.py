"""Whatever is read from outside gives a result or one clear error: no traceback, no hang."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
from pathlib import Path

import numpy as np
import toml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from bespoke import checkpoints, config, resume
from bespoke.errors import BespokeError, TrainerError

REPOSITORY = Path(__file__).resolve().parent.parent
WORDS = st.sampled_from(
    [*config.FIELDS, "keep_tokens", "subsets", "image_dir", "epoch", "learning_rate", "x y"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


def project(folder: Path, experiment: str) -> Path:
    (folder / "experiments").mkdir()
    (folder / "experiments" / "odd.toml").write_text(experiment, encoding="utf-8")
    for name in (config.TRAINING_FILE, config.DATASET_FILE):
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    return folder


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(WORDS | st.text(min_size=1, max_size=8), VALUES, max_size=6))
def test_any_table_as_an_experiment_loads_or_is_refused(content: dict[str, object]) -> None:
    try:
        text = toml.dumps(content)
    except Exception:  # noqa: BLE001 - the library cannot write some tables; those are no case
        assume(False)
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name), text)
        with contextlib.suppress(BespokeError):
            config.load("odd", repository=folder)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_as_an_experiment_is_read_or_refused(content: str | bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name), "")
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
            found = checkpoints.read_checkpoint(path)
        except TrainerError as error:
            assert "a-000001.safetensors" in str(error)
        else:
            assert found.epoch >= 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_checkpoint_cut_anywhere_is_never_whole(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a-000001.safetensors"
        save_file({"w": np.ones((8, 8), np.float16)}, path, {"ss_epoch": "1"})
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        try:
            checkpoints.read_checkpoint(path)
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
