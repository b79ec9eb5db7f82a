"""The fast reader: tiles of the TIFF family, decoded straight from the file.

Of 8-bit RGB (SVS, OME-TIFF, pyramidal TIFF) its pixels are those of OpenSlide to within one grey
value. It also serves grey, 16-bit and multi-channel TIFFs, and strips. Formats whose tiles do not
simply abut (NDPI, Philips, Ventana, Leica) are left to OpenSlide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.byte_file import ByteFile, LocalFile
from slideloom.wsi.fetched import fetch_whole
from slideloom.wsi.fingerprint import hash_opened
from slideloom.wsi.geometry import Box, Point
from slideloom.wsi.readers.openslide_reader import OpenSlideReader
from slideloom.wsi.readers.reader import BAD_TILE_ADVICE, NoFileError, NotServedError
from slideloom.wsi.readers.tiff.cache import CACHE_BYTES, TileCache, TileKey
from slideloom.wsi.readers.tiff.codec import DECODE_ERRORS
from slideloom.wsi.readers.tiff.layout import TiffLevel, read_layout
from slideloom.wsi.readers.tiff.planes import TiffPlane
from slideloom.wsi.remote import ForbiddenError
from slideloom.wsi.remote_file import open_remote
from slideloom.wsi.source import Source, file_name
from slideloom.wsi.tiles import StoredTile, tiles_of

_HEADS = (b"II", b"MM")
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
            source: Its path, or a URL.
            cache_bytes: Of decoded tiles to hold.

        Raises:
            NotServedError: It is no TIFF that this reader serves.
            SlideFormatError: It is, and it is damaged.
            SlideAccessError: The URL may not be read, or cannot be reached.
        """
        file = _open_file(source)
        layout = read_layout(file)
        self._file = file
        self._levels = layout.levels
        self._vendor = layout.vendor
        self._show = layout.colour.show
        self._cache = TileCache(cache_bytes)
        self.levels = tuple(item.level for item in layout.levels)
        self.mpp = layout.mpp
        self.channels = layout.colour.channels
        self.dtype = layout.dtype
        self.background = layout.colour.background

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
        source = self._levels[level]
        missing = []
        for tile in tiles_of(source.level, box):
            held = self._cache.get(TileKey(level=level, index=source.index_of(tile)))
            if held is None:
                missing.append(tile)
            else:
                part = tile.box.intersect(box)
                pixels[part.slices_in(box)] = held[part.slices_in(tile.box)]
        for batch in self._batches(source, missing):
            for tile, parts in zip(batch, self._fetch(source, batch), strict=True):
                part = tile.box.intersect(box)
                stored = self._stored(tile, level, parts=parts, keep=part != tile.box)
                if stored is None:
                    # One value for all channels is written many times faster than a list of them.
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
        return hash_opened([self._file])

    def close(self) -> None:
        """Close the file; reads under way in other threads end with it still open."""
        self._file.close()
        self._cache.clear()
        companion = vars(self).get("_openslide")
        if companion is not None:
            companion.close()

    @cached_property
    def _openslide(self) -> OpenSlideReader | None:
        """The same file as OpenSlide sees it, for what lies beside the pixels."""
        try:
            path = None if self._vendor is None else self._file.path
            return None if path is None else OpenSlideReader(path)
        except SlideFormatError:
            # OpenSlide refuses a file for its compression alone, and this reader has served it.
            return None

    def _batches(
        self, source: TiffLevel, tiles: Sequence[StoredTile]
    ) -> Iterator[list[StoredTile]]:
        """Tiles to fetch at once: one from a disk, many from a network, some MiB in all."""
        batch: list[StoredTile] = []
        held = 0
        for tile in tiles:
            index = source.index_of(tile)
            count = sum(int(plane.counts[index]) for plane in source.planes)
            if batch and held + count > self._file.batch_bytes:
                yield batch
                batch, held = [], 0
            batch.append(tile)
            held += count
        if batch:
            yield batch

    def _fetch(self, source: TiffLevel, tiles: Sequence[StoredTile]) -> list[list[bytes]]:
        """The stored bytes of each tile, plane by plane; none where a plane has no such tile."""
        ranges = []
        for tile in tiles:
            index = source.index_of(tile)
            for plane in source.planes:
                part = plane.range_of(index)
                whole = self._plane_bytes(source, plane, tile=tile)
                if part.count > 2 * whole + _SLACK_BYTES:
                    found = f"{part.count} bytes for {whole} bytes of pixels"
                    raise self._damaged(source, tile, found=found)
                ranges.append(part)
        fetched = iter(self._file.fetch(ranges))
        return [[next(fetched) for _ in source.planes] for _ in tiles]

    def _plane_bytes(self, source: TiffLevel, plane: TiffPlane, *, tile: StoredTile) -> int:
        """Of a tile, decoded."""
        rows, width = source.rows_of(tile.row), source.level.tile.width
        return rows * width * plane.samples * self.dtype.itemsize

    def _stored(
        self, tile: StoredTile, level: int, *, parts: Sequence[bytes], keep: bool
    ) -> NDArray[Any] | None:
        """The channels of a whole tile, None where the file has none.

        What the cache holds must not be written to, and so is handed out as read-only.
        """
        source = self._levels[level]
        stored = self._decode(source, tile, parts=parts)
        if stored is not None and keep:
            stored.flags.writeable = False
            self._cache.put(TileKey(level=level, index=source.index_of(tile)), stored)
        return stored

    def _decode(
        self, source: TiffLevel, tile: StoredTile, *, parts: Sequence[bytes]
    ) -> NDArray[Any] | None:
        planes, index = source.planes, source.index_of(tile)
        if not any(plane.counts[index] for plane in planes):
            return None
        if len(planes) == 1:
            samples = self._samples(source, planes[0], tile=tile, data=parts[0])
        else:
            samples = self._joined(source, tile, parts=parts)
        return samples if self._show is None else self._show(samples)

    def _joined(
        self, source: TiffLevel, tile: StoredTile, *, parts: Sequence[bytes]
    ) -> NDArray[Any]:
        """The samples of all planes; 0 where one has no tile and others have."""
        shape = (source.rows_of(tile.row), source.level.tile.width)
        samples = np.zeros((*shape, sum(plane.samples for plane in source.planes)), self.dtype)
        index, end = source.index_of(tile), 0
        for plane, data in zip(source.planes, parts, strict=True):
            start, end = end, end + plane.samples
            if plane.counts[index]:
                part = self._samples(source, plane, tile=tile, data=data)
                samples[..., start:end] = part
        return samples

    def _samples(
        self, source: TiffLevel, plane: TiffPlane, *, tile: StoredTile, data: bytes
    ) -> NDArray[Any]:
        """`(rows, width, samples)` of one plane of a tile that the file has."""
        count = plane.counts[source.index_of(tile)]
        if len(data) != count:
            raise self._damaged(source, tile, found=f"{len(data)} of {count} bytes")
        try:
            return plane.decode(data, source.rows_of(tile.row))
        except DECODE_ERRORS as error:
            self._file.check_unchanged()
            raise self._damaged(source, tile, found=str(error)) from error

    def _damaged(self, source: TiffLevel, tile: StoredTile, *, found: str) -> SlideFormatError:
        level = next(i for i, item in enumerate(self._levels) if item is source)
        return SlideFormatError(
            f"slide '{self._file.name}' is damaged at level {level}, tile row {tile.row}, "
            f"col {tile.col} ({found}): {BAD_TILE_ADVICE}"
        )


def _open_file(source: Source) -> ByteFile:
    """A file of this machine, or one behind a URL.

    Raises:
        NotServedError: A folder, or a URL without a file.
        SlideAccessError: The URL may not be read, or cannot be reached.
        SlideFormatError: The file behind it is empty.
    """
    if isinstance(source, Path):
        if not source.is_file():
            msg = "it is a folder"
            raise NotServedError(msg)
        return LocalFile(source)
    if file_name(source).lower().endswith((".zarr", ".zip")):
        msg = "it is called an OME-Zarr"
        raise NoFileError(msg)
    try:
        return open_remote(source) or fetch_whole(source, heads=_HEADS)
    except ForbiddenError as error:
        if "." in file_name(source):
            raise
        # Servers forbid to look for what is missing; there may be a folder that may be read.
        raise NoFileError(str(error)) from error


def _is_own(stored: NDArray[Any], pixels: NDArray[Any]) -> bool:
    """Whether a decoded tile can be handed out in place of the array for the result."""
    flags = stored.flags
    return stored.shape == pixels.shape and flags.writeable and flags.c_contiguous
