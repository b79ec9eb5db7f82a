"""The fast reader: tiles of the TIFF family, decoded straight from the file.

Of 8-bit RGB (SVS, OME-TIFF, pyramidal TIFF) its pixels are those of OpenSlide to within one grey
value. It also serves grey, 16-bit and multi-channel TIFFs, and strips. Formats whose tiles do not
simply abut (NDPI, Philips, Ventana, Leica) are left to OpenSlide.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.fingerprint import hash_files
from slideloom.wsi.geometry import Box, Point
from slideloom.wsi.readers.openslide_reader import OpenSlideReader
from slideloom.wsi.readers.reader import BAD_TILE_ADVICE, NotServedError, closed_error
from slideloom.wsi.readers.tiff.cache import CACHE_BYTES, TileCache, TileKey
from slideloom.wsi.readers.tiff.codec import DECODE_ERRORS
from slideloom.wsi.readers.tiff.layout import TiffLevel, read_layout
from slideloom.wsi.readers.tiff.planes import TiffPlane
from slideloom.wsi.source import Source
from slideloom.wsi.tiles import StoredTile, tiles_of

_SLACK_BYTES = 2**20
"""A tile takes up to this more than twice its decoded bytes; more is damage."""


class TiffReader:
    """A TIFF in tiles, or in strips: every read of strips decodes them in their full width.

    A read decodes each file tile that it touches once. Tiles that a read needs only a part of
    are held for the reads beside it, up to a bound; else reads share no state but the file
    descriptor, and use `pread`, so threads never wait for each other.
    """

    name = "tiff"
    bounds_offset = Point(x=0, y=0)

    def __init__(self, source: Source, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Open a file.

        Args:
            source: Its path.
            cache_bytes: Of decoded tiles to hold.

        Raises:
            NotServedError: It is no TIFF that this reader serves.
            SlideFormatError: It is, and it is damaged.
        """
        if isinstance(source, str) or not source.is_file():
            msg = "it is a folder or a URL"
            raise NotServedError(msg)
        layout = read_layout(source)
        self._path = source
        self._levels = layout.levels
        self._vendor = layout.vendor
        self._show = layout.colour.show
        self._cache = TileCache(cache_bytes)
        self.levels = tuple(item.level for item in layout.levels)
        self.mpp = layout.mpp
        self.channels = layout.colour.channels
        self.dtype = layout.dtype
        self.background = layout.colour.background
        self._file: _OpenFile | None = _OpenFile(source)

    @property
    def properties(self) -> Mapping[str, str]:
        """What OpenSlide states; empty where it does not open the file."""
        return {} if self._openslide is None else self._openslide.properties

    @property
    def associated_images(self) -> tuple[str, ...]:
        """Names, sorted."""
        return () if self._openslide is None else self._openslide.associated_images

    def read(self, box: Box, level: int) -> NDArray[Any]:
        """`(y, x, c)` of a box inside the level; background where the file has no tile."""
        pixels = np.empty((*box.shape, len(self.channels)), self.dtype)
        for tile in tiles_of(self.levels[level], box):
            part = tile.box.intersect(box)
            stored = self._stored(tile, level, keep=part != tile.box)
            if stored is None:
                # One value for all channels: it is written many times faster than a list of them.
                pixels[part.slices_in(box)] = self.background[0]
            elif part == box == tile.box and _is_own(stored, pixels):
                return stored
            else:
                pixels[part.slices_in(box)] = stored[part.slices_in(tile.box)]
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
        """Close the file; reads under way in other threads end with it still open."""
        self._file = None
        self._cache.clear()
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

    def _stored(self, tile: StoredTile, level: int, *, keep: bool) -> NDArray[Any] | None:
        """The channels of a whole tile, None where the file has none.

        What the cache holds must not be written to, and so is handed out as read-only.
        """
        key = TileKey(level=level, index=tile.row * self._levels[level].across + tile.col)
        held = self._cache.get(key)
        if held is not None:
            return held
        stored = self._decode(self._levels[level], tile, index=key.index)
        if stored is not None and keep:
            stored.flags.writeable = False
            self._cache.put(key, stored)
        return stored

    def _decode(self, source: TiffLevel, tile: StoredTile, *, index: int) -> NDArray[Any] | None:
        planes = source.planes
        if not any(plane.counts[index] for plane in planes):
            return None
        if len(planes) == 1:
            samples = self._samples(source, planes[0], tile=tile, index=index)
        else:
            samples = self._joined(source, tile, index=index)
        return samples if self._show is None else self._show(samples)

    def _joined(self, source: TiffLevel, tile: StoredTile, *, index: int) -> NDArray[Any]:
        """The samples of all planes; 0 where one has no tile and others have."""
        shape = (source.rows_of(tile.row), source.level.tile.width)
        samples = np.zeros((*shape, sum(plane.samples for plane in source.planes)), self.dtype)
        end = 0
        for plane in source.planes:
            start, end = end, end + plane.samples
            if plane.counts[index]:
                part = self._samples(source, plane, tile=tile, index=index)
                samples[..., start:end] = part
        return samples

    def _samples(
        self, source: TiffLevel, plane: TiffPlane, *, tile: StoredTile, index: int
    ) -> NDArray[Any]:
        """`(rows, width, samples)` of one plane of a tile that the file has."""
        rows, width = source.rows_of(tile.row), source.level.tile.width
        count = int(plane.counts[index])
        whole = rows * width * plane.samples * self.dtype.itemsize
        if count > 2 * whole + _SLACK_BYTES:
            raise self._damaged(source, tile, found=f"{count} bytes for {whole} bytes of pixels")
        file = self._file
        if file is None:
            raise closed_error(self._path)
        data = os.pread(file.descriptor, count, int(plane.offsets[index]))
        if len(data) != count:
            raise self._damaged(source, tile, found=f"{len(data)} of {count} bytes")
        try:
            return plane.decode(data, rows)
        except DECODE_ERRORS as error:
            raise self._damaged(source, tile, found=str(error)) from error

    def _damaged(self, source: TiffLevel, tile: StoredTile, *, found: str) -> SlideFormatError:
        level = next(i for i, item in enumerate(self._levels) if item is source)
        return SlideFormatError(
            f"slide '{self._path.name}' is damaged at level {level}, tile row {tile.row}, "
            f"col {tile.col} ({found}): {BAD_TILE_ADVICE}"
        )


class _OpenFile:
    """A descriptor that is closed when nobody holds it any more.

    Closed under a read, its number could by then be that of another file.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)


def _is_own(stored: NDArray[Any], pixels: NDArray[Any]) -> bool:
    """Whether a decoded tile can be handed out in place of the array for the result."""
    flags = stored.flags
    return stored.shape == pixels.shape and flags.writeable and flags.c_contiguous
