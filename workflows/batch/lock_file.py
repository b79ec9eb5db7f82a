"""A small file that several processes fight for, on a disk or behind a URL."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

from slideloom.wsi.storage import (
    open_system,
    output_faults,
    read_object,
    remove_object,
    write_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from upath import UPath

__all__ = ["LocalFile", "RemoteFile", "SmallFile"]

GUARD_S = 10.0
"""Seconds after which a guard that is held by a process that hangs is ignored."""


class SmallFile(Protocol):
    """A file that is always whole; all its methods may raise OSError.

    Attributes:
        exclusive: Whether `create` succeeds for one process only, whatever the place.
    """

    exclusive: bool

    def guard(self) -> AbstractContextManager[object]:
        """Keeps others on this machine out while the block lasts, where the place can do it."""
        ...

    def read(self) -> bytes | None:
        """What is in it; None where it is not there."""
        ...

    def create(self, data: bytes) -> bool:
        """Make it, and say whether it was not there before."""
        ...

    def replace(self, data: bytes) -> None:
        """Make it, or put other data in."""
        ...

    def remove(self) -> None:
        """Remove it, where it is there."""
        ...

    def tidy(self) -> None:
        """Clear what others left aside that were killed while they wrote it."""
        ...


class LocalFile:
    """On a disk.

    Args:
        path: Of the file.
    """

    exclusive = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """See `SmallFile`; the system ends it with the process."""
        try:
            from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
        except ImportError:
            yield
            return
        handle = os.open(self._path.parent, os.O_RDONLY)
        try:
            # Some network file systems know no such locks, or none of folders.
            with suppress(OSError):
                end = monotonic() + GUARD_S
                while monotonic() < end:
                    try:
                        flock(handle, LOCK_EX | LOCK_NB)
                        break
                    except BlockingIOError:
                        sleep(0.02)
            yield
        finally:
            # A child that another thread forked meanwhile holds the same lock.
            with suppress(OSError):
                flock(handle, LOCK_UN)
            os.close(handle)

    def read(self) -> bytes | None:
        """See `SmallFile`."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def create(self, data: bytes) -> bool:
        """See `SmallFile`; a lock that is half written has no name yet, so nobody sees it."""
        with self._aside(data) as part:
            try:
                os.link(part, self._path)
            except FileExistsError:
                # A network file system may have done it and lost the answer, see open(2).
                return part.stat().st_nlink > 1
            except FileNotFoundError:
                # Whoever was faster tidied up.
                return False
            except OSError:
                # Some file systems, such as exFAT, know one name for each file.
                return self._create_in_place(data)
        return True

    def replace(self, data: bytes) -> None:
        """See `SmallFile`."""
        with self._aside(data) as part:
            part.replace(self._path)

    def remove(self) -> None:
        """See `SmallFile`."""
        self._path.unlink(missing_ok=True)

    def tidy(self) -> None:
        """See `SmallFile`."""
        for part in self._path.parent.glob(f"{self._path.name}.*.part"):
            part.unlink(missing_ok=True)

    @contextmanager
    def _aside(self, data: bytes) -> Iterator[Path]:
        """A file of another name with the data in it, which have reached the disk."""
        part = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}.part")
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _create_in_place(self, data: bytes) -> bool:
        try:
            with self._path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True


class RemoteFile:
    """An object behind a URL, which stores write whole or not at all.

    Args:
        path: Of the object.
    """

    exclusive = False

    def __init__(self, path: UPath) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def guard(self) -> AbstractContextManager[object]:
        """See `SmallFile`."""
        return nullcontext()

    def read(self) -> bytes | None:
        """See `SmallFile`."""
        try:
            return read_object(self._path)
        except FileNotFoundError:
            return None

    def create(self, data: bytes) -> bool:
        """See `SmallFile`; a store that does not know how to be exclusive is not."""
        with output_faults(str(self._path)):
            try:
                open_system(self._path).pipe_file(self._path.path, data, mode="create")
            except FileExistsError:
                return False
            except OSError:
                # Not every store that speaks S3 takes conditions; real trouble comes up again.
                self.replace(data)
        return True

    def replace(self, data: bytes) -> None:
        """See `SmallFile`."""
        write_object(self._path, data)

    def remove(self) -> None:
        """See `SmallFile`."""
        remove_object(self._path)

    def tidy(self) -> None:
        """See `SmallFile`."""
