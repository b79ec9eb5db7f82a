"""Zeiss CZI: segments of 32 bytes of head, a directory of tiles, and XML.

Format: https://openslide.org/formats/zeiss/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np

from tests.makers.pictures import Picture, jpeg, shrunk

CziCodec = Literal["uncompressed", "jpeg", "jpegxr", "zstd0", "zstd1"]
TILE_PX = 128
_COMPRESSION: dict[CziCodec, int] = {
    "uncompressed": 0,
    "jpeg": 1,
    "jpegxr": 4,
    "zstd0": 5,
    "zstd1": 6,
}
_GRAY8, _BGR24 = 0, 3
_SEGMENT_HEAD = struct.Struct("<16sqq")
_GUID = bytes(range(16))


@dataclass(frozen=True)
class _Tile:
    """A tile of a level: where it lies in level-0 pixels, and the pixels that are stored."""

    x: int
    y: int
    factor: int
    pixels: Picture


def write_czi(
    path: Path,
    picture: Picture,
    *,
    codec: CziCodec = "uncompressed",
    mpp: float = 0.25,
    macro: Picture | None = None,
    grey: bool = False,
) -> Path:
    """Write `picture` in tiles of 128 pixels, with levels 1, 2 and 4.

    The tiles' own origin is at -100, 50, as in mosaics. With `grey` the first channel is stored
    alone, as fluorescence is. `macro` is attached as a JPEG.
    """
    out = bytearray(_segment("ZISRAWFILE", bytes(512)))
    entries = []
    for tile in _tiles(picture):
        place = len(out)
        entry = _entry(tile, place, compression=_COMPRESSION[codec], grey=grey)
        entries.append(entry)
        pixels = _encode(tile.pixels[..., :1] if grey else tile.pixels[..., ::-1], codec)
        sizes = struct.pack("<iiq", 0, 0, len(pixels))
        out += _segment("ZISRAWSUBBLOCK", (sizes + entry).ljust(256, b"\0") + pixels)
    directory = len(out)
    count = struct.pack("<i", len(entries)).ljust(128, b"\0")
    out += _segment("ZISRAWDIRECTORY", count + b"".join(entries))
    metadata = len(out)
    xml = _xml(picture, mpp=mpp).encode("utf-8")
    out += _segment("ZISRAWMETADATA", struct.pack("<ii", len(xml), 0).ljust(256, b"\0") + xml)
    attachments = _attach(out, macro)
    head = struct.pack("<iiii", 1, 0, 0, 0) + _GUID + _GUID
    head += struct.pack("<iqqiq", 0, directory, metadata, 0, attachments)
    out[: _SEGMENT_HEAD.size + 512] = _segment("ZISRAWFILE", head.ljust(512, b"\0"))
    path.write_bytes(out)
    return path


def _tiles(picture: Picture) -> list[_Tile]:
    found = []
    for factor in (1, 2, 4):
        level = shrunk(picture, factor)
        for y in range(0, level.shape[0], TILE_PX):
            for x in range(0, level.shape[1], TILE_PX):
                pixels = level[y : y + TILE_PX, x : x + TILE_PX]
                found.append(_Tile(x=x * factor, y=y * factor, factor=factor, pixels=pixels))
    return found


def _segment(name: str, content: bytes) -> bytes:
    return _SEGMENT_HEAD.pack(name.encode("ascii"), len(content), len(content)) + content


def _entry(tile: _Tile, place: int, *, compression: int, grey: bool) -> bytes:
    """A directory entry: the type of pixels and, for each axis, start, size and stored size."""
    height, width = tile.pixels.shape[:2]
    axes = [
        ("X", tile.x - 100, width * tile.factor, width),
        ("Y", tile.y + 50, height * tile.factor, height),
        ("C", 0, 1, 1),
        ("S", 0, 1, 1),
    ]
    kind = _GRAY8 if grey else _BGR24
    head = struct.pack("<2siqiib5xi", b"DV", kind, place, 0, compression, 0, len(axes))
    return head + b"".join(
        struct.pack("<4siifi", name.encode("ascii"), start, size, 0.0, stored)
        for name, start, size, stored in axes
    )


def _encode(bgr: Picture, codec: CziCodec) -> bytes:
    pixels = np.ascontiguousarray(bgr)
    if codec == "jpegxr":
        return bytes(imagecodecs.jpegxr_encode(pixels, level=1.0))
    if codec == "jpeg":
        return jpeg(pixels)
    if codec == "zstd0":
        return bytes(imagecodecs.zstd_encode(pixels.tobytes()))
    if codec == "zstd1":
        return b"\x01" + bytes(imagecodecs.zstd_encode(pixels.tobytes()))
    return pixels.tobytes()


def _attach(out: bytearray, macro: Picture | None) -> int:
    """Add the attachments and their directory; say where the directory is."""
    entries = []
    if macro is not None:
        content = jpeg(macro)
        entry = struct.pack("<2s10xqi16s8s80s", b"A1", len(out), 0, _GUID, b"JPG", b"SlidePreview")
        entries.append(entry)
        head = struct.pack("<i12x", len(content)) + entry
        out += _segment("ZISRAWATTACH", head.ljust(256, b"\0") + content)
    place = len(out)
    count = struct.pack("<i", len(entries)).ljust(256, b"\0")
    out += _segment("ZISRAWATTDIR", count + b"".join(entries))
    return place


def _xml(picture: Picture, *, mpp: float) -> str:
    height, width = picture.shape[:2]
    scale = "".join(
        f'<Distance Id="{axis}"><Value>{mpp / 1e6:.9g}</Value></Distance>' for axis in "XY"
    )
    return (
        "<ImageDocument><Metadata><Information><Image>"
        f"<SizeX>{width}</SizeX><SizeY>{height}</SizeY><SizeS>1</SizeS>"
        f"</Image></Information><Scaling><Items>{scale}</Items></Scaling>"
        "</Metadata></ImageDocument>"
    )
