"""The test prompts agree with themselves, and a mistake in them is named before any picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bespoke.errors import ConfigError
from bespoke.experiment import caption_text, prompts

if TYPE_CHECKING:
    from pathlib import Path

OWN = (
    "pixel art, 24x24, portrait of bespoke punk lady, pink hair (#ff66cc), crown, hoop earrings, "
    "eyes (#663300), lips (#cc6666), neutral expression, skin (#f0c090), "
    "solid green background (#00ff00)"
)


def written(folder: Path, text: str) -> Path:
    path = folder / "p.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        prompts.load(written(folder, text))
    return str(caught.value)


def test_the_collections_own_test_comes_first_and_word_for_word(repository: Path) -> None:
    first = prompts.load(repository / prompts.PROMPTS_FILE)[0]
    assert first.text == OWN
    assert first.negative == (
        "blurry, smooth, gradients, antialiased, photography, realistic, 3d render, full body, "
        "character sprite"
    )
    assert (first.seeds, first.steps, first.scale, first.size) == ((42,), 30, 7.5, 512)


def test_every_other_prompt_changes_one_tag_of_the_first(repository: Path) -> None:
    first, *others = prompts.load(repository / prompts.PROMPTS_FILE)
    assert len(others) >= 6
    changed = []
    for other in others:
        pairs = zip(caption_text.tags(first.text), caption_text.tags(other.text), strict=True)
        (pair,) = [pair for pair in pairs if pair[0] != pair[1]]
        changed.append(caption_text.kinds_of(pair[0])[0])
        same = {"name": first.name, "text": first.text, "seeds": first.seeds}
        assert replace(other, **same) == first
    assert set(changed) == {"background", "hair", "subject"}


def test_a_prompt_takes_defaults_and_says_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, '[defaults]\nsteps = 5\n[prompts.a]\ntext = "x"\nseeds = [1, 2]\n')
    (only,) = prompts.load(path)
    assert (only.steps, only.seeds, only.scale, only.size) == (5, (1, 2), 7.5, 512)
    (smaller,) = prompts.resized([only], size=64)
    assert (smaller.size, smaller.steps) == (64, 5)
    with pytest.raises(ConfigError, match="command line: size: should be a multiple of 8, not 65"):
        prompts.resized([only], size=65)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sede = [1]", "sede: unknown key: did you mean 'seeds'?"),
        ("size = 100", "size: should be a multiple of 8, not 100"),
        ("seeds = []", "seeds: should have at least 1 item, not []"),
        ("seeds = [-1]", "seeds.1: should be at least 0, not -1"),
        ('negative = "a --d 5"', "negative: should be one line without ' --'"),
        *(
            (f'negative = "{evil}"', "negative: should be one line without")
            for evil in ("\\\\(a", "a AND b")
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_prompt(tmp_path: Path, line: str, told: str) -> None:
    said = refusal(tmp_path, f'[prompts.one]\ntext = "red hair (#ff0000)"\n{line}\n')
    assert said.startswith("p.toml: prompts.one")
    assert told in said


def test_every_problem_of_a_file_is_said_together(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[prompts.a_42]\ntext = "x"\n[prompts."../b"]\ntext = "y"\n')
    assert said.count("small letters, digits and '-' alone") == 2
    said = refusal(tmp_path, "[promts]\n[defaults]\nsize = 60\n")
    assert "promts: unknown key: did you mean 'prompts'?" in said
    assert "defaults.size: should be a multiple of 8, not 60" in said
    assert "prompts: is missing" in said


def test_a_prompt_of_225_tokens_is_read_whole_and_of_226_is_refused(tmp_path: Path) -> None:
    prompts.load(written(tmp_path, f'[prompts.a]\ntext = "{"a " * 225}"\n'))
    assert "is 226 tokens long" in refusal(tmp_path, f'[prompts.a]\ntext = "{"a " * 226}"\n')
