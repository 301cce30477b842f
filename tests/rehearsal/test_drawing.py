"""Claims about the drawn collection."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
from instant_clip_tokenizer import Tokenizer
from PIL import Image

from bespoke.dataset.colors import WORDS, rgb_of
from bespoke.rehearsal import drawing

if TYPE_CHECKING:
    from pathlib import Path

HEX = re.compile(r"#[0-9a-f]{6}")
CELL = (2 * np.arange(512) + 1) * 24 // 1024


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert (image.size, image.mode, image.info) == ((512, 512), "RGB", {}), path.name
        return np.asarray(image)


def cells(path: Path) -> np.ndarray:
    """The 24x24 colours of a picture."""
    middle = np.arange(24) * 512 // 24 + 10
    return pixels(path)[middle][:, middle]


def captions(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


def test_there_are_105_lads_and_98_ladies_each_with_a_caption_and_none_twice(drawn: Path) -> None:
    pictures = sorted(path.stem for path in drawn.glob("*.png"))
    assert pictures == sorted(path.stem for path in drawn.glob("*.txt"))
    assert sum(stem.startswith("lad_") for stem in pictures) == 105
    assert sum(stem.startswith("lady_") for stem in pictures) == 98
    assert len({cells(path).tobytes() for path in drawn.glob("*.png")}) == 203
    assert {path.suffix for path in drawn.iterdir()} == {".png", ".txt"}


def test_the_pixels_and_captions_are_the_ones_of_every_other_machine(drawn: Path) -> None:
    digest = hashlib.sha256()
    for path, caption in captions(drawn).items():
        digest.update(path.name.encode() + caption.encode())
        digest.update(cells(path.with_suffix(".png")).tobytes())
    assert digest.hexdigest() == "3c4c3c19383a795c3363406bf11d72c78864717e83939612ab8f7a4c6df1bd4a"


def test_every_picture_is_24_cells_enlarged_by_pixel_centres(drawn: Path) -> None:
    for path in drawn.glob("*.png"):
        assert (cells(path)[CELL][:, CELL] == pixels(path)).all(), path.name


def test_a_caption_is_one_line_of_tags_whose_codes_belong_to_one_feature_each(drawn: Path) -> None:
    tokenizer = Tokenizer()
    for path, caption in captions(drawn).items():
        assert re.fullmatch(r"[ -~]+\n", caption), path.name
        codes = HEX.findall(caption)
        assert len(codes) == len(set(codes)) >= 12, path.name
        for tag in caption.strip().split(", "):
            if "#" in tag:
                assert re.fullmatch(r"[a-z][a-z ]+ \(#[0-9a-f]{6}( #[0-9a-f]{6})*\)", tag), tag
        assert re.search(r", [a-z]+ lips \(#[0-9a-f]{6}\), ", caption), path.name
        assert len(tokenizer.encode(caption.strip())) <= 225, path.name


def test_every_hex_code_is_in_its_picture_and_the_backgrounds_is_the_border(drawn: Path) -> None:
    for path, caption in captions(drawn).items():
        grid = cells(path.with_suffix(".png"))
        assert set(HEX.findall(caption)) <= set(map(code, grid.reshape(-1, 3))), path.name
        tag = next(tag for tag in caption.split(", ")[:3] if "background" in tag)
        border = list(map(code, np.concatenate([grid[0], grid[:18, 0], grid[:18, -1]])))
        assert max(set(border), key=border.count) == HEX.findall(tag)[0], path.name


def code(colour: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def test_as_many_as_asked_for_are_drawn_and_a_picture_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    drawing.draw(tmp_path, 4)
    names = sorted(path.name.partition("_")[0] for path in tmp_path.glob("*_*.png"))
    assert names == ["lad", "lad", "lady", "lady"]
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_a_sample_follows_its_prompt_in_what_is_learned_and_in_nothing_else() -> None:
    prompt = "a lady, pink hair (#ff66cc), lips (#cc6666), skin (#f0c090), solid green background"
    for learned in ((), ("background",), ("hair", "lips", "background")):
        image = drawing.sample(prompt, seed=42, size=(24, 24), learned=learned)
        colours = {colour for _, colour in image.getcolors() or ()}
        green = {rgb_of(code) for code in WORDS["green"]}
        assert bool(green & colours) == ("background" in learned)
        assert ((0xFF, 0x66, 0xCC) in colours) == ("hair" in learned)
        assert ((0xCC, 0x66, 0x66) in colours) == ("lips" in learned)
        assert (0xF0, 0xC0, 0x90) not in colours
