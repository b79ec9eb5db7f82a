"""Files and folders that are whole or not there: written aside, flushed, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from slideloom.errors import OutputError, SlideloomError
from slideloom.workflows.places import remove
from slideloom.wsi.storage import Folder, remove_object, write_object

__all__ = [
    "atomic_file",
    "atomic_folder",
    "flush_folder",
    "flush_tree",
    "make_folder",
    "remove",
    "writing_to",
]

_PROBE = ".slideloom-probe"


@contextmanager
def atomic_file(path: Folder, *, durable: bool = True, part: str = "") -> Iterator[BinaryIO]:
    """Open a binary file that takes the name `path` only when the block ends without an error.

    Until then it is `.NAME.part` in the same folder, so one writer at a time may use a name. A
    block that fails leaves what was at `path` before, and no other file. What a killed process
    left is overwritten by the next try. In an object store there are no such steps: the file waits
    in memory, and one request puts it there as a whole.

    Args:
        path: Of the file.
        durable: Whether it has to survive a power cut too, which waits for the disk.
        part: Name of the file until then, in place of `.NAME.part`: one of its own where several
            processes may write the same.

    Raises:
        OutputError: The folder is missing or cannot be written to, the disk is full, or an object
            store does not answer, or refuses to.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"done")
        >>> path.read_text()
        'done'
    """
    if isinstance(path, UPath):
        with BytesIO() as buffer:
            yield buffer
            write_object(path, buffer.getvalue())
        return
    aside = path.with_name(part or f".{path.name}.part")
    with writing_to(path):
        try:
            with aside.open("wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        if durable:
            flush_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder that takes the name `path` only when the block ends without an error.

    Until then it is `.NAME.part` beside it, so one writer at a time may use a name. A file or
    folder of that name is removed when the new one is whole and on the disk. A block that fails
    leaves what was at `path` before, and no other folder. What a killed process left is cleared by
    the next try.

    Args:
        path: Of the folder.

    Raises:
        OutputError: The folder around it is missing or cannot be written to, or the disk is full.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.seg"
        >>> with atomic_folder(path) as folder:
        ...     _ = (folder / "part.dcm").write_bytes(b"done")
        >>> [file.name for file in path.iterdir()]
        ['part.dcm']
    """
    part, old = (path.with_name(f".{path.name}.{state}") for state in ("part", "old"))
    with writing_to(path):
        _restore(old, path)
        remove(part)
        try:
            part.mkdir()
            yield part
            flush_tree(part)
            # A folder cannot be renamed onto another one that holds files.
            if path.exists():
                path.rename(old)
            part.rename(path)
            flush_folder(path.parent)
        finally:
            _restore(old, path)
            remove(part)


@contextmanager
def writing_to(path: Folder) -> Iterator[None]:
    """Tell what the system refuses inside the block as an `OutputError` about `path`."""
    try:
        yield
    except SlideloomError:
        raise
    except OSError as error:
        msg = (
            f"cannot write '{path}' ({error.strerror or error}): check that the folder is there, "
            "that you may write to it, and that the disk has room"
        )
        raise OutputError(msg) from error


def make_folder(folder: Folder) -> None:
    """Make a folder where it is missing, and see that it can be written to.

    Object stores have no folders, but their bucket has to be there.

    Raises:
        OutputError: It cannot.
    """
    if isinstance(folder, UPath):
        write_object(folder / _PROBE, b"")
        remove_object(folder / _PROBE)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / _PROBE
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"cannot write to '{folder}' ({error.strerror}): choose another --out"
        raise OutputError(msg) from error


def _restore(old: Path, path: Path) -> None:
    """Clear what was moved aside, or move it back where nothing has its place."""
    if old.exists() and not path.exists():
        old.rename(path)
    remove(old)


def flush_tree(folder: Folder) -> None:
    """Make all that is in a folder last through a power cut; object stores do by themselves."""
    if isinstance(folder, UPath):
        return
    for parent, _, files in os.walk(folder):
        for name in files:
            with Path(parent, name).open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(Path(parent))


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
