"""Whether the tiles that a Zeiss CZI lists make sense: on some, OpenSlide takes all memory.

Format: https://openslide.org/formats/zeiss/
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from slideloom.errors import SlideFormatError

_MAGIC = b"ZISRAWFILE"
_DIRECTORY_PLACE_AT = 84
_SEGMENT_HEAD_BYTES = 32
_COUNT = struct.Struct("<i124x")
_ENTRY = struct.Struct("<2s26xi")
_AXIS = struct.Struct("<4siifi")
_SCHEMA = b"DV"
_MOST_AXES = 32
_MOST_PX = 2**28
"""A stored tile of more pixels is damage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """A tile along one axis: level-0 pixels, and the pixels stored for them."""

    size: int
    stored: int


def check_czi(path: Path) -> None:
    """Refuse a CZI with tiles that no slide has; what else is wrong with it, OpenSlide tells.

    Raises:
        SlideFormatError: A tile stores no pixels, more than it covers, or far too many.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
        try:
            _check_tiles(path, file)
        except (struct.error, OSError, OverflowError):
            return


def _check_tiles(path: Path, file: BinaryIO) -> None:
    file.seek(_DIRECTORY_PLACE_AT)
    (place,) = struct.unpack("<q", file.read(8))
    file.seek(place + _SEGMENT_HEAD_BYTES)
    (count,) = _COUNT.unpack(file.read(_COUNT.size))
    for number in range(count):
        schema, axes = _ENTRY.unpack(file.read(_ENTRY.size))
        if schema != _SCHEMA or not 0 < axes <= _MOST_AXES:
            return
        fields = [_AXIS.unpack(file.read(_AXIS.size)) for _ in range(axes)]
        spans = [
            _Span(size=size, stored=stored)
            for name, _, size, _, stored in fields
            if name.rstrip(b"\0") in (b"X", b"Y")
        ]
        pixels = 1
        for span in spans:
            pixels *= span.stored
            if not 0 < span.stored <= span.size or pixels > _MOST_PX:
                msg = (
                    f"slide '{path.name}' is damaged, its tile {number} stores {span.stored} "
                    f"pixels for {span.size}: copy or download it again"
                )
                raise SlideFormatError(msg)
