"""Where results are: a folder of this machine, or one in an object store behind a URL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from upath import UPath

from slideloom.errors import SettingsError
from slideloom.wsi.source import parse_source
from slideloom.wsi.storage import (
    Folder,
    StoredObject,
    exists,
    in_parallel,
    names_below,
    objects_below,
    open_system,
    read_object,
    remove_below,
    remove_object,
    upload,
    write_object,
)

__all__ = [
    "Folder",
    "as_path",
    "is_there",
    "local_copy",
    "names_in",
    "parse_folder",
    "read_bytes",
    "remove",
    "staged",
    "whole_in",
]

_STORES = ("s3", "gs", "gcs", "az", "abfs", "memory")
"""An object is there as a whole or not at all in all of them; a plain server of files is none."""


def parse_folder(text: str | Folder) -> Folder:
    """The folder that a path or URL names; nothing is asked of a server yet.

    Keys and endpoint are not kept: they are taken from the environment by each process that uses
    the folder, for S3 as by the AWS command line (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, roles, ...,
    and `AWS_ENDPOINT_URL` for other servers that speak S3).

    Args:
        text: A path, `file://`, or the URL of a bucket or of a folder in one.

    Raises:
        SettingsError: Files cannot be written to URLs of this kind, no bucket is named, or a
            package is not installed.

    Examples:
        >>> parse_folder("s3://bucket/results").name
        'results'
        >>> parse_folder("results").name
        'results'
    """
    place = parse_source(text) if isinstance(text, str | Path) else text
    if isinstance(place, Path):
        # A UPath of this machine is a Path too.
        return Path(os.fspath(place))
    scheme, _, rest = str(place).partition(":")
    if scheme.lower() not in _STORES:
        msg = (
            f"results cannot be written to or read from '{place}': give a folder, or the URL of "
            f"an object store, one of {', '.join(_STORES)}"
        )
        raise SettingsError(msg)
    if not rest.strip("/"):
        msg = f"'{place}' names no bucket: give one, as in {scheme}://bucket/results"
        raise SettingsError(msg)
    try:
        folder = UPath(place)
    except ImportError as error:
        msg = (
            f"'{place}' needs packages that are not installed ({error}): install them, for s3:// "
            "with pip install 'slideloom[remote]'"
        )
        raise SettingsError(msg) from error
    # So a package that is missing shows before any work is done.
    open_system(folder)
    return folder


def as_path(folder: Folder) -> Path:
    """The same folder under the type that callers know: a `UPath` has the methods of a `Path`."""
    return cast(Path, folder)


def is_there(place: Folder) -> bool:
    """Whether there is such a file or folder; a folder of a store is there if it holds anything.

    Raises:
        OutputError: A store does not answer, or refuses to.
    """
    return place.exists() if isinstance(place, Path) else exists(place)


def names_in(folder: Folder) -> frozenset[str]:
    """The names of what a folder holds, hidden or not; none where it is not there.

    Raises:
        OutputError: A store does not answer, or refuses to.
    """
    if isinstance(folder, Path):
        return frozenset(item.name for item in folder.iterdir()) if folder.is_dir() else frozenset()
    return names_below(folder)


def read_bytes(place: Folder) -> bytes:
    """The whole of a file.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It cannot be read; `OutputError` where that is a store's fault.
    """
    return place.read_bytes() if isinstance(place, Path) else read_object(place)


def remove(place: Folder) -> None:
    """Remove a file, a link or a whole folder, where it is there.

    Raises:
        OSError: It cannot be removed; `OutputError` where that is a store's fault.
    """
    if isinstance(place, UPath):
        remove_below(place)
        remove_object(place)
    elif place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


@contextmanager
def staged(folder: Folder, *, last: Sequence[str] = ()) -> Iterator[Path]:
    """A folder of this machine to write into; what it holds is then also in `folder`.

    A local folder is given as it is. For a store it is a temporary one: its files are uploaded
    when the block ends without an error, several at one time, and then it is removed. So it takes
    disk for all of them, below `$TMPDIR`.

    Nothing there is renamed, so an object `.NAME.part` lies beside a folder that is not whole yet:
    see `whole_in`.

    Args:
        folder: Where the files are wanted.
        last: Names of files at the top that follow, one by one, when all others are there: a reader
            who finds the last of them finds all.

    Raises:
        OutputError: A store does not answer, or refuses to; some files may be there then, but none
            of `last`.
    """
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory(prefix="slideloom-") as name:
        stage = Path(name)
        yield stage
        _upload_tree(stage, folder, last=last)


def _upload_tree(stage: Path, folder: UPath, *, last: Sequence[str]) -> None:
    trees = [item.name for item in stage.iterdir() if item.is_dir()]
    for name in trees:
        write_object(folder / _part(name), b"")
        remove_below(folder / name)
    files = [
        Path(parent, name).relative_to(stage).as_posix()
        for parent, _, names in os.walk(stage)
        for name in names
    ]
    first = [name for name in files if name not in last]
    in_parallel([partial(upload, stage / name, folder / name) for name in first])
    for name in trees:
        remove_object(folder / _part(name))
    for name in (name for name in last if name in files):
        upload(stage / name, folder / name)


def _part(name: str) -> str:
    return f".{name}.part"


def whole_in(folder: Folder) -> frozenset[str]:
    """The names in a folder, without those of folders that were not uploaded to the end.

    Raises:
        OutputError: A store does not answer, or refuses to.
    """
    names = names_in(folder)
    return frozenset(name for name in names if _part(name) not in names)


@contextmanager
def local_copy(folder: Folder, *, names: Sequence[str]) -> Iterator[Path]:
    """What a folder holds, on this machine: it is given as it is, or copied from a store.

    A copy lies in a temporary folder below `$TMPDIR`, its files are as old as the objects, and it
    is removed when the block ends.

    Args:
        folder: To copy from.
        names: Of files and folders at the top; others, and those that are missing, are left out.

    Raises:
        OutputError: A store does not answer, or refuses to.
    """
    if isinstance(folder, Path):
        yield folder
        return
    with TemporaryDirectory(prefix="slideloom-") as name:
        copy = Path(name)
        wanted = [
            item for item in objects_below(folder) if item.name.partition("/")[0] in set(names)
        ]
        in_parallel([partial(_download, folder, item, to=copy) for item in wanted])
        yield copy


def _download(folder: UPath, item: StoredObject, *, to: Path) -> None:
    file = to / item.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(read_object(folder / item.name))
    if item.written is not None:
        os.utime(file, (item.written, item.written))
