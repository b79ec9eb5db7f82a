"""The decode `flows`: pixels whose flow leads to one place are one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding.tile_objects import (
    Labels,
    Mask,
    TileObjects,
    check_sizes,
    drop_small,
    fill_holes,
    in_order,
    no_objects,
    read_settings,
    score_objects,
)
from slideloom.wsi.jit import jit

Plane = NDArray[np.float32]

OCTANT = np.float32(np.tan(np.pi / 8))
"""A flow goes along an axis while its other part is below this share; else diagonally."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowsSettings:
    """Settings of the decode `flows`.

    Attributes:
        threshold: A pixel is foreground where its most probable class is above this.
        min_parting: Touching pixels with other ends are of two objects where along their border
            the flows part by more than this on average: 0 side by side, 2 back to back.
        max_hole_px: Holes of up to this size are filled.
        min_area_px: Objects smaller than this are dropped.

    Raises:
        SettingsError: A value is outside its range.
    """

    threshold: float = 0.5
    min_parting: float = 0.2
    max_hole_px: int = 64
    min_area_px: int = 16

    def __post_init__(self) -> None:
        if not (0 < self.threshold < 1 and 0 <= self.min_parting < 2):
            msg = (
                "decode 'flows' needs 0 < threshold < 1 and 0 <= min_parting < 2, got "
                f"{self.threshold} and {self.min_parting}: correct the settings"
            )
            raise SettingsError(msg)
        check_sizes("flows", min_area_px=self.min_area_px, max_hole_px=self.max_hole_px)


def decode_flows(
    maps: NDArray[Any], values: Mapping[str, float | int], *, keep_cut: bool
) -> TileObjects:
    """See `decode`.

    The maps are those of Cellpose: Stringer et al., Nature Methods 18 (2021). Here a pixel's flow
    is followed from pixel to pixel, to its end however far that is. So the path does not depend on
    where the window lies, and a window that shows no end of an object, only where its flows
    leave, still shows it in one piece.
    """
    settings = read_settings(FlowsSettings, values, name="flows")
    if maps.ndim != 3 or maps.shape[2] < 3:
        msg = f"decode 'flows' needs maps (y, x, classes + 2), got shape {maps.shape}"
        raise SettingsError(msg)
    foreground = maps[:, :, :-2].max(axis=2)
    mask = foreground > settings.threshold
    if not mask.any():
        return no_objects(mask)
    dx = np.ascontiguousarray(maps[:, :, -2], dtype=np.float32)
    dy = np.ascontiguousarray(maps[:, :, -1], dtype=np.float32)
    target = _targets(mask, dx, dy)
    basins, end = _ends(target)
    basins = _join_basins(basins, dx=dx, dy=dy, min_parting=settings.min_parting)
    # A diagonal step may leave a pixel in touch with its object at a corner only.
    labels = label(basins, background=0, connectivity=1).astype(np.int32)
    labels = drop_small(labels, settings.min_area_px, keep_cut=keep_cut)
    labels, _ = in_order(fill_holes(labels, max_px=settings.max_hole_px))
    found = score_objects(labels, maps[:, :, :-2], foreground=foreground)
    return replace(found, endless=~_has_end(labels, end, dx=dx, dy=dy))


def _has_end(labels: Labels, end: NDArray[np.int64], *, dx: Plane, dy: Plane) -> Mask:
    """Whether a flow ends inside each object, not where it leaves the window, `(n,)`."""
    height, width = labels.shape
    y, x = np.divmod(end, width)
    across, down = dx[y, x], dy[y, x]
    step_x = np.where(np.abs(across) > OCTANT * np.abs(down), np.sign(across), 0)
    step_y = np.where(np.abs(down) > OCTANT * np.abs(across), np.sign(down), 0)
    inside = (x + step_x >= 0) & (x + step_x < width) & (y + step_y >= 0) & (y + step_y < height)
    has_end = np.zeros(int(labels.max(initial=0)) + 1, np.bool_)
    has_end[labels[y, x][inside]] = True
    return has_end[1:]


@jit
def _targets(mask: Mask, dx: Plane, dy: Plane) -> NDArray[np.int64]:
    """Where each foreground pixel's flow leads: a neighbour's flat index, -1 for background.

    Where the foreground ends, the flow goes on along its border as well as it can; a pixel that
    cannot go on, or whose flow leaves the window, leads to itself.
    """
    height, width = mask.shape
    target = np.full((height, width), -1, np.int64)
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            target[y, x] = y * width + x
            across, down = abs(dx[y, x]), abs(dy[y, x])
            right = 1 if dx[y, x] > 0 else -1
            below = 1 if dy[y, x] > 0 else -1
            # Straight to the neighbour in the flow's octant, else the two directions beside it.
            for attempt in range(3):
                if attempt == 0:
                    step_x = right if across > OCTANT * down else 0
                    step_y = below if down > OCTANT * across else 0
                elif (attempt == 1) == (across >= down):
                    step_x, step_y = right if across > 0 else 0, 0
                else:
                    step_x, step_y = 0, below if down > 0 else 0
                to_y, to_x = y + step_y, x + step_x
                if to_y < 0 or to_y >= height or to_x < 0 or to_x >= width:
                    break
                if mask[to_y, to_x]:
                    target[y, x] = to_y * width + to_x
                    break
    return target


@jit
def _ends(target: NDArray[np.int64]) -> tuple[Labels, NDArray[np.int64]]:
    """Number 1, 2, ... of the end that each pixel's path runs into, and a pixel of each end.

    Background has number 0. An end is a pixel that leads to itself, or a ring of pixels that lead
    to each other.
    """
    flat = target.ravel()
    basin = np.zeros(flat.size, np.int32)
    walk = np.zeros(flat.size, np.int64)
    end_at = np.zeros(flat.size, np.int64)
    count = 0
    for start in range(flat.size):
        if flat[start] < 0 or basin[start] != 0:
            continue
        length, at = 0, start
        while basin[at] == 0:
            basin[at] = -1
            walk[length] = at
            length += 1
            at = flat[at]
        if basin[at] == -1:
            end_at[count] = at
            count += 1
            basin[at] = count
        end = basin[at]
        for i in range(length):
            basin[walk[i]] = end
    return basin.reshape(target.shape), end_at[:count].copy()


def _join_basins(basins: Labels, *, dx: Plane, dy: Plane, min_parting: float) -> Labels:
    """Make touching basins one where the flows on both sides of their border do not part.

    The middle of an object may have several ends, and a cut object has many at the window's edge.
    """
    one, two, parting = [], [], []
    for here, there, flow in (
        (np.s_[:, :-1], np.s_[:, 1:], dx),
        (np.s_[:-1], np.s_[1:], dy),
    ):
        met = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        one.append(basins[here][met])
        two.append(basins[there][met])
        # In float64 sums of some thousand such numbers are exact enough for any order.
        parting.append((flow[there][met] - flow[here][met]).astype(np.float64))
    first, second = np.concatenate(one), np.concatenate(two)
    count = int(basins.max()) + 1
    low, high = np.minimum(first, second), np.maximum(first, second)
    pairs, which = np.unique(low.astype(np.int64) * count + high, return_inverse=True)
    mean = np.bincount(which, np.concatenate(parting)) / np.maximum(np.bincount(which), 1)
    low, high = np.divmod(pairs[mean <= min_parting], count)
    graph = coo_array((np.ones(len(low)), (low, high)), (count, count))
    joined = connected_components(graph, directed=False)[1]
    # Background is joined to nothing, so it is the first component and stays 0.
    return np.asarray(joined[basins], np.int32)
