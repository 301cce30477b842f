"""Captions are taken apart as the trainer takes them apart."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.experiment import caption_text


@pytest.mark.parametrize("code", ["#12345", "#12345g", "#1234567", "#123", "#1O3O5O", "#ffffffff"])
def test_a_malformed_hex_code_is_told_from_a_whole_one(code: str) -> None:
    text = f"eyes (#a1b2c3), lips ({code}), skin (#000000)"
    assert caption_text.MALFORMED_HEX.findall(text) == [code]
    assert caption_text.HEX.findall(text) == ["#a1b2c3", "#000000"]


@pytest.mark.parametrize("text", ["#1 dad shirt", "#selfie", "#cat", "a # alone", "#", "#00ff7f"])
def test_a_number_sign_that_starts_no_colour_is_left_alone(text: str) -> None:
    assert caption_text.MALFORMED_HEX.findall(text) == []


def kinds(text: str) -> list[str]:
    return [tag.kind for tag in caption_text.parse(text)]


def test_the_classes_of_a_whole_caption() -> None:
    text = (
        "pixel art, 24x24, portrait of bespoke punk lad, short hair (#c06148), wearing gray hat, "
        "stubble, eyes (#0a0a0a), lips (#c06148), slight smile, medium male skin tone (#b27f60), "
        "solid background (#c06148), grey shirt (#000000), palette: #c06148, #b27f60, "
        "sharp pixel edges, hard color borders, retro pixel art style, #a76857, #434b4e"
    )
    assert " ".join(kinds(text)) == (
        "subject subject subject hair accessory beard eyes lips expression skin background "
        "clothing palette palette style style style loose loose"
    )


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("light brown eyes and medium brown skin (#6d4836)", ("skin", "eyes")),
        ("blue bow in hair with white center (#3ffe9e)", ("accessory", "hair")),
        ("dark brown hair with center part (#c06148)", ("hair",)),
        ("raspberry shirt dark dark green background (#2c5f34)", ("background", "clothing")),
        ("longer hair on top and messy (#123456)", ("hair",)),
        ("deep blue pallips (#7d6364)", ("lips",)),
        ("wearing silver rimmed glasses withlips (#1d2740)", ("lips", "accessory")),
        ("plain greybackground (#888888)", ("background",)),
        ("a chair (#888888)", ("other",)),
        ("", ("other",)),
    ],
)
def test_the_leading_kind_comes_first(tag: str, expected: tuple[str, ...]) -> None:
    assert caption_text.kinds_of(tag) == expected


def test_a_feature_torn_by_the_commas_in_its_parentheses_is_put_together_again() -> None:
    text = "black hair (#2b0030, #26152d, #1E0A23) in a bun, lips (#cb8577), #2b0030"
    assert [tag.kind for tag in caption_text.parse(text)] == ["hair"] * 3 + ["lips", "loose"]
    hair, lips, loose = caption_text.features(text)
    assert (hair.kind, hair.codes) == ("hair", ("#2b0030", "#26152d", "#1e0a23"))
    assert (hair.parts, lips.parts) == (3, 1)
    assert loose.kind == "loose"


@pytest.mark.parametrize("text", ["hair (roots( (#c498cd), #000000", "hair (dark, #000000) x"])
def test_an_unclosed_parenthesis_takes_in_hex_codes_alone(text: str) -> None:
    assert caption_text.features(text)[0].parts == 2
    assert caption_text.features(text.replace(", #", ", lips #"))[0].parts == 1


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters=",\r\n")),
            st.sampled_from(
                ["hair (#000000", "#111111)", "#222222", "palette: #333333", "((", ")"]
            ),
        )
    )
)
def test_the_tags_parsed_are_the_tags_split(words: list[str]) -> None:
    text = ",".join(words)
    parsed = caption_text.parse(text)
    assert [tag.text for tag in parsed] == caption_text.tags(text)
    whole = caption_text.features(text)
    assert sum(feature.parts for feature in whole) == len(parsed)
    assert ", ".join(feature.text for feature in whole) == ", ".join(caption_text.tags(text))


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_at_all_is_read_as_a_text_mode_file_and_taken_apart(text: str) -> None:
    whole, malformed = caption_text.HEX.findall(text), caption_text.MALFORMED_HEX.findall(text)
    assert not {code[:7] for code in whole} & set(malformed)
    read = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8").readlines()
    assert caption_text.first_line(text) == (read[0].strip() if read else "")
