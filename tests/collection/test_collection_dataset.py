"""What is known of the artist's 203, and what the checks and the repair say of them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bespoke.dataset import preflight
from bespoke.dataset.images import PixelGrid
from bespoke.dataset.repair import repair
from bespoke.experiment import caption_text, config
from bespoke.experiment.caption_text import tokens
from bespoke.experiment.experiment import DatasetSpec

if TYPE_CHECKING:
    from bespoke.dataset.loading import Collection


FACTS = DatasetSpec(pictures=203, size=512, cells=24, hex_codes_min=12, names=("lips",))


@pytest.fixture(scope="module")
def real(real_pictures: Path) -> Collection:
    return preflight.check_folder(real_pictures, FACTS)


def messages(collection: Collection, code: str) -> dict[str, str]:
    """By file the messages of one code, in a line."""
    by_file: dict[str, str] = {}
    for each in collection.findings:
        if each.code == code:
            by_file[each.file] = f"{by_file.get(each.file, '')} {each.message}".strip()
    return by_file


def background_of(text: str) -> caption_text.Feature | None:
    whole = caption_text.features(text)
    return next((f for f in whole if "background" in f.kinds and f.codes), None)


def test_there_are_203_pairs_and_no_errors(real: Collection) -> None:
    assert [each for each in real.findings if each.severity == "error"] == []
    assert len(real.pairs) == len(real.pictures) == len(real.captions) == 203
    assert max(picture.cells_off or 0.0 for picture in real.pictures.values()) < 0.00015


def test_what_is_said_of_them_in_counts(real: Collection) -> None:
    assert Counter(each.code for each in real.findings) == {
        "background_unnamed": 85,
        "hex_codes_unclear": 203,
        "colour_background": 2,
        "caption_word_glued": 58,
        "caption_repeated": 21,
        "picture_near_copy": 5,
    }
    assert "only in 7 of 576 cells" in messages(real, "picture_near_copy")["lad_023_x-3.png"]


def test_every_tag_but_ten_has_a_class(real: Collection) -> None:
    tags = [tag for text in real.captions.values() for tag in caption_text.parse(text)]
    classes = Counter(tag.kind for tag in tags)
    assert (len(tags), classes["other"]) == (5_298, 10)
    assert (classes["subject"], classes["style"], classes["expression"]) == (609, 609, 203)
    # The five that follow each "palette:" at most, and the tail that no feature owns.
    assert (classes["palette"], classes["loose"]) == (908, 1_518)


@pytest.mark.parametrize(
    ("fault", "captions"),
    [(r"background (and \w+ )*share #", 164), (" share #", 202), ("only behind the figure", 118),
     ("says .*, and #", 106), ("belong to no feature", 203), ("commas in its parentheses", 8)],
)  # fmt: skip
def test_what_is_wrong_with_hex_codes(real: Collection, fault: str, captions: int) -> None:
    unclear = messages(real, "hex_codes_unclear").values()
    assert sum(bool(re.search(fault, text)) for text in unclear) == captions


def test_all_but_one_of_3655_hex_codes_occur_in_their_picture(real: Collection) -> None:
    colours = {Path(name).stem: PixelGrid(cells=art).colours for name, art in real.arts.items()}
    codes = [
        (s, code) for s, text in real.captions.items() for code in caption_text.HEX.findall(text)
    ]
    assert len(codes) == 3_655
    assert [(s, code) for s, code in codes if code not in colours[s]] == [
        ("lad_091_amit", "#000000")
    ]


def test_197_captions_give_the_background_a_hex_and_195_agree_with_the_border(
    real: Collection,
) -> None:
    given = {stem: background_of(text) for stem, text in real.captions.items()}
    # One more has three codes in parentheses, which its commas tear; its first agrees too.
    assert [stem for stem, f in given.items() if f and f.parts > 1] == ["lady_001_hazelnut"]
    assert sum(f is not None and f.parts == 1 for f in given.values()) == 197
    wrong = {file: text[-7:] for file, text in messages(real, "colour_background").items()}
    assert wrong == {"lady_035_turmeric.txt": "#ffc5b3", "lady_043_orange.txt": "#950058"}


def test_148_backgrounds_are_a_single_colour(real: Collection) -> None:
    grids = [PixelGrid(cells=art) for art in real.arts.values()]
    assert sum(max(g.border.values()) / sum(g.border.values()) >= 0.8 for g in grids) == 148


def test_words_run_together_and_said_twice_are_named_and_no_others(real: Collection) -> None:
    glued = messages(real, "caption_word_glued")
    assert len(glued) == 49
    said = {word for text in glued.values() for word in re.findall(r"'(\w+)' seems", text)}
    assert said == set(GLUED.split())
    twice = set(messages(real, "caption_repeated").values())
    assert {"repeats 'dark dark'", "repeats 'skin tone skin tone'"} <= twice


GLUED = """balddeep baldwearing beardwearing blacklips blackpurple blueclong bluegreen bluewearing
brownishblack brownred bucklewearing cappwearing collaredshirt darkred dimensionbright eyesduo
faceseafoam fullbbright glassespurple greenalmost greenblue greenhazel greybackground greyswearing
greywearing hairlight hairmustche itwearing kideyes lenseseyes lightbrown logowearing middlewearing
pallips patternwearing pinklavender pinkpurple purplblue purpleyes reddpink reflectionlips
straighteyes underwhite withlips yeeswearing"""


@pytest.fixture(scope="module")
def report(repository: Path, real_pictures: Path) -> preflight.Preflight:
    experiment = config.load("keep_tokens_3", repository=repository)
    return preflight.check(experiment, data=[str(real_pictures)], roots=[])


def test_keep_tokens_3_cannot_test_its_hypothesis(report: preflight.Preflight) -> None:
    lines = report.report()
    assert lines[1] == "Can it test its hypothesis? NO."
    verdict = "\n".join(lines[:6])
    for words in (
        "keep_tokens_3 cannot test its hypothesis",
        "; the background is tag 4 to 13 and never kept",
        "changes 2 things from final_corrected_captions, so you cannot know which one worked",
        "caption_dropout_rate 0.0 -> 0.05; keep_tokens 1 -> 3",
        "The model sees the background tag in 94.2% of samples (99.2% in final_corrected_captions)",
        "5.0% of samples train with an empty caption",
    ):
        assert words in verdict
    assert report.counts["caption_cut"] == 25
    assert lines[0] == "keep_tokens_3 can start: 0 errors, 396 warnings, 5 notes"
    assert len(lines) == 22
    assert len(report.report(whole=True)) > 400


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_repairing_cures_the_captions_once_and_leaves_the_old_ones(
    real: Collection, real_pictures: Path, tmp_path: Path
) -> None:
    old = contents(real_pictures)
    mended = repair(real, tmp_path / "new", keep_tokens=3, limit=225)
    after = preflight.check_folder(tmp_path / "new", DatasetSpec(cells=24, names=("lips",)))
    assert contents(real_pictures) == old
    assert [each for each in after.findings if each.severity == "error"] == []
    assert messages(after, "colour_background") == {}
    # What is left of hex codes: two features of the figure that share one.
    left = messages(after, "hex_codes_unclear")
    assert len(left) == 153
    assert all(
        re.fullmatch(
            r"((eyes|lips|skin|clothing|hair|beard|accessory)( and )?)+ share #\w{6}", fault
        )
        for text in left.values()
        for fault in text.partition(": ")[2].split("; ")
    )
    new = contents(tmp_path / "new")
    assert {name: new[name] for name in new if name.endswith(".png")} == {
        name: old[name] for name in old if name.endswith(".png")
    }
    assert sum(tokens(text) > 225 for text in real.captions.values()) == 25
    for stem, line in mended.items():
        named = [n for n, tag in enumerate(caption_text.parse(line)) if "background" in tag.kinds]
        assert not named or named[0] < 3, stem
        assert "lips" in line
        assert tokens(line) <= 225
    repair(after, tmp_path / "again", keep_tokens=3, limit=225)
    assert contents(tmp_path / "again") == new


def test_check_says_it_on_the_command_line(repository: Path, real_pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", "check", "--data", str(real_pictures)],
        cwd=repository, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bespoke captions repair --experiment keep_tokens_3 --data" in done.stdout
