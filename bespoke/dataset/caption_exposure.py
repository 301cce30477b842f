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

from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bespoke.experiment.caption_text import Feature
    from bespoke.experiment.experiment import Experiment

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


@dataclass(kw_only=True)
class Exposure:
    """What the model sees of a collection's captions under one experiment's options.

    `tokens` are the captions' by subset and stem, `blanks` the `samples` with no caption at all,
    `kept` the captions by their kept tags, empty where nothing moves. `unknown` names the options
    under which the subject's share is not computed. Two of one `fingerprint` draw the same captions
    in the same way.
    """

    limit: int
    subject: SubjectExposure
    tokens: dict[tuple[str, str], int] = field(default_factory=dict)
    samples: int = 0
    blanks: float = 0.0
    kept: Counter[tuple[str, ...]] = field(default_factory=Counter)
    unknown: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def blank(self) -> float:
        return self.blanks / max(self.samples, 1)


@dataclass(kw_only=True)
class SubjectExposure:
    """One kind of tags over all captions, by each one's first tag of the kind.

    `places` are those of the tags, counted from 0; so many are `kept` in place, and `shown` of
    `samples` show one to its end.
    """

    kind: str
    places: list[int] = field(default_factory=list)
    kept: int = 0
    samples: int = 0
    shown: float = 0.0

    @property
    def share(self) -> float | None:
        """The share of training samples that show the tag; None where no caption has it."""
        return self.shown / self.samples if self.samples else None


def look(
    experiment: Experiment, captions: Mapping[str, Mapping[str, str]], subject: str
) -> Exposure:
    """See every caption, and the tags of one kind, `subject`, as the trainer will.

    `captions` holds, by the subset's image_dir as the experiment writes it, each caption's text by
    stem; a subset that is not there is left out. weighted_captions is not looked at.
    """
    limit = int(experiment.option("max_token_length") or WINDOW)
    seen = Exposure(limit=limit, subject=SubjectExposure(kind=subject))
    subsets = [each for each in experiment.subset_options() if captions.get(str(each["image_dir"]))]
    seen.unknown = tuple(dict.fromkeys(name for each in subsets for name in _unknown(each)))
    digest = hashlib.blake2b(str(limit).encode(), digest_size=16)
    for options in subsets:
        # What is not computed is taken to make a difference wherever it differs.
        rest = [(key, options[key]) for key in ("caption_dropout_rate", *_unknown(options))]
        digest.update(repr(rest).encode())
        for stem, text in captions[str(options["image_dir"])].items():
            digest.update(repr((stem, _see(seen, options, stem, text))).encode())
    seen.fingerprint = digest.hexdigest()
    return seen


def _see(seen: Exposure, options: Mapping[str, Any], stem: str, text: str) -> object:
    """Add one caption to what is seen; the tags in place, then those that are shuffled."""
    shuffled, keep = bool(options["shuffle_caption"]), max(0, int(options["keep_tokens"]))
    repeats, dropped = int(options["num_repeats"]), float(options["caption_dropout_rate"])
    parsed = caption_text.parse(text)
    first, rest = (tuple(tag.text for tag in part) for part in (parsed[:keep], parsed[keep:]))
    seen.tokens[str(options["image_dir"]), stem] = tokens(caption_text.first_line(text))
    seen.samples += repeats
    seen.blanks += repeats * dropped
    if shuffled:
        seen.kept[first] += 1
    subject = seen.subject
    place = next((n for n, tag in enumerate(parsed) if subject.kind in tag.kinds), None)
    if place is not None and not seen.unknown:
        subject.places.append(place)
        subject.kept += shuffled and place < keep
        subject.samples += repeats
        chance = _chance(parsed, place, keep if shuffled else len(parsed), seen.limit)
        subject.shown += repeats * (1 - dropped) * chance
    return (first, rest) if shuffled and len(rest) > 1 else first + rest


def _unknown(options: Mapping[str, Any]) -> list[str]:
    other = ["caption_separator"] if options["caption_separator"] != "," else []
    return other + [key for key in NOT_COMPUTED if options[key]]


def _chance(parsed: Sequence[Feature], place: int, keep: int, limit: int) -> float:
    """The chance that the tag at `place` is read to its end, where those from `keep` on move.

    Costs add up over ", " (a test holds it). A comma joins the signs before it in one token, as in
    "#c06148),": then the tag alone costs as much as with it.
    """
    costs = [tokens(f"{tag.text},") for tag in parsed]
    own = min(costs[place], tokens(parsed[place].text))
    if sum(costs) <= limit:
        return 1.0
    if place < keep:
        return float(sum(costs[:place]) + own <= limit)
    return _fits(costs[keep:place] + costs[place + 1 :], limit - sum(costs[:keep]) - own)


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
    # chances[k, s]: k of the tags looked at so far, drawn at random, cost s in all.
    most = min(len(costs), room // min(costs, default=1))
    number = np.arange(most + 1)[:, None]
    chances = np.zeros((most + 1, room + 1))
    chances[0, 0] = 1
    for count, cost in enumerate(costs, start=1):
        without = chances * (count - number) / count
        if cost <= room:
            without[1:, cost:] += (chances * (number + 1) / count)[:-1, : room + 1 - cost]
        chances = without
    return float(chances.sum() / (len(costs) + 1))
