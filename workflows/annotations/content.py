"""What an annotation file holds, told by its content and parsed once."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import orjson

from slideloom.errors import AnnotationError

_GZIP = b"\x1f\x8b"
_PICTURES = (b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MARK = b"\xef\xbb\xbf"
_HEAD_BYTES = 8


class DamagedFileError(ValueError):
    """A file that cannot be parsed; the message is its fault. It never leaves this package."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Content:
    """A file, parsed as far as all formats of its family agree.

    Attributes:
        path: The file.
        json: The document of a JSON file; `is_json` tells whether it is one.
        is_json: Whether the file is JSON.
        xml: The root of an XML file.
        text: The lines of any other text.
        is_picture: Whether it is a picture; its pixels are left to the reader.
    """

    path: Path
    json: Any = None
    is_json: bool = False
    xml: ElementTree.Element | None = None
    text: str | None = None
    is_picture: bool = False


def load(path: Path) -> Content:
    """Parse a file; gzip is unpacked.

    The last file stays in memory: one COCO file serves many images.

    Raises:
        AnnotationError: The file is missing or may not be read.
        DamagedFileError: It cannot be parsed.
    """
    try:
        state = path.stat()
        return _load(path, changed_ns=state.st_mtime_ns, size=state.st_size)
    except OSError as error:
        msg = f"annotation file '{path}' cannot be read ({error.strerror}): check the path"
        raise AnnotationError(msg) from error


@lru_cache(maxsize=1)
def _load(path: Path, *, changed_ns: int, size: int) -> Content:
    """The content of a file in the state that its time and size tell apart."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(_PICTURES):
            return Content(path=path, is_picture=True)
        data = head + file.read()
    if data.startswith(_GZIP):
        data = _unpack(data)
    data = data.removeprefix(_MARK).strip()
    if data.startswith(b"<"):
        return Content(path=path, xml=_parse_xml(data))
    if data.startswith((b"{", b"[")):
        return Content(path=path, json=_parse_json(data), is_json=True)
    try:
        return Content(path=path, text=data.decode())
    except UnicodeDecodeError as error:
        msg = "neither text nor a picture (PNG, BMP, TIFF) that holds annotations"
        raise DamagedFileError(msg) from error


def _unpack(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"a damaged gzip file ({error}): nothing is read of it"
        raise DamagedFileError(msg) from error


def _parse_xml(data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        msg = f"damaged XML ({error}): nothing is read of it"
        raise DamagedFileError(msg) from error


def _parse_json(data: bytes) -> Any:  # noqa: ANN401  (JSON)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Python's parser also takes the NaN and Infinity that some tools write.
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            msg = f"damaged JSON ({error}): nothing is read of it"
            raise DamagedFileError(msg) from error
