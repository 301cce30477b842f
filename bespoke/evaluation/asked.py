"""What a prompt asks of a picture: the colours of each thing, and what is worn."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bespoke.dataset import colors
from bespoke.evaluation import accessories
from bespoke.experiment import caption_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Those that have a region of their own.
FEATURES = ("hair", "eyes", "lips", "skin", "clothing")

# CIEDE2000 to the asked hex up to which a colour is it (JPEG at quality 30 moves the originals'
# grounds by 4.5 at most), and up to which it may be, if it is called by the hex's own name.
SAME, NEAR = 6.0, 15.0

# CIEDE2000 to the asked hex beyond which a shade of the word asked with it is another colour: of
# #00ff00 it holds forest green (#228b22, 31), and not #0a4619 (61). A choice.
WITHIN = 45.0

# Of skin, words of these families are a complexion and no paint.
COMPLEXIONS = frozenset(
    ["black", "white", "brown", "red", "yellow", "olive", "orange", "pink", "beige", "cream"]
)

# Words for how light skin is, by the originals' lightness (CIELAB) that each is said of: from 5 to
# 95 in a hundred, and 8 more on either side.
TONES = {"light": (60.0, 100.0), "medium": (45.0, 87.0), "dark": (0.0, 68.0)}
_TONED = re.compile(
    r"(?P<light>\b(?:light|pale|fair|white)\b)|(?P<dark>\b(?:dark|black)\b)|"
    r"(?P<medium>\b(?:medium|tan|olive|brown|indian|asian)\b)"
)

_SEVERAL = re.compile(
    r"\bsplit|two.?tone|strip|check|brick|gradient|radial|multi|many|flag|half|halves|rainbow|"
    r"\b(?:to|and|with)\b"
)
_NOUNS = re.compile("|".join(caption_text.KINDS[kind] for kind in caption_text.FEATURES[1:]))
_BACKGROUND = re.compile(caption_text.KINDS["background"])


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One thing's colours: hex codes in small letters, and words as (modifier or "", word)."""

    codes: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    several: bool = False

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

        From 0 on it is the hex (within SAME), or a shade of the word, or near the hex and not
        another colour.
        """
        if not self.codes:
            return colors.margin(points, self.words)
        # A hex alone is called by its own name.
        names = [colors.name_of(colors.rgb_of(code)) for code in self.codes]
        plain = [("", name.removeprefix("light ").removeprefix("dark ")) for name in names]
        apart, limit = self.distance(points), WITHIN if self.words else NEAR
        called = np.minimum(limit - apart, colors.margin(points, self.words or plain))
        return np.asarray(np.maximum(SAME - apart, called))

    def met_by(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a person would say of each of CIELAB `points` that it is what was asked."""
        return np.asarray(self.margin(points) >= 0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a prompt asks: the background's colours, each other feature's, and each accessory's.

    `skin` holds its words of lightness, such as "dark".
    """

    background: Wanted = Wanted()
    features: Mapping[str, Wanted] = field(default_factory=dict)
    accessories: Mapping[str, Wanted] = field(default_factory=dict)
    skin: tuple[str, ...] = ()


def read_prompt(prompt: str) -> Asked:
    """What `prompt` asks, read as a caption is.

    The first tag that gives the background a hex is its own, as in the checks of captions.
    """
    tags = caption_text.features(prompt)
    grounds = [tag for tag in tags if "background" in tag.kinds]
    ground = next((tag for tag in grounds if tag.codes), grounds[0] if grounds else None)
    wanted: dict[str, Wanted] = {}
    tones: tuple[str, ...] = ()
    for tag in tags:
        if tag is ground or tag.kind not in FEATURES:
            continue
        text = caption_text.HEX.sub(" ", tag.text.lower())
        words = colors.named_in(text)
        if tag.kind == "skin":
            tones += tuple(str(each.lastgroup) for each in _TONED.finditer(text))
            words = tuple(w for w in words if colors.FAMILIES[w[1]].split()[0] not in COMPLEXIONS)
        before = wanted.get(tag.kind, Wanted())
        wanted[tag.kind] = Wanted(codes=before.codes + tag.codes, words=before.words + words)
    worn = {
        name: Wanted(words=colors.named_in(said)) for name, said in accessories.said(prompt).items()
    }
    return Asked(background=_ground(ground), features=wanted, accessories=worn, skin=tones)


def _ground(tag: caption_text.Feature | None) -> Wanted:
    if tag is None:
        return Wanted()
    text = caption_text.HEX.sub(" ", tag.text.lower())
    before, *after = _BACKGROUND.split(text, maxsplit=1)
    # "raspberry shirt dark green background": what is said of another thing is not the ground's.
    clause = f"{_NOUNS.split(before)[-1]} , {_NOUNS.split(' '.join(after))[0]}"
    words = colors.named_in(clause)
    if tag.codes:
        # "hot pink background with green candlesticks (#05db73)": words that the hex is not called
        # by are of something else, unless all are.
        codes = colors.lab([colors.rgb_of(code) for code in tag.codes])
        words = tuple(w for w in words if colors.called(codes, [w]).any()) or words
    return Wanted(codes=tag.codes, words=words, several=bool(_SEVERAL.search(clause)))
