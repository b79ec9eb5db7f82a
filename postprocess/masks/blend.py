"""Blend overlapping tiles of class probabilities exactly, region by region.

The sums are integers: probabilities in steps of 1/65535 and weights from 1 to 255. Integer sums
do not depend on the order of addition, so the mask is the same to the last pixel whatever the
region size, the batch size or the order of completion; and a constant prediction stays constant.

A region holds the sums of its own tiles. Around its border other regions' tiles count too: each
region keeps its sums of those pixels, `border_boxes`, and hands its neighbours what its tiles say
of theirs. How much weight a pixel has got follows from which tiles were predicted, see
`sum_weights`, and is never kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.postprocess.masks.windows import TileWeights
from slideloom.tiling.grid import Tile
from slideloom.wsi.geometry import Box
from slideloom.wsi.jit import jit

FULL = 65535
"""The integer that stands for probability 1."""

Totals = NDArray[np.uint32]
"""`(y, x)` sums of the weights of the tiles that were predicted there; 0 where there were none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Weighted sums over tiles, of the pixels of a box.

    Attributes:
        box: The pixels.
        values: `(y, x, c)` uint32, weight times probability in steps of 1/65535.
    """

    box: Box
    values: NDArray[np.uint32]

    @classmethod
    def zeros(cls, box: Box, *, channels: int) -> Sums:
        """Nothing predicted yet."""
        return cls(box=box, values=np.zeros((*box.shape, channels), np.uint32))

    def add(self, other: Sums) -> None:
        """Add other tiles' sums where the two overlap."""
        part = self.box.intersect(other.box)
        if not part.is_empty:
            self.values[part.slices_in(self.box)] += other.values[part.slices_in(other.box)]

    def cut(self, box: Box) -> Sums:
        """The sums of a smaller box, as a view."""
        return Sums(box=box, values=self.values[box.slices_in(self.box)])


def blend_tiles(
    predictions: Iterable[tuple[Tile, NDArray[np.floating]]],
    *,
    box: Box,
    channels: int,
    weights: TileWeights,
) -> Sums:
    """Sum up tiles.

    Args:
        predictions: Tiles with their maps `(y, x, c)`. Values below 0 and NaN count as 0, values
            above 1 as 1.
        box: The pixels to sum up; what tiles say of others is left out.
        channels: Number of channels.
        weights: Of a tile's pixels.
    """
    sums = Sums.zeros(box, channels=channels)
    # Each channel has the weight of its pixel: written out, a row is one loop without branches,
    # which compiles to vector instructions.
    wide = np.repeat(weights.values, channels, axis=1)
    into = sums.values.reshape(box.height, -1)
    for tile, maps in predictions:
        part = tile.core.grow(weights.reach_px).intersect(tile.window).intersect(box)
        if not part.is_empty:
            rows = np.ascontiguousarray(maps, np.float32).reshape(len(maps), -1)
            _add_rows(into, rows, wide, _place(part, tile.window, box=box, channels=channels))
    return sums


def _place(part: Box, window: Box, *, box: Box, channels: int) -> NDArray[np.int64]:
    """Where `part` starts in a window and in a box, `(row, value, row, value)`, and its size."""
    return np.array(
        [
            part.y0 - window.y0,
            channels * (part.x0 - window.x0),
            part.y0 - box.y0,
            channels * (part.x0 - box.x0),
            part.height,
            channels * part.width,
        ]
    )


@jit
def _add_rows(
    sums: NDArray[np.uint32],
    maps: NDArray[np.float32],
    weights: NDArray[np.uint8],
    place: NDArray[np.int64],
) -> None:
    """All arrays `(y, x * c)`; see `_place`."""
    row, start, to_row, to_start, height, width = place
    full, zero = np.float32(FULL), np.float32(0)
    for y in range(height):
        into = sums[to_row + y][to_start : to_start + width]
        values = maps[row + y][start : start + width]
        weight = weights[row + y][start : start + width]
        for k in range(width):
            steps = values[k] * full
            steps = steps if steps > zero else zero
            steps = steps if steps < full else full
            # The way over int32 is one instruction; that from float32 to uint32 is not.
            into[k] += np.uint32(weight[k]) * np.uint32(np.int32(np.rint(steps)))


def sum_weights(box: Box, tiles: Iterable[Tile], *, weights: TileWeights) -> Totals:
    """The sums of the weights of `tiles`, all those that were predicted and reach `box`."""
    totals = np.zeros(box.shape, np.uint32)
    for tile in tiles:
        part = tile.window.intersect(box)
        if not part.is_empty:
            totals[part.slices_in(box)] += weights.values[part.slices_in(tile.window)]
    return totals


def exclusive_labels(sums: Sums) -> NDArray[np.uint8]:
    """The mask `(1, y, x)` of classes that exclude each other.

    Its values are the channels of the highest sums, of equal ones the lowest; so 0 is background,
    and what was not predicted.
    """
    mask = np.empty((1, *sums.box.shape), np.uint8)
    if sums.values.shape[2] == 2:
        _higher(sums.values, mask[0])
    else:
        _highest(sums.values, mask[0])
    return mask


def overlapping_labels(sums: Sums, totals: Totals, *, threshold: float) -> NDArray[np.uint8]:
    """`(c, y, x)` of classes that may overlap: 1 where the probability is above `threshold`.

    Args:
        sums: Of the probabilities.
        totals: Of the weights.
        threshold: In (0, 1).
    """
    masks = np.empty((sums.values.shape[2], *sums.box.shape), np.uint8)
    # In whole steps too: what is exactly at the threshold must not be rounded above it.
    _above(sums.values, totals, np.uint32(np.rint(threshold * FULL)), masks)
    return masks


def mean_probabilities(sums: Sums, totals: Totals) -> NDArray[np.uint8]:
    """`(c, y, x)` from 0 to 255, rounded half up; 0 where nothing was predicted."""
    means = np.empty((sums.values.shape[2], *sums.box.shape), np.uint8)
    _means(sums.values, totals, means)
    return means


@jit
def _higher(sums: NDArray[np.uint32], mask: NDArray[np.uint8]) -> None:
    """`_highest` of two channels: one comparison, and more than twice as fast."""
    for y in range(sums.shape[0]):
        values, out = sums[y], mask[y]
        for x in range(sums.shape[1]):
            out[x] = values[x, 1] > values[x, 0]


@jit
def _highest(sums: NDArray[np.uint32], mask: NDArray[np.uint8]) -> None:
    for y in range(sums.shape[0]):
        values, out = sums[y], mask[y]
        for x in range(sums.shape[1]):
            best, highest = np.uint8(0), values[x, 0]
            for c in range(1, sums.shape[2]):
                if values[x, c] > highest:
                    best, highest = np.uint8(c), values[x, c]
            out[x] = best


@jit
def _above(
    sums: NDArray[np.uint32], totals: Totals, steps: np.uint32, masks: NDArray[np.uint8]
) -> None:
    for c in range(sums.shape[2]):
        for y in range(sums.shape[0]):
            values, total, out = sums[y], totals[y], masks[c, y]
            for x in range(sums.shape[1]):
                out[x] = values[x, c] > total[x] * steps


@jit
def _means(sums: NDArray[np.uint32], totals: Totals, means: NDArray[np.uint8]) -> None:
    """255 / FULL = 1 / 257, so all stays below 2**32 and exact."""
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            whole = max(np.uint32(1), totals[y, x]) * np.uint32(257)
            for c in range(sums.shape[2]):
                means[c, y, x] = (sums[y, x, c] + whole // np.uint32(2)) // whole


def border_boxes(core: Box, *, bounds: Box, reach_px: int) -> tuple[Box, ...]:
    """The pixels of a region that other regions' tiles reach: bands that do not overlap.

    Args:
        core: Of the region.
        bounds: The slide; beyond its sides there are no other regions.
        reach_px: Of the weights.
    """
    x0 = core.x0 + (reach_px if core.x0 > bounds.x0 else 0)
    y0 = core.y0 + (reach_px if core.y0 > bounds.y0 else 0)
    x1 = core.x1 - (reach_px if core.x1 < bounds.x1 else 0)
    y1 = core.y1 - (reach_px if core.y1 < bounds.y1 else 0)
    x0, y0 = min(x0, core.x1), min(y0, core.y1)
    x1, y1 = max(x0, x1), max(y0, y1)
    bands = (
        Box(x0=core.x0, y0=core.y0, x1=core.x1, y1=y0),
        Box(x0=core.x0, y0=y1, x1=core.x1, y1=core.y1),
        Box(x0=core.x0, y0=y0, x1=x0, y1=y1),
        Box(x0=x1, y0=y0, x1=core.x1, y1=y1),
    )
    return tuple(band for band in bands if not band.is_empty)
