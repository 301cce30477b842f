"""`bespoke captions repair`: mended captions beside the old ones, and an experiment on them.

Each caption goes through these steps until none changes it:

1. A feature that commas in its parentheses tear apart becomes one tag.
2. Hex codes of no feature go: the palette list and the bare ones.
3. A feature's hex goes where it cannot be the feature's: it is not in the picture, is the
   background's, lies only behind the figure, is far from every colour that the feature's own words
   name, or is the skin's. The background's goes where it is not the border's.
4. The background moves among the kept tags, behind the subject as far as they reach.
5. A caption above the window loses whole tags in the order of TRIMMED, the last first; never one
   with a hex or with a declared word.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from bespoke.dataset import colors, loading, preflight
from bespoke.dataset.caption_exposure import WINDOW
from bespoke.dataset.color_checks import apart, in_picture, painted
from bespoke.dataset.pixel_grid import GROUND_SHARE, PixelGrid
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import HEX, Feature, tokens
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.toml_files import toml_lines
from bespoke.files import REPOSITORY, write_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from bespoke.dataset.folder import Collection
    from bespoke.experiment.experiment import Experiment

TRIMMED = ("style", "expression", "other", "accessory", "clothing")
"""What a caption that is too long may lose, the first to go first."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The background moves among the first `keep_tokens` tags; `limit` is in CLIP tokens; tags that
    hold one of `names` are never trimmed."""

    keep_tokens: int = 3
    limit: int = 225
    names: tuple[str, ...] = ()


def mend(text: str, grid: PixelGrid | None, rules: Rules) -> str:
    """A caption's first line, mended; without a picture no hex is judged.

    A caption that would be left empty stays as it is: the trainer stops at such a one.
    """
    mended = text
    while True:
        tags = list(_joined(mended))
        if grid is not None:
            tags = list(_judged(tags, grid))
        tags = _trimmed(_moved(tags, grid, rules), rules)
        if [tag.text for tag in tags] == caption_text.tags(mended):
            return mended
        mended = caption_text.first_line(", ".join(tag.text for tag in tags))
        if not mended:
            return text


def _joined(text: str) -> Iterator[Feature]:
    """The features, each one tag, without the hex codes that state no feature's colour."""
    for feature in caption_text.features(text):
        tag = replace(feature, parts=1)
        if feature.kind in ("palette", "loose") and feature.codes:
            tag = _without(tag, tag.codes)
            # "palette: warm reds, #a81818" says something; "palette:" alone does not.
            if not re.sub(r"(?i)^\s*pal+ette|\W", "", tag.text):
                continue
        elif feature.parts > 1:
            tag = replace(tag, text=feature.text.replace(",", ""))
        yield tag


def _without(tag: Feature, codes: Container[str]) -> Feature:
    text = HEX.sub(lambda code: "" if code[0].lower() in codes else code[0], tag.text)
    text = " ".join(text.replace(",", " ").split())
    text = text.replace("( ", "(").replace(" )", ")").replace("()", "")
    return replace(tag, text=" ".join(text.split()))


def _background(tags: Sequence[Feature], grid: PixelGrid | None) -> int | None:
    """The number of the tag that says most of the background: with the border's colour, with any
    hex, led by it; the first where several do as well."""
    border = next(iter(grid.border)) if grid else ""
    ranks = [
        (border in tag.codes, bool(tag.codes), tag.kind == "background", -number)
        for number, tag in enumerate(tags)
        if "background" in tag.kinds
    ]
    return -max(ranks)[-1] if ranks else None


def _judged(tags: list[Feature], grid: PixelGrid) -> Iterator[Feature]:
    """The tags without the hex codes that the picture contradicts."""
    every = sum(grid.border.values())
    ground = {code for code, cells in grid.border.items() if cells >= every * GROUND_SHARE}
    chosen = _background(tags, grid)
    codes = frozenset(tags[chosen].codes if chosen is not None else ())
    # What else it names beside the border's colour may be a pattern that does not reach there.
    behind = codes if codes & ground else frozenset()
    skin = frozenset(code for tag in tags if tag.kind == "skin" for code in tag.codes)
    for number, tag in enumerate(tags):
        wrong = set()
        if in_picture(tag):
            own = number == chosen or tag.kind == "background"
            fitting = ground | behind if own else _fitting(tag, grid, behind, skin)
            wrong = {code for code in tag.codes if code not in fitting or code not in grid.colours}
        kept = _without(tag, wrong) if wrong else tag
        if kept.text or not tag.text:
            yield kept


def _fitting(
    tag: Feature, grid: PixelGrid, behind: frozenset[str], skin: frozenset[str]
) -> set[str]:
    """The hex codes that can be those of this tag, which is of the figure."""
    named = painted(tag.text, tag.kinds)
    if apart(tag.codes, named) > colors.FAR:
        return set()
    free = tag.kind in ("skin", "lips")
    return {
        code
        for code in grid.figure.keys() & set(tag.codes) - behind
        if free or code not in skin or (named and apart((code,), named) <= colors.FAR)
    }


def _moved(tags: list[Feature], grid: PixelGrid | None, rules: Rules) -> list[Feature]:
    number = _background(tags, grid)
    if number is None or not 0 < rules.keep_tokens <= number:
        return tags
    opening = next((n for n, tag in enumerate(tags) if tag.kind != "subject"), 0)
    place = min(opening, rules.keep_tokens - 1)
    rest = tags[:number] + tags[number + 1 :]
    return [*rest[:place], tags[number], *rest[place:]]


def _trimmed(tags: list[Feature], rules: Rules) -> list[Feature]:
    over = tokens(", ".join(tag.text for tag in tags)) - rules.limit
    if over <= 0:
        return tags
    texts = [tag.text.lower() for tag in tags]
    first = {text: number for number, text in reversed(list(enumerate(texts)))}

    def rank(number: int) -> int:
        """What goes first: repeated tags, then the kinds of TRIMMED in order; -1 stays."""
        tag, text = tags[number], texts[number]
        if tag.codes or first[text] < number:
            return -1 if tag.codes else 0
        named = any(word.lower() in text for word in rules.names)
        return -1 if named or set(tag.kinds) - set(TRIMMED) else 1 + TRIMMED.index(tag.kind)

    ranks = {number: rank(number) for number in range(len(tags))}
    for number in sorted(ranks, key=lambda number: (ranks[number], -number)):
        if ranks[number] >= 0 and over > 0:
            over -= tokens(f"{tags[number].text},")
            del ranks[number]
    return [tags[number] for number in ranks]


# --- A whole folder -------------------------------------------------------------------------------


def repair(collection: Collection, out: Path, rules: Rules) -> dict[str, str]:
    """Write the pairs of `collection` into `out`, mended; each caption's first line, by stem.

    Text past a caption's first line stays as it is.

    Raises:
        ConfigError: `out` is there already or cannot be written.
        DatasetError: no pairs, or a caption that cannot be read.
    """
    pairs, arts = collection.pairs, collection.arts
    unreadable = [pair.caption.name for pair in pairs if pair.caption.name not in collection.texts]
    if unreadable or not pairs:
        what = f"{unreadable[0]} cannot be read" if unreadable else "no picture has a caption"
        raise DatasetError(f"{collection.folder}: nothing to repair: {what}")
    mended: dict[str, str] = {}
    try:
        out.mkdir(parents=True)
        for pair in pairs:
            text, art = collection.texts[pair.caption.name], arts.get(pair.picture.name)
            line = caption_text.first_line(text)
            new = mend(line, None if art is None else PixelGrid(cells=art), rules)
            mended[pair.picture.stem] = new
            shutil.copyfile(pair.picture, out / pair.picture.name)
            (out / pair.caption.name).write_bytes(text.replace(line, new, 1).encode())
    except OSError as failure:
        message = f"{out}: cannot be written: {failure.strerror}. Give another one with --out DIR"
        raise ConfigError(message) from failure
    return mended


def show(chosen: argparse.Namespace) -> None:
    """Write mended captions beside the old ones, and the experiment that declares them."""
    report = preflight.examined(chosen)
    experiment, before = report.experiment, report.collections[loading.COLLECTION]
    options = experiment.by_folder()[loading.COLLECTION]
    spec = experiment.specs.get(loading.COLLECTION, DatasetSpec())
    name = f"{experiment.name}_repaired"
    file = REPOSITORY / "experiments" / f"{name}.toml"
    if file.exists():
        raise ConfigError(f"{file}: is there already. Rename or remove it first")
    limit = int(experiment.option("max_token_length") or WINDOW)
    rules = Rules(keep_tokens=int(options["keep_tokens"]), limit=limit, names=spec.names)
    mended = repair(before, chosen.out, rules)
    fewest = min(len(HEX.findall(line)) for line in mended.values())
    new = replace(spec, hex_codes_min=fewest, caption_version=name)
    after = loading.check(chosen.out, new, shuffled=before.shuffled)
    write_whole(file, _experiment(experiment, new))
    changed = sum(before.captions[stem] != line for stem, line in mended.items())
    print(f"{chosen.out}: {len(mended)} pictures, {changed} captions mended. Checked again:")
    old, left = (Counter(each.code for each in one.findings) for one in (before, after))
    for code in sorted({*old, *left}, key=lambda code: left[code] - old[code]):
        print(f"  {code}: {old[code]} -> {left[code]}")
    data, was = shlex.quote(str(chosen.out)), shlex.quote(str(before.folder))
    print(f"{file}: declares them. Next:\n  python -m bespoke check --experiment {name} ", end="")
    print(f"--data {data} --parent-data {was}")


def _experiment(parent: Experiment, spec: DatasetSpec) -> str:
    """The TOML of an experiment that differs from `parent` in its captions alone."""
    words = {
        "parent": parent.name,
        "hypothesis": "With the background among the kept tags and only hex codes that fit the "
        f"picture, {parent.name} learns what it is meant to.",
        **({"subject": parent.subject} if parent.subject else {}),
    }
    stated = {key: value for key, value in asdict(spec).items() if value not in (None, "", ())}
    table = [f"[data.{loading.COLLECTION}]", *toml_lines(stated)]
    return "\n".join([*toml_lines(words), "", *table, ""])
