"""A pyramid from a slide's level 0 alone, made in one pass from top to bottom, band by band.

Each level halves the one before. Level 0 is read in rows of file tiles, each tile once; a band of a
coarser level is ready as soon as the two bands under it are. So memory holds about three bands
of level 0, however tall the slide is.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi.geometry import Box, Size
from slideloom.wsi.jit import jit
from slideloom.wsi.slide import Slide

BAND_PX = 512
"""Rows of a band, and the side of the tiles and chunks that are written."""

_BLOCK_PX = 512
_WIDE_PX = 2 * _BLOCK_PX
_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """`BAND_PX` rows of one level over its whole width; the last band may have fewer.

    Attributes:
        level: 0 is the finest.
        row: Number of the band, from the top.
        pixels: `(y, x, c)`.
    """

    level: int
    row: int
    pixels: NDArray[Any]


def pyramid_sizes(size: Size) -> tuple[Size, ...]:
    """`size` and its halves, rounded up, until both sides are 512 pixels or less."""
    sizes = [size]
    while max(sizes[-1].shape) > BAND_PX:
        height, width = (-(-side // 2) for side in sizes[-1].shape)
        sizes.append(Size(width=width, height=height))
    return tuple(sizes)


def pyramid_tiles(size: Size) -> int:
    """How many tiles of 512 x 512 pixels the levels of `pyramid_sizes` have."""
    return sum(
        -(-level.height // BAND_PX) * -(-level.width // BAND_PX) for level in pyramid_sizes(size)
    )


def check_dtype(slide: Slide) -> None:
    """Refuse pixels that cannot be averaged or that no format holds.

    Raises:
        SettingsError: They are not whole numbers of at most 32 bits, nor floats of 32 or 64.
    """
    if slide.dtype.name not in _DTYPES:
        msg = f"pixels of {slide.dtype} cannot be written: convert them to {', '.join(_DTYPES)}"
        raise SettingsError(msg)


def pyramid_bands(slide: Slide, *, pool: ThreadPoolExecutor) -> Iterator[Band]:
    """All bands of all levels of `pyramid_sizes`, in the slide's stored channels.

    Level 0 is the slide's own; a pixel of a coarser level is the mean of 2 x 2, see `halve`. Within
    a level bands come from top to bottom, and the last band of level 0 is the last of all.

    Raises:
        SlideFormatError: The file is damaged.
    """
    cascade = _Cascade(pyramid_sizes(slide.size), pool)
    for row, pixels in enumerate(_read_bands(slide, pool)):
        yield from cascade.push(Band(level=0, row=row, pixels=pixels))


def halve(pixels: NDArray[Any], out: NDArray[Any]) -> None:
    """Fill `out` `(ceil(y / 2), ceil(x / 2), c)` with means of 2 x 2 of `pixels` `(y, x, c)`.

    Means of whole numbers round half up. Where a side is odd, its last pixel counts twice.
    """
    _halve(pixels, out, pixels.dtype.kind != "f")


class _Cascade:
    """Passes bands on, after the bands of coarser levels that they complete."""

    def __init__(self, sizes: tuple[Size, ...], pool: ThreadPoolExecutor) -> None:
        self._sizes = sizes
        self._pool = pool
        self._open: dict[int, NDArray[Any]] = {}

    def push(self, band: Band) -> Iterator[Band]:
        if band.level + 1 < len(self._sizes):
            yield from self._halved(band)
        yield band

    def _halved(self, band: Band) -> Iterator[Band]:
        level, (row, odd) = band.level + 1, divmod(band.row, 2)
        size, pixels = self._sizes[level], band.pixels
        if not odd:
            rows = min(BAND_PX, size.height - row * BAND_PX)
            self._open[level] = np.empty((rows, size.width, pixels.shape[2]), pixels.dtype)
        whole = self._open[level]
        top = BAND_PX // 2 if odd else 0
        part = whole[top : top + -(-len(pixels) // 2)]
        list(
            self._pool.map(partial(_halve_columns, pixels, out=part), range(0, size.width, BAND_PX))
        )
        if top + len(part) == len(whole):
            yield from self.push(Band(level=level, row=row, pixels=self._open.pop(level)))


def _halve_columns(pixels: NDArray[Any], x0: int, *, out: NDArray[Any]) -> None:
    halve(pixels[:, 2 * x0 : 2 * (x0 + BAND_PX)], out[:, x0 : x0 + BAND_PX])


def _read_bands(slide: Slide, pool: ThreadPoolExecutor) -> Iterator[NDArray[Any]]:
    """Level 0 from top to bottom, `(y, x, c)`; each file tile is decoded once."""
    size, tile = slide.size, slide.levels[0].tile
    bands: dict[int, NDArray[Any]] = {}
    done, rows = 0, _whole_tiles(tile.height, _BLOCK_PX)
    for y0 in range(0, size.height, rows):
        strip = Box(x0=0, y0=y0, x1=size.width, y1=min(y0 + rows, size.height))
        for row in range(y0 // BAND_PX, -(-strip.y1 // BAND_PX)):
            if row not in bands:
                height = min(BAND_PX, size.height - row * BAND_PX)
                shape = (height, size.width, len(slide.channels))
                bands[row] = np.empty(shape, slide.dtype)
        list(pool.map(partial(_read_block, slide, bands=bands), _blocks(strip, tile)))
        while done in bands and strip.y1 >= done * BAND_PX + len(bands[done]):
            yield bands.pop(done)
            done += 1


def _blocks(strip: Box, tile: Size) -> Iterator[Box]:
    """The strip in pieces of whole tiles, some 512 x 512 pixels each; wide tiles stay whole."""
    width = _whole_tiles(tile.width, _BLOCK_PX)
    height = strip.height
    if tile.width > _WIDE_PX:
        height = _whole_tiles(tile.height, _BLOCK_PX**2 // tile.width)
    for y0 in range(strip.y0, strip.y1, height):
        for x0 in range(0, strip.x1, width):
            yield Box(x0=x0, y0=y0, x1=x0 + width, y1=y0 + height).intersect(strip)


def _whole_tiles(tile_px: int, about_px: int) -> int:
    return max(1, about_px // tile_px) * tile_px


def _read_block(slide: Slide, block: Box, *, bands: dict[int, NDArray[Any]]) -> None:
    pixels = slide.read_raw(block)
    for row in range(block.y0 // BAND_PX, -(-block.y1 // BAND_PX)):
        frame = Box(x0=0, y0=row * BAND_PX, x1=slide.size.width, y1=(row + 1) * BAND_PX)
        part = block.intersect(frame)
        bands[row][part.slices_in(frame)] = pixels[part.slices_in(block)]


@jit
def _halve(pixels: NDArray[Any], out: NDArray[Any], whole: bool) -> None:
    """Sums of four whole numbers of 32 bits are exact in float64, so one loop serves all types."""
    last_y, last_x = pixels.shape[0] - 1, pixels.shape[1] - 1
    for i in range(out.shape[0]):
        upper = pixels[2 * i]
        lower = pixels[min(2 * i + 1, last_y)]
        for j in range(out.shape[1]):
            left, right = 2 * j, min(2 * j + 1, last_x)
            for c in range(out.shape[2]):
                total = np.float64(upper[left, c]) + np.float64(upper[right, c])
                total += np.float64(lower[left, c]) + np.float64(lower[right, c])
                out[i, j, c] = np.floor((total + 2) * 0.25) if whole else total * 0.25
