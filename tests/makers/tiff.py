"""TIFFs that no common writer makes: nearly empty ones, and JPEG 2000 of subsampled chroma."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_SHORT, _LONG, _LONG8 = 3, 4, 16
_SIZ, _SOT, _SOD, _END = b"\xff\x51", b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_COMPONENT_FIRST = 4
"""Progression by component, position, resolution, layer (ISO/IEC 15444-1, table A.16)."""


@dataclass(frozen=True)
class Place:
    """Row and column of a tile."""

    row: int
    col: int


def write_sparse(
    path: Path, *, side: int, tile: int, tiles: Mapping[Place, NDArray[np.uint8]]
) -> Path:
    """Write an uncompressed RGB BigTIFF of `side` x `side` pixels of which few tiles exist."""
    across = -(-side // tile)
    offsets, counts = np.zeros((2, across * across), np.uint64)
    tables = 16 + 8 + 20 * 10 + 8
    start = tables + 2 * offsets.nbytes
    with path.open("wb") as file:
        file.seek(start)
        for place, pixels in tiles.items():
            index = place.row * across + place.col
            offsets[index], counts[index] = file.tell(), pixels.nbytes
            file.write(pixels.tobytes())
        entries = [
            (256, _LONG, 1, side),
            (257, _LONG, 1, side),
            (258, _SHORT, 3, 8 | 8 << 16 | 8 << 32),
            (259, _SHORT, 1, 1),
            (262, _SHORT, 1, 2),
            (277, _SHORT, 1, 3),
            (322, _LONG, 1, tile),
            (323, _LONG, 1, tile),
            (324, _LONG8, len(offsets), tables),
            (325, _LONG8, len(counts), tables + offsets.nbytes),
        ]
        file.seek(0)
        file.write(struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries)))
        file.write(b"".join(struct.pack("<HHQQ", *entry) for entry in entries))
        file.write(struct.pack("<Q", 0))
        file.write(offsets.tobytes())
        file.write(counts.tobytes())
    return path


def subsampled_jpeg2000(
    luma: NDArray[np.uint8], blue: NDArray[np.uint8], red: NDArray[np.uint8]
) -> bytes:
    """A lossless codestream of a luma plane `(y, x)` and two chroma planes of half its sides.

    The encoder at hand writes planes of one size only. Without a colour transform, components
    are coded one by one; so three codestreams of one plane each become one, whose packets are
    sorted by component.
    """
    streams = [
        bytes(imagecodecs.jpeg2k_encode(plane, codecformat="j2k", resolutions=3))
        for plane in (luma, blue, red)
    ]
    first = streams[0]
    siz, sot = first.index(_SIZ), first.index(_SOT)
    size_fields = first[siz + 4 : siz + 4 + 34]
    size = struct.pack(">HH", 38 + 3 * 3, *struct.unpack_from(">H", size_fields))
    components = bytes([7, 1, 1, 7, 2, 2, 7, 2, 2])
    after_size = siz + 2 + struct.unpack_from(">H", first, siz + 2)[0]
    rest = bytearray(first[after_size:sot])
    progression = rest.index(b"\xff\x52") + 5
    rest[progression] = _COMPONENT_FIRST
    packets = b"".join(_packets(stream) for stream in streams)
    length = 12 + 2 + len(packets)
    tile = _SOT + struct.pack(">HHIBB", 10, 0, length, 0, 1) + _SOD
    head = first[:siz] + _SIZ + size + size_fields[2:] + struct.pack(">H", 3) + components
    return head + bytes(rest) + tile + packets + _END


def _packets(stream: bytes) -> bytes:
    return stream[stream.index(_SOD) + 2 : stream.rindex(_END)]
