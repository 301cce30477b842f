"""A caption's text taken apart the way the trainer takes it apart."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import Any

HEX = re.compile(r"#[0-9a-fA-F]{6}(?![0-9a-zA-Z])")
# Meant as a colour: "#12345g", "#1O3O5O". A number sign may mean other things: "#selfie", "#1".
MALFORMED_HEX = re.compile(
    r"#(?![0-9a-fA-F]{6}(?![0-9a-zA-Z]))(?:(?=[a-zA-Z]*[0-9])[0-9a-zA-Z]{3,}|[a-fA-F]{3,}\b)"
)


def first_line(text: str) -> str:
    """What the trainer reads of a caption file (train_util.py:1958-1968 at v0.10.1)."""
    return lines(text)[0].strip()


def lines(text: str) -> list[str]:
    """The lines of a caption file by the trainer's line ends; one empty line for an empty text."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def tags(text: str) -> list[str]:
    """The tags of a caption, stripped, empty ones too (train_util.py:884 at v0.10.1)."""
    return [tag.strip() for tag in first_line(text).split(",")]


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
        return tuple(dict.fromkeys(code.lower() for code in HEX.findall(self.text)))


def features(text: str) -> list[Feature]:
    """What a caption is about, in order: its tags, with those put together again that a comma in
    parentheses or a palette list tears apart."""
    whole: list[Feature] = []
    depth = 0
    for tag in tags(text):
        within = depth > 0 and _LEADING_HEX.match(tag)
        listed = whole and whole[-1].kind == "palette" and _BARE_HEX.fullmatch(tag)
        if within or listed:
            last = whole.pop()
            whole.append(replace(last, text=f"{last.text}, {tag}", parts=last.parts + 1))
        else:
            depth = 0
            whole.append(Feature(text=tag, kinds=kinds_of(tag)))
        depth = max(0, depth + tag.count("(") - tag.count(")"))
    return whole


def parse(text: str) -> list[Feature]:
    """Each of `tags` by itself, with the kinds of the feature that it belongs to."""
    return [
        replace(feature, text=tag, parts=1)
        for feature in features(text)
        for tag in feature.text.split(", ")
    ]


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


@functools.cache
def tokens(text: str) -> int:
    """How many CLIP tokens a text costs, without the two end marks."""
    return len(_tokenizer().encode(text))


@functools.cache
def _tokenizer() -> Any:
    from instant_clip_tokenizer import Tokenizer

    return Tokenizer()
