"""Where a TIFF keeps its levels, channels and tiles, and whether the fast reader serves it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import openslide
import tifffile

from slideloom.errors import SlideFormatError
from slideloom.wsi.byte_file import ByteFile
from slideloom.wsi.geometry import Level, Mpp
from slideloom.wsi.readers.reader import NotServedError, NowhereServedError, level_downsample
from slideloom.wsi.readers.tiff.codec import GREY, PALETTE
from slideloom.wsi.readers.tiff.colour import (
    TiffColour,
    channels_of,
    colour_of,
    sample_type,
)
from slideloom.wsi.readers.tiff.damage import NONSENSE, check_chain, check_start, damaged
from slideloom.wsi.readers.tiff.mpp import read_mpp
from slideloom.wsi.readers.tiff.pages import TiffPyramid, find_pyramid, page_size
from slideloom.wsi.readers.tiff.planes import TiffPlane, planes_of
from slideloom.wsi.readers.tiff.vendor import vendor_of
from slideloom.wsi.tiles import StoredTile

_PLAIN_VENDORS = {"aperio", "generic-tiff", None}
"""Formats of OpenSlide whose tiles simply abut; None is a TIFF that OpenSlide does not know."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiffLevel:
    """One level.

    Attributes:
        level: Size, downsample and tile size; a strip is a tile as wide as the level.
        planes: Their samples in this order are the samples of a pixel.
        is_tiled: Whether a tile at the lower edge is stored whole; a strip is not.
    """

    level: Level
    planes: tuple[TiffPlane, ...]
    is_tiled: bool

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.level.size.width // self.level.tile.width)

    def index_of(self, tile: StoredTile) -> int:
        """Where `planes` list a tile."""
        return tile.row * self.across + tile.col

    def rows_of(self, row: int) -> int:
        """Rows of pixels that a tile of this row of tiles holds."""
        tile = self.level.tile.height
        return tile if self.is_tiled else min(tile, self.level.size.height - row * tile)


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffLayout:
    """All that reading needs to know of a file.

    Attributes:
        levels: Finest first.
        dtype: Of the samples, and of the channels.
        colour: How samples become channels.
        mpp: As the file states it.
        vendor: OpenSlide's word for the format; None where OpenSlide does not open it.
    """

    levels: tuple[TiffLevel, ...]
    dtype: np.dtype[Any]
    colour: TiffColour
    mpp: Mpp | None
    vendor: str | None


def read_layout(file: ByteFile) -> TiffLayout:
    """The layout of a TIFF.

    Raises:
        NotServedError: No TIFF, or one that the fast reader does not serve.
        SlideFormatError: A TIFF whose end is missing, or whose directories make no sense.
        SlideAccessError: It cannot be fetched.
    """
    with file.open() as stream:
        check_start(file, stream)
        stream.seek(0)
        try:
            with tifffile.TiffFile(stream) as tif:
                return _layout(file, tif, stream=stream)
        except SlideFormatError:
            raise
        except NONSENSE as error:
            raise damaged(file, f"has directories that make no sense ({error})") from error


def _layout(file: ByteFile, tif: tifffile.TiffFile, *, stream: BinaryIO) -> TiffLayout:
    path = file.path
    vendor = vendor_of(tif) if path is None else openslide.OpenSlide.detect_format(path)
    if tif.is_ndpi and vendor is None:
        raise damaged(file, "is an NDPI whose directories do not all lie inside the file")
    if vendor not in _PLAIN_VENDORS or tif.is_ndpi:
        msg = f"it is a TIFF of {vendor}, which is left to OpenSlide"
        raise NotServedError(msg)
    check_chain(file, stream)
    pyramid = find_pyramid(tif, vendor=vendor)
    first = pyramid.levels[0][0]
    dtype = sample_type(first)
    return TiffLayout(
        levels=tuple(
            _level(file, pyramid, index=index, dtype=dtype, aperio=vendor == "aperio")
            for index in range(len(pyramid.levels))
        ),
        dtype=dtype,
        colour=_colour(pyramid, dtype),
        mpp=read_mpp(tif),
        vendor=vendor,
    )


def _level(
    file: ByteFile, pyramid: TiffPyramid, *, index: int, dtype: np.dtype[Any], aperio: bool
) -> TiffLevel:
    pages = pyramid.levels[index]
    groups = [
        planes_of(file, page, dtype=dtype, aperio=aperio, behind=pyramid.behind) for page in pages
    ]
    size = page_size(pages[0])
    if any(page_size(page) != size or page.dtype != pages[0].dtype for page in pages):
        msg = "its channels differ in size or type, which is not served: save each as its own file"
        raise NowhereServedError(msg)
    if any(group.tile != groups[0].tile for group in groups):
        msg = "its channels are cut into tiles of different sizes: save them as one OME-TIFF"
        raise NowhereServedError(msg)
    downsample = level_downsample(page_size(pyramid.levels[0][0]), size)
    return TiffLevel(
        level=Level(size=size, downsample=downsample, tile=groups[0].tile),
        planes=tuple(plane for group in groups for plane in group.planes),
        is_tiled=pages[0].is_tiled,
    )


def _colour(pyramid: TiffPyramid, dtype: np.dtype[Any]) -> TiffColour:
    pages = pyramid.levels[0]
    planes = len(pages) + pyramid.behind
    if planes == 1:
        colour = colour_of(pages[0], dtype)
        is_colour = colour.show is not None or pages[0].photometric != GREY
        if is_colour or len(pyramid.names) != len(colour.channels) or not all(pyramid.names):
            return colour
        return replace(colour, channels=pyramid.names)
    if any(page.samplesperpixel > 1 or page.photometric not in (GREY, PALETTE) for page in pages):
        msg = (
            "it is a TIFF of several pages, each of which is no channel but a picture of its own: "
            "save the one to look at as its own file"
        )
        raise NowhereServedError(msg)
    return channels_of(planes, names=pyramid.names)
