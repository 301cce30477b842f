"""What is in the pictures: colours, copies, sizes; each as it is and as it nearly is."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke import dataset
from bespoke.dataset import Finding, Promise
from bespoke.pictures import Bucketing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

NO_BUCKETS = Bucketing(resolution=(512, 512), enable_bucket=False, bucket_reso_steps=64)
BUCKETS = Bucketing(resolution=(512, 512), enable_bucket=True, bucket_reso_steps=64)


def art(seed: int, colours: int = 20) -> NDArray[np.uint8]:
    """24x24 cells in exactly so many colours."""
    rng = np.random.default_rng(seed)
    palette = np.zeros((colours, 3), dtype=np.uint8)
    palette[:, 0], palette[:, 1] = np.arange(colours) % 256, np.arange(colours) // 256
    palette[:, 2] = seed
    numbers = np.concatenate([np.arange(colours), rng.integers(0, colours, 576 - colours)])
    cells: NDArray[np.uint8] = palette[rng.permutation(numbers)].reshape(24, 24, 3)
    return cells


def found(
    folder: Path, arts: Mapping[str, NDArray[np.uint8]], size: tuple[int, int] = (512, 512)
) -> list[Finding]:
    for name, cells in arts.items():
        picture = Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)
        picture.save(folder / f"{name}.png", compress_level=1)
        (folder / f"{name}.txt").write_text("a portrait")
    return list(dataset.check(folder, Promise(cells=24)).findings)


@pytest.mark.parametrize(("colours", "clean"), [(116, True), (192, True), (193, False)])
def test_more_colours_than_a_third_of_the_cells_are_a_warning(
    tmp_path: Path, colours: int, clean: bool
) -> None:
    findings = found(tmp_path, {"a": art(1, colours)})
    assert [f.code for f in findings] == ([] if clean else ["picture_colours"])
    assert all(f.measured == {"colours": colours, "cells": 576} for f in findings)


def test_a_copy_is_named_with_its_first_whatever_its_size(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1), "b": art(2), "c": art(1)})
    (finding,) = found(tmp_path, {"c": art(1)}, (480, 480))
    assert (finding.code, finding.severity, finding.file) == ("picture_copy", "warning", "c.png")
    assert finding.measured == {"copy_of": "a.png"}


@pytest.mark.parametrize(("unlike", "clean"), [(1, False), (23, False), (24, True)])
def test_a_near_copy_differs_in_23_cells_at_most(tmp_path: Path, unlike: int, clean: bool) -> None:
    near = art(1)
    rows, columns = np.divmod(np.random.default_rng(unlike).permutation(576)[:unlike], 24)
    near[rows, columns, 2] = 99
    findings = found(tmp_path, {"a": art(1), "b": near, "c": art(2)})
    assert [(f.code, f.file) for f in findings] == (
        [] if clean else [("picture_near_copy", "b.png")]
    )
    assert all(f.measured == {"near": "a.png", "cells_unlike": unlike} for f in findings)


@pytest.mark.parametrize(
    ("size", "bucketing", "words"),
    [
        ((500, 512), BUCKETS, "crop it to 448x512"),
        ((500, 512), NO_BUCKETS, "scale it to 512x524 and crop it to 512x512"),
        ((256, 256), NO_BUCKETS, "scale it to 512x512"),
        ((1024, 1024), BUCKETS, "scale it to 512x512"),
    ],
)
def test_what_bucketing_would_do_is_said(
    tmp_path: Path, size: tuple[int, int], bucketing: Bucketing, words: str
) -> None:
    found(tmp_path, {"a": art(1)}, size)
    (finding,) = dataset.check(tmp_path, Promise(), bucketing=bucketing).findings
    assert (finding.code, finding.severity) == ("picture_bucketed", "warning")
    assert finding.message.endswith(f"the trainer would {words}")
    assert finding.measured["size"] == size


@pytest.mark.parametrize("bucketing", [None, BUCKETS, NO_BUCKETS])
def test_bucketing_does_nothing_to_512_by_512(tmp_path: Path, bucketing: Bucketing | None) -> None:
    found(tmp_path, {"a": art(1)})
    assert dataset.check(tmp_path, Promise(), bucketing=bucketing).findings == ()


def test_a_size_that_a_bucket_can_have_is_let_be(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1)}, (384, 640))
    assert dataset.check(tmp_path, Promise(), bucketing=BUCKETS).findings == ()


def test_a_picture_smaller_than_the_steps_is_an_error(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1)}, (48, 48))
    (finding,) = dataset.check(tmp_path, Promise(), bucketing=BUCKETS).findings
    assert (finding.code, finding.severity) == ("picture_bucketed", "error")


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
@given(width=SIDES, height=SIDES, steps=st.sampled_from([32, 64]))
def test_a_bucket_is_the_one_that_the_trainer_selects(
    trainers: dict[str, Any], width: int, height: int, steps: int
) -> None:
    manager = trainers["BucketManager"](True, (512, 512), 256, 1024, steps)
    try:
        cropped, scaled, _ = manager.select_bucket(width, height)
    except ZeroDivisionError:
        return
    ours = Bucketing(resolution=(512, 512), enable_bucket=True, bucket_reso_steps=steps)
    assert ours.treat((width, height)) == (scaled, cropped)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=SIDES, height=SIDES)
def test_without_buckets_a_picture_fills_the_resolution(
    trainers: dict[str, Any], width: int, height: int
) -> None:
    manager = trainers["BucketManager"](False, (512, 768), None, None, None)
    manager.set_predefined_resos([(512, 768)])
    cropped, scaled, _ = manager.select_bucket(width, height)
    ours = Bucketing(resolution=(512, 768), enable_bucket=False, bucket_reso_steps=64)
    assert ours.treat((width, height)) == (scaled, cropped)


def test_scaling_up_into_the_trainers_own_buckets_is_not_computed() -> None:
    options = {"resolution": 512, "enable_bucket": True, "bucket_reso_steps": 64}
    assert Bucketing.of({**options, "bucket_no_upscale": True}) == BUCKETS
    assert Bucketing.of({**options, "bucket_no_upscale": False}) is None
    assert Bucketing.of({**options, "bucket_no_upscale": False, "enable_bucket": False}) == (
        NO_BUCKETS
    )
