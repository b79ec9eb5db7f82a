"""A file behind a URL, read in ranges: many at once, and neighbours together."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from fsspec.asyn import sync

from slideloom.errors import SlideAccessError, SlideFormatError, SlideNotFoundError
from slideloom.wsi.byte_file import ByteRange
from slideloom.wsi.readers.reader import NoFileError, closed_error
from slideloom.wsi.remote import (
    RemotePlace,
    network_errors,
    open_filesystem,
    refusal,
    scheme_of,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 2**18
"""What a parser reads of the file comes in blocks of this size."""
_GAP = 2**16
"""Ranges that lie this near to each other are one request: the bytes between cost less."""
_MOST = 2**23
"""A request fetches no more than this, but for a single larger range."""
_BATCH = 2**25
_PAUSES_S = (0.5, 2.0)
"""Before what a web server failed to send is asked for again; clients of S3 do that themselves."""
_GONE = (404, 410)
_NO_RANGE = 416
_SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFacts:
    """What a server says of a file.

    Attributes:
        size: Bytes; None where the server does not say.
        tag: Changes when the content does; empty where the server gives none.
        has_ranges: Whether parts of it can be fetched.
    """

    size: int | None
    tag: str
    has_ranges: bool


def look_at(place: RemotePlace) -> RemoteFacts:
    """Ask the server for a file, once.

    Raises:
        NoFileError: There is no file at the URL; there may be a folder.
        SlideAccessError: It may not be read, or the server cannot be reached.
        SlideFormatError: It is empty.
    """
    is_web = scheme_of(place.url) in ("http", "https")
    try:
        facts = _look_at_web(place) if is_web else _look_at_object(place)
    except FileNotFoundError as error:
        msg = f"there is no file at '{place.url}'"
        raise NoFileError(msg) from error
    except network_errors(place.url) as error:
        raise refusal(place.url, error) from error
    if facts.size == 0:
        msg = f"slide '{place.url}' is empty (0 bytes): upload it again"
        raise SlideFormatError(msg)
    return facts


def _look_at_object(place: RemotePlace) -> RemoteFacts:
    stated = place.system.info(place.path)
    if stated["type"] != "file":
        raise FileNotFoundError(place.path)
    tag = next((str(stated[key]) for key in ("ETag", "etag", "md5Hash") if stated.get(key)), "")
    return RemoteFacts(size=int(stated["size"]), tag=tag, has_ranges=True)


def _look_at_web(place: RemotePlace) -> RemoteFacts:
    """Ask for the first byte: only the answer tells whether the server knows ranges."""
    status, headers = sync(place.system.loop, _first_byte, place)
    if status == _NO_RANGE:
        # Not even a first byte.
        return RemoteFacts(size=0, tag="", has_ranges=False)
    if status in _GONE or headers.get("Content-Type", "").startswith("text/html"):
        raise FileNotFoundError(place.path)
    has_ranges = "Content-Range" in headers
    size = headers.get("Content-Length", "")
    if has_ranges:
        size = headers["Content-Range"].rsplit("/", maxsplit=1)[-1]
    # A server that counts no bytes cannot be read at its end.
    return RemoteFacts(
        size=int(size) if size.isdigit() else None,
        tag=headers.get("ETag") or headers.get("Last-Modified", ""),
        has_ranges=has_ranges and size.isdigit(),
    )


async def _first_byte(place: RemotePlace) -> tuple[int, Mapping[str, str]]:
    session = await place.system.set_session()
    headers = {"Range": "bytes=0-0", "Accept-Encoding": "identity"}
    async with session.get(place.system.encode_url(place.path), headers=headers) as response:
        if response.status not in (*_GONE, _NO_RANGE):
            response.raise_for_status()
        return response.status, response.headers


class RemoteFile:
    """A file whose server sends parts of it."""

    batch_bytes = _BATCH
    path = None

    def __init__(self, place: RemotePlace, facts: RemoteFacts) -> None:
        """Read what `look_at` found; `facts` have a size and ranges."""
        self.name = place.url
        self.size = facts.size or 0
        self._facts = facts
        self._asked = place
        self._extra: dict[str, Any] = {}
        self._place: RemotePlace | None = place
        if facts.tag.startswith('"'):
            self._pin(place, facts.tag)

    def _pin(self, place: RemotePlace, tag: str) -> None:
        """Have the server refuse to send parts of any other content."""
        system = place.system
        if scheme_of(place.url) == "s3":
            options = {**system.storage_options, "s3_additional_kwargs": {"IfMatch": tag}}
            # Kept out of fsspec's store of clients, which would hold one for each slide.
            pinned = type(system)(**options, skip_instance_cache=True)
            self._place = replace(place, system=pinned)
        elif scheme_of(place.url) in ("http", "https"):
            self._extra = {"headers": {"If-Match": tag}}

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file from its start, in blocks that are held until it is left."""
        stream = _Stream(self)
        try:
            yield cast(BinaryIO, stream)
        finally:
            if stream.failure is not None:
                raise stream.failure

    def fetch(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, in their order."""
        spans = merge_ranges(ranges)
        place = self._place
        if place is None:
            raise closed_error(self.name)
        found = self._fetch_spans(place, [span.whole for span in spans])
        parts = [b""] * len(ranges)
        for span, data in zip(spans, found, strict=True):
            for index in span.members:
                first = ranges[index].start - span.whole.start
                parts[index] = data[first : first + ranges[index].count]
        return parts

    def check_unchanged(self) -> None:
        """Ask the server again, and compare."""
        try:
            facts = look_at(self._asked)
        except NoFileError as error:
            raise self._gone() from error
        if facts != self._facts:
            msg = (
                f"slide '{self.name}' changed while it was read: wait until it is written, "
                "and open it again"
            )
            raise SlideAccessError(msg)

    def close(self) -> None:
        """Forget the server; its connections are shared, or close when nobody holds them."""
        self._place = None

    def _fetch_spans(self, place: RemotePlace, spans: Sequence[ByteRange]) -> list[bytes]:
        found: dict[int, bytes] = {}
        for pause in (*_PAUSES_S, None):
            left = [index for index in range(len(spans)) if index not in found]
            answers = place.system.cat_ranges(
                [place.path] * len(left),
                [spans[index].start for index in left],
                [spans[index].end for index in left],
                on_error="return",
                **self._extra,
            )
            found |= {
                index: answer
                for index, answer in zip(left, answers, strict=True)
                if isinstance(answer, bytes) and len(answer) == spans[index].count
            }
            if len(found) == len(spans):
                break
            missing = [
                answer for index, answer in zip(left, answers, strict=True) if index not in found
            ]
            if pause is None or not all(_may_pass(answer) for answer in missing):
                raise self._refusal(missing[0])
            time.sleep(pause)
        return [found[index] for index in range(len(spans))]

    def _refusal(self, answer: bytes | Exception) -> Exception:
        """What to raise for an answer that is not what was asked for."""
        if isinstance(answer, FileNotFoundError):
            return self._gone()
        if isinstance(answer, bytes):
            answer = ConnectionError(f"{len(answer)} bytes came that were not asked for")
        if not isinstance(answer, network_errors(self.name)):
            return answer
        self.check_unchanged()
        return refusal(self.name, answer)

    def _gone(self) -> SlideNotFoundError:
        return SlideNotFoundError(
            f"slide '{self.name}' is no longer there: it was moved or deleted while it was read"
        )


def _may_pass(answer: bytes | Exception) -> bool:
    """Whether to ask again: a web server that broke off or is too busy."""
    from aiohttp import ClientError

    if isinstance(answer, bytes) or not isinstance(answer, (ClientError, TimeoutError)):
        return False
    return getattr(answer, "status", _SERVER_ERRORS) >= _SERVER_ERRORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes that are fetched at once: the places of the ranges inside, in the list asked for."""

    whole: ByteRange
    members: tuple[int, ...]


def merge_ranges(ranges: Sequence[ByteRange], *, gap: int = _GAP, most: int = _MOST) -> list[Span]:
    """Few spans that hold all `ranges`, sorted; those without bytes are in none.

    Args:
        ranges: In any order; they may overlap.
        gap: Bytes between two ranges that may be fetched in vain.
        most: Bytes of a span that is more than one range.
    """
    spans: list[Span] = []
    for index in sorted(range(len(ranges)), key=lambda index: ranges[index].start):
        part = ranges[index]
        if part.count == 0:
            continue
        if spans and part.start <= spans[-1].whole.end + gap:
            last = spans[-1]
            end = max(last.whole.end, part.end)
            if end - last.whole.start <= max(most, last.whole.count):
                whole = ByteRange(start=last.whole.start, count=end - last.whole.start)
                spans[-1] = Span(whole=whole, members=(*last.members, index))
                continue
        spans.append(Span(whole=part, members=(index,)))
    return spans


class _Stream(io.RawIOBase):
    """The file as parsers take it. What they read is fetched in whole blocks, and held."""

    def __init__(self, file: RemoteFile) -> None:
        self.failure: SlideAccessError | SlideNotFoundError | None = None
        self._file = file
        self._blocks: dict[int, bytes] = {}
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        if start + offset < 0:
            msg = f"there is no byte {start + offset}"
            raise ValueError(msg)
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._file.size - self._at)
        count = left if size is None or size < 0 else min(size, left)
        data = self._bytes(self._at, count)
        self._at += count
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _bytes(self, start: int, count: int) -> bytes:
        if not count:
            return b""
        numbers = range(start // _BLOCK, -(-(start + count) // _BLOCK))
        missing = [number for number in numbers if number not in self._blocks]
        size = self._file.size
        try:
            found = self._file.fetch(
                [
                    ByteRange(start=number * _BLOCK, count=min(_BLOCK, size - number * _BLOCK))
                    for number in missing
                ]
            )
        except (SlideAccessError, SlideNotFoundError) as error:
            self.failure = error
            raise
        self._blocks.update(zip(missing, found, strict=True))
        data = b"".join(self._blocks[number] for number in numbers)
        return data[start - numbers[0] * _BLOCK :][:count]


def open_remote(url: str) -> RemoteFile | None:
    """The file at `url`; None where its server sends it only whole.

    Raises:
        NoFileError: There is no file there; there may be a folder.
        SlideAccessError: It may not be read, or the server cannot be reached.
        SlideFormatError: It is empty.
    """
    place = open_filesystem(url)
    facts = look_at(place)
    return RemoteFile(place, facts) if facts.has_ranges else None
