"""What is in the pictures: colours, copies, sizes; each as it is and as it nearly is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke import dataset, picture_checks
from bespoke.bucketing import Bucketing
from bespoke.dataset import Finding, Promise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

UP = Bucketing(enable_bucket=True)
DOWN_ONLY = Bucketing(enable_bucket=True, bucket_no_upscale=True)


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
    assert all(
        f.measured == {"near": "a.png", "cells_unlike": unlike, "cells": 576} for f in findings
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_no_near_copy_is_missed_wherever_it_differs(seed: int, unlike: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 3, 576, dtype=np.uint32)
    second = first.copy()
    second[rng.permutation(576)[:unlike]] = 7
    near = picture_checks.near_copies(np.stack([first, first + 10, second]))
    assert near == ({2: (unlike, 0)} if unlike < 24 else {})


def test_tiny_pictures_have_no_near_copies() -> None:
    assert picture_checks.near_copies(np.arange(8, dtype=np.uint32).reshape(2, 4)) == {}


@pytest.mark.parametrize(
    ("size", "bucketing", "words"),
    [
        ((500, 512), DOWN_ONLY, "crop it to 448x512"),
        ((500, 512), UP, "scale it to 512x524 and crop it to 512x512"),
        ((256, 256), UP, "scale it to 512x512"),
        ((256, 256), Bucketing(), "scale it to 512x512"),
        ((1024, 1024), DOWN_ONLY, "scale it to 512x512"),
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


@pytest.mark.parametrize("bucketing", [None, UP, DOWN_ONLY, Bucketing()])
def test_bucketing_does_nothing_to_512_by_512(tmp_path: Path, bucketing: Bucketing | None) -> None:
    found(tmp_path, {"a": art(1)})
    assert dataset.check(tmp_path, Promise(), bucketing=bucketing).findings == ()


def test_a_size_that_a_bucket_can_have_is_let_be(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1)}, (384, 640))
    for bucketing in (UP, DOWN_ONLY):
        assert dataset.check(tmp_path, Promise(), bucketing=bucketing).findings == ()


def test_a_picture_smaller_than_the_steps_is_an_error(tmp_path: Path) -> None:
    found(tmp_path, {"a": art(1)}, (48, 48))
    (finding,) = dataset.check(tmp_path, Promise(), bucketing=DOWN_ONLY).findings
    assert (finding.code, finding.severity) == ("picture_bucketed", "error")


def test_the_collection_of_record_has_no_copies_and_five_near_ones(real_pictures: Path) -> None:
    findings = dataset.check(
        real_pictures, Promise(cells=24, size=512), bucketing=DOWN_ONLY
    ).findings
    pictures = {f.file: f for f in findings if f.code.startswith("picture_")}
    assert {f.code for f in pictures.values()} == {"picture_near_copy"}
    assert len(pictures) == 5
    assert pictures["lad_023_x-3.png"].measured["cells_unlike"] == 7
