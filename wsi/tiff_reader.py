"""The fast reader: tiles of the TIFF family, decoded straight from the file.

It serves tiled 8-bit RGB (SVS, OME-TIFF, pyramidal TIFF) and leaves the rest to OpenSlide. Its
pixels are those of OpenSlide to within one grey value.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.fingerprint import hash_files
from slideloom.wsi.geometry import Box, Point
from slideloom.wsi.openslide_reader import OpenSlideReader
from slideloom.wsi.reader import RGB_CHANNELS, WHITE, NotServedError
from slideloom.wsi.source import Source
from slideloom.wsi.tiff_codec import DECODE_ERRORS
from slideloom.wsi.tiff_layout import TiffLevel, read_layout


class TiffReader:
    """A tiled TIFF.

    A read decodes each file tile that it touches once. Reads share no state but the file
    descriptor and use `pread`, so threads never wait for each other.
    """

    name = "tiff"
    channels = RGB_CHANNELS
    dtype = np.dtype(np.uint8)

    def __init__(self, source: Source) -> None:
        """Open a file.

        Raises:
            NotServedError: It is no TIFF that this reader serves.
            SlideFormatError: It is, and it is damaged.
        """
        if isinstance(source, str):
            msg = "it is a URL"
            raise NotServedError(msg)
        layout = read_layout(source)
        self._path = path = source
        self._levels = layout.levels
        self._vendor = layout.vendor
        self.levels = tuple(item.level for item in layout.levels)
        self.mpp = layout.mpp
        self.bounds_offset = Point(x=0, y=0)
        self.background = WHITE
        self._file = os.open(path, os.O_RDONLY)
        self._closer = weakref.finalize(self, os.close, self._file)

    @property
    def properties(self) -> Mapping[str, str]:
        """What OpenSlide states; empty where it does not open the file."""
        return {} if self._openslide is None else self._openslide.properties

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names, sorted."""
        return () if self._openslide is None else self._openslide.associated_images

    def read(self, box: Box, level: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` of a box inside the level; white where the file has no tile."""
        source = self._levels[level]
        tile = source.level.tile
        pixels = np.full((*box.shape, 3), 255, dtype=np.uint8)
        across = -(-source.level.size.width // tile.width)
        for row in range(box.y0 // tile.height, -(-box.y1 // tile.height)):
            for col in range(box.x0 // tile.width, -(-box.x1 // tile.width)):
                index = row * across + col
                if source.counts[index] == 0:
                    continue
                x0, y0 = col * tile.width, row * tile.height
                place = Box(x0=x0, y0=y0, x1=x0 + tile.width, y1=y0 + tile.height)
                part = place.intersect(box)
                pixels[part.slices_in(box)] = self._tile(source, index)[part.slices_in(place)]
        return pixels

    def read_associated(self, name: str) -> NDArray[np.uint8]:
        """`(y, x, 3)` of the associated image `name`."""
        if self._openslide is None:
            raise KeyError(name)
        return self._openslide.read_associated(name)

    def fingerprint(self) -> str:
        """Of the file."""
        return hash_files([self._path])

    def close(self) -> None:
        """Close the file."""
        self._closer()
        companion = vars(self).get("_openslide")
        if companion is not None:
            companion.close()

    @cached_property
    def _openslide(self) -> OpenSlideReader | None:
        """The same file as OpenSlide sees it, for what lies beside the pixels."""
        try:
            return None if self._vendor is None else OpenSlideReader(self._path)
        except SlideFormatError:
            # OpenSlide refuses a file for its compression alone, and this reader has served it.
            return None

    def _tile(self, source: TiffLevel, index: int) -> NDArray[np.uint8]:
        tile, count = source.level.tile, int(source.counts[index])
        data = os.pread(self._file, count, int(source.offsets[index]))
        try:
            pixels = source.decode(data, index)
        except DECODE_ERRORS as error:
            raise self._damaged(source, index, found=str(error)) from error
        if len(data) != count or pixels.shape != (*tile.shape, 3):
            found = f"{len(data)} of {count} bytes, {pixels.shape} pixels"
            raise self._damaged(source, index, found=found)
        return pixels

    def _damaged(self, source: TiffLevel, index: int, *, found: str) -> SlideFormatError:
        across = -(-source.level.size.width // source.level.tile.width)
        row, col = divmod(index, across)
        level = next(i for i, item in enumerate(self._levels) if item is source)
        return SlideFormatError(
            f"slide '{self._path.name}' is damaged at level {level}, tile row {row}, col {col} "
            f"({found}): copy or download it again"
        )
