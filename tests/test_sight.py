"""What the trainer sees of captions: counted by hand, and held to the trainer's own draws."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke import caption_rules, sight
from bespoke.caption_rules import Rules, arrangements
from bespoke.captions import tokens
from bespoke.config import Experiment
from bespoke.errors import ConfigError
from bespoke.random_model import TOKENIZER, write_tokenizer
from bespoke.settings import Block, Setting, effective

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = ", ".join(f"thing number {n}" for n in range(9))
SHORT = "pixel art, red background (#ff0000), blue hair (#0000ff), lips (#00ff00)"


def put(**values: object) -> dict[str, Setting]:
    return {key: Setting(value=value, origin="a test") for key, value in values.items()}


def experiment(limit: int = 225, **dataset: object) -> Experiment:
    """An experiment of one subset `all` with these dataset options."""
    return Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=put(max_token_length=limit),
        general=put(**dataset),
        blocks=(Block(settings={}, subsets=(put(image_dir="all"),)),),
    )


def look(*captions: str, limit: int = 225, epochs: int = 10, **dataset: object) -> sight.Sight:
    named = {f"c{number}": text for number, text in enumerate(captions)}
    return sight.look(experiment(limit, **dataset), {"all": named}, epochs=epochs, steps=100)


def whole(seen: sight.Sight, kind: str) -> float:
    return seen.classes[kind].share_whole


# The options that hold


def test_a_subsets_key_wins_over_its_datasets_over_general_over_the_training_file() -> None:
    made = Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        training=put(keep_tokens=1, caption_suffix="end", train_batch_size=4),
        general=put(keep_tokens=2, caption_prefix="start", caption_dropout_rate=0.5),
        blocks=(
            Block(
                settings=put(keep_tokens=3, caption_dropout_rate=0.0),
                subsets=(put(image_dir="a", keep_tokens=4), put(image_dir="b")),
            ),
        ),
    )
    one, two = effective(made)
    assert (one["keep_tokens"], two["keep_tokens"]) == (4, 3)
    assert two["caption_dropout_rate"] == 0.0
    assert (two["caption_prefix"], two["caption_suffix"]) == ("start", "end")
    assert (two["batch_size"], two["caption_separator"]) == (4, ",")


def test_an_empty_separator_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="all: caption_separator: is empty"):
        look(SHORT, caption_separator="")


# One caption


def test_kept_tags_are_the_first_ones_and_the_rest_shuffles() -> None:
    (made,) = arrangements(SHORT, Rules(shuffle_caption=True, keep_tokens=2))
    assert (len(made.fixed), len(made.loose), made.closing) == (2, 2, ())
    kinds = [about[0] for about in caption_rules.kinds(made.tags)]
    assert kinds == ["subject", "background", "hair", "lips"]
    assert tokens(made.fixed[0]) == 2


def test_keep_tokens_keeps_nothing_where_nothing_moves() -> None:
    (made,) = arrangements("a,b,  c\nd", Rules(keep_tokens=2))
    assert (made.fixed, made.written) == (("a", "b", "c"), "a,b,  c")


def test_the_separator_divides_into_kept_loose_and_closing_tags_and_drops_empty_ones() -> None:
    rules = Rules(shuffle_caption=True, keep_tokens=9, keep_tokens_separator="|||")
    (made,) = arrangements("a, , b ||| c, d ||| e ||| f", rules)
    assert (made.fixed, made.loose, made.closing) == (("a", "b"), ("c", "d"), ("e ||| f",))
    (without,) = arrangements("a, , b", Rules(shuffle_caption=True, keep_tokens=1))
    assert (without.fixed, without.loose) == (("a",), ("", "b"))


def test_prefix_and_suffix_join_the_outermost_tags() -> None:
    rules = Rules(shuffle_caption=True, keep_tokens=1, caption_prefix="x", caption_suffix="y")
    (made,) = arrangements("a, b", rules)
    assert made.tags == ("x a", "b y")


def test_a_secondary_separator_holds_tags_together() -> None:
    (made,) = arrangements("a;;b, c", Rules(shuffle_caption=True, secondary_separator=";;"))
    assert made.loose == ("a,b", "c")


def test_wildcards_make_variants_with_their_chances() -> None:
    made = arrangements("a {x|y}, {{b}}\n\nc", Rules(enable_wildcard=True))
    assert {each.text: each.share for each in made} == {
        "a x, {b}": 0.25,
        "a y, {b}": 0.25,
        "c": 0.5,
    }
    assert [each.text for each in arrangements("a {x|y}\nc", Rules())] == ["a {x|y}"]


WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(WORDS.map(lambda word: word.replace(",", "")), min_size=1, max_size=6))
def test_the_tokens_of_tags_add_up_to_those_of_the_caption(words: list[str]) -> None:
    tags = [word.strip() for word in words]
    parts = sum(tokens(f"{tag},") for tag in tags[:-1]) + tokens(tags[-1])
    assert parts == tokens(", ".join(tags))


@settings(max_examples=60)
@given(st.text(max_size=80), st.booleans(), st.booleans(), st.integers(0, 4))
def test_any_caption_is_seen_and_no_tag_is_lost(
    text: str, shuffle: bool, wildcard: bool, keep: int
) -> None:
    rules = Rules(shuffle_caption=shuffle, enable_wildcard=wildcard, keep_tokens=keep)
    for made in arrangements(text, rules):
        assert len(made.tags) == len(made.text.split(","))
    seen = look(text, shuffle_caption=shuffle, enable_wildcard=wildcard, keep_tokens=keep)
    assert all(0 <= each.share_whole <= 1 for each in seen.classes.values())


# All captions


def test_without_a_shuffle_the_end_of_a_long_caption_never_arrives() -> None:
    text = f"{LONG}, lips (#00ff00), {LONG}, {LONG}, red background"
    seen = look(text, limit=75)
    assert (whole(seen, "lips"), whole(seen, "background")) == (1.0, 0.0)
    assert seen.classes["lips"].error == 0.0
    (caption,) = seen.captions
    assert caption.overflow == caption.tokens - 75 == tokens(text) - 75 > 0


@pytest.mark.parametrize("tag", ["lips", "lips (#00ff00)"])
def test_a_tag_is_whole_up_to_the_last_token_of_the_limit(tag: str) -> None:
    """Its comma may fall off: "lips" and "," are two tokens, and ")," is one."""
    for shuffle in (False, True):
        filling = 75 - tokens(tag)
        fits = look(
            f"{'a ' * (filling - 1)}, {tag}, end", limit=75, shuffle_caption=shuffle, keep_tokens=2
        )
        cut = look(
            f"{'a ' * filling}, {tag}, end", limit=75, shuffle_caption=shuffle, keep_tokens=2
        )
        assert (whole(fits, "lips"), whole(cut, "lips")) == (1.0, 0.0)


def test_a_shuffle_takes_from_every_tag_but_the_kept_ones() -> None:
    text = f"pixel art, {LONG}, {LONG}, {LONG}, red background"
    seen = look(text, limit=75, shuffle_caption=True, keep_tokens=1)
    assert whole(seen, "subject") == 1.0
    assert 0.5 < whole(seen, "background") < 0.95
    assert 0.0 < seen.classes["background"].error < 0.05


def test_a_caption_that_always_fits_is_whole_but_for_its_blanking() -> None:
    seen = look(SHORT, shuffle_caption=True, caption_dropout_rate=0.05)
    assert whole(seen, "background") == pytest.approx(0.95)
    assert seen.blank == pytest.approx(0.05)
    assert seen.classes["background"].error == 0.0
    assert look(SHORT, caption_dropout_every_n_epochs=4).blank == pytest.approx(0.2)
    assert look(SHORT, caption_dropout_every_n_epochs=4, epochs=3).blank == 0.0


def test_tag_dropout_spares_the_kept_tags() -> None:
    seen = look(SHORT, caption_tag_dropout_rate=0.3, keep_tokens=2)
    assert whole(seen, "background") == 1.0
    assert whole(seen, "hair") == pytest.approx(0.7)


def test_token_warm_up_hides_the_later_tags_at_first() -> None:
    seen = look(SHORT, token_warmup_step=0.5, keep_tokens=1)
    first, last = whole(seen, "background"), whole(seen, "lips")
    assert first == 1.0
    assert last == pytest.approx(0.5, abs=0.02)
    assert look(SHORT, token_warmup_step=0.001).view == look(SHORT).view


def test_the_windows_and_what_is_lost_make_one() -> None:
    text = f"{LONG}, {LONG}, {LONG}, red background (#ff0000)"
    still = look(text, limit=150)
    assert still.classes["background"].windows == (0.0, 1.0)
    shuffled = look(text, limit=150, shuffle_caption=True).classes["background"]
    assert sum(shuffled.windows) == pytest.approx(shuffled.share_whole)
    assert all(share > 0.1 for share in shuffled.windows)


def test_repeats_weigh_and_a_subset_without_captions_is_left_out() -> None:
    made = Experiment(
        name="one",
        run_name="ONE",
        output_name="one",
        blocks=(
            Block(
                settings={},
                subsets=(
                    put(image_dir="a", num_repeats=3),
                    put(image_dir="b", caption_dropout_rate=1.0),
                    put(image_dir="c"),
                ),
            ),
        ),
    )
    seen = sight.look(made, {"a": {"x": SHORT}, "b": {"y": SHORT}}, epochs=1, steps=1)
    assert whole(seen, "hair") == pytest.approx(0.75)
    assert len(seen.captions) == 2


def test_the_view_changes_when_the_captions_drawn_do_and_only_then() -> None:
    still = look(SHORT).view
    assert look(SHORT, keep_tokens=3).view == still
    assert look(SHORT, shuffle_caption=True, keep_tokens=3).view == still
    assert look(SHORT, shuffle_caption=True, keep_tokens=2).view != still
    assert look(SHORT, caption_dropout_rate=0.1).view != still
    assert look(SHORT, limit=150).view != still


def test_the_real_captions_give_the_facts(real_pictures: Path) -> None:
    captions = {path.stem: path.read_text() for path in sorted(real_pictures.glob("*.txt"))}
    made = experiment(shuffle_caption=True, keep_tokens=3, caption_dropout_rate=0.05)
    seen = sight.look(made, {"all": captions}, epochs=10, steps=5080)
    counted = sorted(caption.tokens for caption in seen.captions)
    assert (counted[0], counted[101], counted[-1], seen.over_limit) == (165, 206, 261, 25)
    assert sorted(seen.kept.values()) == [98, 105]
    assert seen.kept_colours == ()
    background = seen.classes["background"]
    assert (background.captions, background.positions, background.kept) == (203, (3, 12), 0.0)
    assert background.share_whole == pytest.approx(0.942, abs=0.002)
    common = [each for each in seen.classes.values() if each.captions >= 100]
    assert all(each.error < 0.001 for each in common)


# Against the trainer

# Each draw is one call of process_caption and of the tokenizer. Tokens are counted word by word
# with the trainer's tokenizer, and each draw's count is held to what it makes of the whole.
LIVE = """
import functools, random
from types import SimpleNamespace
from library import train_util
from library.strategy_sd import SdTokenizeStrategy

random.seed(0)
strategy = SdTokenizeStrategy(False, asked["limit"], asked["tokenizer"])

@functools.cache
def cost(word):
    return len(strategy.tokenizer(word).input_ids) - 2

def count(text):
    return sum(map(cost, text.split()))

def holds(caption, tag):
    start = caption.find(tag)
    return start >= 0 and count(caption[: start + len(tag)]) <= asked["limit"]

def shares(case, text, kinds):
    subset = SimpleNamespace(**case["rules"])
    hits = dict.fromkeys(kinds, 0)
    for number in range(case["draws"]):
        dataset = SimpleNamespace(
            current_epoch=1 + number % asked["epochs"],
            current_step=number * asked["steps"] // case["draws"],
            max_train_steps=asked["steps"], replacements={},
        )
        caption = train_util.BaseDataset.process_caption(dataset, subset, text)
        ids = strategy.tokenize(caption)[0].flatten().tolist()
        assert sum(i < 49406 for i in ids) == min(count(caption), asked["limit"]), caption
        for kind, variants in kinds.items():
            hits[kind] += any(all(holds(caption, tag) for tag in tags) for tags in variants)
    return {kind: n / case["draws"] for kind, n in hits.items()}

answer = [[shares(c, *caption) for caption in c["captions"]] for c in asked["cases"]]
"""

# No tag is part of another one, so that a draw's tags can be found in its text.
THINGS = ", ".join(f"thing {letter}{letter}" for letter in "abcdefghijklmnop")
CAPTIONS = (
    f"pixel art, 24x24, dark hair (#c06148), {THINGS}, lips (#d06148), don't stop, eyes (#000000, "
    "#ffffff), checkered brick background (#e06148), grey shirt (#0a0b0c), palette: #f06148, "
    "#b27f60, sharp pixel edges, #a76857, #434b4e",
    SHORT,
)
# The dataset options of each case, and what its captions have in the place of what.
CASES: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "as it stands": ({}, ("", "")),
    "epochs blanked": ({"caption_dropout_every_n_epochs": 5}, ("", "")),
    "prefix and suffix": ({"caption_prefix": "first,", "caption_suffix": ", last"}, ("", "")),
    "other separators": ({"caption_separator": ";", "secondary_separator": ","}, (", l", ";l")),
    "shuffled": ({"shuffle_caption": True}, ("", "")),
    "kept and blanked": (
        {"shuffle_caption": True, "keep_tokens": 3, "caption_dropout_rate": 0.2},
        ("", ""),
    ),
    "tags dropped": ({"caption_tag_dropout_rate": 0.2, "keep_tokens": 4}, ("", "")),
    "warmed up": (
        {"token_warmup_step": 0.5, "token_warmup_min": 2, "shuffle_caption": True},
        ("", ""),
    ),
    "tags held together": (
        {"shuffle_caption": True, "secondary_separator": ";;"},
        (", palette", ";;palette"),
    ),
    "wildcards": (
        {"shuffle_caption": True, "enable_wildcard": True},
        ("dark hair", "{dark|fair, braided|long and red} hair"),
    ),
    "separator": (
        {"shuffle_caption": True, "keep_tokens_separator": "|||", "keep_tokens": 1},
        (", lips", " ||| lips"),
    ),
}
EXACT = ("as it stands", "epochs blanked", "prefix and suffix", "other separators")
DRAWS = 2000
SEEDS = 16


def case(name: str) -> tuple[Rules, list[str]]:
    rules, (old, new) = CASES[name]
    return Rules(**rules), [text.replace(old, new) if old else text for text in CAPTIONS]


def tags_by_kind(text: str, rules: Rules) -> dict[str, list[list[str]]]:
    """Of each kind the tags that belong to it, in each variant that has one."""
    found: dict[str, list[list[str]]] = {}
    for made in arrangements(text, rules):
        kinds: dict[str, list[str]] = {}
        for tag, about in zip(made.tags, caption_rules.kinds(made.tags), strict=True):
            for kind in about:
                kinds.setdefault(kind, []).append(tag)
        for kind, tags in kinds.items():
            found.setdefault(kind, []).append(tags)
    return found


@pytest.fixture(scope="module")
def live(
    ask_trainer: Callable[[str, Any], Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The real trainer's shares for each case and caption, asked once for the module."""
    folder = tmp_path_factory.mktemp("live")
    write_tokenizer(folder / TOKENIZER)
    cases = []
    for name in CASES:
        rules, texts = case(name)
        captions = [(text, tags_by_kind(text, rules)) for text in texts]
        draws = 20 if name in EXACT else DRAWS  # 20 see each of the 10 epochs alike
        cases.append({"rules": asdict(rules), "captions": captions, "draws": draws})
    asked = {
        "tokenizer": str(folder),
        "limit": 75,
        "steps": 100,
        "epochs": 10,
        "draws": DRAWS,
        "cases": cases,
    }
    return dict(zip(CASES, ask_trainer(LIVE, asked), strict=True))


def drawn_often(text: str, name: str) -> dict[str, tuple[float, float]]:
    """Each kind's share whole and its error, over enough seeds that the trainer's error leads."""
    shares: dict[str, list[sight.ClassSight]] = {}
    for seed in range(SEEDS):
        made = experiment(75, **CASES[name][0])
        seen = sight.look(made, {"all": {"c": text}}, epochs=10, steps=100, seed=seed)
        for kind, share in seen.classes.items():
            shares.setdefault(kind, []).append(share)
    return {
        kind: (
            sum(each.share_whole for each in all_) / SEEDS,
            math.sqrt(sum(each.error**2 for each in all_)) / SEEDS,
        )
        for kind, all_ in shares.items()
    }


@pytest.mark.trainer
@pytest.mark.parametrize("name", CASES)
def test_each_share_is_what_the_trainer_draws(live: dict[str, Any], name: str) -> None:
    for text, drawn in zip(case(name)[1], live[name], strict=True):
        ours = drawn_often(text, name)
        assert set(ours) == set(drawn)
        for kind, share in drawn.items():
            ours_share, error = ours[kind]
            spread = math.sqrt(share * (1 - share) / DRAWS + error**2)
            allowed = 1e-9 if name in EXACT else 4 * spread + 2 / DRAWS
            assert ours_share == pytest.approx(share, abs=allowed), (kind, text)
