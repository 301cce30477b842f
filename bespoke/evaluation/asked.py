"""What a prompt asks of a picture: the colours of each thing, and what is worn."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.experiment import caption_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# The words that ask for each accessory.
ACCESSORIES = {
    "crown": r"\bcrown|\btiara",
    "hat": r"\bhats?\b|\bcapp?s?\b|\bberet|\bbeanie",
    "bow": r"\bbow\b|headband|bandana|\bflower",
    "glasses": r"glasses|goggles?|\bshades\b(?! and| of)|\blenses",
    "earrings": r"\bearr?ings?",
    "beard": r"\bbeards?\b|stubble|mo?ustach|goatee|facial hair|soul patch",
    "necklace": r"necklaces?|\bchain\b|pendant",
    "smile": r"\bsmil",
}

# CIEDE2000 to the asked hex up to which a colour is it (JPEG at quality 30 moves the originals'
# grounds by 4.5 at most); up to which it is, where no word is asked with it; and up to which it may
# be, as a shade of that word: of #00ff00 it holds forest green (#228b22, 31), not #0a4619 (61).
SAME, NEAR, WITHIN = 6.0, 12.0, 45.0

# Of skin, words of these families are a complexion and no paint.
COMPLEXIONS = frozenset(
    ["black", "white", "brown", "red", "yellow", "olive", "orange", "pink", "beige", "cream"]
)

# Words for how light skin is.
_TONES = re.compile(
    r"(?P<light>\b(?:light|pale|fair|white)\b)|(?P<dark>\b(?:dark|black)\b)|"
    r"(?P<medium>\b(?:medium|tan|olive|brown|indian|asian)\b)"
)

_DENIED = re.compile(r"\b(?:no|without)\s(?:\w+\s)?$")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One thing's colours: hex codes in small letters, and words as (modifier or "", word)."""

    codes: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.codes or self.words)

    def as_json(self) -> dict[str, Any]:
        return {"hex": list(self.codes), "words": [" ".join(filter(None, w)) for w in self.words]}

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """CIEDE2000 of CIELAB `points` (n, 3) to the nearest hex; without one, to the words."""
        if self.codes:
            targets = colors.lab([colors.rgb_of(code) for code in self.codes])
        else:
            targets = np.concatenate([colors.shades(*word) for word in self.words])
        return np.asarray(colors.difference(points[:, None, :], targets).min(axis=1))

    def margin(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much (CIEDE2000) a person would say of CIELAB `points` (n, 3) that it is that.

        From 0 on it is the hex, or a shade of the word that is within reach of the hex.
        """
        if not self.codes:
            return colors.margin(points, self.words)
        apart = self.distance(points)
        if not self.words:
            return np.asarray(NEAR - apart)
        shade = np.minimum(WITHIN - apart, colors.margin(points, self.words))
        return np.asarray(np.maximum(SAME - apart, shade))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prompt asks: the background's colours, each other feature's, and accessories by name.

    `skin` holds its words of lightness: "light", "medium" and "dark".
    """

    background: Wanted = Wanted()
    features: Mapping[str, Wanted] = field(default_factory=dict)
    accessories: tuple[str, ...] = ()
    skin: tuple[str, ...] = ()


def read_prompt(prompt: str) -> Asked:
    """What `prompt` asks, read as a caption is.

    The first tag that gives the background a hex is its own, as in the checks of captions. A hex
    that is the background's too says nothing of another feature: in 167 of the 203 it stands so.
    """
    tags = caption_text.features(prompt)
    grounds = [tag for tag in tags if "background" in tag.kinds]
    ground = next((tag for tag in grounds if tag.codes), grounds[0] if grounds else None)
    background = Wanted()
    if ground:
        background = Wanted(codes=ground.codes, words=colors.named_in(_text(ground)))
    wanted: dict[str, Wanted] = {}
    tones: tuple[str, ...] = ()
    for tag in tags:
        if tag is ground or tag.kind not in ("hair", "eyes", "skin"):
            continue
        words = colors.named_in(_text(tag))
        if tag.kind == "skin":
            tones += tuple(str(each.lastgroup) for each in _TONES.finditer(_text(tag)))
            words = tuple(w for w in words if colors.FAMILIES[w[1]].split()[0] not in COMPLEXIONS)
        codes = tuple(code for code in tag.codes if code not in background.codes)
        before = wanted.get(tag.kind, Wanted())
        wanted[tag.kind] = Wanted(codes=before.codes + codes, words=before.words + words)
    worn = accessories(prompt)
    return Asked(background=background, features=wanted, accessories=worn, skin=tones)


def accessories(prompt: str) -> tuple[str, ...]:
    """The accessories that `prompt` asks; one that is denied is not asked."""
    text = prompt.lower()
    return tuple(
        name
        for name, words in ACCESSORIES.items()
        if any(not _DENIED.search(text[: each.start()]) for each in re.finditer(words, text))
    )


def _text(tag: caption_text.Feature) -> str:
    return caption_text.HEX.sub(" ", tag.text.lower())
