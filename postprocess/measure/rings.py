"""Rings: the free pixels around each object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import RegionError
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.run_loops import Longs, Runs
from slideloom.wsi.geometry import Box
from slideloom.wsi.jit import jit

_NOISE = 1e-9
"""Relative noise of a width, left by dividing um by mpp."""


def ring_reach(ring_px: float) -> int:
    """By how many pixels a ring of that width widens an object's bounding box on each side."""
    return int(ring_px * (1 + _NOISE))


def ring_pixels(
    pixels: PixelSets, occupied: NDArray[np.bool_], *, frame: Box, ring_px: float
) -> PixelSets:
    """The ring of each set, as far as it lies in a frame.

    A pixel belongs to the ring of an object where the middle of a pixel of the object is within
    `ring_px` of its own (Euclidean) and where no object is: neither this one nor another. One that
    is near to two objects is in the ring of both. Rings cut by a frame are the whole rings, cut.

    Args:
        pixels: In model pixels; whole objects, or all of them that lies within `ring_px` of the
            frame. An empty set has an empty ring.
        occupied: `(y, x)`, where there are objects; it covers `frame`.
        frame: In model pixels.
        ring_px: Width of the ring; below 1 there is none.

    Raises:
        RegionError: The shape of `occupied` is not that of `frame`.
    """
    if occupied.shape != frame.shape:
        msg = (
            f"rings in {frame} need to know where objects are in all of it, got an array of "
            f"shape {occupied.shape}: cut it to the frame"
        )
        raise RegionError(msg)
    steps = np.arange(ring_reach(ring_px) + 1)
    widths = np.sqrt((ring_px * (1 + _NOISE)) ** 2 - steps**2).astype(np.int64)
    offsets, runs = _ring_runs(
        pixels.offsets, pixels.runs, widths, np.asarray(occupied, np.bool_), frame.x0, frame.y0
    )
    return PixelSets(offsets=offsets, runs=runs)


@jit
def _ring_runs(
    offsets: Longs, runs: Runs, widths: Longs, occupied: NDArray[np.bool_], x0: int, y0: int
) -> tuple[Longs, Runs]:
    """Runs of the rings; `widths` tells how far a run reaches to the sides in each row from it.

    Each run of an object adds 1 to a counter where its reach in a row begins, and takes 1 away
    where it ends: the object's reach is where the running sum is above 0. So the work grows with
    the number of runs and rows, not with their lengths.
    """
    height, width = occupied.shape
    reach = len(widths) - 1
    change = np.zeros((height, width + 1), np.int32)
    ends = np.zeros(len(offsets), np.int64)
    out = np.empty((max(16, len(runs)), 3), np.int32)
    count = 0
    for i in range(len(offsets) - 1):
        left, right, top, bottom = width, -1, height, -1
        for k in range(offsets[i], offsets[i + 1]):
            start, stop = runs[k, 1] - x0, runs[k, 2] - x0
            if start - reach >= width or stop + reach <= 0:
                continue
            row = runs[k, 0] - y0
            for y in range(max(0, row - reach), min(height, row + reach + 1)):
                aside = widths[abs(y - row)]
                begin, end = max(0, start - aside), min(width, stop + aside)
                if begin < end:
                    change[y, begin] += 1
                    change[y, end] -= 1
                    left, right = min(left, begin), max(right, end)
                    top, bottom = min(top, y), max(bottom, y)
        for y in range(top, bottom + 1):
            most = count + (right - left) // 2 + 1
            if most > len(out):
                larger = np.empty((2 * most, 3), np.int32)
                larger[:count] = out[:count]
                out = larger
            depth, start = 0, -1
            for x in range(left, right + 1):
                depth += change[y, x]
                change[y, x] = 0
                if depth > 0 and not occupied[y, x]:
                    if start < 0:
                        start = x
                elif start >= 0:
                    out[count, 0], out[count, 1], out[count, 2] = y0 + y, x0 + start, x0 + x
                    count, start = count + 1, -1
        ends[i + 1] = count
    return ends, out[:count].copy()
