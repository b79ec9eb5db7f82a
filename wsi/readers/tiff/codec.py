"""Bytes of a TIFF tile or strip to its samples, with the colours that OpenSlide gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.readers.tiff.jpeg2000 import decode_jpeg2000

DecodeTile = Callable[[bytes, int], NDArray[Any]]
"""Stored bytes, and the rows that they hold, to `(rows, width, samples)`."""

DECODE_ERRORS = (RuntimeError, ValueError, TypeError, OverflowError, MemoryError)
"""What the codecs raise on damaged bytes."""

GREY_INVERTED, GREY, RGB, PALETTE, CMYK, YCC = 0, 1, 2, 3, 5, 6
"""Photometric interpretations."""

_JPEG = 7
_JPEG2000_YCC = 33003
_JPEG2000 = {_JPEG2000_YCC, 33004, 33005, 34712}
_LOSSLESS: dict[int, Callable[..., Any]] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    32946: imagecodecs.deflate_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}
_PICTURES: dict[int, Callable[..., Any]] = {
    50001: imagecodecs.webp_decode,
    50002: imagecodecs.jpegxl_decode,
    52546: imagecodecs.jpegxl_decode,
}
_UNCOMPRESSED = 1
_PREDICTORS = {1: None, 2: imagecodecs.delta_decode, 3: imagecodecs.floatpred_decode}
_REVERSED_BITS = 2
_ALIGNMENT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentShape:
    """What a tile or strip of a page holds.

    Attributes:
        rows: Of a whole one; the last strip may have fewer.
        width: In pixels.
        samples: Per pixel; 1 where each sample has a plane of its own.
        dtype: Of a sample, in this machine's byte order.
    """

    rows: int
    width: int
    samples: int
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of a whole one, decoded."""
        return self.rows * self.width * self.samples * self.dtype.itemsize

    def array_shape(self, rows: int) -> tuple[int, ...]:
        """Of an array for `rows` rows; grey has no axis of samples, as the codecs want it."""
        return (rows, self.width) if self.samples == 1 else (rows, self.width, self.samples)


def is_uncompressed(page: tifffile.TiffPage) -> bool:
    """Whether the pixels lie in the file as they are."""
    return page.compression == _UNCOMPRESSED and page.predictor == 1


def tile_decoder(
    page: tifffile.TiffPage, shape: SegmentShape, *, aperio: bool = False
) -> DecodeTile:
    """How the tiles of `page` are decoded; YCbCr comes out as RGB.

    Aperio's 33003 is always luma and chroma, whatever the photometric tag says; other
    writers use the number for any JPEG 2000. The decoder raises one of `DECODE_ERRORS` for
    damaged bytes, before it asks for more memory than the tile needs.

    Raises:
        NotServedError: A compression or colour model that is not served.
    """
    is_ycc = page.photometric == YCC
    # Luma and chroma become RGB in the codec, which then needs all three of them in one piece.
    is_whole = not is_ycc or shape.samples == 3
    is_jpeg = page.compression == _JPEG and shape.samples in (1, 3, 4) and shape.dtype == np.uint8
    if is_jpeg and is_whole:
        return _jpeg_decoder(page, shape)
    if page.compression in _JPEG2000 and is_whole and shape.dtype.kind == "u":
        if aperio:
            is_ycc = page.compression == _JPEG2000_YCC
        return _jpeg2000_decoder(shape, is_ycc=is_ycc)
    if page.compression in _PICTURES and not is_ycc:
        return _picture_decoder(_PICTURES[page.compression], shape)
    known = page.compression == _UNCOMPRESSED or page.compression in _LOSSLESS
    if known and page.predictor in _PREDICTORS and not is_ycc:
        return _lossless_decoder(page, shape)
    msg = (
        f"it is a TIFF of compression {page.compression:d}, predictor {page.predictor:d} and "
        f"photometric interpretation {page.photometric:d} in {shape.samples} x {shape.dtype}, "
        "which is not served: convert it, for example to JPEG or deflate"
    )
    raise NotServedError(msg)


def _jpeg_decoder(page: tifffile.TiffPage, shape: SegmentShape) -> DecodeTile:
    spaces = imagecodecs.JPEG8.CS
    stored = given = None
    if shape.samples == 3:
        stored, given = (spaces.YCbCr if page.photometric == YCC else spaces.RGB), spaces.RGB
    elif shape.samples == 4:
        given = spaces.CMYK
    tables = page.jpegtables

    def decode(data: bytes, rows: int) -> NDArray[Any]:
        pixels = _empty_off_alignment(shape.array_shape(rows))
        imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=stored, outcolorspace=given, out=pixels
        )
        return pixels.reshape(rows, shape.width, shape.samples)

    return decode


def _empty_off_alignment(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array that starts 16 bytes past a multiple of 32.

    From a multiple of 32 on, libjpeg-turbo's AVX2 code stores pixels past the processor's caches.
    They are read again at once, so that takes up to a third longer.
    """
    size = prod(shape)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = (_ALIGNMENT // 2 - memory.ctypes.data) % _ALIGNMENT
    return memory[start : start + size].reshape(shape)


def _jpeg2000_decoder(shape: SegmentShape, *, is_ycc: bool) -> DecodeTile:
    def decode(data: bytes, rows: int) -> NDArray[Any]:
        expected = (rows, shape.width, shape.samples)
        return decode_jpeg2000(data, shape=expected, dtype=shape.dtype, is_ycc=is_ycc)

    return decode


def _picture_decoder(unpack: Callable[..., Any], shape: SegmentShape) -> DecodeTile:
    def decode(data: bytes, rows: int) -> NDArray[Any]:
        pixels = np.empty(shape.array_shape(rows), shape.dtype)
        unpack(data, out=pixels)
        return pixels.reshape(rows, shape.width, shape.samples)

    return decode


def _lossless_decoder(page: tifffile.TiffPage, shape: SegmentShape) -> DecodeTile:
    unpack = _LOSSLESS.get(page.compression)
    undo = _PREDICTORS[page.predictor]
    # Floating-point prediction has a byte order of its own, which its inverse knows.
    order = "=" if page.predictor == 3 else page.parent.byteorder
    stored = shape.dtype.newbyteorder(order)
    is_reversed = page.fillorder == _REVERSED_BITS

    def decode(data: bytes, rows: int) -> NDArray[Any]:
        raw = imagecodecs.bitorder_decode(data) if is_reversed else data
        if unpack is not None:
            # Some writers pad the last strip to the rows of the others.
            raw = unpack(raw, out=np.empty(shape.nbytes, np.uint8))
        count = rows * shape.width * shape.samples
        flat = np.frombuffer(raw, stored, count=count).astype(shape.dtype, copy=False)
        pixels = flat.reshape(rows, shape.width, shape.samples)
        return pixels if undo is None else np.asarray(undo(pixels, axis=-2))

    return decode
