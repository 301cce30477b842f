"""A new caption version: what it cures, what it leaves alone, and that it does so once."""

from __future__ import annotations

import itertools
import shlex
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bespoke import cli
from bespoke.dataset import preflight
from bespoke.dataset import repair as repair_module
from bespoke.dataset.images import PixelGrid
from bespoke.dataset.repair import mend, repair
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import tokens
from bespoke.experiment.experiment import DatasetSpec
from tests.experiments import BLUE, BROWN, GREEN, RED, SKIN, portrait

if TYPE_CHECKING:
    from pathlib import Path

CLEAN = (
    f"pixel art, 24x24, green background ({GREEN}), portrait of punk, brown hair ({BROWN}), "
    f"red lips ({RED}), light skin ({SKIN}), blue shirt ({BLUE}), retro pixel art style"
)
FACTS = DatasetSpec(cells=24, names=("lips",))


def mended(text: str, top: str = GREEN, **rules: object) -> str:
    return mend(text, PixelGrid(cells=portrait(top)), **{"keep_tokens": 3, "limit": 225, **rules})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        CLEAN,
        CLEAN.replace(", ", ","),
        CLEAN.replace(f"red lips ({RED})", "lips").replace(GREEN, f"{GREEN} {RED}"),  # a pattern
        *(f"{CLEAN}, {tag}" for tag in (f"lips ({SKIN})", f"wild hair ({BROWN})")),
        *(f"{CLEAN}, {tag}" for tag in (f"tan shirt ({SKIN})", f"shirt ({BLUE.upper()})")),
    ],
)
def test_what_is_right_stays_to_the_letter(text: str) -> None:
    assert mended(text) == text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (f"{CLEAN}, palette: {GREEN}, {BLUE}, sharp edges, {RED}", f"{CLEAN}, sharp edges"),
        (CLEAN.replace(f"({BROWN})", f"({BROWN}, {GREEN})"), CLEAN),
        (CLEAN.replace(GREEN, RED), CLEAN.replace(f" ({GREEN})", "")),
        (CLEAN.replace(f"({BROWN})", f"(as {GREEN} {BROWN})"), CLEAN.replace("(#6", "(as #6")),
        (f"{CLEAN}, wild hair ({GREEN})", f"{CLEAN}, wild hair"),  # the background's
        (f"{CLEAN}, wild hair (#abcdef)", f"{CLEAN}, wild hair"),  # not in the picture
        (f"{CLEAN}, red lips ({BLUE})", f"{CLEAN}, red lips"),  # far from its word
        (f"{CLEAN}, round eyes ({SKIN})", f"{CLEAN}, round eyes"),
        (f"{CLEAN}, plain clothing ({SKIN})", f"{CLEAN}, plain clothing"),
    ],
)
def test_a_hex_that_cannot_be_the_features_goes_and_its_words_stay(wrong: str, right: str) -> None:
    assert mended(wrong) == right


def test_either_half_of_the_ground_is_right_for_the_background_and_for_nothing_else() -> None:
    top, smaller = "#00e0b0", CLEAN.replace(GREEN, "#00e0b0")
    assert (mended(CLEAN, top), mended(smaller, top)) == (CLEAN, smaller)
    assert mended(f"{CLEAN}, wild hair ({top})", top) == f"{CLEAN}, wild hair"


def test_without_a_picture_no_hex_of_a_feature_is_judged() -> None:
    wrong = CLEAN.replace(GREEN, "#c0ffee")
    assert mend(f"{wrong}, {RED}", None, keep_tokens=3, limit=225) == wrong


ORDERED = f"pixel art, 24x24, portrait of punk, a, blue shirt ({BLUE}), background ({GREEN}), b"


@pytest.mark.parametrize(
    ("keep_tokens", "place"), [(0, 5), (1, 0), (2, 1), (3, 2), (4, 3), (5, 3), (6, 5)]
)
def test_the_background_moves_among_the_kept_tags_behind_the_subject(
    keep_tokens: int, place: int
) -> None:
    tags = caption_text.tags(mended(ORDERED, keep_tokens=keep_tokens))
    assert tags.index(f"background ({GREEN})") == place
    assert [tag for tag in tags if "background" not in tag] == [
        tag for tag in caption_text.tags(ORDERED) if "background" not in tag
    ]


def test_of_two_background_tags_the_one_with_the_borders_colour_moves() -> None:
    doubled = f"a, b, c, pink background and eyes ({BLUE}), pink background and eyes ({GREEN})"
    assert caption_text.tags(mended(doubled))[0] == f"pink background and eyes ({GREEN})"


LONG = f"pixel art, lips, hard color borders, a smile, silver hat, a cow, red shirt, lips, {BLUE} x"


def test_a_caption_that_is_too_long_loses_whole_tags_by_the_stated_order() -> None:
    left = [Counter(caption_text.tags(mended(LONG, limit=n))) for n in range(tokens(LONG), 0, -1)]
    gone = [tag for before, after in itertools.pairwise(left) for tag in before - after]
    assert gone == ["lips", "hard color borders", "a smile", "a cow", "silver hat", "red shirt"]
    assert set(left[-1]) == {"pixel art", "lips", f"{BLUE} x"}
    assert "a cow" in caption_text.tags(mended(LONG, limit=1, names=("Cow",)))


TAGS = st.one_of(
    st.sampled_from(
        [
            *caption_text.tags(CLEAN), *caption_text.tags(ORDERED), GREEN, f"({RED}", f"{SKIN})",
            "",
            f"palette: {BLUE}", "palette: reds", f"hair ({GREEN}", f"wild hair ({SKIN} {GREEN})",
            f"{GREEN} background", f"lips ({GREEN})", "background", f"eyes ({SKIN})", "()", "24x24",
            f"blue coat with white background (#abcdef {RED})", f"red eyes ({BLUE}) (({BROWN}",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(
    tags=st.lists(TAGS, max_size=14),
    top=st.sampled_from([GREEN, "#00e0b0", SKIN]),
    keep_tokens=st.integers(0, 5),
    limit=st.integers(1, 120),
)
def test_mending_what_is_mended_changes_nothing(
    tags: list[str], top: str, keep_tokens: int, limit: int
) -> None:
    rules = {"keep_tokens": keep_tokens, "limit": limit, "names": ("lips",)}
    text = caption_text.first_line(", ".join(tags))
    once = mended(text, top, **rules)
    assert mended(once, top, **rules) == once
    assert {*caption_text.HEX.findall(once)} <= {*caption_text.HEX.findall(text)}


# --- Folders ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "old"
    made.mkdir()
    for stem in ("a", "b"):
        picture = Image.fromarray(portrait()).resize((512, 512), Image.Resampling.NEAREST)
        picture.save(made / f"{stem}.png", compress_level=1)
        (made / f"{stem}.txt").write_text(CLEAN)
    return made


def repaired(folder: Path, out: Path) -> dict[str, str]:
    return repair(preflight.check_folder(folder, FACTS), out, keep_tokens=3, limit=225)


def test_what_stands_around_the_first_line_stays_and_only_pairs_are_written(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a.txt").write_bytes(f"  {CLEAN}, {RED} \r\n{RED}\r\n".encode())
    (folder / "notes.md").write_text("in no pair")
    assert repaired(folder, tmp_path / "new") == {"a": CLEAN, "b": CLEAN}
    new = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert new["a.txt"] == f"  {CLEAN} \r\n{RED}\r\n".encode()
    assert sorted(new) == ["a.png", "a.txt", "b.png", "b.txt"]
    assert new["a.png"] == (folder / "a.png").read_bytes()


def test_nothing_that_is_there_is_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for taken in (folder, folder / ".." / "old", tmp_path / "mine", tmp_path / ("n" * 300)):
        with pytest.raises(ConfigError, match="cannot be written"):
            repaired(folder, taken)
    assert (tmp_path / "mine").read_text() == "x"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_caption_that_cannot_be_read_and_a_folder_without_pairs_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=r"nothing to repair: b\.txt cannot be read"):
        repaired(folder, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="nothing to repair"):
        repaired(tmp_path / "empty", tmp_path / "new")


# --- The verb ---


@pytest.fixture
def experiments(project: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those of a copy of the project, as the verb writes one of its own."""
    shutil.copy(repository / "test_prompts.toml", project)
    for module in (preflight, repair_module):
        monkeypatch.setattr(module, "REPOSITORY", project)
    return project / "experiments"


def test_the_next_command_that_it_names_passes(
    experiments: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old captions"
    shutil.copytree(drawn, old)
    for caption in old.glob("*.txt"):
        text = caption.read_text().strip()
        code = caption_text.HEX.findall(text)[0]
        caption.write_text(f"{text}, wild clothing ({code}), {code}, {code}")
    cli.main(["captions", "repair", "--data", str(old), "--out", str(tmp_path / "new")])
    out = capsys.readouterr().out
    assert "hex_codes_unclear: 203 -> 0" in out
    assert "203 pictures, 203 captions mended" in out
    command = shlex.split(out.rstrip().rpartition("\n")[2])
    assert command[:4] == ["python", "-m", "bespoke", "check"]
    cli.main(command[3:])
    assert "Can it test its hypothesis? Yes." in capsys.readouterr().out


def test_what_it_cannot_do_is_said_in_a_line_before_anything_is_written(
    experiments: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(out: str) -> str:
        before = {path.name: path.read_bytes() for path in experiments.iterdir()}
        with pytest.raises(SystemExit) as end:
            cli.main(["captions", "repair", "--data", str(drawn), "--out", str(tmp_path / out)])
        assert end.value.code == 2
        assert not (tmp_path / "new").exists()
        assert {path.name: path.read_bytes() for path in experiments.iterdir()} == before
        return capsys.readouterr().err

    assert "cannot be written" in refused("n" * 5000)
    (experiments / "keep_tokens_3_repaired.toml").write_text("mine")
    assert "keep_tokens_3_repaired.toml: is there already" in refused("new")
