"""Captions held to their pictures: each finding where it is, and not where it nearly is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke.dataset import loading
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment import caption_text
from bespoke.experiment.experiment import DatasetSpec
from bespoke.rehearsal.drawing import draw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from bespoke.dataset.folder import Collection
    from bespoke.findings import Finding

GREEN, BROWN, SKIN, RED, BLUE = "#10c040", "#6a4020", "#f0c0a0", "#c02040", "#2040c0"
CLEAN = (
    f"pixel art, brown hair ({BROWN}), red lips ({RED}), light skin ({SKIN}), "
    f"green background ({GREEN}), blue shirt ({BLUE}), retro pixel art style"
)
FACTS = DatasetSpec(pictures=203, size=512, cells=24, hex_codes_min=12, names=("lips",))


def rgb(code: str) -> list[int]:
    return list(bytes.fromhex(code[1:]))


def portrait() -> NDArray[np.uint8]:
    """A head before a green ground; the shirt reaches the lower edge from side to side."""
    art = np.empty((24, 24, 3), dtype=np.uint8)
    art[:] = rgb(GREEN)
    art[18:, :] = rgb(BLUE)
    art[4:9, 7:17] = rgb(BROWN)
    art[9:18, 8:16] = rgb(SKIN)
    art[15, 10:14] = rgb(RED)
    return art


def checked(
    folder: Path, caption: str, art: NDArray[np.uint8] | None = None, *, shuffled: bool = False
) -> Collection:
    picture = Image.fromarray(portrait() if art is None else art)
    picture.resize((512, 512), Image.Resampling.NEAREST).save(folder / "a.png", compress_level=1)
    (folder / "a.txt").write_text(caption, encoding="utf-8")
    return loading.check(folder, DatasetSpec(cells=24), shuffled=shuffled)


def only(collection: Collection) -> Finding:
    (finding,) = collection.findings
    return finding


def codes(collection: Collection) -> list[str]:
    return [found.code for found in collection.findings]


def test_a_caption_that_is_right_is_clean(tmp_path: Path) -> None:
    assert checked(tmp_path, CLEAN, shuffled=True).findings == ()


def test_a_hex_that_is_not_in_the_picture_is_named_with_the_nearest(tmp_path: Path) -> None:
    assert codes(checked(tmp_path, CLEAN.replace(RED, RED.upper()))) == []
    finding = only(checked(tmp_path, CLEAN.replace(RED, "#c02041")))
    assert (finding.code, finding.severity, finding.file) == ("colour_absent", "warning", "a.txt")
    assert finding.tag == "red lips (#c02041)"
    assert finding.message == f"#c02041 is not in the picture; the nearest there is {RED}"


def test_a_background_hex_that_is_not_the_border_is_measured(tmp_path: Path) -> None:
    art = portrait()
    art[:18][(art[:18] == rgb(GREEN)).all(axis=2)] = rgb("#00b050")
    art[0, :4] = rgb(GREEN)
    finding = only(checked(tmp_path, CLEAN, art))
    assert finding.code == "colour_background"
    assert finding.message.endswith("; 91% of the border is #00b050")


def test_a_background_of_two_halves_may_name_the_larger_or_both(tmp_path: Path) -> None:
    art = portrait()
    art[:18, 13:][(art[:18, 13:] == rgb(GREEN)).all(axis=2)] = rgb("#00e0b0")
    assert codes(checked(tmp_path, CLEAN, art)) == []
    assert codes(checked(tmp_path, CLEAN.replace(GREEN, f"{GREEN} #00e0b0"), art)) == []
    smaller = checked(tmp_path, CLEAN.replace(GREEN, "#00e0b0"), art)
    assert codes(smaller) == ["colour_background"]


def test_a_hex_of_two_features_is_named_and_twice_in_one_feature_is_clean(tmp_path: Path) -> None:
    collection = checked(tmp_path, CLEAN.replace(f"brown hair ({BROWN})", f"green hair ({GREEN})"))
    assert codes(collection) == ["colour_shared_background", "colour_only_background"]
    assert collection.findings[0].measured == {"features": ["background", "hair"]}
    finding = only(checked(tmp_path, CLEAN.replace(f"red lips ({RED})", f"lips ({SKIN})")))
    assert (finding.code, finding.measured["features"]) == ("colour_shared", ["lips", "skin"])
    twice = CLEAN.replace(f"({BROWN})", f"({BROWN} {BROWN})") + f", brown hair bun ({BROWN})"
    assert codes(checked(tmp_path, twice)) == []


def test_a_colour_of_the_ground_that_the_figure_has_too_is_not_only_behind_it(
    tmp_path: Path,
) -> None:
    caption = CLEAN.replace(f"red lips ({RED})", f"green lips ({GREEN})")
    art = portrait()
    art[15, 10:14] = rgb(GREEN)
    assert codes(checked(tmp_path, caption, art)) == ["colour_shared_background"]
    art[15, 10:14] = rgb(SKIN)
    assert codes(checked(tmp_path, caption, art)) == [
        "colour_shared_background",
        "colour_only_background",
    ]


def test_a_background_without_a_colour_word_is_named(tmp_path: Path) -> None:
    found = only(checked(tmp_path, CLEAN.replace("green background", "split background")))
    assert (found.code, found.tag) == ("background_unnamed", f"split background ({GREEN})")
    assert codes(checked(tmp_path, CLEAN.replace(f"green background ({GREEN}), ", ""))) == []


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        (f"light blonde hair ({BROWN})", f"says light blonde, and {BROWN} is brown"),
        (f"green skin ({SKIN})", f"says green, and {SKIN} is peach"),
        (f"black girl skin ({SKIN})", ""),
        *((f"{word} hair ({BROWN})", "") for word in ("dark brown", "blonde and brown", "curly")),
    ],
)
def test_a_colour_word_far_from_its_hex_is_named_and_a_complexion_is_no_paint(
    tmp_path: Path, tag: str, message: str
) -> None:
    kind = tag.split("(")[0].split()[-1]
    caption = re.sub(rf"[a-z ]*{kind} \(", f" {tag.split('(')[0]}(", CLEAN)
    findings = checked(tmp_path, caption).findings
    assert [(each.code, each.message) for each in findings] == (
        [("colour_word", message)] if message else []
    )


def test_hex_codes_of_no_feature_are_counted(tmp_path: Path) -> None:
    finding = only(checked(tmp_path, f"{CLEAN}, {BROWN}, {RED}"))
    assert (finding.code, finding.severity) == ("colour_loose", "note")
    assert finding.message.startswith("2 hex codes belong to no feature")


@pytest.mark.parametrize(
    ("caption", "code"),
    [
        (f"{CLEAN}, palette: {BROWN}, {RED}, {SKIN}", "palette_torn"),
        (
            CLEAN.replace(f"({BROWN})", f"({BROWN}, {RED})").replace(f"red lips ({RED}), ", ""),
            "feature_torn",
        ),
    ],
)
def test_what_commas_tear_apart_is_torn_by_shuffling_alone(
    tmp_path: Path, caption: str, code: str
) -> None:
    assert codes(checked(tmp_path, caption)) == []
    assert only(checked(tmp_path, caption, shuffled=True)).code == code
    spaced = re.sub(r"(?<=#\w{6}), (?=#)", " ", caption)
    assert codes(checked(tmp_path, spaced, shuffled=True)) == []


def test_nothing_is_said_of_a_picture_whose_cells_are_unknown(tmp_path: Path) -> None:
    checked(tmp_path, CLEAN.replace(RED, "#010203"))
    assert loading.check(tmp_path, DatasetSpec()).findings == ()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                [GREEN, f"({BROWN}", f"{RED})", f"({SKIN})", "hair", "background", "light green",
                 "skin", ",", ",", "palette:", "#00ff7f", "hat", "with"]
            )
        ).map(" ".join),
    )
)  # fmt: skip
def test_no_caption_ends_in_a_traceback_or_an_error_of_colour(tmp_path: Path, text: str) -> None:
    found = checked(tmp_path, text, shuffled=True).findings
    ours = [f for f in found if f.code.startswith(("colour_", "feature_", "palette_"))]
    assert all(f.severity != "error" and f.file == "a.txt" and f.tag for f in ours)
    line = caption_text.first_line(text)
    assert all(part in caption_text.tags(line) for f in ours for part in caption_text.tags(f.tag))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 3)])
def test_small_grids_have_a_border_and_a_ground(shape: tuple[int, int]) -> None:
    grid = PixelGrid(cells=np.full((*shape, 3), 7, dtype=np.uint8))
    assert list(grid.border) == ["#070707"]
    assert grid.ground.all()
    assert grid.figure == {}


@given(st.integers(0, 2**32))
def test_the_ground_is_what_a_plain_flood_fill_reaches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    art = np.zeros((12, 10, 3), dtype=np.uint8)
    art[..., 0] = rng.random((12, 10)) < 0.4
    art[..., 1] = np.where(rng.random((12, 10)) < 0.03, 9, 0)
    grid = PixelGrid(cells=art)
    total = sum(grid.border.values())
    grounds = {colour for colour, cells in grid.border.items() if cells >= total * 0.1}
    open_ = {
        (y, x) for y in range(12) for x in range(10) if f"#{bytes(art[y, x]).hex()}" in grounds
    }
    edge = {(0, x) for x in range(10)} | {(y, x) for y in range(6) for x in (0, 9)}
    reached, waiting = set(), edge & open_
    while waiting:
        y, x = waiting.pop()
        reached.add((y, x))
        waiting |= ({(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & open_) - reached
    assert {(y, x) for y, x in np.argwhere(grid.ground).tolist()} == reached


def test_nothing_is_found_in_the_drawn_collection(tmp_path: Path) -> None:
    draw(tmp_path / "drawn", 203)
    collection = loading.check(tmp_path / "drawn", FACTS, shuffled=True)
    assert (len(collection.pairs), collection.findings) == (203, ())
