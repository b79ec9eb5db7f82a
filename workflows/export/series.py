"""Files that belong together, numbered from the second on: they appear together, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import BinaryIO

from slideloom.workflows.export.atomic import flush_folder, writing_to

__all__ = ["FileSeries", "atomic_series", "series_paths"]


@contextmanager
def atomic_series(path: Path) -> Iterator[FileSeries]:
    """Open files one after the other that take their names when the block ends without an error.

    They are `NAME.END`, `NAME.2.END`, `NAME.3.END` and so on; those that an earlier and longer
    series left are removed. The first takes its name last, so where it is, the series is whole. A
    block that fails leaves what was there before, and no other file.

    Args:
        path: Of the first file.

    Raises:
        OutputError: The folder is missing or cannot be written to, or the disk is full.
    """
    series = FileSeries(path)
    with writing_to(path):
        try:
            yield series
            series.finish()
        finally:
            series.clear()


class FileSeries:
    """The files of one series, of which the last is open; see `atomic_series`.

    Args:
        path: Of the first file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._file: BinaryIO | None = None

    def begin(self) -> BinaryIO:
        """Close the present file and open the next."""
        self._close()
        self._count += 1
        self._file = _part(self._path, self._count).open("wb")
        return self._file

    def finish(self) -> None:
        """Give all files their names."""
        self._close()
        before = series_paths(self._path)
        if max(self._count, len(before)) > 1:
            # From here until all is done there is no first file, so no mixture passes for a whole.
            for old in before:
                old.unlink()
        for number in range(self._count, 0, -1):
            _part(self._path, number).replace(_numbered(self._path, number))
        flush_folder(self._path.parent)

    def clear(self) -> None:
        """Remove what has no name yet."""
        if self._file is not None:
            self._file.close()
        for number in range(1, self._count + 1):
            _part(self._path, number).unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def series_paths(path: Path) -> list[Path]:
    """The files of the series at `path` that are there, in order.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.geojson", "a.2.geojson", "a.4.geojson"):
        ...     (folder / name).touch()
        >>> [path.name for path in series_paths(folder / "a.geojson")]
        ['a.geojson', 'a.2.geojson']
    """
    later = (_numbered(path, number) for number in count(2))
    return [*([path] if path.exists() else []), *takewhile(Path.exists, later)]


def _numbered(path: Path, number: int) -> Path:
    stem, _, ending = path.name.partition(".")
    return path if number == 1 else path.with_name(f"{stem}.{number}.{ending}")


def _part(path: Path, number: int) -> Path:
    path = _numbered(path, number)
    return path.with_name(f".{path.name}.part")
