"""The files of a zarr store: in a folder, in a zip, or behind a URL."""

from __future__ import annotations

import asyncio
import lzma
import zipfile
import zlib
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, ZipStore

from slideloom.errors import SlideAccessError, SlideFormatError, SlideNotFoundError
from slideloom.wsi.readers.ome_zarr.remote_zip import ZipEntries
from slideloom.wsi.readers.reader import NoFileError, NotServedError
from slideloom.wsi.remote import ForbiddenError, network_errors, open_filesystem, refusal
from slideloom.wsi.remote_file import open_remote
from slideloom.wsi.source import Source, file_name

_ZIP_HEADS = (b"PK\x03\x04", b"PK\x05\x06")
_ENTRY_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""What reading a file, or an entry of a damaged zip, raises."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ZarrFiles:
    """A store that is open to read.

    Attributes:
        store: What zarr reads through.
        root: The slide's group in it; empty for the store's own root.
        title: The slide, as messages call it.
        is_url: Whether the store is behind a URL.
    """

    store: Store
    root: str
    title: str
    is_url: bool

    def key(self, *parts: str) -> str:
        """Where a file or folder of the slide lies in the store."""
        names = "/".join((self.root, *parts)).split("/")
        return "/".join(name for name in names if name not in ("", "."))

    def fetch(self, keys: Sequence[str], *, limit: int | None = None) -> dict[str, bytes]:
        """The first `limit` bytes of those of `keys` that exist, fetched at once.

        Who may not list a bucket gets "forbidden" for what does not exist, so that counts as
        missing as long as another key is found.

        Raises:
            SlideAccessError: The store cannot be reached, or all that exists is forbidden.
            SlideFormatError: One of them is damaged, in a zip or on the disk.
        """
        found: dict[str, bytes] = {}
        refused = None
        for key, value in zip(keys, _run(self._fetch(keys, limit)), strict=True):
            if isinstance(value, ForbiddenError):
                refused = value
            elif isinstance(value, _ENTRY_ERRORS) and not isinstance(value, PermissionError):
                msg = (
                    f"slide '{self.title}' is damaged, its '{key}' cannot be read ({value}): "
                    "copy or download it again"
                )
                raise SlideFormatError(msg) from value
            elif isinstance(value, BaseException):
                raise value
            elif value is not None:
                found[key] = value.to_bytes()[:limit]
        if refused is not None and not found:
            raise refused
        return found

    async def _fetch(
        self, keys: Sequence[str], limit: int | None
    ) -> list[Buffer | BaseException | None]:
        prototype = default_buffer_prototype()
        part = None if limit is None else RangeByteRequest(0, limit)
        jobs = [self.store.get(key, prototype, part) for key in keys]
        return await asyncio.gather(*jobs, return_exceptions=True)


def open_files(source: Source) -> ZarrFiles:
    """Open what may be a zarr store; whether it is one is not looked at yet.

    Raises:
        NotServedError: A file that is no zip, or a URL of another kind.
        SlideFormatError: A damaged zip, or a URL whose packages are not installed.
    """
    if isinstance(source, str):
        if file_name(source).lower().endswith(".zip"):
            return _open_remote_zip(source)
        place = open_filesystem(source)
        store: Store = FsspecStore(_UrlFiles(place.system), read_only=True, path=place.path)
        return ZarrFiles(store=store, root="", title=source, is_url=True)
    if source.is_dir():
        store = LocalStore(source, read_only=True)
        return ZarrFiles(store=store, root="", title=source.name, is_url=False)
    return _open_zip(source)


def _open_zip(path: Path) -> ZarrFiles:
    with path.open("rb") as file:
        if file.read(4) not in _ZIP_HEADS:
            msg = "it is a file, and no zip of an OME-Zarr"
            raise NotServedError(msg)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        store = _run(ZipStore.open(path, mode="r"))
    except _ENTRY_ERRORS as error:
        raise _broken_zip(path.name, error) from error
    return ZarrFiles(store=store, root=_root_of(names), title=path.name, is_url=False)


def _open_remote_zip(url: str) -> ZarrFiles:
    try:
        file = open_remote(url)
    except NoFileError as error:
        msg = f"there is no slide at '{url}': check the address"
        raise SlideNotFoundError(msg) from error
    if file is None:
        msg = f"it is a zip, and its server does not send parts of files: download '{url}'"
        raise NotServedError(msg)
    try:
        entries = ZipEntries(file)
    except SlideAccessError:
        raise
    except _ENTRY_ERRORS as error:
        raise _broken_zip(url, error) from error
    store = FsspecStore(entries, read_only=True, path="")
    return ZarrFiles(store=store, root=_root_of(entries.names), title=url, is_url=False)


def _broken_zip(name: str, error: Exception) -> SlideFormatError:
    return SlideFormatError(
        f"slide '{name}' is a zip that cannot be read, it is damaged or incomplete ({error}): "
        "copy or download it again"
    )


def _root_of(names: Sequence[str]) -> str:
    """The slide's group in a zip of entries `names`."""
    tops = {name.split("/", maxsplit=1)[0] for name in names}
    # Who zips a folder by hand gets the folder itself as the only entry.
    inner = len(tops) == 1 and all("/" in name for name in names)
    return tops.pop() if inner else ""


class _UrlFiles(AsyncFileSystem):  # type: ignore[misc]
    """Objects behind URLs as zarr asks for them, and errors that say what is wrong with them.

    The file system below runs in fsspec's own loop, so that fsspec closes it, at exit and after a
    fork; one that ran in zarr's loop would have to be closed in that.
    """

    cachable = False

    def __init__(self, system: AbstractFileSystem) -> None:
        super().__init__(asynchronous=True)
        self._system = system

    async def _cat_file(
        self, path: str, *, start: int | None = None, end: int | None = None
    ) -> bytes:
        url = self._system.unstrip_protocol(path)
        try:
            data = await asyncio.to_thread(self._system.cat_file, path, start=start, end=end)
        except FileNotFoundError:
            raise
        except network_errors(url) as error:
            raise refusal(url, error) from error
        return _cut(data, start, end=end)


def _cut(data: bytes, start: int | None, *, end: int | None) -> bytes:
    """What was asked for: plain web servers know no ranges and send the whole file."""
    if start is None:
        return data
    if start < 0:
        return data[start:]
    return data[start:end] if end is not None and len(data) > end - start else data


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    # In a thread of its own: the caller's may run a loop already, as in a notebook.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
