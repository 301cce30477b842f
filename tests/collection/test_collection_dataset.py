"""What is known of the artist's 203, and what the checks and the repair say of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bespoke.dataset import loading, preflight
from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.dataset.repair import Rules, repair
from bespoke.experiment import caption_text, config
from bespoke.experiment.caption_text import tokens
from bespoke.experiment.experiment import DatasetSpec

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.dataset.folder import Collection
    from bespoke.findings import Finding

FACTS = DatasetSpec(pictures=203, size=512, cells=24, hex_codes_min=12, names=("lips",))


@pytest.fixture(scope="module")
def real(real_pictures: Path) -> Collection:
    return loading.check(real_pictures, FACTS, shuffled=True)


def of(collection: Collection, code: str) -> list[Finding]:
    return [finding for finding in collection.findings if finding.code == code]


def background_of(text: str) -> caption_text.Feature | None:
    whole = caption_text.features(text)
    return next((f for f in whole if "background" in f.kinds and f.codes), None)


def test_there_are_203_pairs_and_no_errors(real: Collection) -> None:
    assert [each for each in real.findings if each.severity == "error"] == []
    assert len(real.pairs) == len(real.pictures) == len(real.captions) == 203
    assert max(picture.cells_off or 0.0 for picture in real.pictures.values()) < 0.00015


def test_of_the_pictures_five_are_near_copies_and_nothing_else_is_found(real: Collection) -> None:
    pictures = {f.file: f for f in real.findings if f.code.startswith("picture_")}
    assert {f.code for f in pictures.values()} == {"picture_near_copy"}
    assert len(pictures) == 5
    assert pictures["lad_023_x-3.png"].measured["cells_unlike"] == 7


def test_every_tag_but_ten_has_a_class(real: Collection) -> None:
    tags = [tag for text in real.captions.values() for tag in caption_text.parse(text)]
    classes = Counter(tag.kind for tag in tags)
    assert (len(tags), classes["other"]) == (5_298, 10)
    assert (classes["subject"], classes["style"], classes["expression"]) == (609, 609, 203)
    # The five that follow each "palette:" at most, and the tail that no feature owns.
    assert (classes["palette"], classes["loose"]) == (908, 1_518)


def test_167_captions_give_the_background_s_hex_to_another_feature(real: Collection) -> None:
    shared = of(real, "colour_shared_background")
    assert len(shared) == len({found.file for found in shared}) == 167
    assert sum("lips" in str(found.measured["features"]) for found in shared) == 80


def test_197_captions_give_the_background_a_hex_and_195_agree_with_the_border(
    real: Collection,
) -> None:
    given = {stem: background_of(text) for stem, text in real.captions.items()}
    # One more has three codes in parentheses, which its commas tear; its first agrees too.
    assert [stem for stem, f in given.items() if f and f.parts > 1] == ["lady_001_hazelnut"]
    assert sum(f is not None and f.parts == 1 for f in given.values()) == 197
    wrong = {found.file: found.measured["border"] for found in of(real, "colour_background")}
    assert wrong == {"lady_035_turmeric.txt": "#ffc5b3", "lady_043_orange.txt": "#950058"}


def test_all_but_one_of_3655_hex_codes_occur_in_their_picture(real: Collection) -> None:
    assert sum(len(caption_text.HEX.findall(text)) for text in real.captions.values()) == 3_655
    absent = [(found.file, found.measured["hex"]) for found in of(real, "colour_absent")]
    assert absent == [("lad_091_amit.txt", "#000000")]


def test_148_backgrounds_are_a_single_colour(real: Collection) -> None:
    grids = [PixelGrid(cells=art) for art in real.arts.values()]
    assert sum(max(g.border.values()) / sum(g.border.values()) >= 0.8 for g in grids) == 148


def test_what_is_said_of_words(real: Collection) -> None:
    assert len(of(real, "background_unnamed")) == 87
    glued = " ".join(found.tag for found in of(real, "caption_word_glued"))
    for word in ("blacklips", "withlips", "baldwearing", "greybackground", "darkred"):
        assert word in glued
    assert len(of(real, "caption_word_glued")) < 35
    assert "dark dark" in {found.tag for found in of(real, "caption_repeated")}
    far = of(real, "colour_word")
    assert len(far) > 100
    assert [found for found in far if caption_text.kinds_of(found.tag)[0] == "background"] == []


@pytest.fixture(scope="module")
def report(repository: Path, real_pictures: Path) -> preflight.Preflight:
    experiment, parent = (
        config.load(name, repository=repository)
        for name in ("keep_tokens_3", "final_corrected_captions")
    )
    return preflight.examine(experiment, {"training_data": real_pictures}, parent=parent)


def test_keep_tokens_3_cannot_test_its_hypothesis(report: preflight.Preflight) -> None:
    lines = report.report()
    assert lines[1] == "Can it test its hypothesis? NO."
    verdict = "\n".join(lines[:6])
    for words in (
        "keep_tokens_3 cannot test its hypothesis",
        "without any colour; the background is tag 4 to 13 and never kept",
        "changes 2 things from final_corrected_captions, so you cannot know which one worked",
        "caption_dropout_rate 0.0 -> 0.05; keep_tokens 1 -> 3",
        "The model sees the background tag in 94.2% of samples (99.2% in final_corrected_captions)",
        "5.0% of samples train with an empty caption",
    ):
        assert words in verdict
    assert report.counts["caption_cut"] == 25
    assert len(lines) < 32
    assert len(report.report(examples=None)) > 900


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_repairing_cures_the_captions_once_and_leaves_the_old_ones(
    real: Collection, real_pictures: Path, tmp_path: Path
) -> None:
    old = contents(real_pictures)
    rules = Rules(names=("lips",))
    mended = repair(real, tmp_path / "new", rules)
    after = loading.check(tmp_path / "new", DatasetSpec(cells=24, names=("lips",)), shuffled=True)
    assert contents(real_pictures) == old
    assert [each for each in after.findings if each.severity == "error"] == []
    left = Counter(finding.code for finding in after.findings)
    for code in (
        "colour_loose", "palette_torn", "colour_shared_background", "colour_only_background",
        "colour_word", "feature_torn", "colour_background", "colour_absent",
    ):  # fmt: skip
        assert left[code] == 0, code
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
    repair(after, tmp_path / "again", rules)
    assert contents(tmp_path / "again") == new


def test_check_says_it_on_the_command_line(repository: Path, real_pictures: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", "check", "--data", str(real_pictures)],
        cwd=repository, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bespoke captions repair --experiment keep_tokens_3 --data" in done.stdout
