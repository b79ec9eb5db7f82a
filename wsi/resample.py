"""Change the scale of pixels: exact area averages when shrinking, bilinear when enlarging.

Both axes are treated alike and apart from each other. Pixels are squares: pixel `i` covers
`[i, i + 1)`, so output pixel `i` at scale `s` covers source pixels `[i * s, (i + 1) * s)`, wherever
in the slide the window starts. There is no drift and no half-pixel shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

_SLIVER = 1e-7
"""Overlaps below this part of a pixel are rounding noise of the scale's division."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One side of the source.

    Attributes:
        length: Source pixels that exist.
        extent: Where the slide ends, in source pixels. It may lie past `length` by part of a
            pixel where a coarse level was rounded down; the last pixel stands for that rest.
    """

    length: int
    extent: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Which source pixels make up each of `n` output pixels along one axis.

    Attributes:
        first: `(n,)`, the first source pixel.
        count: `(n,)`, number of source pixels in a row; 0 where the output pixel lies outside.
        weight: `(n, max(count))`, overlaps in source pixels, not normalised.
    """

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    weight: NDArray[np.float32]

    @property
    def source_range(self) -> range:
        """The source pixels that are needed; empty where all output pixels lie outside."""
        inside = self.count > 0
        if not inside.any():
            return range(0)
        first, count = self.first[inside], self.count[inside]
        return range(int(first.min()), int((first + count).max()))


def axis_weights(outputs: range, axis: Axis, *, scale: float) -> Weights:
    """Weights of the output pixels `outputs` at `scale` source pixels per output pixel.

    An output pixel that is partly outside is the average of its inside part, so a slide of one
    colour keeps that colour to its last pixel.
    """
    index = np.arange(outputs.start, outputs.stop, dtype=np.float64)
    outside = ((index + 1) * scale <= _SLIVER) | (index * scale >= axis.extent - _SLIVER)
    # A window of one source pixel around the centre is what bilinear interpolation averages over.
    centre, half = (index + 0.5) * scale, max(scale, 1.0) / 2
    start = np.clip(centre - half, 0, None)
    start = np.where(start >= axis.length - _SLIVER, axis.length - 1, start)
    stop = np.clip(centre + half, start + _SLIVER, axis.length)
    first = np.floor(start + _SLIVER).astype(np.int64)
    count = np.maximum(np.ceil(stop - _SLIVER).astype(np.int64) - first, 1)
    pixel = first[:, None] + np.arange(int(count.max(initial=1)))
    overlap = np.minimum(stop[:, None], pixel + 1) - np.maximum(start[:, None], pixel)
    count[outside] = 0
    return Weights(first=first, count=count, weight=np.maximum(overlap, 0).astype(np.float32))


def resample(
    source: NDArray[np.uint8], rows: Weights, *, cols: Weights, out: NDArray[np.uint8]
) -> None:
    """Fill `out` `(y, x, 3)` with weighted means of `source` `(y, x, 3)`.

    The source holds just the pixels of `rows.source_range` and `cols.source_range`. Halves round
    up. Output pixels that lie outside keep what `out` held.
    """
    if not rows.source_range or not cols.source_range:
        return
    _average(
        np.ascontiguousarray(source).reshape(source.shape[0], -1),
        (rows.first - rows.source_range.start, rows.count, rows.weight),
        (cols.first - cols.source_range.start, cols.count, cols.weight),
        out,
    )


_Part = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""First source pixel, count and weights, as the compiled loops take them."""


@jit
def _average(source: NDArray[np.uint8], rows: _Part, cols: _Part, out: NDArray[np.uint8]) -> None:
    """Rows first, as whole vectors; then the columns of the few rows that are left."""
    row_first, row_count, row_weight = rows
    col_first, col_count, col_weight = cols
    for i in range(out.shape[0]):
        if row_count[i] == 0:
            continue
        line = np.zeros(source.shape[1], dtype=np.float32)
        height = 0.0
        for k in range(row_count[i]):
            weight = row_weight[i, k]
            height += weight
            pixels = source[row_first[i] + k]
            for x in range(pixels.size):
                line[x] += weight * pixels[x]
        for j in range(out.shape[1]):
            if col_count[j] == 0:
                continue
            red = green = blue = width = 0.0
            for k in range(col_count[j]):
                weight = col_weight[j, k]
                x = 3 * (col_first[j] + k)
                width += weight
                red += weight * line[x]
                green += weight * line[x + 1]
                blue += weight * line[x + 2]
            area = height * width
            out[i, j, 0] = np.uint8(red / area + 0.5)
            out[i, j, 1] = np.uint8(green / area + 0.5)
            out[i, j, 2] = np.uint8(blue / area + 0.5)
