"""Sizes come out as the trainer's own BucketManager has them."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bespoke.bucketing import Bucketing

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def trainers(sd_scripts: Path) -> dict[str, Any]:
    """The trainer's class and function, out of its source, without what it imports."""
    namespace: dict[str, Any] = {"math": math, "np": np, "Tuple": tuple}
    for file, name in (("model_util", "make_bucket_resolutions"), ("train_util", "BucketManager")):
        source = (sd_scripts / "library" / f"{file}.py").read_text(encoding="utf-8")
        node = next(n for n in ast.parse(source).body if getattr(n, "name", "") == name)
        exec(compile(ast.Module([node], []), file, "exec"), namespace)
    namespace["model_util"] = type("model_util", (), namespace)
    return namespace


SIDES = st.integers(64, 2000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(width=SIDES, height=SIDES, steps=st.sampled_from([32, 64]), no_upscale=st.booleans())
def test_a_bucket_is_the_one_that_the_trainer_selects(
    trainers: dict[str, Any], width: int, height: int, steps: int, no_upscale: bool
) -> None:
    manager = trainers["BucketManager"](no_upscale, (512, 512), 256, 1024, steps)
    if not no_upscale:
        manager.make_buckets()
    try:
        cropped, scaled, _ = manager.select_bucket(width, height)
    except ZeroDivisionError:
        return
    ours = Bucketing(
        enable_bucket=True, bucket_reso_steps=steps, bucket_no_upscale=no_upscale
    ).treat((width, height))
    assert ours == (scaled, cropped)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=SIDES, height=SIDES)
def test_without_buckets_a_picture_fills_the_resolution(
    trainers: dict[str, Any], width: int, height: int
) -> None:
    manager = trainers["BucketManager"](False, (512, 768), None, None, None)
    manager.set_predefined_resos([(512, 768)])
    cropped, scaled, _ = manager.select_bucket(width, height)
    assert Bucketing(resolution=(512, 768)).treat((width, height)) == (scaled, cropped)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("no_upscale", [True, False])
def test_nothing_happens_to_512_by_512_at_512(enabled: bool, no_upscale: bool) -> None:
    options = Bucketing(enable_bucket=enabled, bucket_no_upscale=no_upscale)
    assert options.treat((512, 512)) == ((512, 512), (512, 512))


def test_500_by_512_is_cropped_or_scaled_by_the_option() -> None:
    kept = Bucketing(enable_bucket=True, bucket_no_upscale=True)
    assert kept.treat((500, 512)) == ((500, 512), (448, 512))
    assert Bucketing(enable_bucket=True).treat((500, 512)) == ((512, 524), (512, 512))


def test_a_picture_smaller_than_the_steps_is_cropped_to_nothing() -> None:
    options = Bucketing(enable_bucket=True, bucket_no_upscale=True)
    assert options.treat((48, 48))[1] == (0, 0)
