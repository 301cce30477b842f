"""`bespoke captions repair`: mended captions beside the old ones, and an experiment on them.

Each caption goes through these steps until none changes it:
1. A feature that commas tear apart becomes one tag; the palette and hex codes of no feature go.
2. A hex goes where it cannot be the feature's: not in the picture, the background's, only behind
   the figure, the skin's, or far from its own words. The background's must be the border's.
3. The background moves among the kept tags, behind the subject as far as they reach.
4. A caption above the window loses whole tags in the order of TRIMMED, the last first; never one
   with a hex or with a declared word.
"""

from __future__ import annotations

import shlex
import shutil
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from bespoke.dataset import colors, loading, preflight
from bespoke.dataset.caption_exposure import WINDOW
from bespoke.dataset.checks import apart, in_picture, painted
from bespoke.dataset.images import PixelGrid
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import Feature, tokens
from bespoke.experiment.toml_files import toml_lines
from bespoke.files import REPOSITORY, write_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Container, Iterator
    from pathlib import Path

    from bespoke.dataset.loading import Collection

TRIMMED = ("style", "expression", "other", "accessory", "clothing")
"""What a caption that is too long may lose, the first to go first."""


def mend(
    text: str, grid: PixelGrid | None, *, keep_tokens: int, limit: int, names: tuple[str, ...] = ()
) -> str:
    """A caption's first line, mended; without a picture no hex is judged.

    The background moves among the first `keep_tokens` tags; `limit` is in CLIP tokens; tags that
    hold one of `names` are never trimmed.
    """
    while True:
        tags = list(_joined(text))
        if grid is not None:
            tags = list(_judged(tags, grid))
        tags = _trimmed(_moved(tags, grid, keep_tokens), limit, names)
        if [tag.text for tag in tags] == caption_text.tags(text):
            return text
        text = caption_text.first_line(", ".join(tag.text for tag in tags))


def _joined(text: str) -> Iterator[Feature]:
    """The features, each one tag, without the palette and the hex codes of no feature."""
    for feature in caption_text.features(text):
        if feature.kind not in ("palette", "loose") or not feature.codes:
            text = feature.text.replace(",", "") if feature.parts > 1 else feature.text
            yield replace(feature, text=text, parts=1)


def _without(tag: Feature, codes: Container[str]) -> Feature:
    text = caption_text.HEX.sub(lambda code: "" if code[0].lower() in codes else code[0], tag.text)
    text = " ".join(text.replace(",", " ").split())
    text = text.replace("( ", "(").replace(" )", ")").replace("()", "")
    return replace(tag, text=" ".join(text.split()))


def _background(tags: list[Feature], grid: PixelGrid | None) -> int | None:
    """The number of the tag that says most of the background: with the border's colour, with any
    hex, led by it; the first where several do as well."""
    border = grid.behind[0] if grid else ""
    ranks = [(border in tag.codes, bool(tag.codes), tag.kind == "background") for tag in tags]
    numbers = [number for number, tag in enumerate(tags) if "background" in tag.kinds]
    return max(numbers, key=ranks.__getitem__, default=None)


def _judged(tags: list[Feature], grid: PixelGrid) -> Iterator[Feature]:
    """The tags without the hex codes that the picture contradicts."""
    chosen, ground = _background(tags, grid), set(grid.behind)
    codes = set(tags[chosen].codes if chosen is not None else ())
    # What else it names beside the border's colour may be a pattern that does not reach there.
    behind = codes if codes & ground else set()
    skin = {code for tag in tags if tag.kind == "skin" for code in tag.codes}
    for number, tag in enumerate(tags):
        own = number == chosen or tag.kind == "background"
        right = behind | ground if own else _fitting(tag, grid, skin) - behind
        wrong = set(tag.codes) - (right & grid.colours.keys())
        kept = _without(tag, wrong) if wrong and in_picture(tag) else tag
        if kept.text or not tag.text:
            yield kept


def _fitting(tag: Feature, grid: PixelGrid, skin: set[str]) -> set[str]:
    """The hex codes that can be those of this tag, which is of the figure."""
    named = painted(tag.text, tag.kinds)
    if apart(tag.codes, named) > colors.FAR:
        return set()
    own = grid.figure.keys() & set(tag.codes)
    if tag.kind in ("skin", "lips"):
        return own
    return {c for c in own if c not in skin or (named and apart((c,), named) <= colors.FAR)}


def _moved(tags: list[Feature], grid: PixelGrid | None, keep_tokens: int) -> list[Feature]:
    number = _background(tags, grid)
    if number is None or not 0 < keep_tokens <= number:
        return tags
    opening = next((n for n, tag in enumerate(tags) if tag.kind != "subject"), 0)
    moved = tags[:number] + tags[number + 1 :]
    moved.insert(min(opening, keep_tokens - 1), tags[number])
    return moved


def _trimmed(tags: list[Feature], limit: int, names: tuple[str, ...]) -> list[Feature]:
    over = tokens(", ".join(tag.text for tag in tags)) - limit
    # What goes first: repeated tags, then the kinds of TRIMMED in order, of each the last.
    ranks, seen = [], set()
    for number, tag in enumerate(tags):
        text = tag.text.lower()
        named = any(word.lower() in text for word in names)
        if text in seen and not tag.codes:
            ranks.append((0, -number))
        elif not (tag.codes or named or set(tag.kinds) - set(TRIMMED)):
            ranks.append((1 + TRIMMED.index(tag.kind), -number))
        seen.add(text)
    gone = set()
    for _, number in sorted(ranks):
        if over > 0:
            over -= tokens(f"{tags[-number].text},")
            gone.add(-number)
    return [tag for number, tag in enumerate(tags) if number not in gone]


def repair(collection: Collection, out: Path, *, keep_tokens: int, limit: int) -> dict[str, str]:
    """Write the pairs of `collection` into `out`, each caption's first line mended; these by stem.

    `out` is made: a ConfigError where it is there. No pair, or an unreadable one: DatasetError.
    """
    pairs, arts, texts = collection.pairs, collection.arts, collection.texts
    unreadable = [caption.name for _, caption in pairs if caption.name not in texts]
    if unreadable or not pairs:
        what = f"{unreadable[0]} cannot be read" if unreadable else "no picture has a caption"
        raise DatasetError(f"{collection.folder}: nothing to repair: {what}")
    names, mended = collection.spec.names, dict[str, str]()
    try:
        out.mkdir(parents=True)
        for picture, caption in pairs:
            text, art = texts[caption.name], arts.get(picture.name)
            line = caption_text.first_line(text)
            grid = None if art is None else PixelGrid(cells=art)
            new = mend(line, grid, keep_tokens=keep_tokens, limit=limit, names=names)
            mended[picture.stem] = new
            shutil.copyfile(picture, out / picture.name)
            (out / caption.name).write_bytes(text.replace(line, new, 1).encode())
    except OSError as failure:
        message = f"{out}: cannot be written: {failure.strerror}. Give another one with --out DIR"
        raise ConfigError(message) from failure
    return mended


def show(chosen: argparse.Namespace) -> None:
    """Write mended captions beside the old ones, and the experiment that declares them."""
    report = preflight.examined(chosen)
    experiment, before = report.experiment, report.collections[loading.COLLECTION]
    name = f"{experiment.name}{preflight.REPAIRED}"
    file = REPOSITORY / "experiments" / f"{name}.toml"
    if file.exists():
        raise ConfigError(f"{file}: is there already. Rename or remove it first")
    keep_tokens = int(experiment.by_folder()[loading.COLLECTION]["keep_tokens"])
    limit = int(experiment.option("max_token_length") or WINDOW)
    mended = repair(before, chosen.out, keep_tokens=keep_tokens, limit=limit)
    fewest = min(len(caption_text.HEX.findall(line)) for line in mended.values())
    spec = replace(before.spec, hex_codes_min=fewest, caption_version=name)
    after = preflight.check_folder(chosen.out, spec)
    table = {
        "parent": experiment.name,
        "hypothesis": "With the background among the kept tags and only hex codes that fit the "
        f"picture, {experiment.name} learns what it is meant to.",
        "subject": experiment.subject or "background",
    }
    declared = {key: value for key, value in asdict(spec).items() if value not in (None, "", ())}
    lines = [*toml_lines(table), f"\n[data.{loading.COLLECTION}]", *toml_lines(declared), ""]
    write_whole(file, "\n".join(lines))
    changed = sum(before.captions[stem] != line for stem, line in mended.items())
    print(f"{chosen.out}: {len(mended)} pictures, {changed} captions mended. Checked again:")
    old, left = (Counter(each.code for each in one.findings) for one in (before, after))
    for code in sorted({*old, *left}, key=lambda code: left[code] - old[code]):
        print(f"  {code}: {old[code]} -> {left[code]}")
    words = ["--experiment", name, "--data", str(chosen.out), "--parent-data", str(before.folder)]
    print(f"{file}: declares them. Next:\n  python -m bespoke check {shlex.join(words)}")
