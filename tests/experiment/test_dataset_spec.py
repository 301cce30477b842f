"""What an experiment declares of its data is read whole, or refused with the key."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bespoke.experiment.dataset_spec import DatasetSpec
from bespoke.experiment.validation import validated

EVERYTHING = {
    **dict.fromkeys(("pictures", "pictures_min", "pictures_max", "size", "cells"), 1),
    "hex_codes_min": 1,
    "names": ["lips"],
    "caption_version": "v1",
    "caption_extension": ".caption",
}


def test_every_field_can_be_written() -> None:
    spec, problems = validated(DatasetSpec, EVERYTHING, "x.toml")
    assert problems == []
    assert spec is not None
    assert spec.names == ("lips",)
    assert set(EVERYTHING) == {field.name for field in fields(DatasetSpec)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("pictures", wrong) for wrong in ("203", True, 203.0, 10**4000, float("nan"))),
        ("size", 0),
        ("hex_codes_min", -1),
        *(("names", wrong) for wrong in ("lips", [1], [""], [["lips"]])),
        *(("caption_version", wrong) for wrong in (1, "v\x00", "v" * 3000)),
        *(("caption_extension", wrong) for wrong in ("txt", ".", ".a/b")),
    ],
)
def test_a_wrong_value_is_named_with_its_key_in_one_short_line(key: str, value: object) -> None:
    spec, problems = validated(DatasetSpec, {key: value}, "x.toml", ("data", "art"))
    assert spec is None
    assert [line.startswith(f"x.toml: data.art.{key}") for line in problems] == [True]
    assert len(problems[0]) < 160


def test_an_unknown_key_is_refused() -> None:
    assert validated(DatasetSpec, {"picures": 203}, "x.toml")[1] == [
        "x.toml: picures: unknown key: did you mean 'pictures'?"
    ]
