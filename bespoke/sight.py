"""What the trainer sees of a collection's captions: what is kept, shuffled, blanked and cut off.

By the rules in `caption_rules` and the tokenizer's silent cut at max_token_length
(strategy_base.py:230 at v0.10.1). A test holds the shares to the trainer's own draws.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.caption_rules import Rules, arrangements, has_colour, kinds
from bespoke.captions import tokens
from bespoke.settings import effective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.caption_rules import Arrangement
    from bespoke.config import Experiment

WINDOW = 75
"""Tokens of a caption that the text encoder reads at a time (strategy_base.py:245)."""

DRAWS = 400
"""Orders drawn of a caption that can lose tags at its end."""

# Orders drawn of all captions together: those that always fit tell only the windows' shares.
_DRAWS_IN_ALL = 24_000
_FEWEST_DRAWS = 8


@dataclass(frozen=True, kw_only=True)
class CaptionSight:
    """One caption's CLIP tokens in its written order, and how many of them exceed the limit."""

    subset: str
    stem: str
    tokens: int
    overflow: int


@dataclass(frozen=True, kw_only=True)
class ClassSight:
    """One class of tags over all training samples whose caption names it.

    `share_whole`: all its tags reach the text encoder uncut; `error` is the standard error of the
    drawing, 0 where it is computed. `windows`: of its tags, the share that reaches it whole, by
    the 75-token window it begins in, with a drawing error of 0.4% of the samples at most.
    `kept`: the share of captions in which all are kept in place. `positions`: the lowest and the
    highest place of its first tag in a caption, counted from 0.
    """

    captions: int
    share_whole: float
    error: float
    windows: tuple[float, ...]
    kept: float
    positions: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the trainer sees of a collection's captions under one experiment's options.

    `blank` is the share of samples with no caption at all. `kept` counts the captions by their
    kept tags, and is empty where nothing moves. `view` is equal for two experiments exactly when
    the trainer draws its captions from the same texts in the same way.
    """

    limit: int
    blank: float
    classes: Mapping[str, ClassSight]
    captions: tuple[CaptionSight, ...]
    kept: Mapping[tuple[str, ...], int]
    kept_colours: tuple[str, ...]
    view: str

    @property
    def over_limit(self) -> int:
        return sum(caption.overflow > 0 for caption in self.captions)


def look(
    experiment: Experiment,
    captions: Mapping[str, Mapping[str, str]],
    *,
    epochs: int,
    steps: int,
    seed: int = 0,
) -> Sight:
    """See every caption as the trainer will over `epochs` epochs of `steps` steps in all.

    `captions` holds, by the subset's image_dir as the experiment writes it, each caption's text by
    stem; a subset that is not there is left out. A class of several tags is whole in a sample when
    all of them are; a tag that secondary_separator holds together is one. Shares are computed where
    a formula exists, else drawn from `seed`. weighted_captions is not looked at.

    Raises:
        ConfigError: where caption_separator is empty, on which the trainer stops.
    """
    import numpy as np

    limit = int(experiment.option("max_token_length") or WINDOW)
    subsets = [Rules.of(merged) for merged in effective(experiment)]
    subsets = [rules for rules in subsets if captions.get(rules.image_dir)]
    count = sum(len(captions[rules.image_dir]) for rules in subsets)
    draws = min(DRAWS, max(_FEWEST_DRAWS, _DRAWS_IN_ALL // max(count, 1)))
    lens = _Lens(limit=limit, steps=steps, draws=draws, rng=np.random.default_rng(seed))
    tallies: dict[str, _Tally] = {}
    seen: list[CaptionSight] = []
    kept: Counter[tuple[str, ...]] = Counter()
    digest = hashlib.blake2b(str(limit).encode(), digest_size=16)
    blanks: Counter[float] = Counter()
    for rules in subsets:
        blank = rules.blank(epochs)
        digest.update(repr((blank, rules.caption_tag_dropout_rate, rules.warming(steps))).encode())
        for stem, text in captions[rules.image_dir].items():
            made = arrangements(text, rules)
            size = max(tokens(each.text) for each in made)
            over = max(0, size - limit)
            seen.append(CaptionSight(subset=rules.image_dir, stem=stem, tokens=size, overflow=over))
            blanks[blank] += rules.num_repeats
            if rules.rearranges:
                kept[made[0].fixed] += 1
            for kind, part in lens.classes(made, rules).items():
                tallies.setdefault(kind, _Tally()).add(part, rules.num_repeats, 1 - blank)
            digest.update(repr((stem, [_way(each, rules, steps) for each in made])).encode())
    return Sight(
        limit=limit,
        blank=sum(blank * n for blank, n in blanks.items()) / max(sum(blanks.values()), 1),
        classes={kind: tally.result() for kind, tally in sorted(tallies.items())},
        captions=tuple(seen),
        kept=kept,
        kept_colours=tuple(sorted({tag for tags in kept for tag in tags if has_colour(tag)})),
        view=digest.hexdigest(),
    )


def _way(each: Arrangement, rules: Rules, steps: int) -> tuple[object, ...]:
    """What tells two ways of seeing a caption apart: keep_tokens alone does not where all stays."""
    stays = not rules.caption_tag_dropout_rate and not rules.warming(steps)[0]
    if stays and (not rules.shuffle_caption or len(each.loose) < 2):
        return (each.share, each.text)
    return (each.share, each.fixed, rules.shuffle_caption, each.loose, each.closing)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One class in one caption: its chance to be whole, the variance of that, and the rest."""

    whole: float
    variance: float
    windows: NDArray[np.float64]
    kept: bool
    first: int


@dataclass(frozen=True, kw_only=True)
class _Lens:
    """What does not change from caption to caption while orders are drawn."""

    limit: int
    steps: int
    draws: int
    rng: np.random.Generator

    def classes(self, made: Sequence[Arrangement], rules: Rules) -> dict[str, _Part]:
        """Each class that a caption names, over its variants."""
        parts: dict[str, list[tuple[float, _Part]]] = {}
        for each in made:
            for kind, part in self._variant(each, rules).items():
                parts.setdefault(kind, []).append((each.share, part))
        return {kind: _joined(variants) for kind, variants in parts.items()}

    def _variant(self, each: Arrangement, rules: Rules) -> dict[str, _Part]:
        import numpy as np

        followed, own = _costs(each, rules.caption_separator)
        spare = self.limit - int(followed.sum()) + int((followed - own).min(initial=0))
        warm = rules.warming(self.steps)
        still = not (warm[0] or rules.shuffle_caption or rules.caption_tag_dropout_rate)
        draws = 1 if still else self.draws if spare >= 0 else DRAWS
        begin, present = self._drawn(each, rules, followed, draws)
        whole = present & (begin + own <= self.limit)
        window = begin // WINDOW
        windows = range(-(-self.limit // WINDOW))
        reached = np.stack([(whole & (window == each)).mean(axis=0) for each in windows])
        first, last = len(each.fixed), len(each.fixed) + len(each.loose)
        parts = {}
        for kind, columns in _columns(kinds(each.tags)).items():
            loose = sum(first <= column < last for column in columns)
            if spare >= 0 and not warm[0]:
                share, variance = (1 - rules.caption_tag_dropout_rate) ** loose, 0.0
            else:
                share = float(whole[:, columns].all(axis=1).mean())
                variance = 0.0 if still else share * (1 - share) / draws
            parts[kind] = _Part(
                whole=share, variance=variance, windows=reached[:, columns].mean(axis=1),
                kept=rules.rearranges and loose == 0, first=columns[0],
            )  # fmt: skip
        return parts

    def _drawn(
        self, each: Arrangement, rules: Rules, followed: NDArray[np.int32], draws: int
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Where each tag begins, in tokens, and whether it is there: shapes (draws, tags)."""
        import numpy as np

        first, count = len(each.fixed), len(each.loose)
        middle = slice(first, first + count)
        present = np.ones((draws, len(followed)), dtype=bool)
        until, fewest = rules.warming(self.steps)
        if until:
            # Steps in equal distances over the run, for warm-up is a thing of its first part.
            step = (np.arange(draws) + 0.5) * self.steps / draws
            seen = np.floor(np.floor(step) * (count - fewest) / until) + fewest
            present[:, middle] = np.arange(count) < np.where(step < until, seen, count)[:, None]
        if rules.caption_tag_dropout_rate:
            rate = rules.caption_tag_dropout_rate
            present[:, middle] &= self.rng.random((draws, count)) >= rate
        order = np.broadcast_to(np.arange(count), (draws, count))
        if rules.shuffle_caption:
            order = self.rng.permuted(order, axis=1)
        cost = followed * present
        loose = np.take_along_axis(cost[:, middle], order, axis=1)
        begin = np.cumsum(cost, axis=1) - cost
        moved = begin[:, first : first + 1] + np.cumsum(loose, axis=1) - loose if count else loose
        np.put_along_axis(begin[:, middle], order, moved, axis=1)
        return begin, present


def _columns(kinds: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """The places of each kind; a tag about two things counts for both."""
    columns: dict[str, list[int]] = {}
    for place, about in enumerate(kinds):
        for kind in about:
            columns.setdefault(kind, []).append(place)
    return columns


def _costs(each: Arrangement, separator: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Each tag's tokens with what stands between it and the next one, and its own.

    CLIP splits words at white space, so costs add up over ", " (tests hold it). A comma joins the
    signs before it in one token, as in "#c06148),": then the tag alone costs as much as with it.
    """
    import numpy as np

    if each.text == ", ".join(each.tags):
        followed = np.array([tokens(tag + ",") for tag in each.tags], dtype=np.int32)
        own = np.array([tokens(tag) for tag in each.tags], dtype=np.int32)
        return followed, np.minimum(followed, own)
    lengths = (len(tag) + len(separator) for tag in each.text.split(separator))
    ends = list(itertools.accumulate(lengths))
    upto = np.array([0] + [tokens(each.text[:end]) for end in ends], dtype=np.int32)
    bare = [tokens(each.text[: end - len(separator)]) for end in ends]
    followed = np.diff(upto)
    return followed, np.minimum(followed, np.array(bare, dtype=np.int32) - upto[:-1])


def _joined(variants: Sequence[tuple[float, _Part]]) -> _Part:
    return _Part(
        whole=sum(share * part.whole for share, part in variants),
        variance=sum(share**2 * part.variance for share, part in variants),
        windows=sum(share * part.windows for share, part in variants),  # type: ignore[arg-type]
        kept=all(part.kept for _, part in variants),
        first=min(part.first for _, part in variants),
    )


@dataclass(kw_only=True)
class _Tally:
    """The running sums behind one ClassSight; weights are samples an epoch."""

    captions: int = 0
    weight: float = 0.0
    whole: float = 0.0
    variance: float = 0.0
    windows: Any = 0.0
    kept: int = 0
    first: int | None = None
    last: int = 0

    def add(self, part: _Part, weight: float, shown: float) -> None:
        self.captions += 1
        self.weight += weight
        self.whole += weight * shown * part.whole
        self.variance += (weight * shown) ** 2 * part.variance
        self.windows = self.windows + weight * shown * part.windows
        self.kept += part.kept
        self.first = part.first if self.first is None else min(self.first, part.first)
        self.last = max(self.last, part.first)

    def result(self) -> ClassSight:
        return ClassSight(
            captions=self.captions,
            share_whole=self.whole / self.weight,
            error=math.sqrt(self.variance) / self.weight,
            windows=tuple(float(share) for share in self.windows / self.weight),
            kept=self.kept / self.captions,
            positions=(self.first or 0, self.last),
        )
