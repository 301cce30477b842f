"""Checks of what is in the pictures: colours, copies, and what bucketing would do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bespoke.dataset.pixel_grid import PixelGrid
from bespoke.findings import Finding, error, finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bespoke.dataset.folder import Collection

COLOURS_TOLERATED = 1 / 3
"""Colours, as a share of the cells. The 203 have 4% at the median and 20% (116 of 576) at most."""

NEAR = 1 / 24
"""Near copies differ in fewer cells than this share: 23 of 24x24 at most."""


def _many_colours(collection: Collection) -> Iterator[Finding]:
    for name, art in collection.art():
        colours, cells = len(PixelGrid(cells=art).colours), art.shape[0] * art.shape[1]
        if colours > cells * COLOURS_TOLERATED:
            message = (
                f"has {colours} colours in {cells} cells, as a photograph or a smoothed picture "
                "would; draw it with fewer"
            )
            yield finding("warning", "picture_colours", name, message, colours=colours, cells=cells)


def _copies(collection: Collection) -> Iterator[Finding]:
    """The same art twice, and art that differs from an earlier picture's in a few cells."""
    import numpy as np

    arts = dict(collection.art())
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


def _scaled(collection: Collection) -> Iterator[Finding]:
    """Pictures whose cells the trainer would break by scaling or cropping (train_util.py:286).

    Its own table of buckets, to which bucket_no_upscale = false scales, is not looked at.
    """
    options = collection.options
    if not options or collection.spec.cells is None or options["resolution"] is None:
        return
    sides = options["resolution"]
    width, height = (sides, sides) if isinstance(sides, int) else sides
    for name, picture in collection.pictures.items():
        size, steps = picture.size, options["bucket_reso_steps"]
        shown = f"is {size[0]}x{size[1]}"
        if not options["enable_bucket"]:
            fits = size == (width, height)
        elif min(size) < steps:
            message = (
                f"{shown}, smaller than the bucket's steps of {steps}; the trainer fails at it"
            )
            yield error("picture_bucketed", name, message, size=size)
            continue
        else:
            whole = size[0] * size[1] <= width * height and not any(s % steps for s in size)
            fits = whole or not options["bucket_no_upscale"]
        if not fits:
            message = f"{shown}: to train at {width}x{height} the trainer scales or crops it"
            yield finding("warning", "picture_bucketed", name, message, size=size)


CHECKS: tuple[Callable[[Collection], Iterator[Finding]], ...] = (_many_colours, _copies, _scaled)
