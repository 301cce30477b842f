"""Drawn 24x24 portraits for rehearsals: the same pictures on every machine.

Nothing here is the artist's work. The captions follow the grammar of the real ones where it is
sound (one line, at least 12 hex codes, lips named) and not where it is not: every hex code stands
in the tag of the one feature that has that colour, so that shuffling the tags tears nothing apart,
and the background is among the first three tags.

The shapes are text, sprites.txt. In hair every `#` is shaded by code. Elsewhere a letter names its
ink: o outline; s, t skin and its shade; w, e the eyes; p lips; c, v clothing and its shade; k what
shows at the neck; a, b an accessory and its shade; g a detail of it.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.colours import hex_of, rgb_of
from bespoke.display import say
from bespoke.files import locked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

Colour = tuple[int, int, int]
# Top row, left column, rows.
Sprite = tuple[int, int, tuple[str, ...]]
# Name in the caption; the name of a garment's neck or an accessory's detail (empty: none).
Named = tuple[str, str, Sprite]

GRID = 24
SIZE = 512
SEED = 24_512

# sRGB.
_COLOURS = """
almond efdecd  amber ffbf00  aqua 00e5e5  auburn 9a3524  black 141418  blonde e8c97a
bronze c07b3a  caramel c68e5a  chestnut 80462c  cobalt 1047ab  copper b87333  coral ff7f50
crimson dc143c  denim 1560bd  emerald 50c878  gold ffd700  indigo 4b0082  ivory f6f4e2
jade 00a86b  khaki e6da8c  lavender dcdcf5  magenta e810e0  maroon 800810  mint 98f5b0
mustard e1ad21  navy 080874  olive 808010  orchid da70d6  peach ffcba4  rose f04a82
ruby d8115f  salmon fa8072  sapphire 0f52ba  scarlet f02410  sienna a0522d  silver c0c0c4
slate 708090  tan d2b48c  teal 088080  turquoise 40e0d0
"""
COLOURS: dict[str, Colour] = {
    word: rgb_of(code) for word, code in re.findall(r"(\w+) (\w{6})", _COLOURS)
}
# What may have which colours; a word that stands twice is drawn twice as often.
_WORDS = {
    "background": "amber aqua cobalt copper coral crimson emerald gold indigo jade khaki lavender "
    "maroon mint mustard navy olive orchid peach rose ruby salmon sapphire slate teal turquoise",
    "hair": "auburn black black blonde chestnut chestnut copper silver turquoise rose indigo",
    "skin": "almond peach peach tan caramel bronze sienna chestnut",
    "eyes": "emerald sapphire teal jade amber slate chestnut turquoise",
    "lips": "rose ruby crimson coral salmon scarlet maroon",
    "clothes": "black cobalt crimson denim emerald indigo ivory jade lavender maroon mustard navy "
    "olive orchid rose silver slate teal turquoise amber",
    "neck": "ivory silver gold black mint coral lavender amber turquoise",
    "accessory": "gold silver amber copper black navy slate ivory turquoise rose khaki",
    "detail": "ruby emerald sapphire ivory magenta aqua scarlet orchid",
}
# What a prompt may ask a colour for.
FEATURES = ("background", "hair", "skin", "eyes", "lips")
_WRONG_BACKGROUNDS: tuple[Colour, ...] = ((0x8A, 0x50, 0x3C), (0x30, 0x60, 0xC0))


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """`cells` are 24 rows of 24 colours; `word` names the background's colour."""

    word: str
    cells: tuple[tuple[Colour, ...], ...]
    caption: str


def _read_sprites() -> dict[str, list[Named]]:
    """The sprites of every sheet; those of a sheet stand side by side, from its first row on."""
    sheets: dict[str, list[Named]] = {}
    text = Path(__file__).with_name("sprites.txt").read_text(encoding="utf-8")
    for title, body in re.findall(r"^\[(.+)\]\n((?:.+\n)+)", text, re.MULTILINE):
        lines = body.splitlines()
        described = [line.split("|") for line in lines if "|" in line]
        rows = lines[len(described) :]
        columns = re.finditer(r"\S+", rows[0])
        for (name, second, place), column in zip(described, columns, strict=True):
            top, left = map(int, place.split())
            cells = (row[slice(*column.span())].strip() for row in rows)
            sprite = (top, left, tuple(filter(None, cells)))
            sheets.setdefault(title, []).append((name.strip(), second.strip(), sprite))
    return sheets


SPRITES = _read_sprites()
HEAD, BROWS, LASHES = (sprite for _, _, sprite in SPRITES["face"])


class _Sheet:
    """One portrait while it is drawn: a grid of ink names, and the colour of each ink."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.grid = [["background 100"] * GRID for _ in range(GRID)]
        self.colours: dict[str, Colour] = {"outline": (0, 0, 0), "white": (255, 255, 255)}
        self.words: set[str] = set()
        self.features: list[tuple[str, tuple[str, ...]]] = []

    def put(self, sprite: Sprite, inks: dict[str, str]) -> None:
        top, left, rows = sprite
        for y, row in enumerate(rows, top):
            for x, letter in enumerate(row, left):
                if letter != "." and y < GRID:
                    self.grid[y][x] = inks[letter]

    def word(self, kind: str, *apart_from: str) -> str:
        """A colour word not yet in this portrait, easily told from those it lies next to."""
        fresh = [word for word in _WORDS[kind].split() if word not in self.words]
        apart = [COLOURS[word] for word in apart_from]
        clear = [w for w in fresh if all(_distance(COLOURS[w], each) > 150 for each in apart)]
        chosen = self.rng.choice(clear or fresh)
        self.words.add(chosen)
        return chosen

    def ink(self, feature: str, word: str, percent: int = 100) -> str:
        """The ink of a shade of `word`: near it, and a colour that no other ink here has."""
        name = f"{feature} {percent}"
        while True:
            red, green, blue = (
                min(255, max(0, value + self.rng.randrange(-4, 5)))
                for value in _shade(COLOURS[word], percent)
            )
            if (red, green, blue) not in self.colours.values():
                self.colours[name] = (red, green, blue)
                return name

    def feature(self, phrase: str, *inks: str) -> None:
        self.features.append((phrase, inks))

    def caption(self) -> str:
        """The tags of all features, with the hex codes that can be seen."""
        seen = {ink for row in self.grid for ink in row}
        tags = []
        for phrase, inks in self.features:
            codes = [hex_of(self.colours[ink]) for ink in inks if ink in seen]
            if codes or not inks:
                tags.append(f"{phrase} ({' '.join(codes)})" if codes else phrase)
        return ", ".join(tags)


def draw(folder: Path, count: int = 203) -> None:
    """Write `count` portraits as 512x512 RGB PNGs with their captions, lads first.

    The pixels and the captions are the same on every machine; the PNG bytes are the same wherever
    Pillow was built with the same zlib.

    Raises:
        OSError: where `folder` cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lads = (count * 105 + 101) // 203
    for number in range(1, count + 1):
        subject = "lad" if number <= lads else "lady"
        drawn = portrait(SEED + number, subject)
        file = folder / f"{subject}_{number:03d}_{drawn.word}.png"
        enlarged(drawn.cells).save(file, compress_level=1)
        file.with_suffix(".txt").write_text(drawn.caption + "\n", encoding="utf-8")


def collection(name: str, count: int, workspace: Path) -> Path:
    """The folder of `count` portraits in the place of a subset's own, drawn where it is missing.

    Raises:
        OSError: where it cannot be written.
    """
    folder = workspace / "drawn" / f"{name}_{count}"
    if folder.is_dir():
        return folder
    samples = "1 generated sample" if count == 1 else f"{count} generated samples"
    say(f"{name}: no pictures found; using {samples}")
    with locked(folder.with_name(f".{folder.name}.lock")):
        # A run beside this one may have drawn them meanwhile, or was killed in the midst of it.
        if not folder.is_dir():
            part = folder.with_name(f".{folder.name}.part")
            for left in folder.parent.glob(f"*{folder.name}.part*"):
                shutil.rmtree(left, ignore_errors=True)
            draw(part, count)
            part.rename(folder)
    return folder


def enlarged(cells: tuple[tuple[Colour, ...], ...]) -> Image.Image:
    """The 512x512 picture of 24x24 cells.

    Nearest neighbour by pixel centres, cell = (2x + 1) * 24 // 1024: all 203 real pictures follow
    it (at least 99.985% of the pixels of each), none follows x * 24 // 512.
    """
    from PIL import Image

    small = Image.new("RGB", (GRID, GRID))
    small.putdata([colour for row in cells for colour in row])
    return small.resize((SIZE, SIZE), Image.Resampling.NEAREST)


def sample(
    prompt: str, *, seed: int, size: tuple[int, int], learned: Collection[str]
) -> tuple[Image.Image, PngInfo]:
    """What the fake trainer draws of a prompt, and the note that goes into the file.

    The `learned` ones of FEATURES have the colours that the prompt asks for. A background that is
    not learned is far from what it asks for.
    """
    from PIL.PngImagePlugin import PngInfo

    asked = _asked(prompt)
    colours = {name: colour for name, colour in asked.items() if name in learned}
    if "background" in asked and "background" not in learned:
        colours["background"] = max(
            _WRONG_BACKGROUNDS, key=lambda each: _distance(each, asked["background"])
        )
    subject = "lady" if re.search(r"\blady\b", prompt) else "lad"
    note = PngInfo()
    note.add_text("Comment", "REHEARSAL: drawn by a fake trainer, no model made this")
    cells = portrait(seed, subject, colours=colours).cells
    return enlarged(cells).resize(size, resample=0), note


def _asked(prompt: str) -> dict[str, Colour]:
    """The colour of each of FEATURES that a prompt's tags name: by hex code, else in words."""
    from PIL import ImageColor

    asked: dict[str, Colour] = {}
    for tag in prompt.split(","):
        feature = next((name for name in FEATURES if re.search(rf"\b{name}\b", tag)), None)
        code = re.search(r"#[0-9a-fA-F]{6}", tag)
        words = tag.split()
        for name in [code[0]] if code else ["".join(words[:-1]), *words]:
            with contextlib.suppress(ValueError):
                if feature is not None and feature not in asked:
                    red, green, blue = COLOURS.get(name) or ImageColor.getrgb(name)[:3]
                    asked[feature] = (red, green, blue)
    return asked


def portrait(
    seed: int,
    subject: str,
    background: Colour | None = None,
    *,
    colours: Mapping[str, Colour] | None = None,
) -> Portrait:
    """The portrait of a "lad" or "lady" that belongs to `seed`.

    `colours` of FEATURES, and `background`, are used as they are, in the place of its own.
    """
    sheet = _Sheet(random.Random(seed))  # noqa: S311 - a picture, not a secret
    given = {**(colours or {}), **({} if background is None else {"background": background})}
    back = sheet.word("background")
    sheet.ink("background", back)
    for phrase in ("pixel art", f"portrait of bespoke punk {subject}"):
        sheet.feature(phrase)
    sheet.feature(f"{back} background", "background 100")
    sheet.feature("24x24")
    skin = sheet.word("skin", back)
    hair = sheet.word("hair", back, skin)
    _head(sheet, subject, skin)
    _clothes(sheet, back, skin)
    _hair(sheet, subject, hair)
    _accessory(sheet, (back, hair, skin))
    for phrase in ("sharp pixel edges", "hard color borders", "retro pixel art style"):
        sheet.feature(phrase)
    for ink in sheet.colours:
        name, _, percent = ink.rpartition(" ")
        if name in given:
            sheet.colours[ink] = _shade(given[name], int(percent))
    cells = tuple(tuple(sheet.colours[ink] for ink in row) for row in sheet.grid)
    return Portrait(word=back, cells=cells, caption=sheet.caption())


def _head(sheet: _Sheet, subject: str, skin: str) -> None:
    inks = {"o": "outline", "w": "white", "s": sheet.ink("skin", skin)}
    inks["t"] = sheet.ink("skin", skin, 84)
    sheet.feature(f"{skin} skin", inks["s"], inks["t"])
    for letter, name in (("e", "eyes"), ("p", "lips")):
        word = sheet.word(name, skin)
        inks[letter] = sheet.ink(name, word)
        sheet.feature(f"{word} {name}", inks[letter])
    sheet.put(HEAD, inks)
    sheet.put(LASHES if subject == "lady" else BROWS, inks)


def _clothes(sheet: _Sheet, back: str, skin: str) -> None:
    name, neck, sprite = sheet.rng.choice(SPRITES["clothes"])
    cloth = sheet.word("clothes", back, skin)
    collar = sheet.word("neck", cloth, skin)
    inks = {"c": sheet.ink("cloth", cloth), "v": sheet.ink("cloth", cloth, 80)}
    inks["k"] = sheet.ink("collar", collar)
    sheet.put(sprite, inks)
    sheet.feature(f"{cloth} {name}", inks["c"], inks["v"])
    sheet.feature(f"{collar} {neck}", inks["k"])


def _hair(sheet: _Sheet, subject: str, word: str) -> None:
    """Three tones of one colour, as light from the upper left would make them."""
    styles = SPRITES["hair of ladies" if subject == "lady" else "hair of lads"]
    name, _, (top, left, rows) = sheet.rng.choice(styles)
    tones = [sheet.ink("hair", word, percent) for percent in (78, 100, 114)]
    marks = {(x, y) for y, row in enumerate(rows) for x, mark in enumerate(row) if mark == "#"}
    for x, y in marks:
        edge = (x + 1, y) not in marks or (x, y + 1) not in marks
        sheet.grid[top + y][left + x] = tones[0 if edge else 1 + ((x + y // 4) % 3 == 0)]
    sheet.feature(f"{word} {name}", *tones)


def _accessory(sheet: _Sheet, near: tuple[str, ...]) -> None:
    """One that does not hide the hair's tones, so that every caption has its 12 hex codes."""
    name, detail, sprite = sheet.rng.choice(SPRITES["accessories"])
    word = sheet.word("accessory", *near)
    inks = {"a": sheet.ink("accessory", word), "b": sheet.ink("accessory", word, 80)}
    sheet.feature(f"wearing {word} {name}", *inks.values())
    if detail:
        trim = sheet.word("detail", word)
        inks["g"] = sheet.ink("detail", trim)
        sheet.feature(f"{trim} {detail}", inks["g"])
    sheet.put(sprite, inks)


def _shade(colour: Colour, percent: int) -> Colour:
    red, green, blue = (min(255, value * percent // 100) for value in colour)
    return red, green, blue


def _distance(one: Colour, other: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
