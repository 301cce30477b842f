"""Pictures are drawn here with what is in them known; each metric is held to it, both ways."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from bespoke.dataset import colors
from bespoke.evaluation import metrics
from bespoke.evaluation.scoring import suggest

Pixels = NDArray[np.uint8]

PROMPT = (
    "pixel art, 24x24, portrait of bespoke punk lady, pink hair (#ff66cc), "
    "eyes (#663300), lips (#cc6666), neutral expression, skin (#f0c090), "
    "solid green background (#00ff00)"
)
GREENS = {"mid": "#00aa3c", "pure": "#00ff00", "forest": "#228b22", "pale": "#bef0c3"}
OTHERS = {
    "pink": "#ff69b4", "brown": "#784824", "blue": "#1e3cdc", "grey": "#828282", "white": "#ffffff",
    "black": "#080808", "navy": "#0c1250",
}  # fmt: skip


def enlarged(cells: Pixels, side: int = 512) -> Pixels:
    return np.asarray(Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST))


def noisy(picture: Pixels, levels: float = 20) -> Pixels:
    noise = np.random.default_rng(1).normal(0, levels, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def jpeg(picture: Pixels, quality: int = 50) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def blurred(picture: Pixels, radius: float = 6) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def portrait(ground: str, hair: str = "#ff66cc", *, wide: bool = False) -> Pixels:
    """Hair, face, eyes, lips and clothes where the collection has them."""
    cells = np.zeros((24, 24, 3), np.uint8)
    cells[:] = colors.rgb_of(ground)
    cells[4:20, 5:18] = colors.rgb_of(hair)
    if wide:
        cells[6:, :6] = cells[6:, 18:] = colors.rgb_of(hair)
    cells[8:22, 8:16] = colors.rgb_of("#f0c090")
    for at in ((11, slice(9, 11)), (12, 10), (11, slice(14, 16)), (12, 15)):
        cells[at] = colors.rgb_of("#663300")
    cells[17, 11:14] = colors.rgb_of("#cc6666")
    cells[21:, 6:18] = colors.rgb_of("#303848")
    return cells


def ground_of(picture: Pixels, prompt: str = PROMPT) -> str:
    return str(metrics.measure(picture, prompt)["background"]["verdict"])


VERSIONS = {
    "512": enlarged,
    "24": lambda cells: cells,
    "256": lambda cells: enlarged(cells, 256),
    "512 noisy": lambda cells: noisy(enlarged(cells), 20),
    "24 noisy": lambda cells: noisy(cells, 12),
    "512 jpeg": lambda cells: jpeg(enlarged(cells), 40),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wide", [False, True])
def test_a_shade_of_the_asked_ground_matches_and_another_colour_does_not(
    version: str, wide: bool
) -> None:
    for code in (*GREENS.values(), *OTHERS.values()):
        # The hair has the asked colour where the ground has not, and the other way round.
        hair = "#ff66cc" if code in GREENS.values() else "#00ff00"
        picture = VERSIONS[version](portrait(code, hair, wide=wide))
        expected = "match" if code in GREENS.values() else "mismatch"
        assert ground_of(picture) == expected, (code, version)


def test_noise_and_a_prompt_without_a_ground_are_never_a_match() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    for picture in (noise, noise[:24, :24], jpeg(noise, 20), jpeg(noise, 90)):
        assert ground_of(picture) != "match"
        assert ground_of(picture, "brown background") != "match"
        assert ground_of(picture, "grey background (#808080)") != "match"
    found = metrics.measure(enlarged(portrait("#00ff00")), "a portrait")
    assert found["background"]["verdict"] == "unmeasured"
    assert found["background"]["colour"] == "#00ff00"


@pytest.mark.parametrize(
    ("word", "so", "not_so"),
    [
        ("green", "00ff00 228b22 2e8b57 006400 90ee90 7cfc00", "00ffff 808080 ffff00 0000ff"),
        ("blue", "0000ff 4169e1 87ceeb 000080 0c1250", "800080 008000 ff00ff 202020 04040e"),
        ("red", "ff0000 c00000 8b0000 dc143c", "ffa500 8b4513 800080 ff69b4"),
        ("pink", "ff66cc ff69b4 ffc0cb ff1493", "cc66ff 800080 ff0000 ffffff"),
        ("black", "000000 101010 0a0a14", "404040 000080 800000 006400"),
        ("charcoal", "2a2c2e", "ffffff 8b4513"),
        ("grey", "808080 a9a9a9 696969", "ffffff 000000 8fbc8f 4682b4"),
        ("aqua", "6fdbdf", "0000ff 808080"),
    ],
)
def test_a_word_is_said_of_what_a_person_would_say_it_of(word: str, so: str, not_so: str) -> None:
    for codes, expected in ((so, True), (not_so, False)):
        points = colors.lab([colors.rgb_of(code) for code in codes.split()])
        assert set(colors.called(points, [("", word)]).tolist()) == {expected}


def test_a_shade_of_the_word_counts_within_reach_of_the_hex_asked_with_it() -> None:
    for code, expected in (("#228b22", "match"), ("#0a4619", "mismatch")):
        assert ground_of(portrait(code), "solid green background (#00ff00)") == expected
        assert ground_of(portrait(code), "solid green background") == "match"


def patterned(kind: str, one: str, other: str) -> Pixels:
    """A portrait whose ground runs from one colour to the other."""
    y, x = np.mgrid[:24, :24]
    share = {
        "gradient": y / 23,
        "stripes": x % 2,
        "halves": x > 12,
        "third": x > 16,
    }[kind]
    ends = [np.array(colors.rgb_of(code), float) for code in (one, other)]
    cells = np.rint(ends[0] + (ends[1] - ends[0]) * share[..., None]).astype(np.uint8)
    drawn = portrait("#010203")
    return np.where((drawn == (1, 2, 3)).all(axis=2, keepdims=True), cells, drawn)


@pytest.mark.parametrize(
    ("kind", "one", "other", "prompt", "expected"),
    [
        ("gradient", "#00ff00", "#006400", "solid green background (#00ff00)", "match"),
        ("stripes", "#d040c0", "#ffff30", "solid green background", "mismatch"),
        ("halves", "#00c040", "#ff69b4", "solid green background (#00ff00)", "mismatch"),
        ("third", "#00c040", "#ff69b4", "solid green background (#00c040)", "match"),
    ],
)
def test_a_patterned_ground_is_what_most_of_it_is(
    kind: str, one: str, other: str, prompt: str, expected: str
) -> None:
    for version in ("24", "512", "512 jpeg"):
        assert ground_of(VERSIONS[version](patterned(kind, one, other)), prompt) == expected


@pytest.mark.parametrize("version", ["512", "24", "512 jpeg"])
def test_each_feature_is_found_in_its_colour_and_missed_in_swapped_channels(version: str) -> None:
    drawn = VERSIONS[version](portrait("#00ff00"))
    for picture, verdict in ((drawn, "match"), (drawn[:, :, ::-1].copy(), "mismatch")):
        found = metrics.measure(picture, PROMPT)["features"]
        assert {kind: each["verdict"] for kind, each in found.items()} == dict.fromkeys(
            ("hair", "eyes", "skin"), verdict
        )


def test_a_colour_asked_of_two_things_tells_of_neither() -> None:
    wanted = "hair (#00ff00), skin (#f0c090), background (#00ff00)"
    found = metrics.measure(enlarged(portrait("#00ff00")), wanted)["features"]
    assert found["hair"]["verdict"] == "unmeasured"
    assert found["skin"]["verdict"] == "match"


def shifted(picture: Pixels) -> Pixels:
    """Every second line of the grid a pixel off, as the VAE leaves it."""
    return np.roll(picture, 1, axis=1)


def cells_of(pixels: int) -> Pixels:
    """Art of larger cells, cut to the picture's side."""
    return enlarged(portrait("#00ff00"), 24 * pixels)[:512, :512]


SMOOTH = "smooth, noisy or uneven: it has no hard edges on an even grid"


@pytest.mark.parametrize(
    ("picture", "instead"),
    [
        (enlarged(portrait("#00ff00")), ""),
        (enlarged(portrait("#00ff00"), 256), ""),
        (shifted(enlarged(portrait("#00ff00"))), ""),
        (jpeg(enlarged(portrait("#00ff00")), 40), ""),
        (cells_of(24), "cells are about 24 px, grid 24 expected 21.3"),
        (cells_of(32), "cells are about 32 px, grid 24 expected 21.3"),
        (blurred(enlarged(portrait("#00ff00"))), SMOOTH),
        (noisy(enlarged(portrait("#00ff00")), 30), SMOOTH),
    ],
)
def test_a_picture_is_on_the_grid_or_what_it_is_instead_is_said(
    picture: Pixels, instead: str
) -> None:
    measured = metrics.measure(picture, PROMPT)["grid"]
    assert measured["verdict"] == ("mismatch" if instead else "match")
    assert measured.get("reason", "") == instead


def test_steps_that_nobody_sees_and_cells_of_one_pixel_say_nothing_of_the_grid() -> None:
    faint = np.random.default_rng(2).integers(100, 105, (512, 512, 3), dtype=np.uint8)
    for picture in (faint, portrait("#00ff00")):
        assert metrics.measure(picture, PROMPT)["grid"]["verdict"] == "unmeasured"


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(1, 60), st.integers(1, 60), st.just(3))),
    st.text() | st.lists(st.sampled_from([*PROMPT.split(), "(", "#", ","])).map(" ".join),
)
def test_any_picture_and_any_prompt_give_numbers(picture: Pixels, prompt: str) -> None:
    json.dumps(metrics.measure(picture, prompt), allow_nan=False)


def test_a_black_picture_is_said_to_be_no_result_and_never_a_match() -> None:
    """What NaN ends as; a black ground that was asked for is still a ground."""
    wanted = "punk lady, pink hair, solid black background (#000000)"
    black = metrics.measure(np.zeros((512, 512, 3), np.uint8), wanted)
    assert black["background"]["verdict"] == "unmeasured"
    assert "black" in black["background"]["reason"]
    scores = suggest([black])
    assert (scores.visual_quality, scores.prompt_adherence, scores.mean) == (None, 0, None)
    drawn = metrics.measure(enlarged(portrait("#000000")), wanted)
    assert drawn["background"]["verdict"] == "match"
