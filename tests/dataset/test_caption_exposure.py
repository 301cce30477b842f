"""What the model sees of captions: counted by hand, and held to the trainer's own draws."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.dataset import caption_exposure
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import tokens
from bespoke.trainer.base_model import TOKENIZER, write_tokenizer
from tests.experiments import an_experiment

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = ", ".join(f"thing number {n}" for n in range(9))
SHORT = "pixel art, red background (#ff0000), blue hair (#0000ff), lips (#00ff00)"


def look(
    *texts: str, subject: str = "background", limit: int = 225, **dataset: object
) -> caption_exposure.Exposure:
    """What is seen of one subset `all` with these dataset options."""
    made = an_experiment({"max_token_length": limit}, dataset)
    captions = {f"c{n}": text for n, text in enumerate(texts)}
    return caption_exposure.look(made, {"all": captions}, subject)


def test_under_options_that_are_not_computed_no_share_is_given_and_they_are_named() -> None:
    seen = look(SHORT, caption_tag_dropout_rate=0.1, caption_separator=";")
    assert seen.unknown == ("caption_separator", "caption_tag_dropout_rate")
    assert seen.share is None


WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(WORDS.map(lambda word: word.replace(",", "")), min_size=1, max_size=6))
def test_the_tokens_of_tags_add_up_to_those_of_the_caption(words: list[str]) -> None:
    tags = [word.strip() for word in words]
    parts = sum(tokens(f"{tag},") for tag in tags[:-1]) + tokens(tags[-1])
    assert parts == tokens(", ".join(tags))


@given(st.lists(st.integers(1, 9), max_size=5), st.integers(-1, 40))
def test_the_chance_to_fit_is_that_of_all_orders_tried(costs: list[int], room: int) -> None:
    orders = list(itertools.permutations([*costs, 0]))
    fitting = sum(sum(order[: order.index(0)]) <= room for order in orders)
    assert caption_exposure._fits(costs, room) == pytest.approx(fitting / len(orders))


def test_without_a_shuffle_the_end_of_a_long_caption_never_arrives() -> None:
    text = f"{LONG}, lips (#00ff00), {LONG}, {LONG}, red background"
    seen = look(text, limit=75)
    assert seen.share == 0.0
    assert look(text, subject="lips", limit=75).share == 1.0
    assert seen.tokens == [("c0", tokens(text))]


@pytest.mark.parametrize("tag", ["lips", "lips (#00ff00)"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_tag_is_seen_up_to_the_last_token_of_the_limit(tag: str, shuffle: bool) -> None:
    """Its comma may fall off: "lips" and "," are two tokens, and ")," is one."""
    options = {"subject": "lips", "limit": 75, "shuffle_caption": shuffle, "keep_tokens": 2}
    filling = 75 - tokens(tag)
    fits = look(f"{'a ' * (filling - 1)}, {tag}, end", **options)  # type: ignore[arg-type]
    cut = look(f"{'a ' * filling}, {tag}, end", **options)  # type: ignore[arg-type]
    assert (fits.share, cut.share) == (1.0, 0.0)


def test_a_shuffle_takes_from_every_tag_but_the_kept_ones() -> None:
    text = f"pixel art, {LONG}, {LONG}, {LONG}, red background"
    options = {"limit": 75, "shuffle_caption": True, "keep_tokens": 1}
    moved = look(text, **options)  # type: ignore[arg-type]
    kept = look(text, subject="subject", **options)  # type: ignore[arg-type]
    assert 0.5 < (moved.share or 0) < 0.95
    assert kept.share == 1.0
    assert (kept.held, moved.held) == (1, 0)
    assert list(kept.kept) == [("pixel art",)]


def test_a_caption_that_fits_is_seen_but_for_its_blanking_by_its_first_tags() -> None:
    texts = (SHORT, f"a, b, c, {SHORT}, red background")
    seen = look(*texts, shuffle_caption=True, caption_dropout_rate=0.05)
    assert seen.share == pytest.approx(0.95)
    assert seen.blank == pytest.approx(0.05)
    assert seen.places == [1, 4]


def test_repeats_weigh_and_a_subset_without_captions_is_left_out() -> None:
    blank = {"image_dir": "b", "caption_dropout_rate": 1.0}
    made = an_experiment({}, {}, {"image_dir": "a", "num_repeats": 3}, blank, {"image_dir": "c"})
    seen = caption_exposure.look(made, {"a": {"x": SHORT}, "b": {"y": SHORT}}, "hair")
    assert seen.share == pytest.approx(0.75)
    assert len(seen.tokens) == 2


# Against the trainer: each draw is one call of its process_caption and of its tokenizer.
LIVE = """
import random
from types import SimpleNamespace
from library import train_util
from library.strategy_sd import SdTokenizeStrategy

random.seed(0)
strategy = SdTokenizeStrategy(False, asked["limit"], asked["tokenizer"])

def cost(text):
    return len(strategy.tokenizer(text).input_ids) - 2

def shares(case, text, tags):
    subset = SimpleNamespace(**asked["defaults"], **case)
    hits = dict.fromkeys(tags, 0)
    for number in range(asked["draws"]):
        dataset = SimpleNamespace(
            current_epoch=1, current_step=0, max_train_steps=100, replacements={},
        )
        caption = train_util.BaseDataset.process_caption(dataset, subset, text)
        for kind, tag in tags.items():
            place = caption.find(tag)
            if place >= 0 and cost(caption[: place + len(tag)]) <= asked["limit"]:
                hits[kind] += 1
    return {kind: count / asked["draws"] for kind, count in hits.items()}

answer = [[shares(case, *caption) for caption in asked["captions"]] for case in asked["cases"]]
"""

# No tag is part of another one, so that a draw's tags can be found in its text.
THINGS = ", ".join(f"thing {letter}{letter}" for letter in "abcdefghijklmnop")
CAPTIONS = (
    f"pixel art, 24x24, dark hair (#c06148), {THINGS}, lips (#d06148), don't stop, eyes (#000000, "
    "#ffffff), checkered brick background (#e06148), grey shirt (#0a0b0c), palette: #f06148, "
    "#b27f60, sharp pixel edges, #a76857, #434b4e",
    SHORT,
)
CASES: tuple[dict[str, Any], ...] = (
    {"shuffle_caption": True, "keep_tokens": 0, "caption_dropout_rate": 0.0},
    {"shuffle_caption": True, "keep_tokens": 3, "caption_dropout_rate": 0.2},
)
DRAWS = 600


@pytest.mark.trainer
def test_each_share_is_what_the_trainer_draws(
    ask_trainer: Callable[[str, Any], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("live")
    write_tokenizer(folder / TOKENIZER)
    first_tags = []
    for text in CAPTIONS:
        parsed = caption_text.parse(text)
        first = {kind: tag.text for tag in reversed(parsed) for kind in tag.kinds}
        first_tags.append((text, first))
    off = dict.fromkeys(caption_exposure.NOT_COMPUTED) | {
        "caption_separator": ",", "token_warmup_min": 1, "token_warmup_step": 0,
        "caption_tag_dropout_rate": 0.0, "caption_dropout_every_n_epochs": 0,
        "enable_wildcard": False,
    }  # fmt: skip
    asked = {
        "tokenizer": str(folder), "limit": 75, "draws": DRAWS, "defaults": off,
        "captions": first_tags, "cases": CASES,
    }  # fmt: skip
    for case, drawn_of_case in zip(CASES, ask_trainer(LIVE, asked), strict=True):
        for text, drawn in zip(CAPTIONS, drawn_of_case, strict=True):
            for kind, of_trainer in drawn.items():
                spread = math.sqrt(of_trainer * (1 - of_trainer) / DRAWS)
                within = pytest.approx(of_trainer, abs=4 * spread + 2 / DRAWS)
                seen = look(text, subject=kind, limit=75, **case)
                assert seen.share == within, (case, kind, text)
