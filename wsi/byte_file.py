"""A file as ranges of bytes: what a reader needs that serves files here and behind URLs alike."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from slideloom.wsi.readers.reader import closed_error


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """`count` bytes from byte `start` on."""

    start: int
    count: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.start + self.count


class ByteFile(Protocol):
    """One open file. It may be read from several threads at once."""

    @property
    def name(self) -> str:
        """The file, as messages call it."""
        ...

    @property
    def path(self) -> Path | None:
        """Where it is on this machine; None for one that is elsewhere."""
        ...

    @property
    def size(self) -> int:
        """Bytes, when it was opened."""
        ...

    @property
    def batch_bytes(self) -> int:
        """How much is best fetched in one call; 0 where calls cost nothing."""
        ...

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The file from its start, for parsers that seek and read.

        A parser may swallow the errors of reading it: those of a network are raised on leaving.
        """
        ...

    def fetch(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range, in their order; fewer where the file ends by now.

        Raises:
            RegionError: The file was closed.
            SlideNotFoundError: It is no longer there.
            SlideAccessError: It cannot be fetched, or it changed since it was opened.
        """
        ...

    def check_unchanged(self) -> None:
        """Look once more at a file whose content makes no sense.

        Raises:
            SlideAccessError: It is not the file that was opened.
        """
        ...

    def close(self) -> None:
        """Close it; reads under way in other threads end with it still open."""
        ...


class LocalFile:
    """A file of this machine, or the copy of one from elsewhere."""

    batch_bytes = 0

    def __init__(self, path: Path, *, name: str | None = None, keep: object = None) -> None:
        """Open a file.

        Args:
            path: Where it is.
            name: What messages call it; None takes the path's own.
            keep: What has to live as long as the file is open.
        """
        self.path: Path = path
        self.name = path.name if name is None else name
        self.size = path.stat().st_size
        self._keep = keep
        self._file: _Descriptor | None = _Descriptor(path)

    def open(self) -> BinaryIO:
        """The file from its start."""
        return self.path.open("rb")

    def fetch(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range; threads share the descriptor and never wait for each other."""
        file = self._file
        if file is None:
            raise closed_error(self.name)
        return [os.pread(file.number, part.count, part.start) for part in ranges]

    def check_unchanged(self) -> None:
        """Files of this machine are not checked: their descriptor stays with the old content."""

    def close(self) -> None:
        """Close the file, and give back what was kept for it."""
        self._file = self._keep = None


class _Descriptor:
    """A descriptor that is closed when nobody holds it any more.

    Closed under a read, its number could by then be that of another file.
    """

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)
