"""The bound of `benchmarks.reading`: the codec on the tiles that a region needs, and no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import local
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box, Size

_JPEG = 7
_JPEG2000 = {33003, 33005, 34712}
_LOSSLESS = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    50000: imagecodecs.zstd_decode,
}
_YCC = 6

DecodeTile = Callable[[bytes], NDArray[np.uint8]]


class FileTiles:
    """The tiles of a TIFF's first page, fetched and decoded one by one.

    Attributes:
        tile: Size of a tile.
    """

    def __init__(self, path: Path) -> None:
        """Open a TIFF.

        Raises:
            tifffile.TiffFileError: It is no TIFF.
            NotImplementedError: It has no tiles, or its codec is not one of those known here.
        """
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.first
            if not page.is_tiled:
                msg = "no bare codec for it: it is a TIFF without tiles"
                raise NotImplementedError(msg)
            self._decode = _decoder(page)
            self._offsets, self._counts = page.dataoffsets, page.databytecounts
            self._across = -(-page.imagewidth // page.tilewidth)
            self.tile = Size(width=page.tilewidth, height=page.tilelength)
        self._file = os.open(path, os.O_RDONLY)

    def under(self, box: Box) -> list[int]:
        """Indices of the tiles that hold pixels of a box inside the page, row by row."""
        return [
            row * self._across + col
            for row in range(box.y0 // self.tile.height, -(-box.y1 // self.tile.height))
            for col in range(box.x0 // self.tile.width, -(-box.x1 // self.tile.width))
        ]

    def decode(self, index: int) -> NDArray[np.uint8]:
        """`(y, x, 3)` of a tile, as the codec gives it."""
        return self._decode(os.pread(self._file, self._counts[index], self._offsets[index]))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _decoder(page: tifffile.TiffPage) -> DecodeTile:
    if page.compression == _JPEG:
        return _jpeg_decoder(page)
    if page.compression in _JPEG2000:
        return lambda data: np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1))
    if page.compression in _LOSSLESS and page.predictor == 1:
        unpack: Callable[..., Any] = _LOSSLESS[page.compression]
        shape = (page.tilelength, page.tilewidth, page.samplesperpixel)
        size = int(np.prod(shape))
        return lambda data: np.frombuffer(unpack(data, out=size), np.uint8).reshape(shape)
    msg = f"no bare codec for it: compression {page.compression}, predictor {page.predictor}"
    raise NotImplementedError(msg)


def _jpeg_decoder(page: tifffile.TiffPage) -> DecodeTile:
    """Decode into one array per thread, at an address where the codec is fastest.

    New arrays lie as malloc pleases, and the speed changes with their address by up to a third
    from one run to the next: too much for a bound.
    """
    spaces = imagecodecs.JPEG8.CS
    stored = spaces.YCbCr if page.photometric == _YCC else spaces.RGB
    tables, shape = page.jpegtables, (page.tilelength, page.tilewidth, 3)
    own = local()

    def decode(data: bytes) -> NDArray[np.uint8]:
        if not hasattr(own, "pixels"):
            own.pixels = _unaligned(shape)
        return imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=stored, outcolorspace=spaces.RGB, out=own.pixels
        )

    return decode


def _unaligned(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """An array whose address is 16 past a multiple of 32.

    From a multiple of 32 on, libjpeg-turbo's AVX2 code stores pixels past the cache, which costs
    more than it saves when they are read at once.
    """
    size = int(np.prod(shape))
    memory = np.empty(size + 64, np.uint8)
    start = (16 - memory.ctypes.data) % 32
    return memory[start : start + size].reshape(shape)
