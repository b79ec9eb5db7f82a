"""Read on where a stored tile is damaged, and remember which one it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Box, Level
from slideloom.wsi.readers.reader import PixelSource, blank_pixels
from slideloom.wsi.tiles import tiles_of


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BadTile:
    """A stored tile that could not be decoded."""

    level: int
    row: int
    col: int


class TolerantPixels:
    """A source whose damaged tiles have the background's colour.

    `bad_tiles` lists those that were met so far. A read that fails is done again tile by tile, so
    undamaged slides are read at full speed.
    """

    def __init__(self, source: PixelSource) -> None:
        self._source = source
        self._bad: set[BadTile] = set()

    @property
    def levels(self) -> tuple[Level, ...]:
        """The pyramid, finest first."""
        return self._source.levels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        return self._source.dtype

    @property
    def background(self) -> tuple[int, ...]:
        """One value per channel."""
        return self._source.background

    @property
    def bad_tiles(self) -> tuple[BadTile, ...]:
        """Damaged tiles met so far, sorted."""
        return tuple(sorted(self._bad.copy()))

    def read(self, box: Box, level: int) -> NDArray[Any]:
        """`(y, x, c)` pixels of a box inside the level, damaged tiles blank."""
        try:
            return self._source.read(box, level)
        except SlideFormatError:
            return self._read_by_tiles(box, level)

    def _read_by_tiles(self, box: Box, level: int) -> NDArray[Any]:
        pixels = blank_pixels(self, box)
        for tile in tiles_of(self.levels[level], box):
            part = tile.box.intersect(box)
            try:
                pixels[part.slices_in(box)] = self._source.read(part, level)
            except SlideFormatError:
                self._bad.add(BadTile(level=level, row=tile.row, col=tile.col))
        return pixels
