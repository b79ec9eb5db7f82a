"""Where the tiles or strips of a page lie in the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.byte_file import ByteFile, ByteRange
from slideloom.wsi.geometry import Size
from slideloom.wsi.readers.reader import NotServedError, NowhereServedError
from slideloom.wsi.readers.tiff.codec import DecodeTile, SegmentShape, is_uncompressed, tile_decoder
from slideloom.wsi.readers.tiff.damage import check_inside, damaged

MAX_TILE_BYTES = 2**29
"""A tile that is larger when decoded is taken for damage, or for a file that cannot be served."""
_STRIP_BYTES = 2**20
"""Uncompressed strips are cut anew into strips of about this size."""
_CONTIGUOUS = 1
_LAST_BYTE = 2**61
"""Two of it still fit into 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiffPlane:
    """One plane of a level: all its samples, or one of them.

    Attributes:
        offsets: `(tiles,)` byte where each tile starts, row by row.
        counts: `(tiles,)` bytes of each tile; 0 where the tile was never scanned.
        samples: How many samples per pixel it holds.
        decode: Bytes and rows of a tile to its samples.
    """

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    samples: int
    decode: DecodeTile

    def range_of(self, index: int) -> ByteRange:
        """Where a tile lies in the file."""
        return ByteRange(start=int(self.offsets[index]), count=int(self.counts[index]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlaneGroup:
    """The planes of one page, all cut in the same way.

    Attributes:
        tile: Of a tile, or of a strip that is as wide as the level.
        planes: One, or one for each sample.
    """

    tile: Size
    planes: tuple[TiffPlane, ...]


def planes_of(
    file: ByteFile, page: tifffile.TiffPage, *, dtype: np.dtype[Any], aperio: bool, behind: int = 0
) -> PlaneGroup:
    """Where a page keeps its tiles; `behind` more planes follow its own without a page.

    Raises:
        NotServedError: A compression that is not served, or tiles that are too large.
        SlideFormatError: The tiles do not all lie inside the file.
    """
    if page.imagedepth != 1 or page.tiledepth > 1:
        msg = "it is a TIFF of volumes, not of planes: save each plane as its own file"
        raise NowhereServedError(msg)
    joint = page.planarconfig == _CONTIGUOUS
    shape = SegmentShape(
        rows=page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength),
        width=page.tilewidth if page.is_tiled else page.imagewidth,
        samples=page.samplesperpixel if joint else 1,
        dtype=dtype,
    )
    table = _read_table(file, page, shape=shape)
    if not page.is_tiled and is_uncompressed(page) and table.is_gapless:
        shape, table = _cut_anew(page, shape, table=table, behind=behind)
        table.check_inside(file)
    elif behind:
        raise damaged(file, "lists fewer pages than channels")
    if shape.nbytes > MAX_TILE_BYTES:
        msg = (
            f"it stores {shape.width} x {shape.rows} pixels in one piece, {shape.nbytes} bytes, of "
            f"which {MAX_TILE_BYTES} are served: convert it to a tiled pyramidal TIFF"
        )
        raise NotServedError(msg)
    decode = tile_decoder(page, shape, aperio=aperio)
    return PlaneGroup(
        tile=Size(width=shape.width, height=shape.rows),
        planes=tuple(
            TiffPlane(offsets=offsets, counts=counts, samples=shape.samples, decode=decode)
            for offsets, counts in zip(table.offsets, table.counts, strict=True)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TileTable:
    """`offsets` and `counts`, both `(planes, tiles)`; `across` tiles lie in a row."""

    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    across: int

    @property
    def is_gapless(self) -> bool:
        """Whether each plane lies in one piece."""
        ends = self.offsets + self.counts
        return bool((self.counts > 0).all() and (ends[:, :-1] == self.offsets[:, 1:]).all())

    def check_inside(self, file: ByteFile) -> None:
        """Refuse tiles that end behind the file's end."""
        ends = np.where(self.counts > 0, self.offsets + self.counts, 0)
        tile = int(ends.argmax())
        row, col = divmod(tile % ends.shape[1], self.across)
        check_inside(file, int(ends.flat[tile]), what=f"tile row {row}, col {col} ends")


def _read_table(file: ByteFile, page: tifffile.TiffPage, *, shape: SegmentShape) -> _TileTable:
    across, down = -(-page.imagewidth // shape.width), -(-page.imagelength // shape.rows)
    planes = 1 if page.planarconfig == _CONTIGUOUS else page.samplesperpixel
    offsets = np.array(page.dataoffsets, dtype=np.int64)
    counts = np.array(page.databytecounts, dtype=np.int64)
    if not len(offsets) == len(counts) == planes * across * down:
        found = f"lists {len(offsets)} tiles in a level, not {planes * across * down}"
        raise damaged(file, found)
    if min(offsets.min(), counts.min()) < 0 or max(offsets.max(), counts.max()) > _LAST_BYTE:
        raise damaged(file, "lists tiles that no file can hold")
    table = _TileTable(
        offsets=offsets.reshape(planes, -1), counts=counts.reshape(planes, -1), across=across
    )
    table.check_inside(file)
    return table


def _cut_anew(
    page: tifffile.TiffPage, shape: SegmentShape, *, table: _TileTable, behind: int
) -> tuple[SegmentShape, _TileTable]:
    """Rows that lie behind each other can be read in pieces of any number of rows."""
    row_bytes = shape.width * shape.samples * shape.dtype.itemsize
    rows = max(1, min(page.imagelength, _STRIP_BYTES // row_bytes))
    starts = table.offsets[:, :1]
    plane_bytes = page.imagelength * row_bytes
    more = starts[-1:] + plane_bytes * np.arange(1, behind + 1)[:, np.newaxis]
    first_rows = np.arange(0, page.imagelength, rows)
    lengths = np.minimum(rows, page.imagelength - first_rows) * row_bytes
    offsets = np.concatenate([starts, more]) + first_rows * row_bytes
    return replace(shape, rows=rows), _TileTable(
        offsets=offsets, counts=np.broadcast_to(lengths, offsets.shape), across=1
    )
