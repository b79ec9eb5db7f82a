"""Watershed from seeds, with an order that does not depend on what lies far away."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.decoding.tile_objects import Labels, Mask
from slideloom.wsi.jit import jit


@jit
def flood(seeds: Labels, mask: Mask, height: NDArray[np.float32]) -> Labels:
    """Let seeds grow over a mask, the highest pixel first, of equals the one met first.

    The flooding of Meyer, Signal Processing 38 (1994), with 4 neighbours. scikit-image's leaves
    the order of equal seed pixels to its heap, and so to every pixel of the window; here it is
    theirs in the window, so a connected part of the mask is flooded alike in every window.

    Args:
        seeds: `(y, x)`, labels from 1; 0 outside the seeds.
        mask: `(y, x)`, the pixels to give away; every seed lies inside.
        height: `(y, x)`, the seeds' surroundings are given away downhill.

    Returns:
        `(y, x)` labels; 0 outside the mask and where no seed reaches.
    """
    rows, cols = mask.shape
    labels = seeds.copy()
    queue = [(np.float32(0), np.int64(0), np.int64(0)) for _ in range(0)]
    age = 0
    for y in range(rows):
        for x in range(cols):
            if seeds[y, x] != 0:
                queue.append((-height[y, x], np.int64(age), np.int64(y * cols + x)))
                age += 1
    heapq.heapify(queue)
    while len(queue) > 0:
        _, _, at = heapq.heappop(queue)
        y, x = at // cols, at % cols
        for to_y, to_x in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if to_y < 0 or to_y >= rows or to_x < 0 or to_x >= cols:
                continue
            if mask[to_y, to_x] and labels[to_y, to_x] == 0:
                labels[to_y, to_x] = labels[y, x]
                place = np.int64(to_y * cols + to_x)
                heapq.heappush(queue, (-height[to_y, to_x], np.int64(age), place))
                age += 1
    return labels
