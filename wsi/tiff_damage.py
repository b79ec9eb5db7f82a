"""Whether a TIFF is whole: its directories and all its tiles have to lie inside the file."""

from __future__ import annotations

import struct
from pathlib import Path

import tifffile

from slideloom.errors import SlideFormatError
from slideloom.wsi.reader import NotServedError

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


def check_start(path: Path) -> None:
    """Refuse what is no TIFF, and a TIFF whose first directory was cut off."""
    with path.open("rb") as file:
        head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else None
    if version not in (42, 43):
        msg = "it is no TIFF"
        raise NotServedError(msg)
    where = struct.unpack(f"{order}I", head[4:8]) if version == 42 else None
    (start,) = where or struct.unpack(f"{order}Q", head[8:16])
    check_inside(path, start, what="its first directory starts")


def check_chain(path: Path, tif: tifffile.TiffFile) -> None:
    """Follow the chain of directories: tifffile stops in silence where one was cut off."""
    seek = tif.filehandle.seek
    for page in tif.pages:
        seek(page.offset)
        entries = struct.unpack(tif.tiff.tagnoformat, tif.filehandle.read(tif.tiff.tagnosize))[0]
        seek(page.offset + tif.tiff.tagnosize + entries * tif.tiff.tagsize)
        (start,) = struct.unpack(tif.tiff.offsetformat, tif.filehandle.read(tif.tiff.offsetsize))
        check_inside(path, start, what="a directory starts")


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
