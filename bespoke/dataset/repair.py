"""`bespoke captions repair`: a new caption version beside the old one, and an experiment on it.

Each caption goes through these steps until none changes it:

1. A feature that commas in its parentheses tear apart becomes one tag, with spaces for the commas.
2. Hex codes of no feature go: the palette list and the bare ones.
3. A feature's hex goes where it cannot be the feature's: it is not in the picture, is the
   background's, lies only behind the figure, is far from every colour that the feature's own words
   name, or is the skin's. The background's goes where it is not the border's.
4. The background moves among the kept tags, behind the subject as far as they reach.
5. A caption above the window loses whole tags, the last first: repeated ones, then style,
   expression, unnamed things, accessories, clothing; never one with a hex or with a declared word.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.dataset import colors, loading, preflight
from bespoke.dataset.caption_exposure import WINDOW
from bespoke.dataset.color_checks import apart, painted
from bespoke.dataset.pixel_grid import GROUND_SHARE, PixelGrid
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import caption_text
from bespoke.experiment.caption_text import Feature, tokens
from bespoke.experiment.dataset_spec import DatasetSpec
from bespoke.experiment.effective_options import by_folder
from bespoke.experiment.experiment_file import SAFE_NAME
from bespoke.experiment.toml_files import toml_lines
from bespoke.files import REPOSITORY, write_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Sequence

    from bespoke.experiment.config import Experiment

TRIMMED = ("style", "expression", "other", "accessory", "clothing")
"""What a caption that is too long may lose, the first to go first."""

_NEVER = frozenset(("subject", "background", "lips", "eyes", "skin", "hair", "beard"))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The background moves among the first `keep_tokens` tags; `limit` is in CLIP tokens; tags that
    hold one of `names` are never trimmed."""

    keep_tokens: int = 3
    limit: int = 225
    names: tuple[str, ...] = ()


def mend(text: str, grid: PixelGrid | None, rules: Rules) -> tuple[str, list[str]]:
    """A caption's first line, mended, and what was done; without a picture no hex is judged.

    A caption that would be left empty stays as it is: the trainer stops at such a one.
    """
    changes: list[str] = []
    mended = text
    while True:
        tags = list(_stated(mended, changes))
        if grid is not None:
            tags = list(_judged(tags, grid, changes))
        tags = _trimmed(_moved(tags, grid, rules, changes), rules, changes)
        if [tag.text for tag in tags] == caption_text.tags(mended):
            return mended, changes
        mended = caption_text.first_line(", ".join(tag.text for tag in tags))
        if not mended:
            return text, []


def _stated(text: str, changes: list[str]) -> Iterator[Feature]:
    """The features, each one tag, without the hex codes that state no feature's colour."""
    for feature in caption_text.features(caption_text.parse(text)):
        tag = replace(feature, parts=1)
        if feature.parts > 1 and feature.kind != "palette":
            tag = replace(tag, text=feature.text.replace(",", ""))
            changes.append(f"torn: {feature.text} (commas made {feature.parts} tags of it)")
        if feature.kind in ("palette", "loose") and feature.codes:
            tag = _without(tag, tag.codes)
            # "palette: warm reds, #a81818" says something; "palette:" alone does not.
            if not re.sub(r"(?i)^\s*pal+ette|\W", "", tag.text):
                tag = replace(tag, text="")
            changes.append(f"{feature.kind}: {feature.text} (its hex codes belong to no feature)")
        if tag.text or not feature.text:
            yield tag


def _without(tag: Feature, codes: Collection[str]) -> Feature:
    text = caption_text.HEX.sub(lambda code: "" if code[0].lower() in codes else code[0], tag.text)
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


def _judged(tags: list[Feature], grid: PixelGrid, changes: list[str]) -> Iterator[Feature]:
    """The tags without the hex codes that the picture contradicts."""
    every = sum(grid.border.values())
    ground = {code for code, cells in grid.border.items() if cells >= every * GROUND_SHARE}
    chosen = _background(tags, grid)
    codes = frozenset(tags[chosen].codes if chosen is not None else ())
    # What else it names beside the border's colour may be a pattern that does not reach there.
    behind = codes if codes & ground else frozenset()
    skin = frozenset(code for tag in tags if tag.kind == "skin" for code in tag.codes)
    for number, tag in enumerate(tags):
        wrong: dict[str, str] = {}
        for code in tag.codes if tag.kind in (*caption_text.FEATURES, "other") else ():
            if code not in grid.colours:
                wrong[code] = "is not in the picture"
            elif number == chosen or tag.kind == "background":
                wrong |= {} if code in ground | behind else {code: "is not the border's"}
            elif why := _not_the_figures(code, tag, grid, behind, skin):
                wrong[code] = why
        kept = _without(tag, wrong) if wrong else tag
        if wrong:
            reasons = "; ".join(f"{code} {why}" for code, why in wrong.items())
            changes.append(f"hex dropped: {tag.text} ({reasons})")
        if kept.text or not tag.text:
            yield kept


def _not_the_figures(
    code: str, tag: Feature, grid: PixelGrid, behind: Collection[str], skin: Collection[str]
) -> str:
    """Why a hex cannot be this tag's, which is of the figure; "" where it may be."""
    if code in behind:
        return "is the background's"
    if code not in grid.figure:
        return "is only behind the figure"
    named = painted(tag.text, tag.kinds)
    if apart(tag.codes, named) > colors.FAR:
        return "is far from what the words name"
    if code not in skin or tag.kind in ("skin", "lips"):
        return ""
    return "" if named and apart((code,), named) <= colors.FAR else "is the skin's"


def _moved(
    tags: list[Feature], grid: PixelGrid | None, rules: Rules, changes: list[str]
) -> list[Feature]:
    number = _background(tags, grid)
    if number is None or not 0 < rules.keep_tokens <= number:
        return tags
    opening = next((n for n, tag in enumerate(tags) if tag.kind != "subject"), 0)
    place = min(opening, rules.keep_tokens - 1)
    changes.append(f"moved: {tags[number].text} (from place {number + 1} to {place + 1})")
    rest = tags[:number] + tags[number + 1 :]
    return [*rest[:place], tags[number], *rest[place:]]


def _trimmed(tags: list[Feature], rules: Rules, changes: list[str]) -> list[Feature]:
    over = (count := tokens(", ".join(tag.text for tag in tags))) - rules.limit
    gone: set[int] = set()
    for number in _expendable(tags, rules) if over > 0 else ():
        if over <= 0:
            break
        over -= tokens(f"{tags[number].text},")
        gone.add(number)
        changes.append(f"trimmed: {tags[number].text} ({count} tokens, {rules.limit} are read)")
    return [tag for number, tag in enumerate(tags) if number not in gone]


def _expendable(tags: Sequence[Feature], rules: Rules) -> Iterator[int]:
    """The numbers of the tags that a caption may lose, the first to go first."""
    plain = [caption_text.HEX.sub("", tag.text).replace("()", "").strip().lower() for tag in tags]
    first = {text: number for number, text in reversed(list(enumerate(plain)))}
    free = [number for number, tag in enumerate(tags) if not tag.codes][::-1]
    repeated = dict.fromkeys(number for number in free if first[plain[number]] < number)
    yield from repeated
    for kind in TRIMMED:
        for number in (each for each in free if tags[each].kind == kind):
            named = any(word.lower() in plain[number] for word in rules.names)
            if not named and number not in repeated and not _NEVER & set(tags[number].kinds):
                yield number


# --- A whole folder -------------------------------------------------------------------------------


def repair(
    collection: loading.Collection, out: Path, rules: Rules
) -> dict[str, tuple[str, list[str]]]:
    """Write the pairs of `collection` into `out`, mended; what each caption is now, by stem.

    Text past a caption's first line stays as it is. The folder appears complete or not at all.

    Raises:
        ConfigError: `out` is not empty, is in the old folder, or cannot be written.
        DatasetError: no pairs, or a caption that cannot be read.
    """
    if not collection.pairs:
        raise DatasetError(f"{collection.folder}: no picture with a caption, so nothing to repair")
    if collection.folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"{out}: is in the captions' own folder. Give another one with --out DIR")
    mended: dict[str, tuple[str, list[str]]] = {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".captions.") as beside:
            complete = Path(beside) / "complete"
            complete.mkdir()
            for pair in collection.pairs:
                text = pair.caption.read_bytes().decode()
                line = caption_text.first_line(text)
                picture = collection.pictures.get(pair.picture.name)
                art = picture.art if picture else None
                grid = None if art is None else PixelGrid(cells=art)
                mended[pair.stem] = new, _ = mend(line, grid, rules)
                shutil.copyfile(pair.picture, complete / pair.picture.name)
                (complete / pair.caption.name).write_bytes(text.replace(line, new, 1).encode())
            # An empty folder may be there; anything else stops it.
            complete.replace(out)
    except UnicodeDecodeError as failure:
        raise DatasetError(f"{pair.caption.name}: is not UTF-8; save it as UTF-8") from failure
    except OSError as failure:
        message = f"{out}: cannot be written: {failure.strerror}. Give another one with --out DIR"
        raise ConfigError(message) from failure
    return mended


def show(chosen: argparse.Namespace) -> None:
    """Write mended captions beside the old ones, and the experiment that declares them.

    Raises:
        ConfigError, DatasetError: where folders or captions do not allow it.
    """
    report = preflight.examined(chosen)
    experiment, before = report.experiment, report.collections[loading.COLLECTION]
    options = by_folder(experiment)[loading.COLLECTION]
    spec = experiment.specs.get(loading.COLLECTION, DatasetSpec())
    name = chosen.name or f"{experiment.name}_repaired"
    if not SAFE_NAME.fullmatch(name):
        raise ConfigError(f"--name {name[:40]}: write at most 100 letters, digits and _")
    file = REPOSITORY / "experiments" / f"{name}.toml"
    listed = chosen.out.with_name(f"{chosen.out.name}.changes.txt")
    for path, option in ((file, "--name NAME"), (listed, "--out DIR")):
        if os.path.exists(path):  # noqa: PTH110 - no name is too long for it
            raise ConfigError(f"{path}: is there already. Give another one with {option}")
    limit = int(experiment.option("max_token_length") or WINDOW)
    rules = Rules(keep_tokens=int(options["keep_tokens"]), limit=limit, names=spec.names)
    mended = repair(before, chosen.out, rules)
    fewest = min(len(caption_text.hex_codes(line)) for line, _ in mended.values())
    new = replace(spec, hex_codes_min=fewest, caption_version=name)
    after = loading.check(chosen.out, new, options)
    write_whole(file, _experiment(experiment, new))
    rows = [f"{stem}: {change}" for stem, (_, changes) in mended.items() for change in changes]
    write_whole(listed, "\n".join([*rows, ""]).encode("utf-8", "backslashreplace"))
    kinds = Counter(row.split(": ", 2)[1] for row in rows)
    old, left = (Counter(each.code for each in found.findings) for found in (before, after))
    print(f"{chosen.out}: {len(mended)} pictures with mended captions")
    print("  " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()))
    print(f"  every change: {listed}\nChecked again:")
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
        "subject": parent.subject,
    }
    default = asdict(DatasetSpec())
    # The measured minimum is said even where it is the default, 0.
    stated = {k: v for k, v in asdict(spec).items() if k == "hex_codes_min" or v != default[k]}
    rows = toml_lines({key: value for key, value in words.items() if value})
    return "\n".join([*rows, "", f"[data.{loading.COLLECTION}]", *toml_lines(stated), ""])
