"""JPEG 2000 tiles (ISO/IEC 15444-1): their header, and their colours as OpenSlide gives them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_SIZ = b"\xff\x4f\xff\x51"
"""Start of codestream, followed by the marker of the image's size (A.4.1, A.5.1)."""
_FIXED_FIELDS = ">HH8IH"
_COMPONENT_FIELDS = ">BBB"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodestreamHeader:
    """What the SIZ marker states.

    Attributes:
        shape: `(height, width, components)`.
        bits: Of the component that has most.
        has_subsampled_chroma: Whether the second component is stored at less than full size.
    """

    shape: tuple[int, int, int]
    bits: int
    has_subsampled_chroma: bool


def read_header(codestream: bytes) -> CodestreamHeader:
    """Read the SIZ marker of a codestream, bare or in its box.

    Raises:
        ValueError: There is none, or it is cut off.
    """
    start = codestream.find(_SIZ)
    if start < 0:
        msg = "no JPEG 2000 codestream"
        raise ValueError(msg)
    start += len(_SIZ)
    try:
        fields = struct.unpack_from(_FIXED_FIELDS, codestream, start)
        first = start + struct.calcsize(_FIXED_FIELDS)
        components = [
            struct.unpack_from(_COMPONENT_FIELDS, codestream, first + 3 * i)
            for i in range(fields[-1])
        ]
    except struct.error as error:
        msg = "the header of the JPEG 2000 codestream is cut off"
        raise ValueError(msg) from error
    _, _, x1, y1, x0, y0, *_, count = fields
    return CodestreamHeader(
        shape=(y1 - y0, x1 - x0, count),
        bits=max((depth & 0x7F) + 1 for depth, _, _ in components) if components else 0,
        has_subsampled_chroma=count > 1 and components[1][1:] != (1, 1),
    )


def decode_jpeg2000(
    data: bytes, *, shape: tuple[int, int, int], dtype: np.dtype[Any], is_ycc: bool
) -> NDArray[Any]:
    """`(y, x, c)` of a tile; luma and chroma become RGB.

    Raises:
        ValueError: The codestream holds no picture of that shape and type.
        RuntimeError: It is damaged.
    """
    header = read_header(data)
    if header.shape != shape or not 0 < header.bits <= dtype.itemsize * 8:
        msg = f"a JPEG 2000 picture {header.shape} of {header.bits} bits, not {shape} of {dtype}"
        raise ValueError(msg)
    pixels = np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1)).reshape(shape)
    if pixels.dtype != dtype:
        msg = f"JPEG 2000 pixels of {pixels.dtype}, not of {dtype}"
        raise ValueError(msg)
    # The codec itself turns subsampled chroma into RGB; full chroma it hands out as stored.
    return ycc_to_rgb(pixels) if is_ycc and not header.has_subsampled_chroma else pixels


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
