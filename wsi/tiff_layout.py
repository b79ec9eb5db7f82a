"""Where a tiled TIFF keeps its levels and tiles, and whether the fast reader serves it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from slideloom.errors import SlideFormatError
from slideloom.wsi.geometry import Level, Mpp, Size
from slideloom.wsi.reader import NotServedError, level_downsample
from slideloom.wsi.tiff_codec import DecodeTile, tile_decoder
from slideloom.wsi.tiff_mpp import read_mpp

_PLAIN_VENDORS = {"aperio", "generic-tiff", None}
"""Formats of OpenSlide whose tiles simply abut; None is a TIFF that OpenSlide does not know."""
_SIDE_TOLERANCE = 0.02
"""By how much a level's two ratios to level 0 may differ: small levels are rounded to a pixel."""

_NONSENSE = (ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error)
"""What parsing raises on tags that were overwritten: wrong types, lengths, counts and places."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiffLevel:
    """One level's tiles, row by row.

    Attributes:
        level: Size, downsample and tile size.
        offsets: `(tiles,)` byte where each tile starts.
        counts: `(tiles,)` bytes of each tile; 0 where the tile was never scanned.
        decode: Bytes and index of a tile to its pixels.
    """

    level: Level
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    decode: DecodeTile


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """All that reading needs to know of a file.

    Attributes:
        levels: Finest first.
        mpp: As the file states it.
        vendor: OpenSlide's word for the format; None where OpenSlide does not open it.
    """

    levels: tuple[TiffLevel, ...]
    mpp: Mpp | None
    vendor: str | None


def read_layout(path: Path) -> TiffLayout:
    """The layout of the tiled TIFF at `path`.

    Raises:
        NotServedError: No TIFF, or one that the fast reader does not serve.
        SlideFormatError: A TIFF whose end is missing, or whose directories make no sense.
    """
    _check_start(path)
    try:
        with tifffile.TiffFile(path) as tif:
            return _layout(path, tif)
    except SlideFormatError:
        raise
    except _NONSENSE as error:
        raise _damaged(path, f"has directories that make no sense ({error})") from error


def _layout(path: Path, tif: tifffile.TiffFile) -> TiffLayout:
    vendor = openslide.OpenSlide.detect_format(path)
    if tif.is_ndpi and vendor is None:
        raise _damaged(path, "is an NDPI whose directories do not all lie inside the file")
    if vendor not in _PLAIN_VENDORS or tif.is_ndpi:
        msg = f"it is a TIFF of {vendor}, which is left to OpenSlide"
        raise NotServedError(msg)
    _check_chain(path, tif)
    pages = _level_pages(tif, vendor)
    base = _size(pages[0])
    levels = []
    for index, page in enumerate(pages):
        tile = Size(width=page.tilewidth, height=page.tilelength)
        level = Level(size=_size(page), downsample=level_downsample(base, _size(page)), tile=tile)
        levels.append(
            TiffLevel(
                level=level,
                offsets=np.array(page.dataoffsets, dtype=np.int64),
                counts=np.array(page.databytecounts, dtype=np.int64),
                decode=tile_decoder(page, aperio=vendor == "aperio"),
            )
        )
        _check_tiles(path, levels[-1], index=index)
    return TiffLayout(levels=tuple(levels), mpp=read_mpp(tif), vendor=vendor)


def _level_pages(tif: tifffile.TiffFile, vendor: str | None) -> list[tifffile.TiffPage]:
    """The pages of the pyramid: as OpenSlide picks them, and SubIFDs of the first page."""
    first = tif.pages.first
    rest = [*(first.pages or ()), *list(tif.pages)[1:]]
    pages = [first]
    for page in rest:
        if not isinstance(page, tifffile.TiffPage) or not page.is_tiled:
            continue
        reduced = vendor == "aperio" or page.is_reduced
        if reduced and _is_smaller_copy(_size(first), _size(page)):
            pages.append(page)
    for page in pages:
        _check_served(page)
    return sorted(pages, key=lambda page: page.imagewidth, reverse=True)


def _is_smaller_copy(base: Size, size: Size) -> bool:
    if not (0 < size.width < base.width and 0 < size.height < base.height):
        return False
    ratio_x, ratio_y = base.width / size.width, base.height / size.height
    rounding = 1 / size.width + 1 / size.height
    return abs(ratio_x / ratio_y - 1) <= _SIDE_TOLERANCE + rounding


def _check_served(page: tifffile.TiffPage) -> None:
    if not page.is_tiled:
        msg = "it is a TIFF in strips, not in tiles: convert it to a tiled pyramidal TIFF"
        raise NotServedError(msg)
    is_rgb8 = page.dtype == np.uint8 and page.samplesperpixel == 3 and page.planarconfig == 1
    if not is_rgb8 or page.imagedepth != 1:
        msg = f"it is a TIFF of {page.samplesperpixel} x {page.dtype}, not of 8-bit RGB"
        raise NotServedError(msg)


def _size(page: tifffile.TiffPage) -> Size:
    return Size(width=page.imagewidth, height=page.imagelength)


def _check_start(path: Path) -> None:
    """Refuse what is no TIFF, and a TIFF whose first directory was cut off."""
    with path.open("rb") as file:
        head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else None
    if version not in (42, 43):
        msg = "it is no TIFF"
        raise NotServedError(msg)
    where = struct.unpack(f"{order}I", head[4:8]) if version == 42 else None
    (start,) = where or struct.unpack(f"{order}Q", head[8:16])
    _check_inside(path, start, what="its first directory starts")


def _check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Follow the chain of directories: tifffile stops in silence where one was cut off."""
    seek = tif.filehandle.seek
    for page in tif.pages:
        seek(page.offset)
        entries = struct.unpack(tif.tiff.tagnoformat, tif.filehandle.read(tif.tiff.tagnosize))[0]
        seek(page.offset + tif.tiff.tagnosize + entries * tif.tiff.tagsize)
        (start,) = struct.unpack(tif.tiff.offsetformat, tif.filehandle.read(tif.tiff.offsetsize))
        _check_inside(path, start, what="a directory starts")


def _check_tiles(path: Path, level: TiffLevel, *, index: int) -> None:
    across = -(-level.level.size.width // level.level.tile.width)
    down = -(-level.level.size.height // level.level.tile.height)
    if not len(level.offsets) == len(level.counts) == across * down:
        found = f"lists {len(level.offsets)} tiles in level {index}, not {across * down}"
        raise _damaged(path, found)
    ends = np.where(level.counts > 0, level.offsets + level.counts, 0)
    tile = int(ends.argmax())
    row, col = divmod(tile, across)
    _check_inside(path, int(ends[tile]), what=f"level {index} has tile row {row}, col {col} end")


def _check_inside(path: Path, byte: int, *, what: str) -> None:
    size = path.stat().st_size
    if byte > size:
        raise _damaged(path, f"is cut off: {what} at byte {byte}, the file ends at byte {size}")


def _damaged(path: Path, what: str) -> SlideFormatError:
    return SlideFormatError(
        f"slide '{path.name}' {what}; the file is damaged or incomplete: copy or download it again"
    )
