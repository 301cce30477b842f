"""What the model sees of the captions: tokens against the window, tags kept, shuffled and cut.

The rules of the trainer's `process_caption` (train_util.py:821 at v0.10.1) and the tokenizer's
silent cut at max_token_length (strategy_base.py:230); a test holds the shares to the trainer's own
draws. Options of captions that no experiment here uses are named, and nothing is computed under
them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bespoke.errors import ConfigError
from bespoke.experiment import caption_text as caption_text
from bespoke.experiment.caption_text import tokens
from bespoke.experiment.effective_options import effective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bespoke.experiment.caption_text import Tag
    from bespoke.experiment.config import Experiment

WINDOW = 75
"""max_token_length where none is written: the tokens that the text encoder reads at a time."""

NOT_COMPUTED = (
    "caption_prefix", "caption_suffix", "secondary_separator", "enable_wildcard",
    "token_warmup_step", "keep_tokens_separator", "caption_tag_dropout_rate",
    "caption_dropout_every_n_epochs",
)  # fmt: skip
"""Dataset options, each off by default, under which no share is computed."""

# Above so many tags, which no window holds, the chance of one is taken from the tokens alone.
_MANY_TAGS = 200


@dataclass(frozen=True, kw_only=True)
class CaptionExposure:
    """One caption's CLIP tokens in its written order, and how many of them exceed the limit."""

    subset: str
    stem: str
    tokens: int
    overflow: int


@dataclass(kw_only=True)
class ClassExposure:
    """One class of tags over all captions that name it, by each one's first tag of the class.

    `share` of the training samples hold that tag, uncut; the tag is `kept` in place in so many
    captions; `positions` are the lowest and the highest place of it, counted from 0.
    """

    captions: int = 0
    kept: int = 0
    positions: tuple[int, int] = (0, 0)
    _samples: float = 0.0
    _shown: float = 0.0

    @property
    def share(self) -> float:
        return self._shown / self._samples

    def add(self, place: int, *, kept: bool, samples: int, chance: float) -> None:
        low, high = self.positions if self.captions else (place, place)
        self.positions = (min(low, place), max(high, place))
        self.captions += 1
        self.kept += kept
        self._samples += samples
        self._shown += samples * chance


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What the model sees of a collection's captions under one experiment's options.

    `blank` is the share of samples with no caption at all. `kept` counts the captions by their
    kept tags, and is empty where nothing moves. `fingerprint` is equal for two experiments exactly
    when the trainer draws its captions from the same texts in the same way. `unknown` names the
    options under which no classes are computed.
    """

    limit: int
    blank: float
    captions: tuple[CaptionExposure, ...]
    fingerprint: str
    unknown: tuple[str, ...] = ()
    classes: Mapping[str, ClassExposure] = field(default_factory=dict)
    kept: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    @property
    def kept_colours(self) -> list[str]:
        """The kept tags that name a colour, by a hex code or in words."""
        return sorted({tag for tags in self.kept for tag in tags if _has_colour(tag)})


def look(experiment: Experiment, captions: Mapping[str, Mapping[str, str]]) -> Exposure:
    """See every caption as the trainer will.

    `captions` holds, by the subset's image_dir as the experiment writes it, each caption's text by
    stem; a subset that is not there is left out. weighted_captions is not looked at.

    Raises:
        ConfigError: where caption_separator is empty, on which the trainer stops.
    """
    limit = int(experiment.option("max_token_length") or WINDOW)
    subsets = [each for each in effective(experiment) if captions.get(str(each["image_dir"]))]
    unknown = tuple(dict.fromkeys(name for each in subsets for name in _unknown(each)))
    classes: dict[str, ClassExposure] = {}
    kept: Counter[tuple[str, ...]] = Counter()
    seen: list[CaptionExposure] = []
    digest = hashlib.blake2b(str(limit).encode(), digest_size=16)
    samples = blank = 0.0
    for options in subsets:
        name, repeats = str(options["image_dir"]), int(options["num_repeats"])
        shuffled, keep = bool(options["shuffle_caption"]), max(0, int(options["keep_tokens"]))
        dropped = float(options["caption_dropout_rate"])
        # What is not computed is taken to make a difference wherever it differs.
        digest.update(repr((dropped, [(key, options[key]) for key in _unknown(options)])).encode())
        for stem, text in captions[name].items():
            parsed = caption_text.parse(text)
            first, rest = [tag.text for tag in parsed[:keep]], [tag.text for tag in parsed[keep:]]
            moves = shuffled and len(rest) > 1
            digest.update(repr((stem, first, rest) if moves else (stem, first + rest)).encode())
            size = tokens(caption_text.first_line(text))
            over = max(0, size - limit)
            seen.append(CaptionExposure(subset=name, stem=stem, tokens=size, overflow=over))
            samples, blank = samples + repeats, blank + repeats * dropped
            if unknown:
                continue
            if shuffled:
                kept[tuple(first)] += 1
            for kind, (place, chance) in _chances(parsed, keep, shuffled, limit).items():
                classes.setdefault(kind, ClassExposure()).add(
                    place, kept=shuffled and place < keep, samples=repeats,
                    chance=chance * (1 - dropped),
                )  # fmt: skip
    return Exposure(
        limit=limit,
        blank=blank / max(samples, 1),
        captions=tuple(seen),
        fingerprint=digest.hexdigest(),
        unknown=unknown,
        classes=dict(sorted(classes.items())),
        kept=kept,
    )


def _unknown(options: Mapping[str, Any]) -> list[str]:
    if not options["caption_separator"]:
        where = f"subset {options['image_dir']}: caption_separator"
        raise ConfigError(f'{where}: is empty, and the trainer would stop on it: write ","')
    other = ["caption_separator"] if options["caption_separator"] != "," else []
    return other + [key for key in NOT_COMPUTED if options[key]]


def _has_colour(tag: str) -> bool:
    from bespoke.dataset.colors import named_in  # numpy

    return caption_text.HEX.search(tag) is not None or bool(named_in(tag))


def _chances(
    parsed: Sequence[Tag], keep: int, shuffled: bool, limit: int
) -> dict[str, tuple[int, float]]:
    """The first place of each class, and the chance that the tag there is read to its end.

    Costs add up over ", " (a test holds it). A comma joins the signs before it in one token, as in
    "#c06148),": then the tag alone costs as much as with it.
    """
    places: dict[str, int] = {}
    for place, tag in enumerate(parsed):
        for kind in tag.kinds:
            places.setdefault(kind, place)
    costs = [tokens(f"{tag.text},") for tag in parsed]
    if sum(costs) <= limit:
        return {kind: (place, 1.0) for kind, place in places.items()}
    chances = {}
    for kind, place in places.items():
        own = min(costs[place], tokens(parsed[place].text))
        if shuffled and place >= keep:
            others = costs[keep:place] + costs[place + 1 :]
            chance = _fits(others, limit - sum(costs[:keep]) - own)
        else:
            chance = float(sum(costs[:place]) + own <= limit)
        chances[kind] = (place, chance)
    return chances


def _fits(costs: Sequence[int], room: int) -> float:
    """The chance that what a shuffle puts before a tag costs no more than `room`.

    `costs` are those of the other shuffled tags: how many of them come first is any number with
    equal chance, and any choice of so many is as likely as another.
    """
    import numpy as np

    if room < 0:
        return 0.0
    if len(costs) > _MANY_TAGS:
        return min(1.0, room / sum(costs))
    if 2 * room >= sum(costs):
        # What comes after it is drawn alike, and the smaller table tells the same.
        return 1 - _fits(costs, sum(costs) - room - 1)
    most = min(len(costs), room // min(costs, default=1))
    number = np.arange(most + 1)[:, None]
    # chances[k, s]: k of the tags looked at so far, drawn at random, cost s in all.
    chances = np.zeros((most + 1, room + 1))
    chances[0, 0] = 1
    for count, cost in enumerate(costs, start=1):
        without = chances * (count - number) / count
        if cost <= room:
            without[1:, cost:] += (chances * (number + 1) / count)[:-1, : room + 1 - cost]
        chances = without
    return float(chances.sum() / (len(costs) + 1))
