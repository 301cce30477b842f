"""Whatever is read from outside gives a result or one clear error: no traceback, no hang."""

from __future__ import annotations

import json
import random
import shutil
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz
from bespoke.errors import BespokeError, TrainerError
from bespoke.experiment import config, prompts
from bespoke.experiment.rendering import Places, render
from bespoke.experiment.toml_files import parsed, toml_lines
from bespoke.trainer import checkpoints
from tests.rehearsals import REPOSITORY, run

if TYPE_CHECKING:
    from pathlib import Path

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def near(value: Any) -> list[Any]:
    """Other values of the same kind, which get further than those of another."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value * 2, value + 1, 0, value * 1000]
        case str():
            return [f"{value}x", "", value[:-1]]
        case list() | dict():
            return [type(value)()]
    return []


def test_valid_files_with_a_key_changed_load_or_are_refused(project: Path, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / prompts.PROMPTS_FILE, project)
    draw, loaded, tried = random.Random(7), 0, 0
    for file in sorted((*project.glob("*.toml"), *project.glob("experiments/*.toml"))):
        before = file.read_text(encoding="utf-8")
        name = file.stem if file.parent.name == "experiments" else "keep_tokens_3"
        ways = fuzz.places(parsed(before))
        for *way, key in draw.sample(ways, min(20, len(ways))):
            holder = document = parsed(before)
            for step in way:
                holder = holder[step]
            holder[key] = draw.choice([*near(holder[key]), draw.choice(fuzz.EVIL)])
            text = "\n".join(toml_lines(document))
            file.write_text(text, encoding="utf-8", errors="surrogatepass")
            began = time.monotonic()
            tried += 1
            try:
                load_and_render(project, tmp_path, name)
                loaded += 1
            except BespokeError as error:
                assert max(map(len, str(error).splitlines())) < 500, text
            assert time.monotonic() - began < 5, text
        file.write_text(before, encoding="utf-8")
    assert loaded > tried / 3, f"of {tried}, {loaded} were valid enough to be looked at"


def load_and_render(project: Path, place: Path, name: str) -> None:
    experiment = config.load(name, repository=project)
    config.test_prompts(experiment, project / prompts.PROMPTS_FILE)
    data = dict.fromkeys(experiment.by_folder(), project)
    places = Places(workspace=place, run=place, data=data, base_model="m", tokenizer=None)
    render(experiment, places, {})


def test_the_command_line_answers_mutated_files_and_arguments() -> None:
    """Some cases of the benchmark, which has 10,000: no exit code 1, no hang."""
    done = run([sys.executable, "benchmarks/fuzz.py", "--count", "30", "--seed", "7"])
    assert done.returncode == 0, done.stdout + done.stderr


HEADERS = VALUES.map(lambda value: json.dumps(value, default=str).encode())
CONTENT = HEADERS.map(lambda header: struct.pack("<Q", len(header)) + header)


# A file of the test's own is written anew for each example.
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120) | CONTENT)
def test_any_bytes_as_a_checkpoint_or_a_state_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a-000001.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrainerError, match=path.name):
        checkpoints.read_epoch(path)
    for name in ("train_state.json", "model.safetensors", "random_states_0.pkl"):
        (tmp_path / name).write_bytes(content)
        assert checkpoints.corruption(tmp_path)
