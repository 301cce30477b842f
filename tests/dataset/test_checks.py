"""What the checks find in real folders, broken one way at a time, and what they let pass."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bespoke.dataset import caption_exposure, colors, preflight
from bespoke.dataset.images import PixelGrid
from bespoke.dataset.repair import mend
from bespoke.errors import DatasetError
from bespoke.experiment import config
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.trainer_options import TRAINED_EXTENSIONS
from bespoke.findings import Finding, listing

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = DatasetSpec(pictures=3, size=512, cells=24, hex_codes_min=12, names=("lips",))
CELLS = DatasetSpec(cells=24)
NOTHING = DatasetSpec()
CODES = [f"#{number * 0x12B5A3 % 0xFFFFFF:06x}" for number in range(1, 14)]
CAPTION = (
    f"pixel art, 24x24, portrait of bespoke punk lady, hair ({' '.join(CODES[:6])}), "
    f"lips ({' '.join(CODES[6:12])}), {colors.name_of(colors.rgb_of(CODES[12]))} background"
)


def art(seed: int, side: int = 24) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Cells at random in the colours that the captions name, within one of the background's."""
    palette = np.array([list(bytes.fromhex(code[1:])) for code in CODES], dtype=np.uint8)
    cells = palette[np.random.default_rng(seed).integers(0, 12, (side, side))]
    cells[0] = cells[:, 0] = cells[:, -1] = palette[12]
    return cells


def enlarged(seed: int, size: tuple[int, int] = (512, 512)) -> Image.Image:
    return Image.fromarray(art(seed)).resize(size, Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures with captions that keep every promise."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in (1, 2, 3):
        enlarged(number).save(folder / f"lad_{number}.png", compress_level=1)
        (folder / f"lad_{number}.txt").write_text(CAPTION, encoding="utf-8")
    return folder


def codes(folder: Path, spec: DatasetSpec = SPEC) -> list[tuple[str, str]]:
    return [(each.code, each.file) for each in preflight.check_folder(folder, spec).findings]


def only(folder: Path, spec: DatasetSpec = SPEC) -> Finding:
    (finding,) = preflight.check_folder(folder, spec).findings
    return finding


def test_a_folder_that_keeps_its_promises_is_clean_and_read(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "._lad_1.png").write_bytes(b"\0\5\x16\7")
    (folder / "README.md").write_text("notes")
    (folder / "lad_1_0512x0512_sd.npz").write_bytes(b"cache")
    (folder / "more").mkdir()
    collection = preflight.check_folder(folder, SPEC)
    assert collection.findings == []
    assert collection.pairs == tuple(
        (folder / f"lad_{n}.png", folder / f"lad_{n}.txt") for n in (1, 2, 3)
    )
    assert collection.captions["lad_2"] == CAPTION
    picture = collection.pictures["lad_2.png"]
    assert np.array_equal(collection.arts["lad_2.png"], art(2))
    assert (picture.size, picture.cells_off, picture.transparent) == ((512, 512), 0.0, 0.0)


def test_all_problems_are_reported_together_in_the_order_of_names(folder: Path) -> None:
    (folder / "lad_1.txt").unlink()
    (folder / "lad_2.txt").write_text("")
    (folder / "lad_3.png").write_bytes((folder / "lad_3.png").read_bytes()[:2000])
    enlarged(4).save(folder / "lad_4.png")
    assert codes(folder) == [
        ("pictures_count", ""),
        ("caption_missing", "lad_1.png"),
        ("caption_empty", "lad_2.txt"),
        ("picture_unreadable", "lad_3.png"),
        ("caption_missing", "lad_4.png"),
    ]


def test_the_number_of_pictures_is_held_to_what_is_declared(folder: Path) -> None:
    assert codes(folder, DatasetSpec(pictures_min=3, pictures_max=3)) == []
    for spec, declared in (
        (DatasetSpec(pictures=4), "4"),
        (DatasetSpec(pictures_min=4), "at least 4"),
        (DatasetSpec(pictures_max=2), "at most 2"),
    ):
        assert only(folder, spec).message == f"{declared} pictures are declared, and 3 are there"


def test_a_folder_with_no_picture_is_an_error_whatever_is_declared(tmp_path: Path) -> None:
    assert only(tmp_path, NOTHING).code == "pictures_none"
    with pytest.raises(DatasetError, match="cannot be read"):
        preflight.check_folder(tmp_path / "gone", SPEC)


def test_pictures_and_captions_come_in_pairs(folder: Path) -> None:
    (folder / "lad_2.txt").rename(folder / "lad_2.TXT")
    (folder / "lad_9.txt").write_text(CAPTION)
    assert codes(folder) == [("caption_missing", "lad_2.png"), ("picture_missing", "lad_9.txt")]


# --- Pictures ---


def test_what_is_no_whole_picture_is_named(folder: Path) -> None:
    path = folder / "lad_1.png"
    whole = path.read_bytes()
    for raw in (b"", b"<html>not found</html>", whole[: len(whole) // 2]):
        path.write_bytes(raw)
        assert codes(folder) == [("picture_unreadable", "lad_1.png")]
    path.unlink()
    path.mkdir()
    assert only(folder).message == "cannot be read: Is a directory"
    path.rmdir()
    Image.new("1", (5000, 5000)).save(path)
    assert only(folder).message == "cannot be read: 5000x5000 pixels are too many to decode"


def test_a_picture_of_another_size_is_named(folder: Path) -> None:
    enlarged(1, (500, 512)).save(folder / "lad_1.png")
    enlarged(2).resize((256, 256), Image.Resampling.LANCZOS).save(folder / "lad_2.png")
    assert codes(folder) == [
        ("picture_size", "lad_1.png"), ("picture_size", "lad_2.png"), ("picture_cells", "lad_2.png")
    ]  # fmt: skip


def dotted() -> Image.Image:
    """One cell unlike all others, and that not by much."""
    flat = np.full((24, 24, 3), 90, dtype=np.uint8)
    flat[12, 12] = 140
    return Image.fromarray(flat)


@pytest.mark.parametrize("side", [64, 512, 768])
@pytest.mark.parametrize(
    ("picture", "how", "file"),
    [
        (dotted(), "BILINEAR", "PNG"),
        (Image.fromarray(art(1)), "LANCZOS", "PNG"),
        (Image.fromarray(art(1)), "NEAREST", "JPEG"),
        (enlarged(1, (30, 30)), "NEAREST", "PNG"),
        (Image.fromarray(art(1, side=32)), "NEAREST", "PNG"),
    ],
)
def test_art_that_is_not_of_its_cells_any_more_is_caught(
    folder: Path, picture: Image.Image, how: str, file: str, side: int
) -> None:
    resized = picture.resize((side, side), Image.Resampling[how])
    resized.save(folder / "lad_1.png", format=file, quality=100)
    assert codes(folder, CELLS) == [("picture_cells", "lad_1.png")]


@pytest.mark.parametrize("size", [(48, 48), (250, 250), (500, 512), (720, 1000), (768, 768)])
def test_nearest_neighbour_of_any_size_is_clean(folder: Path, size: tuple[int, int]) -> None:
    enlarged(1, size).save(folder / "lad_1.png")
    assert codes(folder, CELLS) == []


@pytest.mark.parametrize(("stray", "clean"), [(38, True), (200, False)])
def test_a_few_stray_pixels_are_tolerated(folder: Path, stray: int, clean: bool) -> None:
    pixels = np.array(enlarged(1))
    pixels[0, :stray] ^= 1
    pixels[0, 10:512:21] = np.array(enlarged(1))[0, 10:512:21]
    Image.fromarray(pixels).save(folder / "lad_1.png")
    assert (codes(folder) == []) is clean


def test_alpha_that_hides_something_is_measured_and_opaque_alpha_is_clean(folder: Path) -> None:
    picture = enlarged(1).convert("RGBA")
    picture.save(folder / "lad_1.png")
    assert codes(folder) == []
    alpha = Image.new("L", (512, 512), 255)
    alpha.paste(0, (0, 0, 256, 512))
    picture.putalpha(alpha)
    picture.save(folder / "lad_1.png")
    assert only(folder).message.startswith("50.00% of its pixels are not opaque")
    assert np.array_equal(preflight.check_folder(folder, SPEC).arts["lad_1.png"], art(1))


def test_a_file_name_that_is_no_utf_8_can_still_be_printed(folder: Path) -> None:
    (folder / os.fsdecode(b"lad_\xe9.png")).write_bytes(b"")
    findings = preflight.check_folder(folder, SPEC).findings
    assert {each.file for each in findings} == {"", "lad_\\udce9.png"}
    assert listing(findings).encode("utf-8")


@pytest.mark.parametrize("unlike", [0, 1, 23, 24])
def test_a_copy_is_named_with_its_first_and_a_near_one_differs_in_23_cells_at_most(
    folder: Path, unlike: int
) -> None:
    near = art(1)
    rows, columns = np.divmod(np.random.default_rng(unlike).permutation(576)[:unlike], 24)
    near[rows, columns] ^= 1
    Image.fromarray(near).resize((480, 480), Image.Resampling.NEAREST).save(folder / "lad_2.png")
    copies = [str(each) for each in preflight.check_folder(folder, CELLS).findings
              if each.code.startswith("picture_")]  # fmt: skip
    said = f"differs from lad_1.png only in {unlike} of 576 cells"
    said = said if unlike else "is the same art as lad_1.png, which is thereby trained more often"
    assert copies == ([] if unlike == 24 else [f"lad_2.png: {said}"])


# --- Captions ---


def test_a_caption_that_is_not_utf_8_is_named_with_its_place(folder: Path) -> None:
    (folder / "lad_1.txt").write_bytes(f"café, {CAPTION}".encode("latin-1"))
    assert only(folder).message.startswith("is not UTF-8, and the trainer stops at it")
    (folder / "lad_1.txt").write_text(f"café, {CAPTION}", encoding="utf-8")
    assert codes(folder) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((blank, ["caption_empty"]) for blank in ("", "   ", "\t\n", "\n")),
        ("\n" + CAPTION, ["caption_lines", "caption_empty"]),
        ("\ufeff" + CAPTION, ["caption_byte_order_mark"]),
        *((f"{CAPTION}{end} {end}", []) for end in ("\n", "\r\n", "\r")),
        *((f"{CAPTION}{end}more", ["caption_lines"]) for end in ("\n", "\r\n", "\r")),
        *((f"{CAPTION}, {code}", ["caption_hex_malformed"]) for code in ("#12345", "#12345g")),
        (CAPTION.replace(CODES[0], ""), ["caption_hex_few"]),
        (CAPTION.replace("lips", "Lips"), []),
        (CAPTION.replace("lips", "blacklips"), ["caption_word_glued"]),
        (CAPTION.replace("lips", "lipstick"), ["caption_unnamed"]),
    ],
)  # fmt: skip
def test_what_a_caption_must_hold(folder: Path, text: str, expected: list[str]) -> None:
    (folder / "lad_1.txt").write_bytes(text.encode())
    assert [code for code, _ in codes(folder)] == expected


@pytest.mark.parametrize(
    "words",
    ["kid eyes", "hair mustche", "bald wearing", "blue clong", "hair light", "dark red", "eyes duo",
     "glasses purple", "it wearing", "green almost", "grey background", "hooded hat"],
)  # fmt: skip
def test_words_run_together_are_named_anywhere_in_a_caption(folder: Path, words: str) -> None:
    spec = DatasetSpec(names=("hat",))
    glued = words.replace(" ", "")
    for name in ("lad_1", "lad_2", "lad_3"):
        (folder / f"{name}.txt").write_text(f"{CAPTION}, a hat, a {glued} thing")
    messages = {each.message for each in preflight.check_folder(folder, spec).findings}
    assert messages == {f"{glued!r} seems to lack a space: {words!r}"}
    (folder / "lad_1.txt").write_text(f"{CAPTION}, a hat, a {words} thing")
    assert len(codes(folder, spec)) == 2


def test_words_of_their_own_are_no_slips(folder: Path) -> None:
    proper = (
        "hairband haircut hairstyle hairpin hairspray headband highlight overcoat undershirt"
        " balding skintone sweatshirt lowcut turtleneck trenchcoat grayscale brownish blackboard"
        " blacksmith whitewash lightsaber darkroom lipstick eyeshadow tulips eyesight greenhouse"
        " honeymoon bluebird eggshell reddish blonder throughout bodysuit tanktop undergarments"
    )
    (folder / "lad_1.txt").write_text(f"{CAPTION}, {proper}")
    assert "caption_word_glued" not in {code for code, _ in codes(folder)}


@pytest.mark.parametrize(
    ("words", "twice"),
    [("dark dark blue", "dark dark"), ("a skin tone skin tone man", "skin tone skin tone"),
     ("a plain hat, Plain hat?, a plain hat", "a plain hat"), ("24x24 24x24", "")],
)  # fmt: skip
def test_what_is_said_twice_is_named(folder: Path, words: str, twice: str) -> None:
    (folder / "lad_1.txt").write_text(f"{CAPTION}, {words}")
    found = [(each.code, each.message) for each in preflight.check_folder(folder, SPEC).findings]
    assert found == ([("caption_repeated", f"repeats {twice!r}")] if twice else [])


# What made `check` and `captions repair` hang, and what might: all of 64 KiB or more.
EVIL = {
    "letters": "a" * 200_000, "features": "lips" * 20_000, "spaces": "hair" + " " * 65_536 + "x",
    "commas": "," * 65_536, "opened": "(" * 65_536, "closed": "hair (" + ")" * 65_536,
    "nested": "hair (, " * 8_000, "digits": "1" * 65_536, "hashes": "#" * 65_536,
    "hex": "eyes (" + " ".join(f"#{n:06x}" for n in range(8_000)) + ")",
    "hex tags": ", ".join(f"hair (#{n:06x})" for n in range(4_000)),
    "words": ", ".join(f"thing{n}" for n in range(7_000)), "colours": "red blue " * 7_000 + "hair",
    "one colour": "red " + "blue#00ff7f" * 6_000,
    "glued": "redblue" * 9_000, "palette": "palette: " + "#00ff00, " * 7_000,
    "repeated": "dark " * 13_000, "background": "red background, " * 4_000,
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_every_caption_is_read_in_linear_time(folder: Path, name: str) -> None:
    started = time.process_time()
    (folder / "lad_1.txt").write_text(EVIL[name])
    collection = preflight.check_folder(folder, SPEC)
    line = collection.captions["lad_1"]
    mended = mend(line, PixelGrid(cells=art(1)), keep_tokens=3, limit=225, names=("lips",))
    experiment = config.load("keep_tokens_3", repository=REPOSITORY)
    for text in (line, mended):
        caption_exposure.look(experiment, {"training_data": {"a": text}}, "lips")
    assert listing(collection.findings)
    assert time.process_time() - started < 5


# --- What the trainer passes over ---


def test_the_endings_are_those_of_the_trainer(sd_scripts: Path) -> None:
    source = (sd_scripts / "library" / "train_util.py").read_text(encoding="utf-8")
    named = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "IMAGE_EXTENSIONS"
    )
    assert set(named) == TRAINED_EXTENSIONS


@pytest.mark.parametrize("name", ["lad_4.Png", "lad_4.gif"])
def test_a_picture_with_an_ending_that_the_trainer_ignores_is_named_once(
    folder: Path, name: str
) -> None:
    enlarged(4).save(folder / "lad_4.png")
    (folder / "lad_4.png").rename(folder / name)
    (folder / "lad_4.txt").write_text(CAPTION)
    assert codes(folder) == [("picture_ignored", name)]
