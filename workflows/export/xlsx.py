"""A result as an Excel workbook: its counts, its objects and what they come from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import xlsxwriter
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype
from xlsxwriter.exceptions import FileCreateError
from xlsxwriter.format import Format

from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.stored import stored_parts
from slideloom.workflows.result import OBJECTS_FILE, SlideResult

__all__ = ["write_xlsx"]

# Excel opens no sheet with more rows, its header among them.
_ROWS_PER_SHEET = 2**20
# The workbook states a date; one that says nothing lets the same result give the same bytes.
_CREATED = datetime(2000, 1, 1, tzinfo=UTC)
_OPTIONS = {
    "constant_memory": True,
    "strings_to_numbers": False,
    "strings_to_formulas": False,
    "strings_to_urls": False,
}
_WHOLE_NUMBER, _NUMBER = "0", "0.000"
_NUMBER_FORMATS = {
    "_um2": "0.00",
    "_um": "0.00",
    "_deg": "0.0",
    "_percent": "0.00",
    "_percent_of_roi": "0.00",
    "_percent_of_tissue": "0.00",
    "_per_mm2": "0.0",
    "centroid_x_px": "0.0",
    "centroid_y_px": "0.0",
}
# A header needs room for the button of the filter.
_FILTER_BUTTON = 4
_LEAST_WIDTH, _MOST_WIDTH = 9, 60
_UNITS = (
    ("columns that end in _um", "micrometres"),
    ("columns that end in _um2", "square micrometres"),
    ("columns that end in _deg", "degrees"),
    ("columns with _percent", "percent"),
    ("columns that end in _per_mm2", "objects per square millimetre"),
    ("columns with _od", "optical density"),
    ("centroid_x_px, centroid_y_px", "level-0 pixels from the slide's top left"),
    ("an empty cell", "not measured, or not defined for this row"),
)


def write_xlsx(result: SlideResult, path: Path) -> None:
    """Write a workbook for Excel, LibreOffice and the like, atomically.

    Sheet `counts` is the counts table; `objects` holds every column of the objects table but the
    shapes, and goes on as `objects 2` where Excel's 1,048,576 rows are full; `about` tells slide,
    model, settings, quality figures (named as in `result.json`) and units. Texts stay texts,
    whatever they look like; numbers have 16 digits, however many the cells show; what is missing or
    not finite is an empty cell. The same result gives the same bytes. Objects pass through in
    parts, and the sheets wait on the disk, in a folder beside the file.

    Follows Office Open XML (ECMA-376), as xlsxwriter writes it.

    Args:
        result: A finished slide.
        path: `.xlsx`.

    Raises:
        OutputError: The file cannot be written, or the objects table cannot be read.
    """
    with atomic_file(path) as file, _workbook(file, scratch=_scratch(path)) as book:
        counts = _Table(book, "counts")
        counts.write(result.counts)
        counts.finish()
        objects = _Table(book, "objects")
        for part in stored_parts(result):
            objects.write(pd.DataFrame(part.drop(columns=part.geometry.name)))
        objects.finish()
        _write_about(book, result)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.sheets")


@contextmanager
def _workbook(file: BinaryIO, *, scratch: Path) -> Iterator[xlsxwriter.Workbook]:
    """An empty workbook that is written when the block ends without an error.

    What a killed process left in the folder for the sheets is removed.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    book = xlsxwriter.Workbook(file, {**_OPTIONS, "tmpdir": str(scratch)})
    try:
        book.set_properties({"created": _CREATED})
        # A sheet of more than 2 GB cannot be stored otherwise; smaller ones are stored as ever.
        book.use_zip64()
        yield book
        book.close()
    except FileCreateError as error:
        # What the system refused, which the caller knows how to tell.
        raise OSError(str(error)) from error
    finally:
        # An unfinished book would write itself when it is collected.
        book.fileclosed = True
        for sheet in book.worksheets():
            sheet._opt_close()
        shutil.rmtree(scratch, ignore_errors=True)


class _Table:
    """A table under a header that stays in sight, on as many sheets as it needs.

    Args:
        book: Open for writing.
        name: Of the first sheet; the others have a number behind it.
    """

    def __init__(self, book: xlsxwriter.Workbook, name: str) -> None:
        self._book = book
        self._header = book.add_format({"bold": True})
        self._formats: dict[str, Format] = {}
        self._names = (name if number == 1 else f"{name} {number}" for number in count(1))
        self._sheet: Any = None
        self._row = 0
        self._columns = 0

    def write(self, frame: pd.DataFrame) -> None:
        """Append rows; every part has the same columns, and one without rows still tells them."""
        if self._sheet is None:
            self._open(frame)
        start = 0
        while start < len(frame):
            if self._row == _ROWS_PER_SHEET:
                self.finish()
                self._open(frame)
            stop = start + _ROWS_PER_SHEET - self._row
            self._append(frame.iloc[start:stop])
            start = stop

    def finish(self) -> None:
        """Let the sheet be filtered, now that its last row is known."""
        self._sheet.autofilter(0, 0, self._row - 1, self._columns - 1)

    def _open(self, frame: pd.DataFrame) -> None:
        self._sheet = sheet = self._book.add_worksheet(next(self._names))
        sheet.freeze_panes(1, 0)
        for place, (name, column) in enumerate(frame.items()):
            sheet.set_column(place, place, _width(str(name), column), self._format(column))
            sheet.write_string(0, place, str(name), self._header)
        self._row, self._columns = 1, frame.shape[1]

    def _format(self, column: pd.Series[Any]) -> Format | None:
        """How the cells of a column show their numbers; None for texts and flags."""
        if is_bool_dtype(column.dtype) or not is_numeric_dtype(column.dtype):
            return None
        usual = _WHOLE_NUMBER if is_integer_dtype(column.dtype) else _NUMBER
        name = str(column.name)
        stated = (shown for end, shown in _NUMBER_FORMATS.items() if name.endswith(end))
        shown = next(stated, usual)
        if shown not in self._formats:
            self._formats[shown] = self._book.add_format({"num_format": shown})
        return self._formats[shown]

    def _append(self, frame: pd.DataFrame) -> None:
        sheet = self._sheet
        columns = []
        for place, (_, column) in enumerate(frame.items()):
            kind = column.dtype
            if is_bool_dtype(kind):
                write = sheet.write_boolean
            else:
                write = sheet.write_number if is_numeric_dtype(kind) else sheet.write_string
            columns.append((place, write, _cells(column)))
        # The sheet takes rows from top to bottom only.
        for number in range(len(frame)):
            for place, write, cells in columns:
                if cells[number] is not None:
                    write(self._row, place, cells[number])
            self._row += 1


def _cells(column: pd.Series[Any]) -> list[Any]:
    """Values as Python has them; None where there is none, or none that is finite."""
    known = column.notna().to_numpy()
    if is_numeric_dtype(column.dtype):
        known = known & np.isfinite(column.to_numpy(np.float64, na_value=np.nan))
        return column.astype(object).where(known, None).tolist()
    return [_text(value) if good else None for value, good in zip(column, known, strict=True)]


def _text(value: object) -> str:
    """A value as text; what would be taken for marks of the file itself gets a space ahead."""
    text = str(value)
    return f" {text}" if text.startswith("<r>") else text


def _width(name: str, column: pd.Series[Any]) -> int:
    """Characters that a column needs, by its header and its first texts."""
    texts = column.head(0 if is_numeric_dtype(column.dtype) else 1000).dropna()
    longest = max((len(str(text)) for text in texts), default=0)
    return min(_MOST_WIDTH, max(_LEAST_WIDTH, len(name) + _FILTER_BUTTON, longest + 1))


def _write_about(book: xlsxwriter.Workbook, result: SlideResult) -> None:
    sheet = book.add_worksheet("about")
    sheet.freeze_panes(1, 0)
    sheet.set_column(0, 0, 32)
    sheet.set_column(1, 1, _MOST_WIDTH)
    for place, name in enumerate(("field", "value")):
        sheet.write_string(0, place, name, book.add_format({"bold": True}))
    for row, (name, value) in enumerate(_about(result), start=1):
        sheet.write_string(row, 0, name)
        if isinstance(value, str):
            sheet.write_string(row, 1, _text(value))
        elif value is not None:
            sheet.write(row, 1, value)


def _about(result: SlideResult) -> Iterator[tuple[str, str | float | bool | None]]:
    """Name and value of each line of the sheet `about`."""
    record = result.record
    written = (result.folder / OBJECTS_FILE).stat().st_mtime
    for name in ("name", "path", "width", "height", "mpp"):
        yield f"slide.{name}", getattr(record.slide, name)
    for name in ("name", "task", "mpp", "licence"):
        yield f"model.{name}", getattr(record.model, name)
    for name, value in record.qa.model_dump().items():
        yield f"qa.{name}", value
    for name, value in record.settings.model_dump(mode="json").items():
        listed = isinstance(value, list)
        yield f"settings.{name}", ", ".join(map(str, value)) if listed else value
    for name, number in record.versions.items():
        yield f"versions.{name}", number
    yield "objects written (UTC)", f"{datetime.fromtimestamp(written, UTC):%Y-%m-%d %H:%M:%S}"
    yield from _UNITS
