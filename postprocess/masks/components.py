"""From masks to objects: the 4-connected areas of each class."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess import run_loops
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Box


def class_runs(mask: NDArray[np.bool_], *, box: Box) -> PixelSets:
    """The pixels of one class in one region, as one set.

    Args:
        mask: `(y, x)`.
        box: Where the mask lies.
    """
    return PixelSets.from_labels(mask.view(np.uint8), count=1, x0=box.x0, y0=box.y0)


def connected_objects(parts: Iterable[PixelSets], *, class_id: int) -> Objects:
    """The connected areas of one class over all regions.

    An area that crosses the border of regions is one object: the mask is exact on both sides, so
    what touches there is connected.

    Args:
        parts: One set per region; the regions do not overlap.
        class_id: Of all these objects.

    Returns:
        Objects in the order of their first pixels. Their score is NaN: a mask keeps none.
    """
    every = PixelSets.concat(list(parts))
    runs = every.union(np.zeros(len(every), np.int64), count=1).runs
    number = run_loops.connect(runs)
    order = np.argsort(number, kind="stable")
    count = int(number.max(initial=-1)) + 1
    offsets = np.searchsorted(number[order], np.arange(count + 1)).astype(np.int64)
    return Objects(
        pixels=PixelSets(offsets=offsets, runs=runs[order]),
        class_id=np.full(count, class_id, np.int16),
        score=np.full(count, np.nan, np.float32),
        recombined=np.zeros(count, np.bool_),
    )


def reaches_other_regions(objects: Objects, core: Box, *, bounds: Box) -> NDArray[np.bool_]:
    """Whether each area of one region touches a side beyond which the slide goes on, `(n,)`.

    Args:
        objects: Connected areas of the region.
        core: The region's core.
        bounds: The slide.
    """
    x0, y0, x1, y1 = objects.pixels.boxes.T
    return np.asarray(
        ((x0 == core.x0) & (core.x0 > bounds.x0))
        | ((y0 == core.y0) & (core.y0 > bounds.y0))
        | ((x1 == core.x1) & (core.x1 < bounds.x1))
        | ((y1 == core.y1) & (core.y1 < bounds.y1)),
        np.bool_,
    )
