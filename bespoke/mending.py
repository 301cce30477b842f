"""One caption mended where it contradicts its picture or the trainer would lose it.

It goes through these steps until none changes it:

1. A feature that commas in its parentheses tear apart becomes one tag, with spaces for the commas.
2. Hex codes of no feature go: the palette list and the bare ones.
3. The background's hex, where it is not the border's: replaced by the border's colour where one
   colour is 80% of the border or more, else dropped. Another background tag's is dropped.
4. Another feature's hex is dropped where it is not in the picture, is the background's, lies only
   behind the figure, is far from every colour that the feature's own words name, or is the skin's
   (except the lips', drawn in skin tones, and what words near it name). It is never replaced: no
   rule tried on the 203 found a hair or clothing colour beyond doubt; the one answer was the skin.
5. A tag of the chosen class moves among the kept tags, behind the subject as far as they reach.
6. A caption above the window loses whole tags, one at a time and the last first: repeated ones,
   then style, expression, unnamed things, accessories, clothing. A tag with a hex, the subject, the
   chosen class, the background, lips, eyes, skin, hair and what is promised are never taken.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bespoke import captions
from bespoke.canvas import GROUND_SHARE
from bespoke.captions import Feature, tokens
from bespoke.colour_checks import painted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bespoke.canvas import Canvas

SINGLE = 0.8
"""Share of the border from which on one colour is the background's beyond doubt."""

TRIMMED = ("style", "expression", "other", "accessory", "clothing")
"""What a caption that is too long may lose, the first to go first."""

_NEVER = frozenset(("subject", "background", "lips", "eyes", "skin", "hair", "beard"))


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """`keep` is the class that moves among the first `keep_tokens` tags; `limit` is in CLIP tokens;
    tags that hold one of `names` are never trimmed."""

    keep: str = "background"
    keep_tokens: int = 3
    limit: int = 225
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to one tag. `after` is "" where it went, and `before` again where it moved."""

    kind: str
    before: str
    after: str
    why: str


def mend(text: str, canvas: Canvas | None, rules: Repairs) -> tuple[str, tuple[Change, ...]]:
    """A caption's first line, mended, and what was done; without a canvas no hex is judged.

    A caption that would be left empty stays as it is: the trainer stops at such a one.
    """
    changes: list[Change] = []
    mended = text
    while True:
        tags = list(_stated(_whole(mended, changes), changes))
        if canvas:
            tags = _judged(tags, canvas, changes)
        tags = _moved(tags, canvas, rules, changes)
        tags = _trimmed(tags, rules, changes)
        if [tag.text for tag in tags] == captions.tags(mended):
            return mended, tuple(changes)
        mended = captions.first_line(", ".join(tag.text for tag in tags))
        if not mended:
            return text, ()


def _whole(text: str, changes: list[Change]) -> Iterator[Feature]:
    for feature in captions.features(captions.parse(text)):
        joined = feature.text
        if feature.parts > 1 and feature.kind != "palette":
            joined = joined.replace(",", "")
            why = f"commas made {feature.parts} tags of it"
            changes.append(Change(kind="torn", before=feature.text, after=joined, why=why))
        yield Feature(text=joined, kinds=feature.kinds)


def _stated(tags: Iterator[Feature], changes: list[Change]) -> Iterator[Feature]:
    """Tags without the hex codes that state no feature's colour."""
    for tag in tags:
        kind, words = tag.kind, tag
        if kind in ("palette", "loose") and tag.codes:
            words = _without(tag, tag.codes)
            # "palette: warm reds, #a81818" says something; "palette:" alone does not.
            if not re.sub(r"(?i)^\s*pal+ette|\W", "", words.text):
                words = replace(words, text="")
            why = "its hex codes belong to no feature"
            changes.append(Change(kind=kind, before=tag.text, after=words.text, why=why))
        if words.text or not tag.text:
            yield words


def _pattern(code: str) -> re.Pattern[str]:
    return re.compile(rf"{code}(?![0-9a-zA-Z])", re.IGNORECASE)


def _without(tag: Feature, codes: Sequence[str]) -> Feature:
    text = tag.text
    for code in codes:
        text = _pattern(code).sub("", text)
    text = re.sub(r"\s*\([\s,]*\)", "", text)
    text = re.sub(r"\(\s+", "(", re.sub(r"\s+\)", ")", text))
    return replace(tag, text=re.sub(r"[\s,]*,[\s,]*|\s+", " ", text).strip())


# --- Held to the picture --------------------------------------------------------------------------


def _judged(tags: list[Feature], canvas: Canvas, changes: list[Change]) -> list[Feature]:
    ground = _chosen(tags, canvas, "background")
    judged = list(tags)
    if ground is not None:
        judged[ground] = _of_border(tags[ground], canvas, changes)
    behind = judged[ground].codes if ground is not None else ()
    skin = {code for tag in tags if tag.kind == "skin" for code in tag.codes}
    for number, tag in enumerate(tags):
        if number == ground or tag.kind not in (*captions.FEATURES, "other"):
            continue
        said = {code: _wrong(code, tag, canvas, behind, skin) for code in tag.codes}
        wrong = {code: why for code, why in said.items() if why}
        if wrong:
            judged[number] = _without(tag, tuple(wrong))
            why = "; ".join(f"{code} {reason}" for code, reason in wrong.items())
            after = judged[number].text
            changes.append(Change(kind="hex dropped", before=tag.text, after=after, why=why))
    return [tag for tag, old in zip(judged, tags, strict=True) if tag.text or not old.text]


def _chosen(tags: Sequence[Feature], canvas: Canvas | None, kind: str) -> int | None:
    """The number of the tag of a class that says most: with the border's colour, with any, led by
    the class, naming it; the first where several do as well."""
    border = next(iter(canvas.border)) if canvas else ""
    ranks = [
        (kind == "background" and border in tag.codes, bool(tag.codes), kind == tag.kind, -number)
        for number, tag in enumerate(tags)
        if kind in tag.kinds
    ]  # fmt: skip
    return -max(ranks)[-1] if ranks else None


def _of_border(tag: Feature, canvas: Canvas, changes: list[Change]) -> Feature:
    border, every = canvas.border, sum(canvas.border.values())
    most, cells = next(iter(border.items()))
    if most in tag.codes:
        # What else it has may be a pattern that does not reach the border.
        wrong = [code for code in tag.codes if code not in canvas.cells]
    else:
        wrong = [code for code in tag.codes if border.get(code, 0) < every * GROUND_SHARE]
    if not wrong:
        return tag
    kind, why, mended = "hex dropped", "is not the border's, which has several colours", tag
    if most in tag.codes:
        why = "is not in the picture"
    elif cells >= SINGLE * every:
        kind, why = "hex replaced", f"{cells / every:.0%} of the border is {most}"
        mended = replace(tag, text=_pattern(wrong[0]).sub(most, tag.text, count=1))
    mended = _without(mended, wrong)
    changes.append(Change(kind=kind, before=tag.text, after=mended.text, why=why))
    return mended


def _wrong(code: str, tag: Feature, canvas: Canvas, behind: Sequence[str], skin: set[str]) -> str:
    """Why a hex cannot be this tag's, or "" where it may be."""
    if tag.kind == "background":
        share = canvas.border.get(code, 0) / sum(canvas.border.values())
        return "" if share >= GROUND_SHARE else "is not the border's"
    if code not in canvas.cells:
        return "is not in the picture"
    if code in behind:
        return "is the background's"
    only_behind = not canvas.outside_ground(code)
    return "is only behind the figure" if only_behind else _against_words(code, tag, skin)


def _against_words(code: str, tag: Feature, skin: set[str]) -> str:
    from bespoke import colours  # numpy

    named = painted(tag.text, tag.kinds)
    apart = {each: min((_apart(each, *name) for name in named), default=0.0) for each in tag.codes}
    if min(apart.values()) > colours.FAR:
        return "is far from what the words name"
    own = tag.kind in ("skin", "lips") or (named and apart[code] <= colours.FAR)
    return "is the skin's" if code in skin and not own else ""


@functools.lru_cache(maxsize=65536)
def _apart(code: str, modifier: str, word: str) -> float:
    from bespoke import colours

    points = colours.shades(modifier, word)
    return float(colours.difference(points, colours.lab(colours.rgb_of(code))).min())


# --- Into the trainer's sight ---------------------------------------------------------------------


def _moved(
    tags: list[Feature], canvas: Canvas | None, rules: Repairs, changes: list[Change]
) -> list[Feature]:
    number = _chosen(tags, canvas, rules.keep)
    if number is None or not 0 < rules.keep_tokens <= number:
        return tags
    opening = next((n for n, tag in enumerate(tags) if tag.kind != "subject"), 0)
    place = min(opening, rules.keep_tokens - 1)
    text = tags[number].text
    lost = tags[rules.keep_tokens - 1].text
    why = f"from place {number + 1} to {place + 1}; {lost!r} is no longer kept"
    changes.append(Change(kind="moved", before=text, after=text, why=why))
    rest = tags[:number] + tags[number + 1 :]
    return [*rest[:place], tags[number], *rest[place:]]


def _trimmed(tags: list[Feature], rules: Repairs, changes: list[Change]) -> list[Feature]:
    while (count := tokens(", ".join(tag.text for tag in tags))) > rules.limit:
        number = _expendable(tags, rules)
        if number is None:
            break
        why = f"{count} tokens, and {rules.limit} are read"
        changes.append(Change(kind="trimmed", before=tags[number].text, after="", why=why))
        tags = tags[:number] + tags[number + 1 :]
    return tags


def _expendable(tags: Sequence[Feature], rules: Repairs) -> int | None:
    plain = [captions.HEX.sub("", tag.text).replace("()", "").strip().lower() for tag in tags]
    free = [number for number, tag in enumerate(tags) if not tag.codes][::-1]
    for number in free:
        if plain[number] in plain[:number]:
            return number
    for kind in TRIMMED:
        for number in free:
            tag = tags[number]
            kept = _NEVER.union((rules.keep,)).intersection(tag.kinds)
            named = any(word.lower() in plain[number] for word in rules.names)
            if tag.kind == kind and not kept and not named:
                return number
    return None
