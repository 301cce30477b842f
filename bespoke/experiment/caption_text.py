"""A caption's text taken apart the way the trainer takes it apart."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

HEX = re.compile(r"#[0-9a-fA-F]{6}(?![0-9a-zA-Z])")
# A number sign may mean other things: "#selfie", "#1".
_MALFORMED = re.compile(
    r"#(?![0-9a-fA-F]{6}(?![0-9a-zA-Z]))(?:(?=[a-zA-Z]*[0-9])[0-9a-zA-Z]{3,}|[a-fA-F]{3,}\b)"
)


def first_line(text: str) -> str:
    """What the trainer reads of a caption file (train_util.py:1958-1968 at v0.10.1)."""
    return lines(text)[0].strip()


def lines(text: str) -> list[str]:
    """The lines of a caption file by the trainer's line ends; one empty line for an empty text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def tags(text: str) -> list[str]:
    """The tags of a caption in order, stripped (train_util.py:884 at v0.10.1).

    Empty tags are kept, as the trainer keeps them: "a,,b" has three.
    """
    return [tag.strip() for tag in first_line(text).split(",")]


def hex_codes(text: str) -> list[str]:
    """Every `#rrggbb` of `text` in order, repeats included, as written."""
    return HEX.findall(text)


def malformed_hex_codes(text: str) -> list[str]:
    """What was meant as a `#rrggbb` and is none: "#12345", "#12345g", "#1234567", "#1O3O5O"."""
    return _MALFORMED.findall(text)


# --- What a tag is about --------------------------------------------------------------------------

KINDS: dict[str, str] = {
    "background": r"back\s?ground",
    "beard": r"beards?\b|stubble|sutubble|mo?ustach|goatee|goetee|facial hair|soul patch",
    "hair": r"(?<!c)(?<!mo)hair|mohawk|dread(?:lock)?s|updo|bangs|braids|\b(?:bun|wig|bald)\b",
    "eyes": r"eyes?\b|yees\b",
    "lips": r"lips\b",
    "skin": r"\bskin|freckles|\bmole\b",
    "clothing": (
        r"shirts?\b|\bt-?shirt|hoodie|\bsuits?\b|\bsuite\b|jacket|coat\b|sweater|(?<!on )\btops?\b|"
        r"overtop|dress\b|blazer|blouse|jumpsuit|bodysuit|wetsuit|clothing|clothes|outfit|"
        r"undergarments|turtleneck|\bvest\b|\bcape\b|jersey|\brobe\b|tank\s?top|bralet|\bcollars?\b|drawstrings?"
    ),
    "accessory": (
        r"\bhats?\b|\bcapp?s?\b|cappwearing|crown|tiara|glasses|goggles?|earrings?|"
        r"\bshades\b(?! and| of)|necklaces?|\bchain\b|pendant|\bbow\b|headband|bandana|flower|"
        r"veil|beret|lanyard|lenses|"
        r"(?<!above )\bears\b|helmet|\bmask\b|\bwings\b|lasers?\b|\bcowboy\b|beanie|\bgems?\b|"
        r"\blogo\b|pompom"
    ),
    "expression": r"\bsmile|\bexpression\b|\bfrown|\bgrin",
    "style": r"pixel edges|colou?r borders|art style",
    "subject": r"^pixel art$|^\d+x\d+$|\bportrait of\b",
}
"""The kinds of tags and what names them; "palette", "loose" and "other" go by form."""
FEATURES = ("background", "hair", "beard", "eyes", "lips", "skin", "clothing", "accessory")
"""The kinds that are something in the picture, and can have colours of their own."""

_MENTION = re.compile("|".join(f"(?P<{kind}>{nouns})" for kind, nouns in KINDS.items()))
# In "bow in hair with white center" the bow is meant: what comes before the first of these leads.
_ASIDE = re.compile(r"\b(?:with|in|on|as|at|that|covered|coming|underneath|under)\b|\(")
_PALETTE = re.compile(r"\s*pal+ette\b", re.IGNORECASE)
_LEADING_HEX = re.compile(rf"\(?{HEX.pattern}")
_BARE_HEX = re.compile(rf"\(?{HEX.pattern}\)?")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A tag with all that belongs to it; `parts` is the number of tags that it is torn into.

    `kinds` holds what it is about, the leading one first and never none.
    """

    text: str
    kinds: tuple[str, ...]
    parts: int = 1

    @property
    def kind(self) -> str:
        return self.kinds[0]

    @functools.cached_property
    def codes(self) -> tuple[str, ...]:
        """Its hex codes in small letters, each once."""
        return tuple(dict.fromkeys(code.lower() for code in hex_codes(self.text)))


@dataclass(frozen=True, kw_only=True)
class Tag(Feature):
    """One of the trainer's tags. `owner` is the number of the tag that it belongs to: its own, or
    that of the tag whose parenthesis or palette list it was torn from by a comma."""

    owner: int


def parse(text: str) -> tuple[Tag, ...]:
    """The tags of a caption with what each is about; their texts are those of `tags`."""
    parsed: list[Tag] = []
    owner, depth = 0, 0
    for number, tag in enumerate(tags(text)):
        within = depth > 0 and _LEADING_HEX.match(tag)
        listed = parsed and parsed[owner].kind == "palette" and _BARE_HEX.fullmatch(tag)
        if not within and not listed:
            owner, depth = number, 0
        depth = max(0, depth + tag.count("(") - tag.count(")"))
        kinds = parsed[owner].kinds if owner != number else kinds_of(tag)
        parsed.append(Tag(text=tag, kinds=kinds, owner=owner))
    return tuple(parsed)


def features(parsed: Sequence[Tag]) -> list[Feature]:
    """Tags with those torn from them put together again, in order."""
    groups: dict[int, list[Tag]] = {}
    for tag in parsed:
        groups.setdefault(tag.owner, []).append(tag)
    return [
        Feature(text=", ".join(tag.text for tag in group), kinds=group[0].kinds, parts=len(group))
        for group in groups.values()
    ]


@functools.lru_cache(maxsize=8192)
def kinds_of(tag: str) -> tuple[str, ...]:
    """What one tag is about, the leading kind first."""
    if _BARE_HEX.fullmatch(tag):
        return ("loose",)
    if _PALETTE.match(tag):
        return ("palette",)
    text = HEX.sub("", tag).lower()
    mentions = [(each.start(), str(each.lastgroup)) for each in _MENTION.finditer(text)]
    if not mentions:
        return ("other",)
    aside = _ASIDE.search(text)
    end = aside.start() if aside else len(text)
    heads = [kind for start, kind in mentions if start < end]
    leading = heads[-1] if heads else mentions[0][1]
    return tuple(dict.fromkeys((leading, *(kind for _, kind in mentions))))


@functools.lru_cache(maxsize=100_000)
def tokens(text: str) -> int:
    """How many CLIP tokens a text costs, without the two end marks."""
    return len(_tokenizer().encode(text))


@functools.cache
def _tokenizer() -> Any:
    from instant_clip_tokenizer import Tokenizer

    return Tokenizer()
