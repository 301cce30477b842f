"""A new caption version: what it cures, what it leaves alone, and that it does so once."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import toml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke import captions, dataset
from bespoke.canvas import Canvas, canvas_of
from bespoke.captions import tokens
from bespoke.dataset import Promise
from bespoke.errors import ConfigError, DatasetError
from bespoke.mending import Change, Repairs, mend
from bespoke.repair import Repair, cured, declaration, repair, report

if TYPE_CHECKING:
    from pathlib import Path

GREEN, BROWN, SKIN, RED, BLUE = "#10c040", "#6a4020", "#f0c0a0", "#c02040", "#2040c0"
CLEAN = (
    f"pixel art, 24x24, green background ({GREEN}), portrait of punk, brown hair ({BROWN}), "
    f"red lips ({RED}), light skin ({SKIN}), blue shirt ({BLUE}), retro pixel art style"
)
FACTS = Promise(
    pictures=203, size=512, cells=24, hex_codes_min=12, names=("lips",), caption_version="old"
)


def portrait(top: str = GREEN) -> Canvas:
    return canvas_of(art(top))


def art(top: str = GREEN) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A head before a green ground, whose top row can have another colour."""
    cells = np.empty((24, 24, 3), dtype=np.uint8)
    for rows, columns, code in (
        (slice(0, 18), slice(0, 24), GREEN),
        (slice(0, 1), slice(0, 24), top),
        (slice(18, 24), slice(0, 24), BLUE),
        (slice(4, 9), slice(7, 17), BROWN),
        (slice(9, 18), slice(8, 16), SKIN),
        (slice(15, 16), slice(10, 14), RED),
    ):
        cells[rows, columns] = list(bytes.fromhex(code[1:]))
    return cells


def mended(text: str, canvas: Canvas | None = None, **rules: object) -> str:
    return mend(text, canvas or portrait(), Repairs(**rules))[0]  # type: ignore[arg-type]


def kinds(text: str, **rules: object) -> list[str]:
    made: tuple[Change, ...] = mend(text, portrait(), Repairs(**rules))[1]  # type: ignore[arg-type]
    return [change.kind for change in made]


def test_a_caption_that_is_right_stays_to_the_letter() -> None:
    assert mend(CLEAN, portrait(), Repairs()) == (CLEAN, ())
    unspaced = CLEAN.replace(", ", ",")
    assert mend(unspaced, portrait(), Repairs()) == (unspaced, ())


def test_the_palette_and_bare_codes_go_and_words_in_a_palette_stay() -> None:
    assert mended(f"{CLEAN}, palette: {GREEN}, {BLUE}, sharp pixel edges, {RED}, {SKIN}") == (
        f"{CLEAN}, sharp pixel edges"
    )
    assert mended(f"{CLEAN}, palette: warm reds, {RED}") == f"{CLEAN}, palette: warm reds"


def test_a_caption_of_bare_codes_alone_is_left_as_the_trainer_stops_at_an_empty_one() -> None:
    assert mend(f"{GREEN}, {RED}", portrait(), Repairs()) == (f"{GREEN}, {RED}", ())


def test_a_torn_feature_is_one_tag_and_a_whole_one_stays() -> None:
    torn = CLEAN.replace(f"({BROWN})", f"({BROWN}, {BROWN}) and more")
    assert mended(torn) == CLEAN.replace(f"({BROWN})", f"({BROWN} {BROWN}) and more")
    assert kinds(torn) == ["torn"]


def test_the_backgrounds_hex_becomes_the_borders_colour_where_that_is_single() -> None:
    wrong = CLEAN.replace(GREEN, "#c0ffee")
    assert mended(wrong) == CLEAN
    assert kinds(wrong) == ["hex replaced"]


def test_the_backgrounds_hex_goes_where_the_border_has_several_colours() -> None:
    halves = portrait(top="#00e0b0")
    assert max(halves.border.values()) < 0.8 * sum(halves.border.values())
    wrong = CLEAN.replace(GREEN, "#c0ffee")
    assert mended(wrong, halves) == CLEAN.replace(f" ({GREEN})", "")


def test_a_background_hex_that_is_the_smaller_half_is_right() -> None:
    halves = portrait(top="#00e0b0")
    assert mended(CLEAN, halves) == CLEAN
    assert mended(CLEAN.replace(GREEN, "#00e0b0"), halves) == CLEAN.replace(GREEN, "#00e0b0")


@pytest.mark.parametrize(
    ("feature", "code", "why"),
    [
        ("wild hair", GREEN, "the background's"),
        ("wild hair", "#abcdef", "not in the picture"),
        ("red lips", BLUE, "far from"),
        ("round eyes", SKIN, "the skin's"),
        ("plain clothing", SKIN, "the skin's"),
    ],
)
def test_a_hex_that_cannot_be_the_features_goes_and_its_words_stay(
    feature: str, code: str, why: str
) -> None:
    text, (change,) = mend(f"{CLEAN}, {feature} ({code})", portrait(), Repairs())
    assert text == f"{CLEAN}, {feature}"
    assert why in change.why
    assert code in change.before


@pytest.mark.parametrize(
    "tag",
    [f"lips ({SKIN})", f"wild hair ({BROWN})", f"tan shirt ({SKIN})", f"shirt ({BLUE.upper()})"],
)
def test_a_hex_that_can_be_the_features_stays(tag: str) -> None:
    assert mended(f"{CLEAN}, {tag}") == f"{CLEAN}, {tag}"


def test_a_colour_only_behind_the_figure_is_no_feature_of_it() -> None:
    halves = portrait(top="#00e0b0")
    assert mended(f"{CLEAN}, wild hair (#00e0b0)", halves) == f"{CLEAN}, wild hair"


def test_only_the_wrong_one_of_several_codes_goes_with_no_space_left() -> None:
    several = CLEAN.replace(f"({BROWN})", f"(as {GREEN} {BROWN})")
    assert mended(several) == CLEAN.replace(f"({BROWN})", f"(as {BROWN})")


def test_without_a_picture_no_hex_of_a_feature_is_judged() -> None:
    wrong = CLEAN.replace(GREEN, "#c0ffee")
    assert mend(f"{wrong}, {RED}", None, Repairs())[0] == wrong


ORDERED = f"pixel art, 24x24, portrait of punk, a, blue shirt ({BLUE}), background ({GREEN}), b"


@pytest.mark.parametrize(
    ("keep_tokens", "place"), [(0, 5), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 5)]
)
def test_the_background_moves_among_the_kept_tags_behind_the_subject(
    keep_tokens: int, place: int
) -> None:
    tags = captions.tags(mended(ORDERED, keep_tokens=keep_tokens))
    assert tags.index(f"background ({GREEN})") == place
    assert [tag for tag in tags if "background" not in tag] == [
        tag for tag in captions.tags(ORDERED) if "background" not in tag
    ]


def test_another_class_moves_where_it_is_chosen() -> None:
    assert captions.tags(mended(ORDERED, keep="clothing"))[2] == f"blue shirt ({BLUE})"


def test_of_two_background_tags_the_one_with_the_borders_colour_moves() -> None:
    doubled = f"a, b, c, pink background and eyes ({BLUE}), pink background and eyes ({GREEN})"
    assert captions.tags(mended(doubled))[0] == f"pink background and eyes ({GREEN})"


LONG = f"pixel art, lips, hard color borders, a smile, silver hat, a cow, red shirt, lips, {BLUE} x"


def test_a_caption_that_is_too_long_loses_whole_tags_by_the_stated_order() -> None:
    seen: list[tuple[set[str], int]] = []
    for limit in range(tokens(LONG), 0, -1):
        left = set(captions.tags(mended(LONG, limit=limit)))
        count = len(captions.tags(mended(LONG, limit=limit)))
        if not seen or (left, count) != seen[-1]:
            seen.append((left, count))
    gone = [before - after for (before, _), (after, _) in itertools.pairwise(seen)]
    assert gone == [
        set(), {"hard color borders"}, {"a smile"}, {"a cow"}, {"silver hat"}, {"red shirt"}
    ]  # fmt: skip
    assert seen[-1] == ({"pixel art", "lips", f"{BLUE} x"}, 3)


def test_a_promised_word_is_never_trimmed() -> None:
    assert "a cow" in captions.tags(mended(LONG, limit=1, names=("Cow",)))


TAGS = st.one_of(
    st.sampled_from(
        [
            *captions.tags(CLEAN), *captions.tags(ORDERED), GREEN, f"({RED}", f"{SKIN})", "",
            f"palette: {BLUE}", "palette: reds", f"hair ({GREEN}", f"wild hair ({SKIN} {GREEN})",
            f"{GREEN} background", f"lips ({GREEN})", "background", f"eyes ({SKIN})", "()", "24x24",
            f"blue coat with white background (#abcdef {RED})", f"red eyes ({BLUE}) (({BROWN}",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    tags=st.lists(TAGS, max_size=14),
    top=st.sampled_from([GREEN, "#00e0b0", SKIN]),
    keep=st.sampled_from(captions.FEATURES),
    keep_tokens=st.integers(0, 5),
    limit=st.integers(1, 120),
)
def test_mending_what_is_mended_changes_nothing(
    tags: list[str], top: str, keep: str, keep_tokens: int, limit: int
) -> None:
    rules = Repairs(keep=keep, keep_tokens=keep_tokens, limit=limit, names=("lips",))
    text = captions.first_line(", ".join(tags))
    once, changes = mend(text, portrait(top), rules)
    assert mend(once, portrait(top), rules) == (once, ())
    assert bool(once) == bool(text)
    assert (once == text) == (not changes)
    assert not set(captions.hex_codes(once)) - set(captions.hex_codes(text)) - set(art_codes(top))


def art_codes(top: str) -> list[str]:
    return list(portrait(top).cells)


# --- Folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "old"
    made.mkdir()
    for stem in ("a", "b"):
        picture = Image.fromarray(art()).resize((512, 512), Image.Resampling.NEAREST)
        picture.save(made / f"{stem}.png", compress_level=1)
        (made / f"{stem}.txt").write_text(CLEAN)
    return made


def repaired(folder: Path, out: Path, promise: Promise = FACTS) -> Repair:
    collection = dataset.check(folder, promise, shuffled=True)
    return repair(collection, out=out, promise=promise, keep_tokens=3)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_what_stands_around_the_first_line_stays(folder: Path, tmp_path: Path) -> None:
    (folder / "a.txt").write_bytes(f"  {CLEAN}, {RED} \r\n{RED}\r\n".encode())
    repaired(folder, tmp_path / "new")
    assert (tmp_path / "new" / "a.txt").read_bytes() == f"  {CLEAN} \r\n{RED}\r\n".encode()


def test_the_old_folder_and_what_is_in_it_are_refused(folder: Path) -> None:
    for out in (folder, folder / "new", folder / ".." / "old"):
        with pytest.raises(ConfigError, match="own folder"):
            repaired(folder, out)
    assert sorted(contents(folder)) == ["a.png", "a.txt", "b.png", "b.txt"]


def test_nothing_that_is_there_is_overwritten(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        repaired(folder, out)
    with pytest.raises(ConfigError, match="no folder"):
        repaired(folder, out / "mine")
    (tmp_path / "other.report.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"other\.report\.txt: is there already"):
        repaired(folder, tmp_path / "other")
    assert (tmp_path / "other.report.txt").read_text() == "mine"
    assert not (tmp_path / "other").exists()


def test_an_empty_folder_may_be_filled_and_nothing_else_is_left_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    repaired(folder, tmp_path / "new")
    assert contents(tmp_path / "new") == contents(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"old", "new", "new.report.txt"}


def test_a_caption_that_cannot_be_read_stops_it_before_anything_is_written(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=r"b\.txt: cannot be read"):
        repaired(folder, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_an_unknown_class_and_a_folder_without_pairs_are_named(
    folder: Path, tmp_path: Path
) -> None:
    collection = dataset.check(folder, FACTS)
    with pytest.raises(ConfigError, match=r"keep 'sky'.*background"):
        repair(collection, out=tmp_path / "new", promise=FACTS, keep="sky", keep_tokens=3)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="nothing to repair"):
        repaired(empty, tmp_path / "new")


def test_what_is_in_no_pair_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.md").write_text("x")
    (folder / "c.txt").write_text("no picture")
    done = repaired(folder, tmp_path / "new")
    assert done.left_out == ("c.txt", "notes.md")
    assert "in no pair: notes.md" in report(done)
    assert "notes.md" not in contents(done.out)


def test_the_report_names_each_change_and_the_promise_to_declare(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a.txt").write_text(f"{CLEAN}, wild hair ({GREEN}), {RED}")
    done = repaired(folder, tmp_path / "new")
    text = (tmp_path / "new.report.txt").read_text()
    assert text == report(done)
    assert f"hex dropped: wild hair ({GREEN}) -> wild hair ({GREEN} is the background's)" in text
    assert done.totals == {"loose": 1, "hex dropped": 1}
    table = toml.loads(declaration(done))["data"]["training_data"]
    assert Promise(**table) == done.promise
    assert (table["hex_codes_min"], table["caption_version"]) == (5, "repaired_v1")


def test_the_real_captions_are_cured_and_the_old_ones_stay(
    real_pictures: Path, tmp_path: Path
) -> None:
    old = contents(real_pictures)
    before = dataset.check(real_pictures, FACTS, shuffled=True)
    done = repaired(real_pictures, tmp_path / "new")
    after = dataset.check(done.out, done.promise, shuffled=True)
    assert contents(real_pictures) == old
    assert len(after.pairs) == 203
    assert after.errors == ()
    lines = cured(before.findings, after.findings)
    for line in (
        "colour_loose: 203 -> 0",
        "palette_torn: 203 -> 0",
        "colour_shared_background: 167 -> 0",
        "colour_only_background: 179 -> 0",
        "colour_word: 148 -> 0",
        "feature_torn: 10 -> 0",
        "colour_background: 2 -> 0",
    ):
        assert line in lines
    new = contents(done.out)
    assert {name: new[name] for name in new if name.endswith(".png")} == {
        name: old[name] for name in old if name.endswith(".png")
    }
    assert sum(tokens(text) > 225 for text in before.captions.values()) == 25
    assert done.over_limit == ()
    for stem, text in after.captions.items():
        named = [n for n, tag in enumerate(captions.parse(text)) if "background" in tag.kinds]
        assert not named or named[0] < 3, stem
        assert "lips" in text


def test_repairing_the_repaired_real_ones_changes_no_byte(
    real_pictures: Path, tmp_path: Path
) -> None:
    once = repaired(real_pictures, tmp_path / "once")
    twice = repaired(once.out, tmp_path / "twice", once.promise)
    assert contents(twice.out) == contents(once.out)
    assert not twice.totals
    assert twice.promise == once.promise
