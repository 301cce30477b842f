"""Checks of what is in the pictures: colours, copies, and what bucketing would do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bespoke.canvas import PixelGrid
from bespoke.findings import Finding, error, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bespoke.contents import Contents

COLOURS_TOLERATED = 1 / 3
"""Colours, as a share of the cells. The 203 have 4% at the median and 20% (116 of 576) at most."""

NEAR = 1 / 24
"""Near copies differ in fewer cells than this share: 23 of 24x24 at most."""


def _many_colours(contents: Contents) -> Iterator[Finding]:
    for name, art in contents.art():
        colours, cells = len(PixelGrid(cells=art).colours), art.shape[0] * art.shape[1]
        if colours > cells * COLOURS_TOLERATED:
            message = (
                f"has {colours} colours in {cells} cells, as a photograph or a smoothed picture "
                "would; draw it with fewer"
            )
            yield finding("warning", "picture_colours", name, message, colours=colours, cells=cells)


def _copies(contents: Contents) -> Iterator[Finding]:
    """The same art twice, and art that differs from an earlier picture's in a few cells."""
    import numpy as np

    arts = dict(contents.art())
    names = list(arts)
    # All of one side: the collection declares how many cells its pictures have.
    cells = np.array([PixelGrid(cells=art).packed.ravel() for art in arts.values()])
    for number, name in enumerate(names[1:], start=1):
        unlike = np.count_nonzero(cells[:number] != cells[number], axis=1)
        nearest = int(unlike.argmin())
        near, apart = names[nearest], int(unlike[nearest])
        if apart == 0:
            message = f"is the same art as {near}, which is thereby trained more often"
            yield finding("warning", "picture_copy", name, message, copy_of=near)
        elif apart < cells.shape[1] * NEAR:
            message = f"differs from {near} only in {apart} of {cells.shape[1]} cells"
            yield finding("note", "picture_near_copy", name, message, near=near, cells_unlike=apart)


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
