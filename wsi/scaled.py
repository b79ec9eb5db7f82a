"""Read a box at any scale: choose the level, read what is needed, resample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Level, Size
from slideloom.wsi.readers.reader import PixelSource, blank_pixels
from slideloom.wsi.resample import Axis, Weights, axis_weights, resample

_NOISE = 1e-7
"""Relative noise of a scale, left by dividing one mpp by another."""
_BAND_PX = 2**25
"""Source pixels held at once: a thumbnail of a slide without pyramid is read band by band."""

_PIXEL_TOLERANCE = 1e-6
_NATIVE_WITHIN = 0.02
"""A level this near to a model's mpp (relative) is used as it is, without resampling."""
_COARSEST = 2.0
"""A slide may be coarser than a model by this factor."""


def reading_mpp(wanted: float, *, slide_mpp: float, downsamples: Iterable[float]) -> float | None:
    """The mpp at which a slide is read for a model, in a run and in training alike.

    Args:
        wanted: The model's mpp.
        slide_mpp: Micrometres per level-0 pixel.
        downsamples: Of the slide's levels.

    Returns:
        A level's own mpp where one is near enough, else the model's; None for a slide that is too
        coarse for the model.
    """
    if slide_mpp > _COARSEST * wanted:
        return None
    own = [slide_mpp * downsample for downsample in downsamples]
    nearest = min(own, key=lambda mpp: abs(mpp - wanted))
    return nearest if abs(nearest / wanted - 1) <= _NATIVE_WITHIN else wanted


def scaled_size(size: Size, scale: float) -> Size:
    """Pixels that are `scale` level-0 pixels wide, until the last pixel of level 0 is covered."""
    height, width = (ceil(side / scale - _PIXEL_TOLERANCE) for side in size.shape)
    return Size(width=max(1, width), height=max(1, height))


def read_level(source: PixelSource, box: Box, *, level: int) -> NDArray[Any]:
    """`(y, x, c)` of a box in the level's own pixels; background outside the level."""
    bounds = Box.of_size(source.levels[level].size)
    if not box.is_empty and bounds.contains(box):
        return source.read(box, level)
    pixels = blank_pixels(source, box)
    inside = box.intersect(bounds)
    if not inside.is_empty:
        pixels[inside.slices_in(box)] = source.read(inside, level)
    return pixels


def best_level(levels: tuple[Level, ...], scale: float) -> int:
    """The coarsest level that is as fine as `scale` level-0 pixels per pixel, or level 0."""
    fine = [i for i, level in enumerate(levels) if level.downsample <= scale * (1 + _NOISE)]
    return max(fine, key=lambda i: levels[i].downsample, default=0)


def read_scaled(source: PixelSource, box: Box, *, scale: float) -> NDArray[np.uint8]:
    """`(y, x, 3)` of a box in pixels that are `scale` level-0 pixels wide, from 8-bit RGB.

    The box is anchored at the slide's origin. It reads no level finer than it needs, and
    never more than a band of some 30 million source pixels at once.
    """
    level = best_level(source.levels, scale)
    step = scale / source.levels[level].downsample
    if abs(step - round(step)) < _NOISE * step:
        step = float(round(step))
    if step == 1 and (level == 0 or Box.of_size(source.levels[level].size).contains(box)):
        return read_level(source, box, level=level)
    view = _View(source=source, level=level, step=step)
    pixels = blank_pixels(source, box)
    for part in _parts(box, most_px=int(_BAND_PX / max(step, 1.0) ** 2)):
        view.read_into(pixels[part.slices_in(box)], part)
    return pixels


def _parts(box: Box, *, most_px: int) -> Iterator[Box]:
    """Bands of `box` of some `most_px` pixels, or pieces of rows where one row has more."""
    cols = max(1, min(box.width, most_px))
    rows = max(1, most_px // cols) if cols == box.width else 1
    for y0 in range(box.y0, box.y1, rows):
        for x0 in range(box.x0, box.x1, cols):
            yield Box(x0=x0, y0=y0, x1=x0 + cols, y1=y0 + rows).intersect(box)


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """One level seen at `step` of its pixels per output pixel."""

    source: PixelSource
    level: int
    step: float

    def read_into(self, out: NDArray[np.uint8], box: Box) -> None:
        rows, cols = self._weights(box)
        ys, xs = rows.source_range, cols.source_range
        if ys and xs:
            needed = Box(x0=xs.start, y0=ys.start, x1=xs.stop, y1=ys.stop)
            resample(self.source.read(needed, self.level), rows, cols=cols, out=out)

    def _weights(self, box: Box) -> tuple[Weights, Weights]:
        base, level = self.source.levels[0].size, self.source.levels[self.level]
        height = Axis(length=level.size.height, extent=base.height / level.downsample)
        width = Axis(length=level.size.width, extent=base.width / level.downsample)
        return (
            axis_weights(range(box.y0, box.y1), height, scale=self.step),
            axis_weights(range(box.x0, box.x1), width, scale=self.step),
        )
