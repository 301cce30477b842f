"""Checks of what is in the pictures: colours, copies, and what bucketing would do to them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bespoke.findings import Finding, error, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from bespoke.contents import Contents

COLOURS_TOLERATED = 1 / 3
"""Colours, as a share of the cells. The 203 have 4% at the median and 20% (116 of 576) at most."""

BLOCK = 24
"""Near copies differ in fewer than one cell in this many: 23 of 24x24 at most."""


def _many_colours(contents: Contents) -> Iterator[Finding]:
    for name, art in contents.art():
        colours, cells = len(set(_packed(art).tolist())), art.shape[0] * art.shape[1]
        if colours > cells * COLOURS_TOLERATED:
            message = (
                f"has {colours} colours in {cells} cells, as a photograph or a smoothed picture "
                "would; draw it with fewer"
            )
            yield finding("warning", "picture_colours", name, message, colours=colours, cells=cells)


def _copies(contents: Contents) -> Iterator[Finding]:
    """Exact copies by their hash, then near ones among the pictures left."""
    import numpy as np

    first: dict[bytes, str] = {}
    unique: dict[str, NDArray[np.uint32]] = {}
    for name, art in contents.art():
        key = hashlib.sha256(art.tobytes()).digest()
        if key in first:
            message = f"is the same art as {first[key]}, which is thereby trained more often"
            yield finding("warning", "picture_copy", name, message, copy_of=first[key])
        else:
            first[key] = name
            unique[name] = _packed(art)
    names = list(unique)
    if not names:
        return
    for number, (unlike, other) in near_copies(np.stack(list(unique.values()))).items():
        near, cells = names[other], unique[names[number]].size
        message = f"differs from {near} in {unlike} of {cells} cells alone"
        yield finding(
            "note", "picture_near_copy", names[number], message,
            near=near, cells_unlike=unlike, cells=cells,
        )  # fmt: skip


def near_copies(arts: NDArray[np.uint32]) -> dict[int, tuple[int, int]]:
    """For each row that is near an earlier one: the cells unlike, and the nearest such row.

    `arts` has the shape (pictures, cells). The cells are dealt into blocks of BLOCK; two pictures
    with fewer cells unlike than there are blocks agree in a whole block, so only pictures with an
    equal block are compared and none is missed. The blocks lie scattered over the picture, where
    few pictures agree by chance: the time is that of sorting the pictures once for each block, plus
    the square of the number of pictures that share one.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    blocks = arts.shape[1] // BLOCK
    order = rng.permutation(arts.shape[1])[: blocks * BLOCK].reshape(blocks, BLOCK)
    factors = rng.integers(1, 2**63, BLOCK, dtype=np.uint64)
    near: dict[int, tuple[int, int]] = {}
    for block in order:
        keys = arts[:, block].astype(np.uint64) @ factors
        by_key = np.argsort(keys, kind="stable")
        ends = np.flatnonzero(np.diff(keys[by_key])) + 1
        for group in np.split(by_key, ends):
            for place in range(1, len(group)):
                number, earlier = int(group[place]), group[:place]
                unlike = np.count_nonzero(arts[earlier] != arts[number], axis=1)
                found = (int(unlike.min()), int(earlier[unlike.argmin()]))
                if found[0] < blocks:
                    near[number] = min(near.get(number, found), found)
    return near


def _packed(art: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The cells as one row of 0xRRGGBB."""
    import numpy as np

    places = np.array([0x10000, 0x100, 1], dtype=np.uint32)
    packed: NDArray[np.uint32] = art.reshape(-1, 3).astype(np.uint32) @ places
    return packed


def _bucketed(contents: Contents) -> Iterator[Finding]:
    if contents.bucketing is None:
        return
    for name, picture in contents.pictures.items():
        size = picture.size
        scaled, cropped = contents.bucketing.treat(size)
        if 0 in cropped:
            message = f"is {_by(size)}, smaller than the bucket's steps; the trainer fails at it"
            yield error("picture_bucketed", name, message, size=size)
        elif size != cropped:
            steps = [f"scale it to {_by(scaled)}"] if scaled != size else []
            steps += [f"crop it to {_by(cropped)}"] if scaled != cropped else []
            message = f"is {_by(size)}: the trainer would {' and '.join(steps)}"
            yield finding(
                "warning", "picture_bucketed", name, message,
                size=size, scaled=scaled, cropped=cropped,
            )  # fmt: skip


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


CHECKS: tuple[Callable[[Contents], Iterator[Finding]], ...] = (_many_colours, _copies, _bucketed)
