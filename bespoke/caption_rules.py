"""How the trainer takes one caption apart, by the dataset options that it would use.

The rules of `process_caption` (train_util.py:821 at v0.10.1); tests hold the outcome to it.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bespoke import captions as caption_text
from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A caption of more wildcard variants than this is seen through so many drawn ones.
_VARIANTS = 64
_UNPARTED = {0: " ", 10: " ", 13: " "}
_WILDCARD = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A subset's caption options, under the trainer's names, once all levels are merged."""

    image_dir: str = ""
    num_repeats: int = 1
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str | None = None
    caption_separator: str = ","
    secondary_separator: str | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    enable_wildcard: bool = False
    caption_tag_dropout_rate: float = 0.0
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    token_warmup_min: int = 1
    token_warmup_step: float = 0

    @classmethod
    def of(cls, merged: Mapping[str, Any]) -> Rules:
        """From one entry of `effective`."""
        if not merged["caption_separator"]:
            where = f"subset {merged['image_dir']}: caption_separator"
            raise ConfigError(f'{where}: is empty, and the trainer would stop on it: write ","')
        return cls(**{each.name: merged[each.name] for each in fields(cls)})

    @property
    def rearranges(self) -> bool:
        """Whether tags are taken apart at all; only then does keep_tokens act (tu:867)."""
        loses = self.token_warmup_step > 0 or self.caption_tag_dropout_rate > 0
        return self.shuffle_caption or loses

    def warming(self, steps: int) -> tuple[int, int]:
        """Steps until every tag is seen, and how many are at first (tu:890); (0, 0) without.

        Below 1 the written value is a share of the run.
        """
        written = self.token_warmup_step
        until = math.floor(written * steps if written < 1 else written)
        return (until, self.token_warmup_min) if until > 0 else (0, 0)

    def blank(self, epochs: int) -> float:
        """The share of samples whose whole caption is blanked, kept tags too (tu:829).

        Epochs count from 1. The first batch that each data-loader worker makes in an epoch still
        holds the epoch before (train_util.py:6663), which is left out here.
        """
        every = self.caption_dropout_every_n_epochs
        by_epoch = (epochs // every) / epochs if every > 0 else 0.0
        return 1 - (1 - self.caption_dropout_rate) * (1 - by_epoch)


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """A caption's tags as the rules divide them, and how often this variant of it is drawn.

    `written` is the text where the trainer leaves it as it stands, and None where it joins the
    tags anew with ", ".
    """

    fixed: tuple[str, ...]
    loose: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    written: str | None = None
    share: float = 1.0

    @property
    def tags(self) -> tuple[str, ...]:
        return self.fixed + self.loose + self.closing

    @property
    def text(self) -> str:
        """The caption in its written order, as the tokenizer would get it."""
        return ", ".join(self.tags) if self.written is None else self.written


def arrangements(text: str, rules: Rules) -> tuple[Arrangement, ...]:
    """What `process_caption` can make of a caption that is not blanked, before any drawing.

    `text` is the caption file's whole text. Of more than 64 wildcard variants, 64 drawn ones.
    """
    return tuple(_arranged(variant, share, rules) for variant, share in _variants(text, rules))


def _variants(text: str, rules: Rules) -> list[tuple[str, float]]:
    """The texts that a caption can become, each with its chance (train_util.py:840).

    From the file as the trainer keeps it (:1958), with its prefix and suffix (:823).
    """
    if rules.enable_wildcard:
        kept = "\n".join(line.strip() for line in caption_text.lines(text) if line.strip())
    else:
        kept = caption_text.first_line(text)
    before = f"{rules.caption_prefix} " if rules.caption_prefix else ""
    after = f" {rules.caption_suffix}" if rules.caption_suffix else ""
    read = f"{before}{kept}{after}".split("\n")
    if not rules.enable_wildcard:
        return [(read[0], 1.0)]
    return [(plain, chance / len(read)) for line in read for plain, chance in _wildcards(line)]


def _wildcards(line: str) -> list[tuple[str, float]]:
    # Doubled braces are literal; private-use letters stand for them in the meantime.
    masked = line.replace("{{", "\ue000").replace("}}", "\ue001")
    pieces = _WILDCARD.split(masked)
    choices = [piece.split("|") if index % 2 else [piece] for index, piece in enumerate(pieces)]
    if math.prod(map(len, choices)) <= _VARIANTS:
        drawn = list(itertools.product(*choices))
    else:
        draw = random.Random(0)  # noqa: S311 - a sample, no secret
        drawn = [tuple(map(draw.choice, choices)) for _ in range(_VARIANTS)]
    texts = ("".join(each).replace("\ue000", "{").replace("\ue001", "}") for each in drawn)
    return [(text, 1 / len(drawn)) for text in texts]


def _arranged(text: str, share: float, rules: Rules) -> Arrangement:
    """One variant divided as train_util.py:867-909 divides it."""
    separator = rules.caption_separator
    if not rules.rearranges:
        if rules.secondary_separator:
            text = text.replace(rules.secondary_separator, separator)
        return Arrangement(fixed=_split(text, separator), written=text, share=share)
    keep = rules.keep_tokens_separator
    if keep and keep in text:
        fixed, *rest = text.split(keep, 2)
        # Between the separators empty tags are dropped; elsewhere they keep their place.
        parts = [tuple(filter(None, _split(part, separator))) for part in (fixed, *rest)]
    else:
        tags = _split(text.strip(), separator)
        count = max(rules.keep_tokens, 0)
        parts = [tags[:count], tags[count:]]
    if held := rules.secondary_separator:
        parts = [tuple(tag.replace(held, separator) for tag in part) for part in parts]
    fixed_tags, loose, closing = (*parts, ())[:3]
    return Arrangement(fixed=fixed_tags, loose=loose, closing=closing, share=share)


def _split(text: str, separator: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in text.split(separator))


def kinds(tags: Sequence[str]) -> list[tuple[str, ...]]:
    """What each tag of a caption is about, as `captions.parse` reads them side by side."""
    # NUL stands in no caption worth reading, and unlike other such signs `strip` leaves it.
    plain = [tag.translate(_UNPARTED) for tag in tags]
    return [tag.kinds for tag in caption_text.parse("\x00".join(plain), "\x00")]


def has_colour(tag: str) -> bool:
    """Whether a tag names a colour, by a hex code or in words."""
    from bespoke.colours import named_in  # numpy

    return caption_text.HEX.search(tag) is not None or bool(named_in(tag))
