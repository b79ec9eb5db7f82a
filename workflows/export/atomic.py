"""Files that are whole or not there: written aside, flushed to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from slideloom.errors import OutputError, SlideloomError

__all__ = ["atomic_file", "make_folder", "writing_to"]


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that takes the name `path` only when the block ends without an error.

    Until then it is `.NAME.part` in the same folder, so one writer at a time may use a name. A
    block that fails leaves what was at `path` before, and no other file. What a killed process
    left is overwritten by the next try.

    Args:
        path: Of the file.
        durable: Whether it has to survive a power cut too, which waits for the disk.

    Raises:
        OutputError: The folder is missing or cannot be written to, or the disk is full.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_file(path) as file:
        ...     _ = file.write(b"done")
        >>> path.read_text()
        'done'
    """
    part = path.with_name(f".{path.name}.part")
    with writing_to(path):
        try:
            with part.open("wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if durable:
            _flush_folder(path.parent)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
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


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing, and see that it can be written to.

    Raises:
        OutputError: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".slideloom-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        msg = f"cannot write to '{folder}' ({error.strerror}): choose another --out"
        raise OutputError(msg) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
