"""Captions held to their pictures: each finding where it is, and not where it nearly is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke.dataset import preflight
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.experiment.experiment import DatasetSpec
from bespoke.rehearsal.drawing import draw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

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


def checked(folder: Path, caption: str, art: NDArray[np.uint8] | None = None) -> list[Finding]:
    picture = Image.fromarray(portrait() if art is None else art)
    picture.resize((512, 512), Image.Resampling.NEAREST).save(folder / "a.png", compress_level=1)
    (folder / "a.txt").write_text(caption, encoding="utf-8")
    return preflight.check_folder(folder, DatasetSpec(cells=24)).findings


def codes(findings: list[Finding]) -> list[str]:
    return [found.code for found in findings]


def faults(findings: list[Finding]) -> list[str]:
    """The faults in hex codes that the only finding names."""
    assert codes(findings) == ["hex_codes_unclear"]
    number, _, named = findings[0].message.partition(" in its hex codes: ")
    several = named.split("; ")
    assert number == (f"{len(several)} faults" if len(several) > 1 else "a fault")
    return several


def test_a_caption_that_is_right_is_clean(tmp_path: Path) -> None:
    assert checked(tmp_path, CLEAN) == []
    assert checked(tmp_path, CLEAN.replace(RED, RED.upper())) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (RED, "#c02041", ["#c02041 of the lips is not in the picture"]),
        (f"red lips ({RED})", f"lips ({SKIN})", [f"lips and skin share {SKIN}"]),
        (f"brown hair ({BROWN})", f"green hair ({GREEN})",
         [f"hair and background share {GREEN}", f"{GREEN} of the hair is only behind the figure"]),
        (f"brown hair ({BROWN}), red lips ({RED})", f"brown hair ({BROWN}, {RED})",
         ["the commas in its parentheses make 2 tags of the hair"]),
        ("retro", f"palette: {BROWN}, {RED}, retro", [f"2 belong to no feature ({BROWN} …)"]),
        ("style", f"style, {BROWN}, {RED}", [f"2 belong to no feature ({BROWN} …)"]),
        (f"({BROWN})", f"({BROWN} {BROWN})", []),
        ("retro", f"brown hair bun ({BROWN}), retro", []),
        (f"brown hair ({BROWN})", f"light blonde hair ({BROWN})",
         [f"says light blonde, and {BROWN} is brown"]),
        (f"light skin ({SKIN})", f"green skin ({SKIN})", [f"says green, and {SKIN} is peach"]),
        (f"light skin ({SKIN})", f"black girl skin ({SKIN})", []),
        *((f"brown hair ({BROWN})", f"{words} hair ({BROWN})", [])
          for words in ("dark brown", "blonde and brown", "curly")),
    ],
)  # fmt: skip
def test_all_that_is_wrong_with_the_hex_codes_of_a_caption_is_one_finding(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    found = checked(tmp_path, CLEAN.replace(old, new))
    assert (faults(found) if found else []) == expected


def test_a_colour_of_the_ground_that_the_figure_has_too_is_not_only_behind_it(
    tmp_path: Path,
) -> None:
    art = portrait()
    art[15, 10:14] = rgb(GREEN)
    found = checked(tmp_path, CLEAN.replace(f"red lips ({RED})", f"green lips ({GREEN})"), art)
    assert faults(found) == [f"lips and background share {GREEN}"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (f"red lips ({RED})", "red lips", ""),
        (f"red lips ({RED})", "yellow hat", "says yellow; nothing of the figure is near it"),
        (f"red lips ({RED})", "green lips", "says green; nothing of the figure is near it"),
        (f"red lips ({RED})", "blue hat before a green background", ""),
        (f"light skin ({SKIN})", "black girl skin", ""),
        (f"background ({GREEN})", "background", ""),
        (f"green background ({GREEN})", "red background", "says red; nothing of the background is"),
    ],
)
def test_a_colour_word_without_a_hex_is_held_to_the_pixels(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    found = [(each.code, each.message) for each in checked(tmp_path, CLEAN.replace(old, new))]
    assert [code for code, _ in found] == (["colour_word"] if message else [])
    assert not message or found[0][1].startswith(message)


def test_a_background_hex_that_is_not_the_border_is_measured(tmp_path: Path) -> None:
    art = portrait()
    art[:18][(art[:18] == rgb(GREEN)).all(axis=2)] = rgb("#00b050")
    art[0, :4] = rgb(GREEN)
    (finding,) = checked(tmp_path, CLEAN, art)
    assert finding.code == "colour_background"
    assert finding.message.endswith("; 91% of the border is #00b050")


def test_a_background_of_two_halves_may_name_the_larger_or_both(tmp_path: Path) -> None:
    art = portrait()
    art[:18, 13:][(art[:18, 13:] == rgb(GREEN)).all(axis=2)] = rgb("#00e0b0")
    assert codes(checked(tmp_path, CLEAN, art)) == []
    assert codes(checked(tmp_path, CLEAN.replace(GREEN, f"{GREEN} #00e0b0"), art)) == []
    smaller = checked(tmp_path, CLEAN.replace(GREEN, "#00e0b0"), art)
    assert codes(smaller) == ["colour_background"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (f"split background ({GREEN})", f"colour: 'split background ({GREEN})'"),
        ("", "colour"),
        ("greenbackground", None),
        ("split background, green background", None),
    ],
)
def test_a_background_that_no_words_name_is_a_warning(
    tmp_path: Path, words: str, message: str | None
) -> None:
    caption = CLEAN.replace(f"green background ({GREEN}), ", f"{words}, " if words else "")
    found = [each for each in checked(tmp_path, caption) if each.code == "background_unnamed"]
    assert [each.message for each in found] == (
        [f"no words say the background's {message}"] if message else []
    )


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
    found = checked(tmp_path, text)
    ours = [f for f in found if f.code.startswith(("colour_", "hex_codes", "background"))]
    assert all(f.severity == "warning" and f.file == "a.txt" for f in ours)


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
    collection = preflight.check_folder(tmp_path / "drawn", FACTS)
    assert (len(collection.pairs), collection.findings) == (203, [])
