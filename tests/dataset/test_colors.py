"""Colour differences as published, and colours named as people name them."""

from __future__ import annotations

import numpy as np
import pytest

from bespoke.dataset import colors

# Of Sharma, Wu and Dalal (2005), table 1, what turns the formula: L a b, L a b, difference.
PUBLISHED = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 50 3.1736 0.5854 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


def test_the_published_pairs_come_out_to_the_last_digit() -> None:
    table = np.array([line.split() for line in PUBLISHED.strip().split("\n")], dtype=float)
    assert np.round(colors.difference(table[:, :3], table[:, 3:6]), 4).tolist() == list(table[:, 6])
    assert np.allclose(colors.difference(table[:, 3:6], table[:, :3]), table[:, 6], atol=6e-5)


def test_known_colours_have_their_lab_values() -> None:
    known = {
        (255, 255, 255): (100.0, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (0, 0, 255): (32.3, 79.19, -107.86),
    }
    assert np.allclose(colors.lab(list(known)), list(known.values()), atol=0.02)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("dark brown hair", [("dark", "brown")]),
        ("light blue/green pale eyes", [("light", "blue"), ("", "green")]),
        ("pinkpurple party glasses", [("", "pink"), ("", "purple")]),
        ("Hot Pink or gray gray background", [("", "hot pink"), ("", "grey")]),
        ("golden blonde to dirty blonde", [("", "gold"), ("", "blonde"), ("", "sandy")]),
        ("a layered, collared and covered shirt of a tanner", []),
    ],
)
def test_colour_words_are_found_as_words(text: str, named: list[tuple[str, str]]) -> None:
    assert list(colors.named_in(text)) == named


@pytest.mark.parametrize("word", colors.WORDS)
def test_every_word_names_its_own_colours(word: str) -> None:
    for code in colors.WORDS[word]:
        lab = colors.lab(colors.rgb_of(code))
        assert colors.difference(colors.shades("", word), lab).min() < 0.01
        assert colors.named_in(word) == (("", word),)


@pytest.mark.parametrize(
    ("code", "name"),
    [("#000000", "black"), ("#ffffff", "white"), ("#3ffe9e", "mint"), ("#7b4a24", "brown")],
)
def test_colours_are_named_as_people_name_them(code: str, name: str) -> None:
    assert colors.name_of(colors.rgb_of(code)) == name
