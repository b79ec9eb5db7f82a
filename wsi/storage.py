"""Folders in object stores, for what is written: whole objects, few requests, clear errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from upath import UPath

from slideloom.errors import OutputError, SettingsError, SlideAccessError
from slideloom.wsi.remote import network_errors, remote_options

__all__ = [
    "REQUESTS",
    "Folder",
    "StoredObject",
    "exists",
    "in_parallel",
    "names_below",
    "objects_below",
    "open_system",
    "output_faults",
    "read_object",
    "remove_below",
    "remove_object",
    "upload",
    "write_object",
]

Folder = Path | UPath
"""A folder or file of this machine as a `Path`, or of an object store as a `UPath`. That is an
address alone: who asks for it takes keys and endpoint from the environment of the process, so none
travels with it to another one."""

REQUESTS = 16
"""At one time, where there are many."""
_MARKS = frozenset("*?[")
"""fsspec takes a name with one of these for a pattern where it removes many objects at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object below a folder.

    Attributes:
        name: From the folder on, with `/` between its parts.
        path: In the store, with the bucket.
        written: Seconds since 1970; None where the store does not tell.
    """

    name: str
    path: str
    written: float | None


def open_system(folder: UPath) -> AbstractFileSystem:
    """What speaks with the store of a folder; nothing is asked of the server yet.

    Raises:
        OutputError: The credentials cannot be used.
        SettingsError: A package is not installed.
    """
    try:
        # What was listed before says nothing: others write to the same place.
        options = {"use_listings_cache": False, **remote_options(folder.protocol)}
        return fsspec.filesystem(folder.protocol, **{**options, **folder.storage_options})
    except ImportError as error:
        msg = (
            f"'{folder}' needs packages that are not installed ({error}): install them, for s3:// "
            "with pip install 'slideloom[remote]'"
        )
        raise SettingsError(msg) from error
    except SlideAccessError as error:
        raise OutputError(str(error)) from error


@contextmanager
def output_faults(url: str, *, may_lack: bool = False) -> Iterator[None]:
    """Tell what a store refuses inside the block as an `OutputError` about `url`.

    Args:
        url: Of the object or folder.
        may_lack: Let `FileNotFoundError` through: it is an answer, and no fault of the store.
    """
    try:
        yield
    except OutputError:
        raise
    except network_errors(url) as error:
        if may_lack and isinstance(error, FileNotFoundError):
            raise
        found = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(_advice(url, found, error=error)) from error


def _advice(url: str, found: str, *, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no '{url}' ({found}): check the name of the bucket, and make it first"
    if isinstance(error, PermissionError) or "credentials" in found.lower():
        return (
            f"'{url}' may not be used ({found}): check your credentials, or ask for permission to "
            "list, read, write and delete there"
        )
    return (
        f"'{url}' cannot be reached ({found}): check the address, the endpoint and the network; "
        "then the same command goes on from here"
    )


def exists(place: UPath) -> bool:
    """Whether there is an object, or something below a folder.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    try:
        with output_faults(str(place), may_lack=True):
            open_system(place).info(place.path)
    except FileNotFoundError:
        return False
    return True


def read_object(place: UPath) -> bytes:
    """The whole of an object.

    Raises:
        FileNotFoundError: It is not there.
        OutputError: The store does not answer, or refuses to.
    """
    with output_faults(str(place), may_lack=True):
        data: bytes = open_system(place).cat_file(place.path)
        return data


def write_object(place: UPath, data: bytes) -> None:
    """Put an object: it is there as a whole or not at all, and replaces what was there.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    with output_faults(str(place)):
        open_system(place).pipe_file(place.path, data)


def upload(file: Path, place: UPath) -> None:
    """Put a file of this machine, as `write_object` does, without reading it whole where it is big.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    with output_faults(str(place)):
        open_system(place).put_file(str(file), place.path)


def names_below(folder: UPath) -> frozenset[str]:
    """The names at the top of a folder; none where it is not there.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    base = f"{folder.path.strip('/')}/"
    try:
        with output_faults(str(folder), may_lack=True):
            found: list[str] = open_system(folder).ls(folder.path, detail=False)
    except FileNotFoundError:
        return frozenset()
    paths = (path.strip("/") for path in found)
    return frozenset(path.removeprefix(base) for path in paths if path.startswith(base))


def objects_below(folder: UPath) -> list[StoredObject]:
    """All objects below a folder, by name, from one listing; none where it is not there.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    # Some stores take it with a leading slash, and answer without.
    base = f"{folder.path.strip('/')}/"
    try:
        with output_faults(str(folder), may_lack=True):
            found: dict[str, dict[str, Any]] = open_system(folder).find(folder.path, detail=True)
    except FileNotFoundError:
        return []
    objects = []
    for path in sorted(path for path in found if path.lstrip("/").startswith(base)):
        written = found[path].get("LastModified")
        when = written.timestamp() if isinstance(written, datetime) else None
        name = path.lstrip("/").removeprefix(base)
        objects.append(StoredObject(name=name, path=path, written=when))
    return objects


def remove_below(folder: UPath) -> None:
    """Remove all that is below a folder, many objects with one request.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    paths = [item.path for item in objects_below(folder)]
    system = open_system(folder)
    with output_faults(str(folder)):
        if many := [path for path in paths if not _MARKS & set(path)]:
            system.rm(many)
        in_parallel([partial(system.rm_file, path) for path in paths if _MARKS & set(path)])


def remove_object(place: UPath) -> None:
    """Remove an object, where it is there.

    Raises:
        OutputError: The store does not answer, or refuses to.
    """
    try:
        with output_faults(str(place), may_lack=True):
            open_system(place).rm_file(place.path)
    except FileNotFoundError:
        return


def in_parallel(jobs: Sequence[Callable[[], object]]) -> None:
    """Do all jobs, several at one time; the first error is raised when those begun have ended."""
    if jobs:
        with ThreadPoolExecutor(min(REQUESTS, len(jobs))) as pool:
            for done in [pool.submit(job) for job in jobs]:
                done.result()
