"""Bytes of a TIFF tile to pixels, with the colours that OpenSlide gives."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from slideloom.wsi.reader import NotServedError

DecodeTile = Callable[[bytes, int], NDArray[np.uint8]]
"""Bytes and index of a tile to `(y, x, 3)` RGB."""

_JPEG = 7
_JPEG2000_YCC, _JPEG2000_RGB = 33003, 33005
_JPEG2000 = {_JPEG2000_YCC, _JPEG2000_RGB, 34712}
_LOSSLESS = {1, 5, 8, 32773, 32946, 50000}
"""None, LZW, deflate (both numbers), PackBits, zstd."""
_RGB, _YCC = 2, 6
"""Photometric interpretations."""

DECODE_ERRORS = (RuntimeError, ValueError, tifffile.TiffFileError)
"""What the codecs raise on damaged bytes."""


def tile_decoder(page: tifffile.TiffPage, *, aperio: bool) -> DecodeTile:
    """How the tiles of `page` are decoded.

    Aperio's 33003 is always luma and chroma, whatever the photometric tag says; other
    writers use the number for any JPEG 2000.

    Raises:
        NotServedError: A compression or colour model that is left to OpenSlide.
    """
    if page.compression == _JPEG and page.photometric in (_RGB, _YCC):
        return _jpeg_decoder(page)
    if page.compression in _JPEG2000 and page.photometric in (_RGB, _YCC):
        return _jpeg2000_decoder(page, aperio=aperio)
    if page.compression in _LOSSLESS and page.photometric == _RGB:
        return _lossless_decoder(page)
    msg = (
        f"it is a TIFF of compression {page.compression} and photometric "
        f"interpretation {page.photometric}, which is left to OpenSlide"
    )
    raise NotServedError(msg)


def _jpeg_decoder(page: tifffile.TiffPage) -> DecodeTile:
    spaces = imagecodecs.JPEG8.CS
    stored = spaces.YCbCr if page.photometric == _YCC else spaces.RGB
    tables = page.jpegtables

    def decode(data: bytes, _: int) -> NDArray[np.uint8]:
        return imagecodecs.jpeg8_decode(
            data, tables=tables, colorspace=stored, outcolorspace=spaces.RGB
        )

    return decode


def _jpeg2000_decoder(page: tifffile.TiffPage, *, aperio: bool) -> DecodeTile:
    is_ycc = page.photometric == _YCC
    if aperio:
        is_ycc = page.compression == _JPEG2000_YCC

    def decode(data: bytes, _: int) -> NDArray[np.uint8]:
        pixels = np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1))
        # The codec itself turns subsampled chroma into RGB; full chroma it hands out as stored.
        return ycc_to_rgb(pixels) if is_ycc and not has_subsampled_chroma(data) else pixels

    return decode


def _lossless_decoder(page: tifffile.TiffPage) -> DecodeTile:
    decode_page, shape = page.decode, (page.tilelength, page.tilewidth, 3)

    def decode(data: bytes, index: int) -> NDArray[np.uint8]:
        return np.asarray(decode_page(data, index)[0], dtype=np.uint8).reshape(shape)

    return decode


def has_subsampled_chroma(codestream: bytes) -> bool:
    """Whether the second component of a JPEG 2000 image is stored at less than full size.

    Read from the SIZ marker (ISO/IEC 15444-1, A.5.1); False where there is none.
    """
    start = codestream.find(b"\xff\x4f\xff\x51")
    second_component = start + 2 + 2 + 38 + 3
    return start >= 0 and codestream[second_component + 1 : second_component + 3] != b"\x01\x01"


def ycc_to_rgb(ycc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Full-range YCbCr (ITU-T T.871, JFIF) to RGB, `(y, x, 3)` both."""
    luma, blue, red = (ycc[..., i].astype(np.float32) for i in range(3))
    blue -= 128
    red -= 128
    rgb = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    clipped: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return clipped
