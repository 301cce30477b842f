"""Claims about the drawn collection."""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from instant_clip_tokenizer import Tokenizer
from PIL import Image

from bespoke.rehearsal import drawing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEX = re.compile(r"#[0-9a-f]{6}")
CELL = (2 * np.arange(512) + 1) * 24 // 1024


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    drawing.draw(folder)
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cells(path: Path) -> np.ndarray:
    """The 24x24 colours of a picture."""
    middle = np.arange(24) * 512 // 24 + 10
    return pixels(path)[middle][:, middle]


def captions(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


def code(colour: Iterable[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def lab(code: str) -> tuple[float, float, float]:
    """CIELAB (D65) of an sRGB hex code."""
    linear = []
    for at in (1, 3, 5):
        v = int(code[at : at + 2], 16) / 255
        linear.append(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
    r, g, b = linear
    scaled = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in scaled]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def ciede2000(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """Sharma, Wu and Dalal 2005, equations 2 to 22."""
    c_bar = (math.hypot(*one[1:]) + math.hypot(*two[1:])) / 2
    g = 0.5 * (1 - math.sqrt(c_bar**7 / (c_bar**7 + 25**7)))
    a1, a2 = (1 + g) * one[1], (1 + g) * two[1]
    c1, c2 = math.hypot(a1, one[2]), math.hypot(a2, two[2])
    h1 = math.degrees(math.atan2(one[2], a1)) % 360
    h2 = math.degrees(math.atan2(two[2], a2)) % 360
    dh = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    d_h = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(dh / 2))
    mean_l, mean_c = (one[0] + two[0]) / 2, (c1 + c2) / 2
    h = h1 + h2 if c1 * c2 == 0 else (h1 + dh / 2) % 360
    t = (
        1
        - 0.17 * math.cos(math.radians(h - 30))
        + 0.24 * math.cos(math.radians(2 * h))
        + 0.32 * math.cos(math.radians(3 * h + 6))
        - 0.20 * math.cos(math.radians(4 * h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    turn = 60 * math.exp(-(((h - 275) / 25) ** 2))
    r_t = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(turn))
    x, y, z = (two[0] - one[0]) / s_l, (c2 - c1) / s_c, d_h / s_h
    return math.sqrt(x * x + y * y + z * z + r_t * y * z)


def test_there_are_105_lads_and_98_ladies_each_with_a_caption(drawn: Path) -> None:
    pictures = sorted(path.stem for path in drawn.glob("*.png"))
    assert pictures == sorted(path.stem for path in drawn.glob("*.txt"))
    assert sum(stem.startswith("lad_") for stem in pictures) == 105
    assert sum(stem.startswith("lady_") for stem in pictures) == 98
    assert all(re.fullmatch(r"(lad|lady)_\d{3}_[a-z]+", stem) for stem in pictures)
    assert {path.suffix for path in drawn.iterdir()} == {".png", ".txt"}


def test_nothing_is_left_beside_the_folder(drawn: Path) -> None:
    assert list(drawn.parent.iterdir()) == [drawn]


def test_every_picture_is_24_cells_enlarged_by_pixel_centres(drawn: Path) -> None:
    for path in drawn.glob("*.png"):
        with Image.open(path) as image:
            assert (image.size, image.mode, image.info) == ((512, 512), "RGB", {}), path.name
        assert (cells(path)[CELL][:, CELL] == pixels(path)).all(), path.name


def test_drawing_again_gives_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    drawing.draw(tmp_path / "again")
    for path in drawn.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_pixels_and_captions_are_the_ones_of_every_other_machine(drawn: Path) -> None:
    digest = hashlib.sha256()
    for path, caption in captions(drawn).items():
        digest.update(path.name.encode() + caption.encode())
        digest.update(cells(path.with_suffix(".png")).tobytes())
    assert digest.hexdigest() == "3c4c3c19383a795c3363406bf11d72c78864717e83939612ab8f7a4c6df1bd4a"


def test_no_picture_is_drawn_twice(drawn: Path) -> None:
    assert len({cells(path).tobytes() for path in drawn.glob("*.png")}) == 203


def test_a_caption_is_one_ascii_line_with_12_hex_codes_and_named_lips(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        assert caption.isascii(), path.name
        assert caption.endswith("\n"), path.name
        assert caption.count("\n") == 1, path.name
        assert len(HEX.findall(caption)) >= 12, path.name
        assert re.search(r", [a-z]+ lips \(#[0-9a-f]{6}\), ", caption), path.name


def test_every_hex_code_occurs_in_its_picture(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        seen = {code(c) for c in cells(path.with_suffix(".png")).reshape(-1, 3)}
        assert set(HEX.findall(caption)) <= seen, path.name


def test_no_hex_code_belongs_to_two_features_or_to_none(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        codes = HEX.findall(caption)
        assert len(codes) == len(set(codes)), path.name
        for tag in caption.strip().split(", "):
            if "#" in tag:
                assert re.fullmatch(r"[a-z][a-z ]+ \(#[0-9a-f]{6}( #[0-9a-f]{6})*\)", tag), tag


def test_the_background_is_among_the_first_three_tags_and_is_the_border(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        tag = next(tag for tag in caption.split(", ")[:3] if "background" in tag)
        grid = cells(path.with_suffix(".png"))
        border = np.concatenate([grid[0], grid[:18, 0], grid[:18, -1]])
        codes = [code(colour) for colour in border]
        assert max(set(codes), key=codes.count) == HEX.findall(tag)[0], path.name


def test_every_colour_word_fits_its_hex_codes(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        for tag in caption.split(", "):
            if codes := HEX.findall(tag):
                word = next(w for w in tag.split() if w in drawing.COLOURS)
                reference = lab(code(drawing.COLOURS[word]))
                far = max(ciede2000(reference, lab(each)) for each in codes)
                assert far < 15, (path.name, tag, far)


def test_every_caption_fits_into_225_tokens(drawn: Path) -> None:
    tokenizer = Tokenizer()
    counts = {p.name: len(tokenizer.encode(c.strip())) for p, c in captions(drawn).items()}
    assert max(counts.values()) <= 225


def test_a_smaller_and_a_larger_collection_can_be_drawn(tmp_path: Path) -> None:
    drawing.draw(tmp_path / "four", 4)
    assert [path.name[:4] for path in sorted((tmp_path / "four").glob("*.png"))] == [
        "lad_",
        "lad_",
        "lady",
        "lady",
    ]
    drawing.draw(tmp_path / "many", 205)
    assert len(list((tmp_path / "many").glob("*.png"))) == 205


def test_a_picture_of_the_person_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    drawing.draw(tmp_path, 2)
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_portrait_takes_the_background_that_it_is_given() -> None:
    drawn = drawing.portrait(7, "lady", {"background": (0, 255, 0)})
    assert drawn.cells[0][0] == (0, 255, 0)


def test_a_sample_follows_its_prompt_in_what_is_learned_and_in_nothing_else() -> None:
    prompt = "a lady, pink hair (#ff66cc), lips (#cc6666), skin (#f0c090), solid green background"
    for learned in ((), ("background",), ("hair", "lips", "background")):
        image, _ = drawing.sample(prompt, seed=42, size=(24, 24), learned=learned)
        colours = {colour for _, colour in image.getcolors() or ()}
        assert ((0, 128, 0) in colours) == ("background" in learned)
        assert ((0xFF, 0x66, 0xCC) in colours) == ("hair" in learned)
        assert ((0xCC, 0x66, 0x66) in colours) == ("lips" in learned)
        assert (0xF0, 0xC0, 0x90) not in colours
