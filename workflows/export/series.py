"""Files that belong together, numbered from the second on: they appear together, or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from slideloom.workflows.export.atomic import flush_folder, writing_to

__all__ = ["FileSeries", "atomic_series", "series_names", "series_paths"]


@contextmanager
def atomic_series(path: Path) -> Iterator[FileSeries]:
    """Open files one after the other that take their names when the block ends without an error.

    They are `NAME.END`, `NAME.2.END`, `NAME.3.END` and so on; those that an earlier and longer
    series left are removed. The first takes its name last, so where it is, the series is whole. A
    block that fails leaves what was there before, and no other file; what a killed process left is
    cleared by the next try.

    Args:
        path: Of the first file.

    Raises:
        OutputError: The folder is missing or cannot be written to, or the disk is full.
    """
    series = FileSeries(path)
    with writing_to(path):
        series.clear()
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
        if self._count > 1 or len(series_paths(self._path)) > 1:
            # From here until all is done there is no first file, so no mixture passes for a whole.
            self._path.unlink(missing_ok=True)
            for old in series_paths(self._path):
                old.unlink()
        for number in range(self._count, 0, -1):
            _part(self._path, number).replace(_numbered(self._path, number))
        flush_folder(self._path.parent)

    def clear(self) -> None:
        """Remove what has no name yet."""
        if self._file is not None:
            self._file.close()
        for part in _series(self._path, before=".", after=".part"):
            part.unlink()

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
        >>> for name in ("a.10.geojson", "a.2.geojson", "a.geojson", "b.geojson"):
        ...     (folder / name).touch()
        >>> [path.name for path in series_paths(folder / "a.geojson")]
        ['a.geojson', 'a.2.geojson', 'a.10.geojson']
    """
    return _series(path)


def series_names(first: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that belong to the series whose first file is `first`, in order.

    Examples:
        >>> series_names("a.geojson", ["a.2.geojson", "b.geojson", "a.geojson"])
        ['a.geojson', 'a.2.geojson']
    """
    return _series_names(first, names)


def _series(path: Path, *, before: str = "", after: str = "") -> list[Path]:
    names = _series_names(
        path.name, (entry.name for entry in path.parent.iterdir()), before=before, after=after
    )
    return [path.with_name(name) for name in names]


def _series_names(
    first: str, names: Iterable[str], *, before: str = "", after: str = ""
) -> list[str]:
    """Whatever numbers are there: a killed process may have left some of them only."""
    stem, _, ending = first.partition(".")
    pattern = re.compile(
        rf"{re.escape(before + stem)}(?:\.(\d+))?\.{re.escape(ending + after)}", re.ASCII
    )
    found = [(pattern.fullmatch(name), name) for name in names]
    numbered = [(int(match[1] or 1), name) for match, name in found if match]
    return [name for _, name in sorted(numbered)]


def _numbered(path: Path, number: int) -> Path:
    stem, _, ending = path.name.partition(".")
    return path if number == 1 else path.with_name(f"{stem}.{number}.{ending}")


def _part(path: Path, number: int) -> Path:
    path = _numbered(path, number)
    return path.with_name(f".{path.name}.part")
