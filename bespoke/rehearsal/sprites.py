"""The shapes that drawn portraits are put together from, as text on the 24x24 grid.

In masks every `#` belongs to one feature, shaded by code. Elsewhere a letter names its ink: o
outline; s, t skin and its shade; w, e the eyes; p lips; c, v clothing and its shade; k what shows
at the neck; a, b an accessory and its shade; g a detail of it; a dot leaves what lies below.
"""

from __future__ import annotations

import re

# Top row, left column, rows.
Sprite = tuple[int, int, tuple[str, ...]]
# Name in the caption; a hair's texture, or the name of a garment's neck or an accessory's detail
# (empty: none).
Named = tuple[str, str, Sprite]


def _sprites(sheet: str, *places: tuple[int, int]) -> list[Sprite]:
    """The sprites of a sheet, which stand side by side and begin in its first row."""
    lines = sheet.strip("\n").split("\n")
    found = []
    for (top, left), columns in zip(places, re.finditer(r"\S+", lines[0]), strict=True):
        rows = (line[slice(*columns.span())].strip() for line in lines)
        found.append((top, left, tuple(row for row in rows if row)))
    return found


def _named(sheet: str, *described: tuple[str, str, int, int]) -> list[Named]:
    sprites = _sprites(sheet, *((top, left) for _, _, top, left in described))
    return [
        (name, second, sprite)
        for (name, second, *_), sprite in zip(described, sprites, strict=True)
    ]


HEAD, BEARD, BROWS, LASHES, SMILE = _sprites(
    """
..ooooooo.. #.........# oo..oo .tt..tt t...t
.ossssssto. ##.......##        o...o..
ossssssssto ###.....###
ossssssssto ####...####
ossssssssto .#########.
ossssssssto ..#######..
oswesswesto ...#####...
ossssssssto
osssstsssto
osssttsssto
ossssssssto
ossspppssto
.ossssssto.
..ossssto..
...ottto...
...ossto...
....sst....
""",
    (5, 7),
    (13, 7),
    (10, 9),
    (10, 8),
    (15, 10),
)

LAD_HAIR = _named(
    """
....######... .....#####.#. ....#######.... ..##. ...##.##.##.. .....#####.....
..##########. ...#########. ..###########.. .#### .###########. ...#########...
.###########. ..########### .#############. .#### ############# ..###########..
.###########. .############ ############### ##### ############# .#############.
.###.....###. .###########. ############### ##### ############# .#####...#####.
.##.......##. .##########.. ############### ##### ####.###.#### .###.......###.
.#.........#. .##......###. ####.......#### ##### ##..#..#...## .##.........##.
              .#........##. ###.........### .###. .#.........#. .##.........##.
              .#.........#. ###.........###       ##.........## ###.........###
                            .##.........##.                     ###.........###
                            ..#.........#..                     ###.........###
                                                                ###.........###
                                                                ###.........###
                                                                ####.......####
                                                                .####.....####.
                                                                .####.....####.
                                                                ..###.....###..
""",
    ("short hair", "straight", 3, 6),
    ("swept up hair", "straight", 1, 6),
    ("afro hair", "curly", 1, 5),
    ("mohawk hair", "straight", 0, 10),
    ("curly hair", "curly", 2, 6),
    ("shoulder length hair", "straight", 3, 5),
)

LADY_HAIR = _named(
    """
......#####...... .....#####..... .......#####.......
....#########.... ...#########... .....#########.....
...###########... ..###########.. ...#############...
..#############.. .#############. ..###############..
..#######..####.. .#############. .#################.
..####......###.. .#############. .#################.
.####........###. ####.#.#.#.#### ########...########
.###.........###. ###.........### .#####.......#####.
.###.........###. ###.........### #####.........#####
.###.........###. ###.........### #####.........#####
.###.........###. ###.........### .####.........####.
.###.........###. ###.........### #####.........#####
.###.........###. ####.......#### #####.........#####
.###.........###. .###.......###. .####.........####.
.####.......####.                 #####.........#####
.#####.....#####.                 ######.......######
.#####.....#####.                 .######.....######.
.#####.....#####.                 ..#####.....#####..
..####.....####..                 ...###.......###...
...##.......##...
""",
    ("long straight hair", "straight", 3, 4),
    ("bob hair with bangs", "straight", 3, 5),
    ("voluminous curly hair", "curly", 1, 3),
) + _named(
    """
.....####.... ........#####........ ......######.....
....######... ......#########...... ...##########....
....######... .....###########..... ..############...
.....####.... ....#############.... ..#############..
..#########.. ....#####...#####.... .##############..
.###########. ..#.##.........##.#.. .########..####..
.###########. .#####.........#####. .######.....###..
.####...####. #####...........##### #####........##..
.##.......##. #####...........##### ####.........##..
.#.........#. #####...........##### #####........##..
.#.........#. .####...........####. .####........#...
              .###.............###. #####............
              ..##.............##.. #####............
              ..#...............#.. .####............
                                    ######...........
                                    #######..........
                                    .######..........
                                    ..#####..........
                                    ...###...........
""",
    ("hair in a bun", "straight", 0, 6),
    ("hair in pigtails", "curly", 3, 2),
    ("wavy side swept hair", "curly", 2, 4),
)

CLOTHES = _named(
    """
.....cckk...kkcv.... .....ccck...kccv.... ....ccc......ccv.... .....cckk...kkcc....
..ccccckkkkkkkcccv.. ..ccccccckkkcccccv.. ...ccccv...vccccv... ..vvvvvkkkkkkkvvvv..
.ccccccccccccccccvv. .ccccccvvkkkvvccccv. ..ccccccvvvccccccv.. .cccccccccccccccccc.
cccccccccccccccccvvv cccccccvvkkkvvccccvv .cccccckcccckccccvv. vvvvvvvvvvvvvvvvvvvv
                                          ccccccckcccckccccvvv
""",
    ("sweater", "collar", 20, 2),
    ("jacket", "shirt", 20, 2),
    ("hoodie", "drawstrings", 19, 2),
    ("striped shirt", "collar", 20, 2),
)

# Drawn over the hair; the bow is the ladies'.
HEADWEAR = _named(
    """
a....a....b ....aaaaaa...... .....ggg..... ......aaaaaaaab...... aa...aa
aa..aaa..ab ..aaaaaaaaab.... .....ggg..... .....aaaaaaaaabb..... aaagaab
aaaaagaaaab .aaaaagggaaab... ....aaaaa.... .....aaaaaaaaabb..... aaagaab
agaaaaaaagb .aaaaagaaaaab... ..aaaaaaaab.. .....ggggggggggg..... ab...bb
bbbbbbbbbbb .aaaaaaaaaaab... .aaaaaaaaaab. .aaaaaaaaaaaaaaaaaab.
            .bbbbbbbbbbbbbbb .aaaaaaaaaab. aaaaaaaaaaaaaaaaaabbb
                             .aabaabaabab. ..bbbbbbbbbbbbbbbbb..
                             .aabaabaabab.
""",
    ("crown", "gems", 1, 7),
    ("cap", "logo", 2, 6),
    ("beanie", "pompom", 0, 6),
    ("wide hat", "hat band", 1, 2),
    ("bow", "bow knot", 2, 13),
)

ACCESSORIES = _named(
    """
aaaaaaaa .a...........a. a...a
a..aa..a a.a.........a.a .a.a.
aggaagga a.a.........a.a ..g..
.aa..aa. .a...........a.
""",
    ("glasses", "lenses", 10, 8),
    ("hoop earrings", "", 13, 5),
    ("necklace", "pendant", 19, 10),
)
