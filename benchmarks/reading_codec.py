"""The bound of `benchmarks.reading`: the codec on the tiles that a region needs, and no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box

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


@contextmanager
def open_codec(path: Path) -> Iterator[Callable[[Box], list[NDArray[np.uint8]]]]:
    """Serve the decoded tiles `(y, x, 3)` under a box of level 0, row by row, not put together.

    Raises:
        NotImplementedError: It is no tiled TIFF, or its codec is not one of those known here.
    """
    if not _is_tiled_tiff(path):
        msg = "no bare codec for it: it is no tiled TIFF"
        raise NotImplementedError(msg)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        decode = _decoder(page)
        offsets, counts = page.dataoffsets, page.databytecounts
        width, height = page.tilewidth, page.tilelength
        across = -(-page.imagewidth // width)
    file = os.open(path, os.O_RDONLY)

    def read(box: Box) -> list[NDArray[np.uint8]]:
        indices = [
            row * across + col
            for row in range(box.y0 // height, -(-box.y1 // height))
            for col in range(box.x0 // width, -(-box.x1 // width))
        ]
        return [decode(os.pread(file, counts[index], offsets[index])) for index in indices]

    try:
        yield read
    finally:
        os.close(file)


def _is_tiled_tiff(path: Path) -> bool:
    try:
        with tifffile.TiffFile(path) as tif:
            return tif.pages.first.is_tiled
    except tifffile.TiffFileError:
        return False


def _decoder(page: tifffile.TiffPage) -> DecodeTile:
    if page.compression == _JPEG:
        spaces = imagecodecs.JPEG8.CS
        stored = spaces.YCbCr if page.photometric == _YCC else spaces.RGB
        tables = page.jpegtables
        return lambda data: imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=stored, outcolorspace=spaces.RGB
        )
    if page.compression in _JPEG2000:
        return lambda data: np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1))
    if page.compression in _LOSSLESS and page.predictor == 1:
        unpack: Callable[..., Any] = _LOSSLESS[page.compression]
        shape = (page.tilelength, page.tilewidth, page.samplesperpixel)
        size = int(np.prod(shape))
        return lambda data: np.frombuffer(unpack(data, out=size), np.uint8).reshape(shape)
    msg = f"no bare codec for it: compression {page.compression}, predictor {page.predictor}"
    raise NotImplementedError(msg)
