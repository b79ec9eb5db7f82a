"""Outlines from bitmaps, pixel by pixel: the slow twin of `postprocess.outlines`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


class Ring(NamedTuple):
    part: int
    is_hole: bool
    points: list[tuple[int, int]]


def rings_of(mask: NDArray[np.bool_]) -> list[Ring]:
    """The rings of a mask, by part, then holes after exteriors, then by row and column.

    Each ring is walked with the object on the right-hand side, from the first pixel edge at which
    the object lies below.
    """
    parts = ndimage.label(np.pad(mask, 1))[0]
    seen = np.zeros(parts.shape, np.bool_)
    rings = []
    for y, x in zip(*np.nonzero(parts), strict=True):
        if not seen[y, x] and parts[y - 1, x] != parts[y, x]:
            points, turns = _walk(parts, seen, int(x), int(y))
            rings.append(Ring(int(parts[y, x]), turns < 0, points))
    return sorted(rings, key=lambda ring: ring[:2])


def _walk(
    parts: NDArray[np.int32], seen: NDArray[np.bool_], x: int, y: int
) -> tuple[list[tuple[int, int]], int]:
    part, start, heading, turns = parts[y, x], (x, y), 0, 0
    points = []
    while True:
        if heading == 0:
            seen[y, x] = True
        dx, dy = _STEPS[heading]
        x, y = x + dx, y + dy
        # The two pixels ahead of the corner, left and right of the heading.
        around = (parts[y - 1, x - 1], parts[y - 1, x], parts[y, x], parts[y, x - 1])
        left, right = around[(heading + 1) % 4], around[(heading + 2) % 4]
        turn = -1 if left == part else int(right != part)
        if turn:
            points.append((x - 1, y - 1))
        turns += turn
        heading = (heading + turn) % 4
        if (x, y) == start and heading == 0:
            return [*points, points[0]], turns
