"""What the checks find in real folders, broken one way at a time, and what they let pass."""

from __future__ import annotations

import ast
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke.dataset import caption_exposure, loading
from bespoke.dataset.loading import Finding
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.dataset.repair import Rules, mend
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import config
from bespoke.experiment.dataset_spec import TRAINED_EXTENSIONS, DatasetSpec

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = DatasetSpec(
    pictures=3,
    size=512,
    cells=24,
    hex_codes_min=12,
    names=("lips",),
    caption_version="final_corrected_lips_12hex_v1",
)
CODES = [f"#{number * 0x12B5A3 % 0xFFFFFF:06x}" for number in range(1, 14)]
CAPTION = (
    f"pixel art, 24x24, portrait of bespoke punk lady, hair ({CODES[0]}), lips ({CODES[1]}), "
    f"palette: {', '.join(CODES[2:])}"
)


def art(seed: int, side: int = 24) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Cells at random in the 13 colours that the captions name."""
    palette = np.array([list(bytes.fromhex(code[1:])) for code in CODES], dtype=np.uint8)
    return palette[np.random.default_rng(seed).integers(0, len(CODES), (side, side))]


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


def codes(folder: Path, promise: DatasetSpec = SPEC) -> list[tuple[str, str]]:
    return [(found.code, found.file) for found in loading.check(folder, promise).findings]


def only(folder: Path, promise: DatasetSpec = SPEC) -> Finding:
    findings = loading.check(folder, promise).findings
    assert len(findings) == 1, findings
    return findings[0]


# --- Whole and in order ---


def test_a_folder_that_keeps_its_promises_is_clean(folder: Path) -> None:
    collection = loading.check(folder, SPEC)
    assert collection.findings == ()
    assert [pair.stem for pair in collection.pairs] == ["lad_1", "lad_2", "lad_3"]
    assert collection.pairs[0].picture == folder / "lad_1.png"
    assert collection.pairs[0].caption == folder / "lad_1.txt"
    assert collection.captions["lad_2"] == CAPTION


def test_the_cells_read_are_the_art_itself(folder: Path) -> None:
    picture = loading.check(folder, SPEC).pictures["lad_2.png"]
    assert picture.cells is not None
    assert np.array_equal(picture.cells, art(2))
    assert (picture.size, picture.mode, picture.format) == ((512, 512), "RGB", "PNG")
    assert (picture.cells_off, picture.transparent) == (0.0, 0.0)


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


# --- Numbers ---


def test_one_picture_too_few_is_counted(folder: Path) -> None:
    found = only(folder, DatasetSpec(pictures=4))
    assert (found.code, found.file) == ("pictures_count", "")
    assert found.measured == {"pictures": 3, "declared": 4}
    assert "4" in found.message
    assert "3" in found.message


@pytest.mark.parametrize(
    ("promise", "clean"),
    [
        (DatasetSpec(pictures_min=3, pictures_max=3), True),
        (DatasetSpec(pictures_min=4), False),
        (DatasetSpec(pictures_max=2), False),
    ],
)
def test_bounds_on_the_number_include_their_ends(
    folder: Path, promise: DatasetSpec, clean: bool
) -> None:
    assert codes(folder, promise) == ([] if clean else [("pictures_count", "")])


def test_a_folder_with_no_picture_is_an_error_whatever_is_promised(tmp_path: Path) -> None:
    assert only(tmp_path, DatasetSpec()).code == "pictures_none"


# --- Pairs ---


def test_a_missing_caption_is_named(folder: Path) -> None:
    (folder / "lad_2.txt").unlink()
    found = only(folder)
    assert (found.code, found.file) == ("caption_missing", "lad_2.png")
    assert "lad_2.txt" in found.message


def test_a_caption_that_differs_in_case_alone_is_pointed_out(folder: Path) -> None:
    (folder / "lad_2.txt").rename(folder / "lad_2.TXT")
    found = only(folder)
    assert (found.code, found.file) == ("caption_missing", "lad_2.png")
    assert "lad_2.TXT" in found.message


def test_a_caption_without_a_picture_is_named(folder: Path) -> None:
    (folder / "lad_9.txt").write_text(CAPTION)
    assert codes(folder) == [("picture_missing", "lad_9.txt")]


def test_a_png_and_a_jpeg_of_one_name_are_an_error_as_both_would_be_trained(folder: Path) -> None:
    enlarged(2).save(folder / "lad_2.jpg", quality=95)
    found = codes(folder, DatasetSpec(pictures=4))
    assert found == [("picture_twice", "lad_2.png")]


def test_a_caption_that_the_trainer_would_borrow_is_named(folder: Path) -> None:
    enlarged(4).save(folder / "lad_1_10_20_30_40.png")
    found = only(folder, DatasetSpec())
    assert (found.code, found.file) == ("caption_borrowed", "lad_1_10_20_30_40.png")
    assert found.measured["borrowed"] == "lad_1.txt"


def test_a_name_of_many_parts_with_its_own_caption_is_clean(folder: Path) -> None:
    enlarged(4).save(folder / "lad_1_10_20_30_40.png")
    (folder / "lad_1_10_20_30_40.txt").write_text(CAPTION)
    assert codes(folder, DatasetSpec()) == []


def test_a_caption_is_borrowed_across_the_folder_name_too(tmp_path: Path) -> None:
    folder = tmp_path / "10_bespoke_baby"
    folder.mkdir()
    enlarged(1).save(folder / "lad_001_ash.png")
    (tmp_path / "10.txt").write_text(CAPTION)
    assert only(folder, DatasetSpec()).measured["borrowed"] == f"..{os.sep}10.txt"


# --- Pictures ---


def test_a_truncated_png_is_named(folder: Path) -> None:
    path = folder / "lad_1.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = only(folder)
    assert (found.code, found.file) == ("picture_unreadable", "lad_1.png")
    assert "does not decode" in found.message


def test_a_picture_of_zero_bytes_is_named(folder: Path) -> None:
    (folder / "lad_1.png").write_bytes(b"")
    assert "0 bytes" in only(folder).message


def test_a_text_named_png_is_named_with_what_it_begins_with(folder: Path) -> None:
    (folder / "lad_1.png").write_text("<html>not found</html>")
    assert "<html>" in only(folder).message


def test_a_folder_named_like_a_picture_is_an_error(folder: Path) -> None:
    (folder / "lad_1.png").unlink()
    (folder / "lad_1.png").mkdir()
    assert codes(folder) == [("picture_unreadable", "lad_1.png")]


def test_a_link_to_nothing_is_an_error_and_a_whole_link_is_clean(folder: Path) -> None:
    (folder / "lad_1.png").rename(folder.parent / "elsewhere.png")
    (folder / "lad_1.png").symlink_to(folder.parent / "elsewhere.png")
    assert codes(folder) == []
    (folder.parent / "elsewhere.png").unlink()
    assert codes(folder) == [("picture_unreadable", "lad_1.png")]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_files_without_permission_are_named(folder: Path) -> None:
    (folder / "lad_1.png").chmod(0)
    (folder / "lad_2.txt").chmod(0)
    assert codes(folder) == [
        ("picture_unreadable", "lad_1.png"),
        ("caption_unreadable", "lad_2.txt"),
    ]


def test_a_jpeg_named_png_is_called_what_it_is(folder: Path) -> None:
    enlarged(1).save(folder / "lad_1.png", format="JPEG")
    found = loading.check(folder, SPEC).findings
    assert [item.code for item in found] == ["picture_misnamed", "picture_cells"]
    assert found[0].measured == {"format": "JPEG"}
    assert "JPEG" in found[0].message


@pytest.mark.parametrize("name", ["a.webp", "a.BMP", "a.PNG"])
def test_a_lossless_picture_in_another_format_is_clean(folder: Path, name: str) -> None:
    enlarged(7).save(folder / name, lossless=True)
    (folder / "a.txt").write_text(CAPTION)
    assert codes(folder, DatasetSpec(size=512, cells=24)) == []


def test_a_picture_of_500_by_512_is_named_with_its_size(folder: Path) -> None:
    enlarged(1, (500, 512)).save(folder / "lad_1.png")
    found = only(folder)
    assert (found.code, found.file) == ("picture_size", "lad_1.png")
    assert found.measured == {"width": 500, "height": 512}
    assert "500x512" in found.message


def test_a_picture_smaller_than_its_cells_is_an_error(folder: Path) -> None:
    enlarged(1, (20, 20)).save(folder / "lad_1.png")
    assert codes(folder, DatasetSpec(cells=24)) == [("picture_size", "lad_1.png")]


def test_a_picture_too_large_to_decode_is_refused_by_its_header(folder: Path) -> None:
    Image.new("1", (5000, 5000)).save(folder / "lad_1.png")
    assert codes(folder) == [("picture_unreadable", "lad_1.png")]


@pytest.mark.parametrize(
    "resampling",
    [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS],
)
@pytest.mark.parametrize("size", [64, 256, 512, 768])
def test_resampled_art_is_caught(folder: Path, resampling: Image.Resampling, size: int) -> None:
    Image.fromarray(art(1)).resize((size, size), resampling).save(folder / "lad_1.png")
    for number in (2, 3):
        enlarged(number, (size, size)).save(folder / f"lad_{number}.png")
    found = only(folder, DatasetSpec(cells=24))
    assert (found.code, found.file) == ("picture_cells", "lad_1.png")
    share = found.measured["cells_off"]
    assert isinstance(share, float)
    assert share > 0.2


@pytest.mark.parametrize("size", [256, 512, 768])
@pytest.mark.parametrize("quality", [75, 100])
def test_art_that_went_through_jpeg_is_caught(folder: Path, size: int, quality: int) -> None:
    enlarged(1, (size, size)).save(folder / "lad_1.jpg", quality=quality)
    Image.open(folder / "lad_1.jpg").save(folder / "lad_1.png")
    (folder / "lad_1.jpg").unlink()
    assert codes(folder, DatasetSpec(cells=24)) == [("picture_cells", "lad_1.png")]


@pytest.mark.parametrize("resampling", list(Image.Resampling))
def test_art_scaled_down_and_up_again_is_caught(folder: Path, resampling: Image.Resampling) -> None:
    halved = enlarged(1).resize((256, 256), resampling)
    halved.resize((512, 512), resampling).save(folder / "lad_1.png")
    assert codes(folder, DatasetSpec(cells=24)) == [("picture_cells", "lad_1.png")]


@pytest.mark.parametrize("size", [(48, 48), (250, 250), (500, 512), (720, 1000), (768, 768)])
def test_nearest_neighbour_of_any_size_is_clean(folder: Path, size: tuple[int, int]) -> None:
    enlarged(1, size).save(folder / "lad_1.png")
    assert codes(folder, DatasetSpec(cells=24)) == []


def test_a_resampled_picture_of_the_wrong_size_is_told_both(folder: Path) -> None:
    enlarged(1).resize((256, 256), Image.Resampling.LANCZOS).save(folder / "lad_1.png")
    assert codes(folder) == [("picture_size", "lad_1.png"), ("picture_cells", "lad_1.png")]


def test_one_cell_resampled_on_a_flat_ground_is_caught(folder: Path) -> None:
    flat = np.full((24, 24, 3), 90, dtype=np.uint8)
    flat[12, 12] = 140
    Image.fromarray(flat).resize((512, 512), Image.Resampling.BILINEAR).save(folder / "lad_1.png")
    assert codes(folder) == [("picture_cells", "lad_1.png")]


def test_art_of_another_grid_is_caught(folder: Path) -> None:
    grid = Image.fromarray(art(1, side=32)).resize((512, 512), Image.Resampling.NEAREST)
    grid.save(folder / "lad_1.png")
    assert codes(folder) == [("picture_cells", "lad_1.png")]


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
    picture.paste((255, 0, 0, 0), (0, 0, 256, 512))
    picture.save(folder / "lad_1.png")
    found = {item.code: item for item in loading.check(folder, DatasetSpec()).findings}
    assert found["picture_transparent"].measured == {"transparent": 0.5}


def test_the_cells_of_a_transparent_picture_are_what_the_trainer_sees(folder: Path) -> None:
    picture = enlarged(1).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize((512, 512)))
    picture.save(folder / "lad_1.png")
    read = loading.check(folder, SPEC).pictures["lad_1.png"]
    assert read.cells is not None
    assert np.array_equal(read.cells, art(1))
    assert read.cells_off == 0.0


def test_a_palette_with_a_transparent_entry_is_measured(folder: Path) -> None:
    picture = Image.new("P", (512, 512))
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.paste(1, (0, 0, 128, 512))
    picture.save(folder / "lad_1.png", transparency=1)
    found = only(folder, DatasetSpec())
    assert (found.code, found.measured) == ("picture_transparent", {"transparent": 0.25})


def test_a_sixteen_bit_picture_is_named_by_its_mode(folder: Path) -> None:
    Image.fromarray(np.full((512, 512), 40_000, dtype=np.uint16)).save(folder / "lad_1.png")
    found = only(folder, DatasetSpec())
    assert (found.code, found.measured) == ("picture_mode", {"mode": "I;16"})


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_png_damaged_anywhere_never_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "a.png"
    Image.fromarray(art(1)).save(path)
    raw = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=8)):
        raw[place] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    collection = loading.check(folder, DatasetSpec(cells=24))
    unreadable = any(found.code == "picture_unreadable" for found in collection.errors)
    assert ("a.png" in collection.pictures) is not unreadable


def test_a_file_name_that_is_no_utf_8_can_still_be_printed(folder: Path) -> None:
    (folder / os.fsdecode(b"lad_\xe9.png")).write_bytes(b"")
    found = loading.check(folder, SPEC).findings
    assert {item.file for item in found} == {"", "lad_\\udce9.png"}
    assert loading.listing(found).encode("utf-8")


# --- Captions ---


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\n", "\u200b\n"])
def test_an_empty_or_blank_caption_is_an_error(folder: Path, text: str) -> None:
    (folder / "lad_1.txt").write_text(text, encoding="utf-8")
    assert ("caption_empty", "lad_1.txt") in codes(folder, DatasetSpec())


def test_a_caption_below_a_blank_line_is_said_to_be_unread(folder: Path) -> None:
    (folder / "lad_1.txt").write_text("\n" + CAPTION)
    assert codes(folder) == [("caption_empty", "lad_1.txt"), ("caption_lines", "lad_1.txt")]


def test_a_latin_1_caption_is_named_with_the_byte_and_its_place(folder: Path) -> None:
    (folder / "lad_1.txt").write_bytes(("café, " + CAPTION).encode("latin-1"))
    found = only(folder)
    assert (found.code, found.measured) == ("caption_not_utf8", {"position": 3, "byte": 0xE9})
    assert "0xe9" in found.message
    assert "'é'" in found.message


def test_a_utf_16_caption_is_called_what_it_is(folder: Path) -> None:
    (folder / "lad_1.txt").write_bytes(CAPTION.encode("utf-16"))
    assert "UTF-16" in only(folder).message


def test_the_same_words_in_utf_8_are_clean(folder: Path) -> None:
    (folder / "lad_1.txt").write_text("café, " + CAPTION, encoding="utf-8")
    assert codes(folder) == []


def test_a_byte_order_mark_is_an_error_and_not_an_empty_caption(folder: Path) -> None:
    (folder / "lad_1.txt").write_text(CAPTION, encoding="utf-8-sig")
    assert codes(folder) == [("caption_byte_order_mark", "lad_1.txt")]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", " \n \n"])
def test_line_ends_and_blank_lines_after_the_caption_are_clean(folder: Path, ending: str) -> None:
    (folder / "lad_1.txt").write_bytes((CAPTION + ending).encode())
    assert codes(folder) == []


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_second_line_is_an_error_as_no_one_reads_it(folder: Path, ending: str) -> None:
    (folder / "lad_1.txt").write_bytes((CAPTION + ending + "background (#00ff00)").encode())
    found = only(folder)
    assert (found.code, found.measured) == ("caption_lines", {"lines": 2})
    assert "line 2" in found.message


def test_a_control_character_is_named(folder: Path) -> None:
    (folder / "lad_1.txt").write_text("a\x00b" + CAPTION)
    assert codes(folder) == [("caption_control_character", "lad_1.txt")]


@pytest.mark.parametrize(("count", "clean"), [(12, True), (11, False)])
def test_hex_codes_are_counted_with_their_repeats(folder: Path, count: int, clean: bool) -> None:
    (folder / "lad_1.txt").write_text("lips, " + ", ".join(["#00ff7f"] * count))
    assert (codes(folder, DatasetSpec(hex_codes_min=12)) == []) is clean


def test_hex_codes_below_the_first_line_do_not_count(folder: Path) -> None:
    (folder / "lad_1.txt").write_text("lips\n" + ", ".join(CODES))
    assert {code for code, _ in codes(folder)} == {"caption_lines", "caption_hex_few"}


@pytest.mark.parametrize("code", ["#12345", "#12345g"])
def test_a_malformed_hex_code_has_an_error_of_its_own(folder: Path, code: str) -> None:
    (folder / "lad_1.txt").write_text(f"{CAPTION}, {code}")
    found = only(folder)
    assert (found.code, found.tag) == ("caption_hex_malformed", code)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("lips", []),
        ("Lips (#aabbcc)", []),
        ("blacklips (#aabbcc)", [("caption_word_glued", "lad_1.txt")]),
        ("lipstick", [("caption_unnamed", "lad_1.txt")]),
        ("an ellipse", [("caption_unnamed", "lad_1.txt")]),
    ],
)
def test_a_promised_word_is_looked_for_as_a_word(
    folder: Path, words: str, expected: list[tuple[str, str]]
) -> None:
    (folder / "lad_1.txt").write_text(f"{words}, {', '.join(CODES)}")
    assert codes(folder, DatasetSpec(hex_codes_min=12, names=("lips",))) == expected


def test_words_run_together_and_said_twice_are_named(folder: Path) -> None:
    (folder / "lad_1.txt").write_text(f"{CAPTION}, dark dark blue, pixel hairlips, punk punklady")
    assert [(f.code, f.tag) for f in loading.check(folder, SPEC).findings] == [
        ("caption_word_glued", "punklady"), ("caption_repeated", "dark dark")
    ]  # fmt: skip
    (folder / "lad_1.txt").write_text(f"{CAPTION}, a silver hat, Silver hat?, a silver hat")
    found = only(folder)
    assert (found.code, found.tag) == ("caption_repeated", "a silver hat")


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
    rules = Rules(names=("lips",))
    started = time.process_time()
    (folder / "lad_1.txt").write_text(EVIL[name])
    collection = loading.check(folder, SPEC, {"shuffle_caption": True, "resolution": None})
    line = collection.captions["lad_1"]
    mended, _ = mend(line, PixelGrid(cells=art(1)), rules)
    experiment = config.load("keep_tokens_3", repository=REPOSITORY)
    for text in (line, mended):
        caption_exposure.look(experiment, {"training_data": {"a": text}})
    assert loading.listing(collection.findings)
    assert time.process_time() - started < 5


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.one_of(st.binary(), st.text().map(str.encode)))
def test_no_caption_at_all_ends_in_a_traceback(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    collection = loading.check(tmp_path, SPEC)
    assert {"pictures_none", "picture_missing"} <= {found.code for found in collection.errors}
    assert len(loading.listing(collection.errors).split("\n")) == len(collection.errors)


# --- What the trainer passes over ---


def test_the_endings_are_those_of_the_trainer(sd_scripts: Path) -> None:
    source = (sd_scripts / "library" / "train_util.py").read_text(encoding="utf-8")
    named = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "IMAGE_EXTENSIONS"
    )
    assert set(named) == TRAINED_EXTENSIONS


@pytest.mark.parametrize("name", ["lad_4.Png", "lad_4.gif", "lad_4.Jpeg"])
def test_a_picture_with_an_ending_that_the_trainer_ignores_is_named_once(
    folder: Path, name: str
) -> None:
    enlarged(4).save(folder / "lad_4.png")
    (folder / "lad_4.png").rename(folder / name)
    (folder / "lad_4.txt").write_text(CAPTION)
    assert codes(folder) == [("picture_ignored", name)]


def test_a_sub_folder_with_pictures_is_a_warning_and_one_without_is_nothing(folder: Path) -> None:
    (folder / "more").mkdir()
    assert codes(folder) == []
    enlarged(4).save(folder / "more" / "lad_4.png")
    found = only(folder)
    assert (found.code, found.severity) == ("folder_ignored", "warning")


def test_hidden_files_are_noted_and_neither_trained_nor_counted(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "._lad_1.png").write_bytes(b"\0\5\x16\7")
    collection = loading.check(folder, SPEC)
    assert [(found.code, found.severity) for found in collection.findings] == [
        ("file_hidden", "note")
    ] * 2
    assert len(collection.pairs) == 3


def test_other_files_in_the_folder_are_let_be(folder: Path) -> None:
    (folder / "README.md").write_text("notes")
    (folder / "lad_1_0512x0512_sd.npz").write_bytes(b"cache")
    assert codes(folder) == []


# --- Finding the folder ---


def located(wanted: Path | None, tmp_path: Path) -> Path:
    repository, workspace = tmp_path / "repository", tmp_path / "workspace"
    return loading.locate(wanted, repository=repository, workspace=workspace)


def with_picture(folder: Path) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return folder


def test_the_repository_comes_before_the_workspace(tmp_path: Path) -> None:
    in_workspace = with_picture(tmp_path / "workspace" / "training_data")
    assert located(None, tmp_path) == in_workspace
    in_repository = tmp_path / "repository" / "training_data"
    in_repository.mkdir(parents=True)
    assert located(None, tmp_path) == in_workspace
    Image.new("RGB", (8, 8)).save(in_repository / "a.png")
    assert located(None, tmp_path) == in_repository


def test_a_named_folder_comes_before_both(tmp_path: Path) -> None:
    with_picture(tmp_path / "repository" / "training_data")
    mine = with_picture(tmp_path / "mine")
    assert located(mine, tmp_path) == mine


def test_the_old_layout_with_a_repeats_folder_is_found(tmp_path: Path) -> None:
    old = with_picture(tmp_path / "workspace" / "training_data" / "10_bespoke_baby")
    with_picture(tmp_path / "workspace" / "training_data" / "previews")
    assert located(None, tmp_path) == old
    assert located(old.parent, tmp_path) == old


def test_two_repeats_folders_are_not_chosen_between(tmp_path: Path) -> None:
    data = tmp_path / "repository" / "training_data"
    with_picture(data / "10_bespoke_baby")
    with_picture(data / "5_generated")
    with pytest.raises(DatasetError, match="10_bespoke_baby, 5_generated"):
        located(None, tmp_path)


def test_every_place_looked_at_is_listed_when_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "workspace" / "training_data").mkdir(parents=True)
    with pytest.raises(DatasetError) as raised:
        located(None, tmp_path)
    message = str(raised.value)
    assert f"{tmp_path / 'repository' / 'training_data'} (not there)" in message
    assert f"{tmp_path / 'workspace' / 'training_data'} (no pictures in it)" in message
    assert "--data DIR" in message


def test_a_named_folder_that_is_none_is_an_error_of_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        located(tmp_path / "nowhere", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="no such directory"):
        located(tmp_path / "file", tmp_path)


def test_a_named_folder_without_pictures_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no pictures"):
        located(tmp_path, tmp_path)


def test_a_folder_that_went_away_is_an_error_of_the_data(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        loading.check(tmp_path / "gone", SPEC)


# --- Saying it ---


def error(code: str, number: int) -> Finding:
    return Finding(code=code, severity="error", file=f"{number:03}.txt", message="is wrong")


def test_the_summary_groups_by_code_with_counts_and_first_examples() -> None:
    note = Finding(code="seen", severity="note", message="all of it")
    assert loading.summary([note, *(error("bad", number) for number in range(5))]) == [
        "error: bad (5)",
        "  000.txt: is wrong",
        "  001.txt: is wrong",
        "  002.txt: is wrong … and 2 more (--all lists them)",
        "note: seen (1)",
        "  all of it",
    ]


def test_forty_errors_are_all_shown_and_of_more_the_rest_is_counted() -> None:
    forty = [error("bad", number) for number in range(40)]
    assert loading.listing(forty).split("\n") == [str(found) for found in forty]
    more = loading.listing([*forty, error("bad", 40)]).split("\n")
    assert len(more) == 41
    assert more[-1] == "… and 1 more (bespoke check --all shows them)"


def test_warnings_of_one_cause_are_one_group_and_all_are_listed_where_asked() -> None:
    found = [
        Finding(code=code, severity="warning", file=f"{n}.txt", message=code)
        for n in range(300)
        for code in ("colour_shared", "colour_word", "palette_torn")
    ]
    assert loading.summary(found) == [
        "warning: Hex codes that the model cannot tie to one feature (900 in 300 files)",
        "  colour_shared 300, colour_word 300, palette_torn 300",
        "  0.txt: colour_shared … and 899 more (--all lists them)",
    ]
    assert len(loading.summary(found, examples=None)) == 903


def test_a_rare_error_is_not_hidden_behind_a_hundred_of_one_kind() -> None:
    found = [*(error("bad", number) for number in range(100)), error("rare", 100)]
    shown = loading.listing(found).split("\n")
    assert str(found[0]) == shown[0]
    assert str(found[-1]) == shown[-2]
    assert shown[-1].startswith("… and 61 more")
