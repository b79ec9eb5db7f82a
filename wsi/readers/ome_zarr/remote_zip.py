"""A zip behind a URL: its entries are fetched one by one, by ranges.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (sections 4.3.7 and 4.3.12)
"""

from __future__ import annotations

import asyncio
import struct
import zipfile
import zlib
from collections.abc import Sequence

from fsspec.asyn import AsyncFileSystem

from slideloom.errors import SlideAccessError, SlideNotFoundError
from slideloom.wsi.byte_file import ByteFile, ByteRange

_HEAD = struct.Struct("<4s22xHH")
"""Of an entry: its signature, and the lengths of its name and of its extra field."""
_SIGNATURE = b"PK\x03\x04"
_DEFLATE_RAW = -15


class ZipEntries(AsyncFileSystem):  # type: ignore[misc]
    """The entries of a zip as zarr asks for them; it may be used from any thread."""

    cachable = False

    def __init__(self, file: ByteFile) -> None:
        """Read the list of entries.

        Raises:
            zipfile.BadZipFile: It is no zip.
            SlideAccessError: It cannot be fetched.
        """
        super().__init__(asynchronous=True)
        self._file = file
        with file.open() as stream, zipfile.ZipFile(stream) as archive:
            self._entries = {entry.filename: entry for entry in archive.infolist()}

    @property
    def names(self) -> Sequence[str]:
        """Of all entries."""
        return list(self._entries)

    async def _cat_file(
        self, path: str, *, start: int | None = None, end: int | None = None
    ) -> bytes:
        entry = self._entries.get(path)
        if entry is None:
            raise FileNotFoundError(path)
        try:
            return await asyncio.to_thread(self._read, entry, slice(start, end))
        except SlideNotFoundError as error:
            # To zarr, a file that is not there is a chunk that was never written.
            raise SlideAccessError(str(error)) from error

    def _read(self, entry: zipfile.ZipInfo, part: slice) -> bytes:
        if entry.compress_type == zipfile.ZIP_STORED and part.start is not None:
            first, last, _ = part.indices(entry.file_size)
            place = entry.header_offset
            content_at = self._content_at(self._fetch(place, _HEAD.size))
            return self._fetch(place + content_at + first, max(0, last - first))
        return self._whole(entry)[part]

    def _whole(self, entry: zipfile.ZipInfo) -> bytes:
        """All of an entry: one request where its extra field is as long as the list's."""
        place = entry.header_offset
        length = _HEAD.size + len(entry.filename.encode()) + len(entry.extra) + entry.compress_size
        length = min(length, self._file.size - place)
        found = self._fetch(place, length)
        content_at = self._content_at(found)
        missing = content_at + entry.compress_size - len(found)
        if missing > 0:
            found += self._fetch(place + len(found), missing)
        data = found[content_at:][: entry.compress_size]
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            data = zlib.decompress(data, _DEFLATE_RAW)
        elif entry.compress_type != zipfile.ZIP_STORED:
            msg = f"entry '{entry.filename}' has compression {entry.compress_type}"
            raise zipfile.BadZipFile(msg)
        if zlib.crc32(data) != entry.CRC:
            msg = f"entry '{entry.filename}' has another checksum than the zip states"
            raise zipfile.BadZipFile(msg)
        return data

    def _fetch(self, start: int, count: int) -> bytes:
        if start + count > self._file.size:
            msg = f"an entry of the zip ends behind the file's end, at byte {start + count}"
            raise zipfile.BadZipFile(msg)
        return self._file.fetch([ByteRange(start=start, count=count)])[0]

    def _content_at(self, head: bytes) -> int:
        signature, name, extra = _HEAD.unpack_from(head)
        if signature != _SIGNATURE:
            msg = "an entry of the zip does not start where the zip says"
            raise zipfile.BadZipFile(msg)
        return _HEAD.size + int(name) + int(extra)
