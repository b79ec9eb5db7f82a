"""Whether a TIFF is whole: its directories and all its tiles have to lie inside the file."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import tifffile

from slideloom.errors import SlideFormatError
from slideloom.wsi.byte_file import ByteFile
from slideloom.wsi.readers.reader import NotServedError

_ENDS = "a directory ends"
_MOST_TILE_PX = 2**27
_CLASSIC, _BIG = 42, 43
"""Versions of the format; the second has 64-bit offsets."""

NONSENSE = (
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    OSError,
    RuntimeError,
    MemoryError,
    struct.error,
)
"""What parsing raises on tags that were overwritten: wrong types, lengths, counts and places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """`struct` formats of a file's directories, and the byte where the first one starts."""

    entries: str
    entry_bytes: int
    place: str
    first: int


def check_start(file: ByteFile, stream: BinaryIO) -> None:
    """Refuse what is no TIFF, and a TIFF whose first directory was cut off."""
    check_inside(file, _read_head(stream).first, what="its first directory starts")


def check_chain(file: ByteFile, stream: BinaryIO) -> None:
    """Follow the chain of directories.

    tifffile stops in silence where one was cut off, and never where they form a circle.
    NDPI files, whose offsets are wider than the format's, must not come here.
    """
    head = _read_head(stream)
    place, seen = head.first, set[int]()
    while place:
        check_inside(file, place, what="a directory starts")
        if place in seen:
            raise damaged(file, f"has a circle of directories at byte {place}")
        seen.add(place)
        stream.seek(place)
        entries = _read_number(file, stream, layout=head.entries)
        check_inside(file, stream.tell() + entries * head.entry_bytes, what=_ENDS)
        stream.seek(entries * head.entry_bytes, os.SEEK_CUR)
        place = _read_number(file, stream, layout=head.place)


def check_tile_sizes(file: ByteFile) -> None:
    """Refuse tiles so large that OpenSlide, which asks for their memory, would end the process.

    NDPI files, as `check_chain` says, must not come here.
    """
    with file.open() as stream:
        check_chain(file, stream)
        stream.seek(0)
        try:
            with tifffile.TiffFile(stream) as tif:
                pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
                sizes = [(page.tilewidth, page.tilelength) for page in pages if page.is_tiled]
        except NONSENSE as error:
            raise damaged(file, f"has directories that make no sense ({error})") from error
    for width, height in sizes:
        if width * height > _MOST_TILE_PX:
            raise damaged(file, f"states tiles of {width} x {height} pixels")


def _read_head(stream: BinaryIO) -> _Head:
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else None
    if version == _CLASSIC:
        (first,) = struct.unpack_from(f"{order}I", head, 4)
        return _Head(entries=f"{order}H", entry_bytes=12, place=f"{order}I", first=first)
    if version == _BIG:
        (first,) = struct.unpack_from(f"{order}Q", head, 8)
        return _Head(entries=f"{order}Q", entry_bytes=20, place=f"{order}Q", first=first)
    msg = "it is no TIFF"
    raise NotServedError(msg)


def _read_number(file: ByteFile, stream: BinaryIO, *, layout: str) -> int:
    size = struct.calcsize(layout)
    check_inside(file, stream.tell() + size, what=_ENDS)
    number: int = struct.unpack(layout, stream.read(size))[0]
    return number


def check_inside(file: ByteFile, byte: int, *, what: str) -> None:
    """Refuse a file that ends before `byte`."""
    if byte > file.size:
        raise damaged(file, f"is cut off: {what} at byte {byte}, the file ends at byte {file.size}")


def damaged(file: ByteFile, what: str) -> SlideFormatError:
    """The error for a file that `what` is wrong with."""
    return SlideFormatError(
        f"slide '{file.name}' {what}; the file is damaged or incomplete: copy or download it again"
    )
