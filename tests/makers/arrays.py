"""A reader over arrays in memory, which notes what is read and fails where it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Box, Level, Mpp, Point, Size
from slideloom.wsi.readers.reader import RGB_CHANNELS, level_downsample


@dataclass
class ArrayReader:
    """`arrays` are the levels, `(y, x, c)`; a read that meets a place of `damaged` fails.

    `damaged` holds pixels as `(level, x, y)`.
    """

    arrays: Sequence[NDArray[Any]]
    channels: tuple[str, ...] = RGB_CHANNELS
    background: tuple[int, ...] = (9, 8, 7)
    tile_px: int = 16
    damaged: set[tuple[int, int, int]] = field(default_factory=set)
    calls: list[tuple[Box, int]] = field(default_factory=list)
    name: str = "array"
    mpp: Mpp | None = None
    bounds_offset: Point = field(default_factory=lambda: Point(x=0, y=0))
    properties: Mapping[str, str] = field(default_factory=dict)
    associated_images: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    @property
    def levels(self) -> tuple[Level, ...]:
        sizes = [Size(width=item.shape[1], height=item.shape[0]) for item in self.arrays]
        tile = Size(width=self.tile_px, height=self.tile_px)
        return tuple(
            Level(size=size, downsample=level_downsample(sizes[0], size), tile=tile)
            for size in sizes
        )

    def read(self, box: Box, level: int) -> NDArray[Any]:
        self.calls.append((box, level))
        assert not box.is_empty
        for bad, x, y in self.damaged:
            if bad == level and box.contains(Box(x0=x, y0=y, x1=x + 1, y1=y + 1)):
                msg = f"damaged at {x}, {y}"
                raise SlideFormatError(msg)
        return self.arrays[level][box.slices_in(Box.of_size(self.levels[level].size))].copy()

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        raise KeyError(name)

    def fingerprint(self) -> str:
        return "of arrays"

    def close(self) -> None:
        pass
