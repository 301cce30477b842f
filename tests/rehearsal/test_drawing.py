"""The drawn collection is the same everywhere; that it is sound, the tests of checks say."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bespoke.dataset.colors import WORDS, rgb_of
from bespoke.rehearsal import drawing

if TYPE_CHECKING:
    from pathlib import Path

CELL = (2 * np.arange(512) + 1) * 24 // 1024


def test_the_pixels_and_captions_are_the_ones_of_every_other_machine(drawn: Path) -> None:
    digest, seen = hashlib.sha256(), set()
    for path in sorted(drawn.glob("*.txt")):
        with Image.open(path.with_suffix(".png")) as image:
            assert (image.size, image.mode, image.info) == ((512, 512), "RGB", {}), path.name
            pixels = np.asarray(image)
        middle = np.arange(24) * 512 // 24 + 10
        grid = pixels[middle][:, middle]
        assert (grid[CELL][:, CELL] == pixels).all(), path.name
        digest.update(path.name.encode() + path.read_bytes() + grid.tobytes())
        seen.add(grid.tobytes())
    assert digest.hexdigest() == "3c4c3c19383a795c3363406bf11d72c78864717e83939612ab8f7a4c6df1bd4a"
    assert len(seen) == 203
    assert len(list(drawn.glob("lad_*.txt"))) == 105


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
