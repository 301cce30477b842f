"""What is asked of a run is one thing: read from a command line, and written as one again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.request import Request, parse

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
lists = st.lists(texts, max_size=3).map(tuple)
requests = st.builds(
    Request,
    experiments=st.lists(texts, min_size=1).map(tuple),
    seeds=st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
    overrides=lists,
    data=lists,
    parent_data=lists,
    workspace=st.none() | texts.filter(str.strip).map(Path),
    price_per_hour=st.none() | st.integers(0, 10**6).map(lambda cents: cents / 100),
    **{each.name: st.booleans() for each in fields(Request) if each.default is False},
)


@given(requests)
def test_a_request_comes_back_from_the_command_line_that_it_writes(request: Request) -> None:
    assert parse(request.arguments()) == request


@pytest.mark.parametrize(
    "word",
    ["--price-per-hour=-2", "--price-per-hour=nan", "--seeds=4,x", "--workspace=", "--at-once=4"],
)
def test_what_cannot_be_meant_is_refused(
    word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([word])
    assert caught.value.code == 2
    assert word.partition("=")[0] in capsys.readouterr().err
    assert parse([]) == Request()
    monkeypatch.setenv("BESPOKE_PRICE_PER_HOUR", "2.79")
    assert parse([]).price_per_hour == 2.79
    monkeypatch.setenv("BESPOKE_PRICE_PER_HOUR", "-2")
    with pytest.raises(SystemExit):
        parse([])
