"""Drawn 24x24 portraits for rehearsals: the same pictures on every machine.

Nothing here is the artist's work. The captions follow the grammar of the real ones where it is
sound, and not where it is not: every hex code stands in the tag of the one feature that has that
colour, and the background is among the first three tags.
"""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bespoke.console import say
from bespoke.dataset.colors import WORDS, hex_of, named_in, rgb_of
from bespoke.files import locked

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from PIL import Image

Colour = tuple[int, int, int]

GRID = 24
SIZE = 512
SEED = 24_512
# Each letter of a sprite: the feature that it belongs to, and the shade of that one's colour.
INKS: dict[str, tuple[str, int]] = {
    ".": ("background", 100),
    "s": ("skin", 100), "t": ("skin", 84), "e": ("eyes", 100), "p": ("lips", 100),
    "c": ("clothes", 100), "v": ("clothes", 80), "k": ("neck", 100),
    "1": ("hair", 78), "2": ("hair", 100), "3": ("hair", 114),
    "a": ("accessory", 100), "b": ("accessory", 80), "g": ("detail", 100),
}  # fmt: skip
# What a prompt may ask a colour for.
FEATURES = ("background", "hair", "skin", "eyes", "lips")
_TEXT = Path(__file__).with_name("sprites.txt").read_text(encoding="utf-8")
_SHEETS = re.findall(r"^\[(.+)\]\n((?:.+\n)+)", _TEXT, re.MULTILINE)
COLOURS: dict[str, Colour] = {
    word: rgb_of(code) for word, code in re.findall(r"(\w+) (\w{6})", dict(_SHEETS)["colours"])
}
SKINS = tuple(COLOURS)[-7:]


class Portrait(NamedTuple):
    """`cells` are 24 rows of 24 colours; `word` names the background's colour."""

    word: str
    cells: tuple[tuple[Colour, ...], ...]
    caption: str


class Sprite(NamedTuple):
    """A shape by its name in the caption; `second` is that of what its other colour shows."""

    name: str
    second: str
    top: int
    left: int
    rows: list[str]


def _sprites(title: str) -> list[Sprite]:
    """Those of the sheets of this title; on each they stand side by side, from a first row on."""
    sprites = []
    for lines in (body.splitlines() for name, body in _SHEETS if name == title):
        descriptions = [line.split("|") for line in lines if "|" in line]
        rows = lines[len(descriptions) :]
        columns = [slice(*each.span()) for each in re.finditer(r"\S+", rows[0])]
        for (name, second, place), column in zip(descriptions, columns, strict=True):
            top, left = map(int, place.split())
            cells = [row[column].strip() for row in rows if row[column].strip()]
            sprites.append(Sprite(name.strip(), second.strip(), top, left, cells))
    return sprites


def portrait(seed: int, subject: str, colours: Mapping[str, Colour] | None = None) -> Portrait:
    """The portrait of a "lad" or "lady" that belongs to `seed`.

    `colours` of FEATURES are used as they are, in the place of its own.
    """
    rng = random.Random(seed)  # noqa: S311 - a picture, not a secret
    skin = rng.choice(SKINS)
    back, hair, eyes, lips, cloth, neck, worn, trim = _words_apart(rng, skin)
    style, garment, accessory = (
        rng.choice(_sprites(sheet)) for sheet in (f"hair of {subject}", "clothes", "accessories")
    )
    head, brows, lashes = _sprites("face")
    grid = [["."] * GRID for _ in range(GRID)]
    for sprite in (head, lashes if subject == "lady" else brows, garment, style, accessory):
        _put(grid, sprite)
    tags = {
        "background": (back, "background"), "skin": (skin, "skin"), "eyes": (eyes, "eyes"),
        "lips": (lips, "lips"), "hair": (hair, style.name), "clothes": (cloth, garment.name),
        "neck": (neck, garment.second), "accessory": (worn, accessory.name),
        "detail": (trim, accessory.second),
    }  # fmt: skip
    inks = _inks(rng, {feature: word for feature, (word, _) in tags.items()}, colours or {})
    letters = {letter for row in grid for letter in row}
    coded = []
    for feature, (word, name) in tags.items():
        shown = (each for each in INKS if INKS[each][0] == feature and each in letters)
        codes = [hex_of(inks[each]) for each in shown]
        wearing = "wearing " if feature == "accessory" else ""
        if codes:
            coded.append(f"{wearing}{word} {name} ({' '.join(codes)})")
    first, *rest = coded
    start = ("pixel art", f"portrait of bespoke punk {subject}", first, "24x24")
    end = ("sharp pixel edges", "hard color borders", "retro pixel art style")
    cells = tuple(tuple(inks[letter] for letter in row) for row in grid)
    return Portrait(word=back, cells=cells, caption=", ".join((*start, *rest, *end)))


def _words_apart(rng: random.Random, skin: str) -> list[str]:
    """Eight colour words that are easily told from the skin and from one another."""
    chosen, others = [skin], [word for word in COLOURS if word not in SKINS]
    for word in rng.sample(others, len(others)):
        if all(_distance(COLOURS[word], COLOURS[other]) > 110 for other in chosen):
            chosen.append(word)
    return chosen[1:9]


def _put(grid: list[list[str]], sprite: Sprite) -> None:
    """Put a sprite's letters over what is there; hair is `#`, in three tones lit from the left."""
    rows = sprite.rows
    for y, row in enumerate(rows):
        for x, letter in enumerate(row):
            if letter == "." or sprite.top + y >= GRID:
                continue
            if letter == "#":
                below = rows[y + 1][x : x + 1] if y + 1 < len(rows) else ""
                edge = row[x + 1 : x + 2] != "#" or below != "#"
                letter = "1" if edge else "3" if (x + y // 4) % 3 == 0 else "2"
            grid[sprite.top + y][sprite.left + x] = letter


def _inks(
    rng: random.Random, words: Mapping[str, str], given: Mapping[str, Colour]
) -> dict[str, Colour]:
    """The colour of each letter: a shade of its feature's, near it, and no other letter's."""
    inks: dict[str, Colour] = {"o": (0, 0, 0), "w": (255, 255, 255)}
    for letter, (feature, percent) in INKS.items():
        colour = near = _shade(COLOURS[words[feature]], percent)
        while near in inks.values() or near is colour:
            red, green, blue = (min(255, max(0, v + rng.randrange(-4, 5))) for v in colour)
            near = (red, green, blue)
        inks[letter] = _shade(given[feature], percent) if feature in given else near
    return inks


def draw(folder: Path, count: int = 203) -> None:
    """Write `count` portraits as 512x512 RGB PNGs with their captions, lads first."""
    folder.mkdir(parents=True, exist_ok=True)
    lads = (count * 105 + 101) // 203
    for number in range(1, count + 1):
        subject = "lad" if number <= lads else "lady"
        drawn = portrait(SEED + number, subject)
        file = folder / f"{subject}_{number:03d}_{drawn.word}.png"
        enlarged(drawn.cells).save(file, compress_level=1)
        file.with_suffix(".txt").write_text(drawn.caption + "\n", encoding="utf-8")


def collection(name: str, count: int, workspace: Path) -> Path:
    """The folder of `count` portraits in the place of a subset's own, drawn where it is missing."""
    folder = workspace / "drawn" / f"{name}_{count}"
    part = folder.with_name(f".{folder.name}.part")
    with locked(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            say(f"{name}: no pictures found; using {count} generated samples")
            shutil.rmtree(part, ignore_errors=True)
            draw(part, count)
            part.rename(folder)
    return folder


def enlarged(cells: tuple[tuple[Colour, ...], ...]) -> Image.Image:
    """The 512x512 picture of 24x24 cells, by pixel centres as all 203 real pictures are."""
    from PIL import Image

    small = Image.new("RGB", (GRID, GRID))
    small.putdata([colour for row in cells for colour in row])
    return small.resize((SIZE, SIZE), Image.Resampling.NEAREST)


def sample(
    prompt: str, *, seed: int, size: tuple[int, int], learned: Collection[str]
) -> Image.Image:
    """What the fake trainer draws of a prompt: the `learned` ones of FEATURES in the colours that
    it asks for, and a background that is not learned far from that."""
    wanted = _colours_of(prompt)
    colours = {name: colour for name, colour in wanted.items() if name in learned}
    if "background" in wanted.keys() - set(learned):
        red, green, blue = (value ^ 128 for value in wanted["background"])
        colours["background"] = (red, green, blue)
    subject = "lady" if re.search(r"\blady\b", prompt) else "lad"
    return enlarged(portrait(seed, subject, colours).cells).resize(size, resample=0)


def _colours_of(prompt: str) -> dict[str, Colour]:
    """The colour of each of FEATURES that a prompt's tags name: by hex code, else in words."""
    colours: dict[str, Colour] = {}
    for tag in prompt.split(","):
        codes = re.findall(r"#[0-9a-fA-F]{6}", tag) or [WORDS[word][0] for _, word in named_in(tag)]
        for feature in (name for name in FEATURES if codes and re.search(rf"\b{name}\b", tag)):
            colours.setdefault(feature, rgb_of(codes[-1]))
    return colours


def _shade(colour: Colour, percent: int) -> Colour:
    red, green, blue = (min(255, value * percent // 100) for value in colour)
    return red, green, blue


def _distance(one: Colour, other: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
