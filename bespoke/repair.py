"""`bespoke captions repair`: a new caption version beside the old one, with a list of every change.

What is done to a caption, and in which order, is told in `mending`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import captions
from bespoke.canvas import canvas_of
from bespoke.captions import tokens
from bespoke.dataset import COLLECTION
from bespoke.errors import ConfigError, DatasetError
from bespoke.files import write_whole
from bespoke.mending import Change, Repairs, mend
from bespoke.promise import Promise
from bespoke.toml_files import toml_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bespoke.dataset import Collection, Pair
    from bespoke.findings import Finding


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A new caption version in `out`. `changes` holds every caption's by stem, () where it is as
    it was; `tokens` are the new captions' own, by stem.

    `promise` is what an experiment on the new version can declare. `left_out` names the files of
    the old folder that are in no pair, and so in no training.
    """

    source: Path
    out: Path
    rules: Repairs
    promise: Promise
    changes: Mapping[str, tuple[Change, ...]]
    most_hex_codes: int
    tokens: Mapping[str, int]
    left_out: tuple[str, ...]

    @property
    def totals(self) -> Counter[str]:
        """Changes by kind."""
        return Counter(change.kind for each in self.changes.values() for change in each)

    @property
    def over_limit(self) -> tuple[str, ...]:
        """The captions that exceed the window still, as nothing more may be taken from them."""
        return tuple(stem for stem, count in self.tokens.items() if count > self.rules.limit)


def repair(
    collection: Collection,
    *,
    out: Path,
    promise: Promise,
    keep: str = "background",
    keep_tokens: int,
    limit: int = 225,
) -> Repair:
    """Write the pairs of `collection` into `out`, with mended captions, and the list of changes
    as `<out>.report.txt` beside it.

    `promise` is the old version's; the new one differs in its version and the hex codes there are.
    Where `collection` was checked without `cells`, no hex is held to its picture. Text past a
    caption's first line stays as it is. The folder appears whole or not at all.

    Raises:
        ConfigError: `out` is not empty, is the old folder or in it, or cannot be written; the
            report is there already; `keep` is no class of tags.
        DatasetError: no pairs, or a caption that cannot be read.
    """
    listed = out.with_name(f"{out.name}.report.txt")
    _refuse(collection.folder, out, listed)
    if keep not in captions.FEATURES:
        known = ", ".join(captions.FEATURES)
        raise ConfigError(f"keep {keep!r}: no class of tags; known are {known}")
    if not collection.pairs:
        raise DatasetError(f"{collection.folder}: no picture with a caption, so nothing to repair")
    rules = Repairs(keep=keep, keep_tokens=keep_tokens, limit=limit, names=promise.names)
    texts, changes = _mended(collection, rules)
    lines = {stem: captions.first_line(text) for stem, text in texts.items()}
    hex_codes = [len(captions.hex_codes(line)) for line in lines.values()]
    paired = {path.name for pair in collection.pairs for path in (pair.picture, pair.caption)}
    done = Repair(
        source=collection.folder,
        out=out,
        rules=rules,
        promise=replace(promise, hex_codes_min=min(hex_codes), caption_version="repaired_v1"),
        changes=changes,
        most_hex_codes=max(hex_codes),
        tokens={stem: tokens(line) for stem, line in lines.items()},
        left_out=tuple(sorted({path.name for path in collection.folder.iterdir()} - paired)),
    )
    try:
        _write(collection.pairs, texts, out)
        write_whole(listed, report(done))
    except OSError as failure:
        message = f"{out}: cannot be written: {failure.strerror}; name another folder with --out"
        raise ConfigError(message) from failure
    return done


def _refuse(source: Path, out: Path, listed: Path) -> None:
    wanted, old = out.resolve(), source.resolve()
    other = "name another folder with --out"
    if wanted == old or old in wanted.parents:
        raise ConfigError(f"{out}: is in the captions' own folder, which stays as it is; {other}")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"{out}: is no folder; {other}")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise ConfigError(f"{out}: is not empty, and nothing in it is overwritten; {other}")
    if listed.exists():
        raise ConfigError(f"{listed}: is there already, and is not overwritten; {other}")


def _mended(
    collection: Collection, rules: Repairs
) -> tuple[dict[str, str], dict[str, tuple[Change, ...]]]:
    """The new caption files' whole texts and what was changed, by stem."""
    texts, changes = {}, {}
    for pair in collection.pairs:
        try:
            text = pair.caption.read_bytes().decode()
        except (OSError, UnicodeDecodeError) as failure:
            raise DatasetError(f"{pair.caption.name}: cannot be read: {failure}") from failure
        picture = collection.pictures.get(pair.stem)
        art = picture.art if picture else None
        line = captions.first_line(text)
        mended, changes[pair.stem] = mend(line, None if art is None else canvas_of(art), rules)
        # What stands around the first line, its end included, is not read and not touched.
        texts[pair.stem] = text if mended == line else text.replace(line, mended, 1)
    return texts, changes


def _write(pairs: Iterable[Pair], texts: Mapping[str, str], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as beside:
        whole = Path(beside) / "whole"
        whole.mkdir()
        for pair in pairs:
            shutil.copyfile(pair.picture, whole / pair.picture.name)
            (whole / pair.caption.name).write_bytes(texts[pair.stem].encode())
        whole.replace(out)


def report(repair: Repair) -> str:
    """The whole list of changes: totals first, then what to declare, then caption by caption."""
    changed = sum(bool(each) for each in repair.changes.values())
    lines = [
        f"Captions of {repair.source.name}, repaired into {repair.out.name}",
        f"{len(repair.changes)} captions, {changed} changed",
        *(f"  {kind}: {count}" for kind, count in repair.totals.most_common()),
        f"tokens: {max(repair.tokens.values())} in the longest, {repair.rules.limit} are read; "
        f"{len(repair.over_limit)} captions exceed that",
        *(f"  {stem}: {repair.tokens[stem]} tokens" for stem in repair.over_limit),
        *(f"left out, as it is in no pair: {name}" for name in repair.left_out),
        "",
        f"{repair.promise.hex_codes_min} to {repair.most_hex_codes} hex codes are left in a "
        "caption. Declare the new version in the experiment that trains on it:",
        "",
        declaration(repair),
    ]
    for stem, changes in repair.changes.items():
        lines += ["", f"{stem}: {len(changes)} changes"] if changes else []
        for change in changes:
            after = f" -> {change.after}" if change.after not in ("", change.before) else ""
            lines.append(f"  {change.kind}: {change.before}{after} ({change.why})")
    # A file name that is no UTF-8 could not be written.
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace").decode()


def declaration(repair: Repair) -> str:
    """The TOML table with which an experiment promises the collection's new version."""
    default = asdict(Promise())
    # The measured minimum is said even where it is the default, 0.
    stated = {
        key: value
        for key, value in asdict(repair.promise).items()
        if key == "hex_codes_min" or value != default[key]
    }
    return "\n".join((f"[data.{COLLECTION}]", *toml_lines(stated)))


def cured(before: Iterable[Finding], after: Iterable[Finding]) -> list[str]:
    """By finding code, how many there were and how many there are: "colour_loose: 203 -> 0"."""
    old, new = (Counter(each.code for each in findings) for findings in (before, after))
    ordered = sorted({*old, *new}, key=lambda code: (new[code] - old[code], code))
    return [f"{code}: {old[code]} -> {new[code]}" for code in ordered]
