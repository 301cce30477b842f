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

from bespoke.dataset import loading
from bespoke.experiment.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from bespoke.dataset.loading import Finding

BUCKETS = {
    "resolution": 512, "enable_bucket": True, "bucket_no_upscale": True, "bucket_reso_steps": 64
}  # fmt: skip
NO_BUCKETS = {**BUCKETS, "enable_bucket": False}
UPSCALED = {**BUCKETS, "bucket_no_upscale": False}


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
    return list(loading.check(folder, DatasetSpec(cells=24)).findings)


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
    ("size", "options", "kept"),
    [
        ((512, 512), BUCKETS, True),
        ((512, 512), NO_BUCKETS, True),
        ((384, 640), BUCKETS, True),
        ((384, 640), UPSCALED, True),
        ((384, 640), NO_BUCKETS, False),
        ((500, 512), BUCKETS, False),
        ((256, 256), NO_BUCKETS, False),
        ((1024, 1024), BUCKETS, False),
    ],
)
def test_a_picture_that_the_trainer_would_scale_or_crop_is_named(
    tmp_path: Path, size: tuple[int, int], options: dict[str, Any], kept: bool
) -> None:
    found(tmp_path, {"a": art(1)}, size)
    findings = loading.check(tmp_path, DatasetSpec(cells=24), options).findings
    assert [(f.code, f.severity) for f in findings] == (
        [] if kept else [("picture_bucketed", "warning")]
    )
    assert loading.check(tmp_path, DatasetSpec(), options).findings == ()


def test_a_picture_smaller_than_the_steps_is_an_error(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1)}, (48, 48))
    (finding,) = loading.check(tmp_path, DatasetSpec(cells=24), BUCKETS).findings
    assert (finding.code, finding.severity) == ("picture_bucketed", "error")


@pytest.fixture(scope="module")
def bucket_manager(sd_scripts: Path) -> Any:
    """The trainer's class, out of its source, without what it imports."""
    source = (sd_scripts / "library" / "train_util.py").read_text(encoding="utf-8")
    node = next(n for n in ast.parse(source).body if getattr(n, "name", "") == "BucketManager")
    namespace: dict[str, Any] = {"math": math, "np": np, "Tuple": tuple}
    exec(compile(ast.Module([node], []), "train_util.py", "exec"), namespace)
    return namespace["BucketManager"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(2, 30), st.integers(2, 30), st.booleans())
def test_the_trainer_keeps_the_sizes_that_are_let_be(
    bucket_manager: Any, tmp_path: Path, wide: int, high: int, odd: bool
) -> None:
    size = (32 * wide + odd, 32 * high)
    cropped, scaled, _ = bucket_manager(True, (512, 512), 256, 1024, 64).select_bucket(*size)
    found(tmp_path, {"a": art(1)}, size)
    findings = loading.check(tmp_path, DatasetSpec(cells=24), BUCKETS).findings
    assert (findings == ()) is (scaled == cropped == size)
