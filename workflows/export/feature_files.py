"""GeoJSON collections of features: one file, or several that are no larger than a size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Protocol

import numpy as np
from imagecodecs import gzip_encode
from numpy.typing import NDArray

from slideloom.workflows.export.compression import gzip_members
from slideloom.workflows.export.series import FileSeries, atomic_series

__all__ = ["FeatureFiles", "open_feature_files"]

_HEAD = b'{"type":"FeatureCollection","features":['
_TAIL = b"\n]}\n"
_BYTES_PER_MB = 1e6
# Text shrinks to a fifth or less, so a file is filled but for one part in forty at most.
_PIECES_PER_FILE = 8


class FeatureFiles(Protocol):
    """Takes features as text."""

    def add(self, features: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """Append features.

        Args:
            features: One after the other, each behind a comma and a line break.
            ends: `(n,)`, the place in `features` behind each.
        """
        ...


@contextmanager
def open_feature_files(path: Path, *, split_mb: float | None) -> Iterator[FeatureFiles]:
    """Open a collection that appears when the block ends without an error; see `atomic_series`.

    Args:
        path: Of the first file; a name that ends in `.gz` is compressed.
        split_mb: Most megabytes (10^6 bytes on the disk) of one file. A feature is never cut: one
            that is larger has a file of its own. None makes one file.

    Raises:
        OutputError: The files cannot be written.
    """
    most_bytes = inf if split_mb is None else split_mb * _BYTES_PER_MB
    with atomic_series(path) as series:
        if path.suffix != ".gz":
            files = _PlainFiles(lambda: series.begin().write, most_bytes)
            yield files
            files.finish()
        elif split_mb is None:
            with gzip_members(series.begin()) as write:
                files = _PlainFiles(lambda: write, inf)
                yield files
                files.finish()
        else:
            placed = _Members(series, most_bytes)
            with gzip_members(placed) as write:
                yield _Pieces(write, most_bytes / _PIECES_PER_FILE)
            placed.finish()


class _PlainFiles:
    """Fills one file after the other to the last feature that it can take."""

    def __init__(self, begin: Callable[[], Callable[[bytes], object]], most_bytes: float) -> None:
        self._open = begin
        self._most = most_bytes
        self._size, self._empty = 0, True
        self._begin()

    def add(self, features: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """See `FeatureFiles`."""
        row = start = 0
        while row < len(ends):
            room = self._most - self._size - len(_TAIL)
            stop = int(np.searchsorted(ends, start + room + self._empty, side="right"))
            if stop <= row and not self._empty:
                self._write(_TAIL)
                self._begin()
                continue
            stop = max(stop, row + 1)
            end = int(ends[stop - 1])
            # No comma before a file's first feature.
            self._write(features[start + self._empty : end].tobytes())
            self._empty, row, start = False, stop, end

    def finish(self) -> None:
        """End the last file."""
        self._write(_TAIL)

    def _begin(self) -> None:
        self._append = self._open()
        self._size, self._empty = 0, True
        self._write(_HEAD)

    def _write(self, text: bytes) -> None:
        self._append(text)
        self._size += len(text)


class _Pieces:
    """Cuts features into pieces that are compressed one by one."""

    def __init__(self, write: Callable[[bytes], object], most_bytes: float) -> None:
        self._compress = write
        self._most = most_bytes

    def add(self, features: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
        """See `FeatureFiles`."""
        row = start = 0
        while row < len(ends):
            row = max(int(np.searchsorted(ends, start + self._most, side="right")), row + 1)
            # Whether a comma has to come before it is known when it has its place.
            self._compress(features[start + 1 : ends[row - 1]].tobytes())
            start = int(ends[row - 1])


class _Members:
    """Takes compressed pieces in their order, and begins a file where one does not fit."""

    def __init__(self, series: FileSeries, most_bytes: float) -> None:
        self._series = series
        self._most = most_bytes
        self._size, self._empty = 0, True
        self._head, self._comma, self._tail = (
            bytes(gzip_encode(text)) for text in (_HEAD, b",", _TAIL)
        )
        self._begin()

    def write(self, member: bytes) -> None:
        """Append a piece."""
        more = len(self._comma) + len(member) + len(self._tail)
        if not self._empty and self._size + more > self._most:
            self.finish()
            self._begin()
        if not self._empty:
            self._append(self._comma)
        self._append(member)
        self._empty = False

    def finish(self) -> None:
        """End the last file."""
        self._append(self._tail)

    def _begin(self) -> None:
        self._file = self._series.begin()
        self._size, self._empty = 0, True
        self._append(self._head)

    def _append(self, member: bytes) -> None:
        self._file.write(member)
        self._size += len(member)
