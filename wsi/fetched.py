"""Files behind URLs that are fetched whole: one copy for all readers of a process."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

from slideloom.errors import SlideAccessError, SlideFormatError
from slideloom.wsi.byte_file import LocalFile
from slideloom.wsi.readers.reader import NotServedError
from slideloom.wsi.remote import RemotePlace, network_errors, open_filesystem, refusal
from slideloom.wsi.remote_file import RemoteFacts, look_at
from slideloom.wsi.source import file_name

_HEAD_BYTES = 132
_DICOM_AT, _DICOM = 128, b"DICM"
_MANY_FILES = (".mrxs", ".vms", ".vmu", ".dcm")
"""Endings of slides whose pixels lie in other files than the one that names them."""
_SPARE_BYTES = 2**28
"""Of a disk: it is never filled to the last byte."""


class _Copy:
    """A file in a temporary folder, which is deleted when nobody holds it, and at exit."""

    def __init__(self, name: str) -> None:
        folder = tempfile.mkdtemp(prefix="slideloom-slide-")
        self.path = Path(folder, name)
        weakref.finalize(self, _delete, folder, os.getpid())


def _delete(folder: str, owner: int) -> None:
    """Delete a folder, but for that of the process that this one was forked from."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


_copies: weakref.WeakValueDictionary[tuple[int, str, RemoteFacts], _Copy]
_copies = weakref.WeakValueDictionary()
_fetching = Lock()
_held: ContextVar[list[_Copy] | None] = ContextVar("held", default=None)


def _renew_lock() -> None:
    """In a forked process: another thread of the parent may have held the lock."""
    global _fetching
    _fetching = Lock()


os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def copies_held() -> Iterator[None]:
    """Keep all copies that are made inside: several readers try the same file."""
    token = _held.set([])
    try:
        yield
    finally:
        _held.reset(token)


def fetch_whole(url: str, *, heads: tuple[bytes, ...]) -> LocalFile:
    """The file at `url`, on this machine; its copy goes when the last such file is closed.

    Args:
        url: Of a file.
        heads: How files start that are worth it; others are not fetched.

    Raises:
        NotServedError: There is no file there, or one that starts in another way.
        SlideAccessError: It cannot be fetched, or there is no room for it.
        SlideFormatError: It is one of several files of a slide.
    """
    place = open_filesystem(url)
    facts = look_at(place)
    if file_name(url).lower().endswith(_MANY_FILES):
        raise _several_files(url)
    if facts.has_ranges:
        _check_head(place, heads)
    copy = _copy_of(place, facts)
    _check_start(url, _head_of(copy.path), heads=heads)
    held = _held.get()
    if held is not None:
        held.append(copy)
    return LocalFile(copy.path, name=url, keep=copy)


def _check_head(place: RemotePlace, heads: tuple[bytes, ...]) -> None:
    try:
        head = place.system.cat_file(place.path, start=0, end=_HEAD_BYTES)
    except network_errors(place.url) as error:
        raise refusal(place.url, error) from error
    _check_start(place.url, head, heads=heads)


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _check_start(url: str, head: bytes, *, heads: tuple[bytes, ...]) -> None:
    if head[_DICOM_AT:].startswith(_DICOM):
        raise _several_files(url)
    if not head.startswith(heads):
        msg = "it starts like no file of its formats"
        raise NotServedError(msg)


def _several_files(url: str) -> SlideFormatError:
    return SlideFormatError(
        f"slide '{url}' lies in several files (DICOM, MRXS or VMS), which are read from this "
        "machine only: copy its whole folder here, or convert it to OME-Zarr and upload that"
    )


def _copy_of(place: RemotePlace, facts: RemoteFacts) -> _Copy:
    key = (os.getpid(), place.url, facts)
    with _fetching:
        copy = _copies.get(key)
        if copy is None:
            copy = _fetch(place, facts)
            _copies[key] = copy
        return copy


def _fetch(place: RemotePlace, facts: RemoteFacts) -> _Copy:
    needed = (facts.size or 0) + _SPARE_BYTES
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed > free:
        msg = (
            f"slide '{place.url}' has to be fetched whole, and of the {needed / 2**30:.1f} GiB "
            f"that this takes '{tempfile.gettempdir()}' has {free / 2**30:.1f} GiB free: make "
            "room there, or set TMPDIR to a folder on a larger disk"
        )
        raise SlideAccessError(msg)
    copy = _Copy(file_name(place.url))
    try:
        place.system.get_file(place.path, str(copy.path))
    except network_errors(place.url) as error:
        raise refusal(place.url, error) from error
    size = copy.path.stat().st_size
    if facts.size is not None and size != facts.size:
        msg = f"'{place.url}' cannot be fetched ({size} of {facts.size} bytes came): try again"
        raise SlideAccessError(msg)
    return copy
