"""Whether a TIFF is whole: its directories and all its tiles have to lie inside the file."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import tifffile

from slideloom.errors import SlideFormatError
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


def check_start(path: Path) -> None:
    """Refuse what is no TIFF, and a TIFF whose first directory was cut off."""
    with path.open("rb") as file:
        check_inside(path, _read_head(file).first, what="its first directory starts")


def check_chain(path: Path) -> None:
    """Follow the chain of directories.

    tifffile stops in silence where one was cut off, and never where they form a circle.
    NDPI files, whose offsets are wider than the format's, must not come here.
    """
    with path.open("rb") as file:
        head = _read_head(file)
        place, seen = head.first, set[int]()
        while place:
            check_inside(path, place, what="a directory starts")
            if place in seen:
                raise damaged(path, f"has a circle of directories at byte {place}")
            seen.add(place)
            file.seek(place)
            entries = _read_number(path, file, layout=head.entries)
            check_inside(path, file.tell() + entries * head.entry_bytes, what=_ENDS)
            file.seek(entries * head.entry_bytes, os.SEEK_CUR)
            place = _read_number(path, file, layout=head.place)


def check_tile_sizes(path: Path) -> None:
    """Refuse tiles so large that OpenSlide, which asks for their memory, would end the process.

    NDPI files, as `check_chain` says, must not come here.
    """
    check_chain(path)
    try:
        with tifffile.TiffFile(path) as tif:
            pages = [page for page in tif.pages if isinstance(page, tifffile.TiffPage)]
            sizes = [(page.tilewidth, page.tilelength) for page in pages if page.is_tiled]
    except NONSENSE as error:
        raise damaged(path, f"has directories that make no sense ({error})") from error
    for width, height in sizes:
        if width * height > _MOST_TILE_PX:
            raise damaged(path, f"states tiles of {width} x {height} pixels")


def _read_head(file: BinaryIO) -> _Head:
    head = file.read(16)
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


def _read_number(path: Path, file: BinaryIO, *, layout: str) -> int:
    size = struct.calcsize(layout)
    check_inside(path, file.tell() + size, what=_ENDS)
    number: int = struct.unpack(layout, file.read(size))[0]
    return number


def check_inside(path: Path, byte: int, *, what: str) -> None:
    """Refuse a file that ends before `byte`."""
    size = path.stat().st_size
    if byte > size:
        raise damaged(path, f"is cut off: {what} at byte {byte}, the file ends at byte {size}")


def damaged(path: Path, what: str) -> SlideFormatError:
    """The error for a file that `what` is wrong with."""
    return SlideFormatError(
        f"slide '{path.name}' {what}; the file is damaged or incomplete: copy or download it again"
    )
