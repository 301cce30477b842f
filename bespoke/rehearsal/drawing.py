"""A collection of drawn 24x24 portraits for rehearsals: the same pictures on every machine.

Nothing here is the artist's work. The captions follow the grammar of the real ones where it is
sound (one line, at least 12 hex codes, lips named) and not where it is not: every hex code stands
in the tag of the one feature that has that colour, so that shuffling the tags tears nothing apart,
and the background is among the first three tags.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.colours import hex_of, rgb_of
from bespoke.display import say
from bespoke.files import locked
from bespoke.rehearsal import sprites

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

Colour = tuple[int, int, int]

GRID = 24
SIZE = 512
LEAST_HEX_CODES = 12
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
    "beard": "chestnut black auburn slate",
    "skin": "almond peach peach tan caramel bronze sienna chestnut",
    "eyes": "emerald sapphire teal jade amber slate chestnut turquoise",
    "lips": "rose ruby crimson coral salmon scarlet maroon",
    "clothes": "black cobalt crimson denim emerald indigo ivory jade lavender maroon mustard navy "
    "olive orchid rose silver slate teal turquoise amber",
    "neck": "ivory silver gold black mint coral lavender amber turquoise",
    "metal": "gold silver amber copper bronze mustard ivory turquoise khaki",
    "frame": "black maroon navy slate gold silver olive",
    "detail": "ruby emerald sapphire ivory magenta aqua scarlet orchid",
}
_MADE_OF = {"crown": "metal", "hoop earrings": "metal", "necklace": "metal", "glasses": "frame"}

OUTLINE: Colour = (0, 0, 0)
EYE_WHITE: Colour = (0xFF, 0xFF, 0xFF)
# Where a background has its second colour. The first keeps most of the border, which names it.
PATTERNS: dict[str, Callable[[int, int], bool]] = {
    "striped ": lambda x, _: x % 4 == 3,
    "split ": lambda x, _: x > GRID // 2 + 1,
    "checkered ": lambda x, y: (x // 5 + y // 5) % 2 == 1,
}


# A thing in the picture, as the caption names it, and the inks that it is drawn with.
Feature = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """`cells` are 24 rows of 24 colours; `word` names the background's colour."""

    word: str
    cells: tuple[tuple[Colour, ...], ...]
    caption: str


class _Sheet:
    """One portrait while it is drawn: a grid of ink names, and the colour of each ink."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.grid = [["back"] * GRID for _ in range(GRID)]
        self.colours: dict[str, Colour] = {"outline": OUTLINE, "eye white": EYE_WHITE}
        self.words: set[str] = set()
        self.features: list[Feature] = []

    def put(self, sprite: sprites.Sprite, inks: dict[str, str]) -> None:
        top, left, rows = sprite
        for y, row in enumerate(rows, top):
            for x, letter in enumerate(row, left):
                if letter != "." and y < GRID:
                    self.grid[y][x] = inks[letter]

    def word(self, kind: str, *apart_from: str) -> str:
        """A colour word not yet in this portrait, easily told from those it lies next to."""
        fresh = [word for word in _WORDS[kind].split() if word not in self.words]
        clear = [word for word in fresh if all(_distance(word, o) > 150 for o in apart_from)]
        chosen = self.rng.choice(clear or fresh)
        self.words.add(chosen)
        return chosen

    def ink(self, name: str, colour: tuple[int, ...]) -> str:
        """Give `name` a colour near `colour` that no other ink of this portrait has."""
        while True:
            near = tuple(min(255, max(0, v + self.rng.randrange(-4, 5))) for v in colour)
            if near not in self.colours.values():
                self.colours[name] = (near[0], near[1], near[2])
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

    Each file is whole or not there. The pixels and the captions are the same on every machine; the
    PNG bytes are the same wherever Pillow was built with the same zlib.

    Raises:
        OSError: where `folder` cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lads = (count * 105 + 101) // 203
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as started:
        for number in range(1, count + 1):
            subject = "lad" if number <= lads else "lady"
            drawn = portrait(SEED + number, subject)
            stem = Path(started) / f"{subject}_{number:03d}_{drawn.word}"
            enlarged(drawn.cells).save(stem.with_suffix(".png"), compress_level=1)
            stem.with_suffix(".txt").write_text(drawn.caption + "\n", encoding="utf-8")
        for path in sorted(Path(started).iterdir()):
            path.replace(folder / path.name)


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
            shutil.rmtree(part, ignore_errors=True)
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


def portrait(seed: int, subject: str, background: Colour | None = None) -> Portrait:
    """The portrait of a "lad" or "lady" that belongs to `seed`; `background` is used as it is."""
    rng = random.Random(seed)  # noqa: S311 - a picture, not a secret
    while True:
        sheet = _Sheet(rng)
        word = _compose(sheet, subject)
        if background is not None:
            sheet.colours["back"] = sheet.colours["back 2"] = background
        caption = sheet.caption()
        # A hat can hide so much of the hair that its shades are gone from the picture.
        if caption.count("#") >= LEAST_HEX_CODES or background is not None:
            break
    cells = tuple(tuple(sheet.colours[ink] for ink in row) for row in sheet.grid)
    return Portrait(word=word, cells=cells, caption=caption)


def _compose(sheet: _Sheet, subject: str) -> str:
    sheet.feature("pixel art")
    sheet.feature(f"portrait of bespoke punk {subject}")
    back = _background(sheet)
    sheet.feature("24x24")
    skin = sheet.word("skin", back)
    hair = sheet.word("hair", back, skin)
    _head(sheet, subject, skin)
    clothes = _clothes(sheet, back, skin)
    _hair(sheet, subject, hair)
    _accessories(sheet, subject, (back, hair, skin))
    _face(sheet, skin)
    sheet.features += clothes
    for phrase in ("sharp pixel edges", "hard color borders", "retro pixel art style"):
        sheet.feature(phrase)
    return back


def _background(sheet: _Sheet) -> str:
    word = sheet.word("background")
    # Most are plain.
    pattern = sheet.rng.choice(("",) * 6 + (*PATTERNS,))
    sheet.ink("back", COLOURS[word])
    sheet.ink("back 2", _scaled(COLOURS[word], 84))
    for y, x in itertools.product(range(GRID), repeat=2):
        if pattern and PATTERNS[pattern](x, y):
            sheet.grid[y][x] = "back 2"
    sheet.feature(f"{pattern}{word} background", "back", "back 2")
    return word


def _head(sheet: _Sheet, subject: str, skin: str) -> None:
    sheet.ink("skin", COLOURS[skin])
    sheet.ink("skin 2", _scaled(COLOURS[skin], 84))
    inks = {"o": "outline", "s": "skin", "t": "skin 2", "w": "eye white", "e": "eyes", "p": "lips"}
    sheet.put(sprites.HEAD, inks)
    sheet.put(sprites.LASHES if subject == "lady" else sprites.BROWS, inks)


def _face(sheet: _Sheet, skin: str) -> None:
    eyes = sheet.word("eyes", skin)
    lips = sheet.word("lips", skin)
    sheet.feature(f"{eyes} eyes", sheet.ink("eyes", COLOURS[eyes]))
    sheet.feature(f"{lips} lips", sheet.ink("lips", COLOURS[lips]))
    smiling = sheet.rng.randrange(2) == 0
    sheet.feature("slight smile" if smiling else "neutral expression")
    if smiling and "beard" not in sheet.colours:
        sheet.put(sprites.SMILE, {"t": "skin 2"})
    sheet.feature(f"{skin} skin", "skin", "skin 2")


def _clothes(sheet: _Sheet, back: str, skin: str) -> list[Feature]:
    name, neck, sprite = sheet.rng.choice(sprites.CLOTHES)
    cloth = sheet.word("clothes", back, skin)
    collar = sheet.word("neck", cloth, skin)
    inks = {"c": sheet.ink("cloth", COLOURS[cloth])}
    inks["v"] = sheet.ink("cloth 2", _scaled(COLOURS[cloth], 80))
    inks["k"] = sheet.ink("collar", COLOURS[collar])
    sheet.put(sprite, inks)
    return [(f"{cloth} {name}", ("cloth", "cloth 2")), (f"{collar} {neck}", ("collar",))]


def _hair(sheet: _Sheet, subject: str, word: str) -> None:
    styles = sprites.LADY_HAIR if subject == "lady" else sprites.LAD_HAIR
    name, texture, sprite = sheet.rng.choice(styles)
    tone = COLOURS[word]
    dark, middle = sheet.ink("hair dark", _scaled(tone, 80)), sheet.ink("hair", tone)
    inks = (dark, middle, sheet.ink("hair light", tuple(v + (255 - v) * 13 // 100 for v in tone)))
    _put_shaded(sheet, sprite, texture, inks)
    sheet.feature(f"{word} {name}", *inks)
    if subject == "lad" and sheet.rng.randrange(3) == 0:
        # A beard is its own feature with its own codes, a little darker than the hair.
        beard = sheet.word("beard")
        base = sheet.ink("beard", COLOURS[beard])
        dark = sheet.ink("beard 2", _scaled(COLOURS[beard], 80))
        _put_shaded(sheet, sprites.BEARD, "curly", (dark, base, base))
        sheet.feature(f"{beard} beard", base, dark)


def _accessories(sheet: _Sheet, subject: str, near: tuple[str, ...]) -> None:
    """One to three of them, so that the caption stays within 225 CLIP tokens."""
    rng = sheet.rng
    headwear = rng.choice(sprites.HEADWEAR[: 5 if subject == "lady" else 4])
    choices = [headwear, *sprites.ACCESSORIES]
    wanted = [choice for choice in choices if rng.randrange(100) < 38][:3]
    for number, (name, detail, sprite) in enumerate(wanted or [rng.choice(choices)]):
        word = sheet.word(_MADE_OF.get(name, "clothes"), *near)
        ink = f"accessory {number}"
        inks = {"a": sheet.ink(ink, COLOURS[word])}
        inks["b"] = sheet.ink(f"{ink} shade", _scaled(COLOURS[word], 80))
        sheet.feature(f"wearing {word} {name}", *inks.values())
        if detail:
            trim = sheet.word("detail", word)
            inks["g"] = sheet.ink(f"{ink} detail", COLOURS[trim])
            sheet.feature(f"{trim} {detail}", inks["g"])
        sheet.put(sprite, inks)


def _put_shaded(
    sheet: _Sheet, sprite: sprites.Sprite, texture: str, inks: tuple[str, str, str]
) -> None:
    """Light comes from the upper left; strands run down, curls lie like a chessboard."""
    top, left, rows = sprite
    marks = {(x, y) for y, row in enumerate(rows) for x, mark in enumerate(row) if mark == "#"}
    for x, y in marks:
        edge = (x + 1, y) not in marks or (x, y + 1) not in marks
        strand = (x + y // 4) % 3 == 0 if texture == "straight" else (x + y) % 2 == 0
        lit = (x - 1, y - 2) not in marks or (texture == "curly" and (x + 2 * y) % 5 == 0)
        tone = 0 if edge or (strand and not lit) else 2 if lit and not strand else 1
        sheet.grid[top + y][left + x] = inks[tone]


def _scaled(colour: Colour, percent: int) -> Colour:
    red, green, blue = (v * percent // 100 for v in colour)
    return red, green, blue


def _distance(word: str, other: str) -> int:
    return sum(abs(a - b) for a, b in zip(COLOURS[word], COLOURS[other], strict=True))
