"""What is asked of the figure: each claim on pictures drawn here, right and wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bespoke.dataset import colors
from bespoke.evaluation import figure, scoring
from bespoke.evaluation.figure import ACCESSORIES, accessories
from bespoke.evaluation.metrics import measure
from bespoke.evaluation.view import PictureGrid
from bespoke.rehearsal import drawing
from tests.evaluation.test_metrics import Pixels, enlarged, jpeg, noisy

GREEN = "portrait of bespoke punk lady, brown eyes, light skin, green background"


def drawn(**named: str) -> Pixels:
    """The rehearsal's lady of seed 3 in these colours."""
    chosen = {name: colors.rgb_of(code) for name, code in named.items()}
    return np.asarray(drawing.enlarged(drawing.portrait(3, "lady", chosen).cells).convert("RGB"))


def of(picture: Pixels, prompt: str) -> dict[str, Any]:
    return measure(picture, prompt)


def adherence(picture: Pixels, prompt: str) -> int:
    score = scoring.suggest([of(picture, prompt)]).prompt_adherence
    assert score is not None
    return score


@pytest.mark.parametrize(
    ("code", "right", "wrong"),
    [
        ("#7b4a24", "brown", "blonde"),
        ("#e8c97a", "blonde", "brown"),
        ("#101010", "black", "brown"),
        ("#a81818", "red", "black"),
        ("#2a2c2e", "charcoal", "blonde"),
        ("#2a2c2e", "black", "red"),
    ],
)
def test_hair_is_of_its_word_and_its_outline_counts_for_no_colour(
    code: str, right: str, wrong: str
) -> None:
    picture = drawn(hair=code)
    for version in (picture, jpeg(picture, 75), noisy(picture, 8)):
        for word, expected in ((right, "match"), (wrong, "mismatch")):
            hair = of(version, f"lady, {word} hair")["features"]["hair"]
            assert hair["verdict"] == expected, (word, hair)
    assert f"{wrong} asked" in " ".join(scoring.remarks(of(picture, f"lady, {wrong} hair")))


@pytest.mark.parametrize(
    ("code", "words", "other"),
    [
        ("#f0c8a8", "light skin", "dark skin"),
        ("#5a3420", "dark skin", "light skin tone"),
        ("#4a2a18", "dark brown skin", "pale skin"),
    ],
)
def test_skin_is_as_light_as_its_word(code: str, words: str, other: str) -> None:
    found = [of(drawn(skin=code), each)["features"]["skin"] for each in (words, other)]
    assert [each["verdict"] for each in found] == ["match", "mismatch"]


def test_the_grounds_colour_over_the_face_counts_more_than_all_else_that_is_wrong() -> None:
    green, skin, brown = "#30c050", "#f0c8a8", "#784824"
    spilt = drawn(background=green, skin="#48b860", eyes=brown)
    assert "green over the face" in scoring.remarks(of(spilt, GREEN))
    sound = [
        drawn(background=green, skin=skin, eyes="#2060e0", hair=hair) for hair in (brown, "#e8c97a")
    ]
    assert all(adherence(spilt, GREEN) < adherence(each, GREEN) for each in sound)
    asked = "lady, pale green skin, green background"
    assert "green over the face" not in scoring.remarks(of(spilt, asked))
    assert "skin emerald, light asked" in scoring.remarks(of(spilt, "lady, light skin"))


def test_accessories_are_read_of_any_words_and_not_where_they_are_denied() -> None:
    prompt = "lady, blonde hair with a red bow in hair, no glasses, gold hoop earrings"
    assert accessories(prompt) == ("bow", "earrings")
    assert accessories("lady wearing black stunner shades, without crown") == ("glasses",)


def test_a_model_that_is_told_too_badly_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert figure.worn(PictureGrid(pixels=drawn())).keys() == {*ACCESSORIES, "face"}
    monkeypatch.setattr(figure, "GOOD", 1.01)
    found = of(drawn(), "lady, hat")
    assert found["features"]["hat"]["verdict"] == "unmeasured"
    assert "pairs" in found["features"]["hat"]["reason"]
    assert "no hat" not in scoring.remarks(found)


@pytest.mark.parametrize("kind", ["flat", "gradient", "halves", "disc", "noise"])
def test_a_picture_without_a_face_adheres_to_nothing(kind: str) -> None:
    y, x = np.mgrid[:24, :24]
    shares = {
        "flat": 0 * x,
        "gradient": y / 23,
        "halves": x > 12,
        "disc": np.hypot(y - 12, x - 11) < 6,
    }
    rng = np.random.default_rng(0)
    share = shares.get(kind, rng.random((24, 24)))[..., None]
    cells = np.array((40, 190, 80)) * (1 - share) + np.array((230, 190, 160)) * share
    if kind == "noise":
        cells = rng.integers(0, 256, (24, 24, 3))
    picture = enlarged(cells.astype(np.uint8))
    assert not scoring.suggest([of(picture, GREEN)]).prompt_adherence
    assert "no face" in scoring.remarks(of(picture, GREEN))


def test_a_large_colour_that_touches_no_border_is_no_ground() -> None:
    cells = np.full((24, 24, 3), (48, 192, 80), np.uint8)
    cells[1:23, 1:23] = colors.rgb_of("#e8c97a")
    cells[8:22, 8:16] = colors.rgb_of("#f0c090")
    ground = PictureGrid(pixels=enlarged(cells)).ground
    assert ground[0].all()
    assert not ground[1:23, 1:23].any()


def test_a_plain_ground_is_judged_surely_and_one_near_the_bound_is_not() -> None:
    plain = of(drawn(background="#30c050"), GREEN)["background"]
    assert plain["sure"] is True
    half = np.array(drawn(background="#30c050"))
    half[:, :170] = colors.rgb_of("#c040c0")
    assert of(half, GREEN)["background"]["sure"] is False
