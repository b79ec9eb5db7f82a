"""Targets of the head `flows`: which way leads to the centre of the object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.models.heads.pieces import Labels, Planes, piece_boxes, pieces
from slideloom.models.heads.targets_masks import class_numbers
from slideloom.models.spec import ModelSpec
from slideloom.models.truth import TileTruth
from slideloom.wsi.jit import jit

__all__ = ["flow_targets", "unit_flows"]

OCTANT = np.float32(np.tan(np.pi / 8))
"""The decode steps along an axis while a flow's other part is below this share."""

FAR = np.float32(1e9)
LEAST_GAIN = np.float32(1e-4)
"""Pixels by which a front has to come earlier to be worth another sweep."""


def flow_targets(truth: TileTruth, spec: ModelSpec) -> Planes:
    """`(3, y, x)`: class number, then the two planes of `unit_flows`."""
    del spec
    return np.concatenate([class_numbers(truth)[None], unit_flows(pieces(truth))])


def unit_flows(labels: Labels) -> Planes:
    """The direction of the shortest way to the centre that stays inside the object.

    The maps play the part of Cellpose's (Stringer et al., Nature Methods 18 (2021)), which come
    from the diffusion of heat. Here it is a front that runs out from the centre: its time of
    arrival solves the eikonal equation, by the fast sweeping of Zhao, Mathematics of Computation 74
    (2005). In a convex object the ways are straight, in others they go round corners, and no sum
    fades away from the centre. The centre is the object's pixel nearest to its centre of mass.

    Args:
        labels: `(y, x)`, 1..n without gaps, each one 4-connected piece; 0 is background.

    Returns:
        `(2, y, x)`: dx (to the right) and dy (down), of length 1; 0 outside and at centres. Where
        the step of the decode to the next pixel would leave the object, the direction is that of
        the steepest step inside.
    """
    # In a frame of background every pixel has neighbours.
    framed = np.pad(labels, 1)
    count = int(labels.max(initial=0))
    time = np.full(framed.shape, FAR, np.float32)
    for row, col in _centres(framed, count):
        time[row, col] = 0
    _spread(framed, piece_boxes(framed, count), time)
    return _directions(framed, time)[:, 1:-1, 1:-1]


@jit
def _centres(labels: Labels, count: int) -> NDArray[np.int64]:
    """`(count, 2)`: row and column of the pixel nearest to each centre of mass."""
    total = np.zeros((count, 3), np.float64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            n = labels[y, x] - 1
            if n >= 0:
                total[n, 0] += 1
                total[n, 1] += y
                total[n, 2] += x
    nearest = np.full(count, np.inf)
    centres = np.zeros((count, 2), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            n = labels[y, x] - 1
            if n >= 0:
                away_y = y - total[n, 1] / total[n, 0]
                away_x = x - total[n, 2] / total[n, 0]
                away = away_y * away_y + away_x * away_x
                if away < nearest[n] - 1e-9:
                    nearest[n] = away
                    centres[n, 0], centres[n, 1] = y, x
    return centres


@jit
def _spread(labels: Labels, boxes: NDArray[np.int64], time: Planes) -> None:
    """Fill `time` with the arrival of the fronts from where it is 0, sweep by sweep."""
    for n in range(len(boxes)):
        changed = True
        while changed:
            changed = False
            for sweep in range(4):
                changed |= _sweep(labels, boxes[n], n + 1, sweep, time)


@jit
def _sweep(labels: Labels, box: NDArray[np.int64], n: int, sweep: int, time: Planes) -> bool:
    """Pass over object `n` from one of its box's four corners; whether a time became earlier."""
    rows, cols = box[1] - box[0] + 1, box[3] - box[2] + 1
    changed = False
    for i in range(rows):
        y = box[0] + i if sweep % 2 == 0 else box[1] - i
        for j in range(cols):
            x = box[2] + j if sweep < 2 else box[3] - j
            if labels[y, x] != n:
                continue
            left = time[y, x - 1] if labels[y, x - 1] == n else FAR
            right = time[y, x + 1] if labels[y, x + 1] == n else FAR
            above = time[y - 1, x] if labels[y - 1, x] == n else FAR
            below = time[y + 1, x] if labels[y + 1, x] == n else FAR
            arrival = _arrival(min(left, right), min(above, below))
            if arrival < time[y, x] - LEAST_GAIN:
                time[y, x] = arrival
                changed = True
    return changed


@jit
def _arrival(beside: np.float32, upright: np.float32) -> np.float32:
    """When a front comes to a pixel after its neighbours on both axes: Godunov's upwind rule."""
    apart = beside - upright
    if abs(apart) >= 1:
        return min(beside, upright) + np.float32(1)
    middle = (beside + upright) * np.float32(0.5)
    return np.float32(middle + np.sqrt(np.float32(2) - apart * apart) / 2)


@jit
def _directions(labels: Labels, time: Planes) -> Planes:
    """Downhill directions of `time` in each object, corrected as `unit_flows` says."""
    flows = np.zeros((2, *labels.shape), np.float32)
    for y in range(1, labels.shape[0] - 1):
        for x in range(1, labels.shape[1] - 1):
            n, here = labels[y, x], time[y, x]
            if n == 0 or here == 0:
                continue
            # A neighbour outside the object is as good as level.
            left = min(time[y, x - 1], here) if labels[y, x - 1] == n else here
            right = min(time[y, x + 1], here) if labels[y, x + 1] == n else here
            above = min(time[y - 1, x], here) if labels[y - 1, x] == n else here
            below = min(time[y + 1, x], here) if labels[y + 1, x] == n else here
            dx = left - here if left < right else here - right
            dy = above - here if above < below else here - below
            step_x = int(np.sign(dx)) if abs(dx) > OCTANT * abs(dy) else 0
            step_y = int(np.sign(dy)) if abs(dy) > OCTANT * abs(dx) else 0
            there = (y + step_y, x + step_x)
            if labels[there] != n or time[there] >= here:
                dx, dy = _steepest(labels, time, y, x)
            norm = np.sqrt(dx * dx + dy * dy)
            flows[0, y, x] = dx / norm
            flows[1, y, x] = dy / norm
    return flows


@jit
def _steepest(labels: Labels, time: Planes, y: int, x: int) -> tuple[np.float32, np.float32]:
    """The step to one of the eight neighbours in the object along which `time` falls fastest."""
    best, best_x, best_y = np.float32(0), np.float32(0), np.float32(0)
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if labels[y + dy, x + dx] == labels[y, x]:
                fall = time[y, x] - time[y + dy, x + dx]
                fall /= np.float32(np.sqrt(max(dx * dx + dy * dy, 1)))
                if fall > best:
                    best, best_x, best_y = fall, np.float32(dx), np.float32(dy)
    return best_x, best_y
