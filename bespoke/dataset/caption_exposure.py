"""What the model sees of the captions: tokens against the window, tags kept, shuffled and cut.

The rules of the trainer's `process_caption` (train_util.py:821 at v0.10.1) and the tokenizer's
silent cut at max_token_length (strategy_base.py:230); a test holds the shares to the trainer's own
draws. Options of captions that no experiment here uses are named, and nothing is computed under
them.
"""

from __future__ import annotations

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
    "caption_separator", "caption_prefix", "caption_suffix", "secondary_separator",
    "enable_wildcard", "token_warmup_step", "keep_tokens_separator", "caption_tag_dropout_rate",
    "caption_dropout_every_n_epochs",
)  # fmt: skip
"""Dataset options under which no share is computed, but where they are off."""
OFF = (None, "", ",", 0)


@dataclass(kw_only=True)
class Exposure:
    """What the model sees of a collection's captions under one experiment's options.

    `tokens` are each caption's, with its stem; `blank` is the share of samples without a caption;
    `kept` the kept tags, none where nothing moves. Of the kind of tags that is the `subject`, by
    each caption's first: its `places`, counted from 0; how many stay in place, `held`; the `share`
    of samples that show it to its end, None where no caption has it or an option is `unknown`.
    """

    limit: int
    subject: str
    unknown: tuple[str, ...] = ()
    tokens: list[tuple[str, int]] = field(default_factory=list)
    kept: dict[tuple[str, ...], None] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)
    held: int = 0
    share: float | None = None
    blank: float = 0.0


def look(
    experiment: Experiment, captions: Mapping[str, Mapping[str, str]], subject: str
) -> Exposure:
    """See every caption, and the tags of one kind, `subject`, as the trainer will.

    `captions` holds each one's text by stem, by the subset's image_dir as the experiment writes it.
    """
    limit = int(experiment.option("max_token_length") or WINDOW)
    subsets = {name: each for name, each in experiment.by_folder().items() if captions.get(name)}
    used = {key for each in subsets.values() for key in NOT_COMPUTED if each[key] not in OFF}
    unknown = tuple(key for key in NOT_COMPUTED if key in used)
    seen = Exposure(limit=limit, subject=subject, unknown=unknown)
    # Samples, then those whose caption has the subject; what is blank or shown of them.
    samples, blanks, named, shown = 0, 0.0, 0, 0.0
    for name, options in subsets.items():
        repeats, dropped = int(options["num_repeats"]), float(options["caption_dropout_rate"])
        for stem, text in captions[name].items():
            chance = _see(seen, options, stem, text)
            samples, blanks = samples + repeats, blanks + repeats * dropped
            if chance is not None and not unknown:
                named, shown = named + repeats, shown + repeats * (1 - dropped) * chance
    seen.blank = blanks / max(samples, 1)
    seen.share = shown / named if named else None
    return seen


def _see(seen: Exposure, options: Mapping[str, Any], stem: str, text: str) -> float | None:
    """Add one caption to what is seen; the chance that it shows the subject, None without one."""
    shuffled, keep = bool(options["shuffle_caption"]), max(0, int(options["keep_tokens"]))
    parsed = caption_text.parse(text)
    seen.tokens.append((stem, tokens(caption_text.first_line(text))))
    if shuffled:
        seen.kept[tuple(tag.text for tag in parsed[:keep])] = None
    place = next((n for n, tag in enumerate(parsed) if seen.subject in tag.kinds), None)
    if place is None:
        return None
    seen.places.append(place)
    seen.held += shuffled and place < keep
    return _chance(parsed, place, keep if shuffled else len(parsed), seen.limit)


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
    if len(costs) > 200:  # more than a window holds: by the tokens alone
        return min(1.0, room / sum(costs))
    # chances[k, s]: k of the tags looked at so far, drawn at random, cost s in all.
    number = np.arange(len(costs) + 1)[:, None]
    chances = np.zeros((len(costs) + 1, room + 1))
    chances[0, 0] = 1
    for count, cost in enumerate(costs, start=1):
        without = chances * (count - number) / count
        if cost <= room:
            without[1:, cost:] += (chances * (number + 1) / count)[:-1, : room + 1 - cost]
        chances = without
    return float(chances.sum() / (len(costs) + 1))
