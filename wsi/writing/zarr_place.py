"""Where zarr keeps what is written: in a folder, or in an object store behind a URL."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from fsspec.asyn import AsyncFileSystem
from upath import UPath
from zarr.storage import FsspecStore

from slideloom.wsi.storage import REQUESTS, Folder, open_system, output_faults, remove_below

__all__ = ["is_remote", "request_threads", "zarr_place"]


def zarr_place(folder: Folder) -> Path | FsspecStore:
    """What zarr opens or creates at a folder; it pickles without credentials."""
    if isinstance(folder, Path):
        return folder
    return FsspecStore(_Objects(str(folder), **folder.storage_options), path=folder.path)


def is_remote(array: Any) -> bool:  # noqa: ANN401  (an array of zarr, of any data type)
    """Whether each chunk of an array is a request, so that many should be made at one time."""
    return isinstance(array.store, FsspecStore)


def request_threads(folder: Folder, threads: int | None) -> int:
    """Threads for work on chunks: `threads`, or one per core, and enough to wait for requests."""
    chosen = threads or os.cpu_count() or 1
    return chosen if isinstance(folder, Path) else max(chosen, REQUESTS)


class _Objects(AsyncFileSystem):  # type: ignore[misc]
    """Objects behind a URL as zarr asks for them, and errors that say what is wrong with them.

    The file system below runs in fsspec's own loop, so that fsspec closes it, at exit and after a
    fork. A copy in another process takes its keys from the environment there.
    """

    cachable = False

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401  (of fsspec)
        super().__init__(asynchronous=True)
        self._place = UPath(url, **options)
        self._system = open_system(self._place)

    async def _cat_file(
        self, path: str, *, start: int | None = None, end: int | None = None
    ) -> bytes:
        with output_faults(self._url(path), may_lack=True):
            data: bytes = await self._ask("cat_file", path, start=start, end=end)
            return data

    async def _pipe_file(self, path: str, value: bytes) -> None:
        with output_faults(self._url(path)):
            await self._ask("pipe_file", path, value)

    async def _exists(self, path: str) -> bool:
        with output_faults(self._url(path)):
            return bool(await self._ask("exists", path))

    async def _rm(self, path: str, *, recursive: bool = False) -> None:
        if recursive:
            await asyncio.to_thread(
                remove_below, UPath(self._url(path), **self._place.storage_options)
            )
        else:
            with output_faults(self._url(path), may_lack=True):
                await self._ask("rm_file", path)

    def _url(self, path: str) -> str:
        return str(self._system.unstrip_protocol(path))

    async def _ask(self, verb: str, *values: object, **options: object) -> Any:  # noqa: ANN401
        """Wait for an answer, in the system's loop where it has one, else in a thread."""
        if self._system.async_impl:
            work = getattr(self._system, f"_{verb}")(*values, **options)
            return await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(work, self._system.loop)
            )
        return await asyncio.to_thread(getattr(self._system, verb), *values, **options)
