"""Captions held to their pictures: each finding where it is, and not where it nearly is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from bespoke.dataset import preflight
from bespoke.experiment.experiment import DatasetSpec
from tests.experiments import BLUE, BROWN, GREEN, RED, SKIN, portrait

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.findings import Finding

CLEAN = (
    f"pixel art, brown hair ({BROWN}), red lips ({RED}), light skin ({SKIN}), "
    f"green background ({GREEN}), blue shirt ({BLUE}), retro pixel art style"
)
FACTS = DatasetSpec(pictures=203, size=512, cells=24, hex_codes_min=12, names=("lips",))


def rgb(code: str) -> list[int]:
    return list(bytes.fromhex(code[1:]))


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


def test_nothing_is_found_in_the_drawn_collection(drawn: Path) -> None:
    collection = preflight.check_folder(drawn, FACTS)
    assert (len(collection.pairs), collection.findings) == (203, [])
