"""What is written as TOML reads back as it was, and what cannot be read is named with its line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.errors import ConfigError
from bespoke.experiment.toml_files import parsed, read_toml, toml_lines

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(codec="utf-8"))
LEAVES = st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=6
)


@given(st.dictionaries(TEXT, VALUES))
def test_what_is_written_reads_back_by_the_standard(table: dict[str, Any]) -> None:
    text = "\n".join(toml_lines(table))
    assert parsed(text) == table
    assert len(text.split("\n")) == max(1, len(table))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a = 1\nb = = 2\n", "not valid TOML: Invalid value (at line 2, column 5)"),
        (b"# caf\xe9", "not UTF-8 at byte 5: save it as UTF-8"),
        (b"a = " + b"[" * 100_000, "not valid TOML: too many brackets inside one another"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, raw: bytes, said: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        read_toml(file, "x.toml")
    assert str(caught.value) == f"x.toml: {said}"
    file.write_text("a = 1\n", encoding="utf-8-sig")  # a byte-order mark is passed over
    assert read_toml(file, "x.toml") == {"a": 1}


def test_what_is_no_file_is_named_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none.toml", tmp_path / ("x" * 300), tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"no such file|cannot be read"):
            read_toml(path, "x.toml")
