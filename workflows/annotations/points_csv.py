"""Tables of points: `x, y` and perhaps a class, with or without a header."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from slideloom.workflows.annotations.content import Content, DamagedFileError
from slideloom.workflows.annotations.faults import BadObjectError, FaultLog
from slideloom.workflows.annotations.raw import RawObject, Request, collect
from slideloom.workflows.annotations.shapes import point

_SUFFIXES = (".csv", ".tsv", ".txt")
_PIXELS = (("x", "y"), ("centroid x px", "centroid y px"))
_MICRONS = (("centroid x µm", "centroid y µm"), ("centroid x um", "centroid y um"))
_CLASSES = ("class", "type", "label", "classification")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which columns hold what; `header` is whether the first row names them."""

    x: int
    y: int
    name: int | None
    header: bool
    microns: bool = False


def matches(content: Content) -> bool:
    """Whether a file is such a table; a table without rows is one by its ending only."""
    if content.text is None:
        return False
    if not content.text:
        return content.path.suffix.lower() in _SUFFIXES
    return _columns(_rows(content.text)[0]) is not None


def read(content: Content, request: Request, *, log: FaultLog) -> list[RawObject]:
    """The points in the file's order, in level-0 pixels as they are written.

    Without a header the columns are x, y and the class. With one they are `x` and `y`, or the
    centroids of QuPath's measurement tables, in pixels or in micrometres; the class is `class`,
    `type`, `label` or `classification`. Commas, semicolons and tabs divide columns.
    """
    rows = _rows(content.text or "")
    columns = _columns(rows[0]) if rows else None
    if columns is None:
        return []
    scale = 1.0
    if columns.microns:
        if request.mpp is None:
            msg = "places in micrometres, and the image's mpp is not known: nothing is read of it"
            raise DamagedFileError(msg)
        scale = 1 / request.mpp

    def one(label: str, row: Sequence[str]) -> list[RawObject]:
        if max(columns.x, columns.y) >= len(row):
            msg = f"{len(row)} columns are too few: left out"
            raise BadObjectError(msg)
        place = (float(row[columns.x]) * scale, float(row[columns.y]) * scale)
        has_name = columns.name is not None and columns.name < len(row)
        name = row[columns.name].strip() if columns.name is not None and has_name else ""
        return [RawObject(label=label, geometry=point(place), names=(name,) if name else ())]

    labelled = ((f"row {number}", row) for number, row in enumerate(rows, start=1) if any(row))
    if columns.header:
        next(labelled)
    return collect(labelled, one, log=log)


def _rows(text: str) -> list[list[str]]:
    lines = text.splitlines()
    delimiter = max("\t;,", key=lines[0].count) if lines else ","
    return list(csv.reader(lines, delimiter=delimiter))


def _columns(first: Sequence[str]) -> _Columns | None:
    """What the first row says of the columns; None where it is no table of points."""
    if len(first) < 2:
        return None
    if _is_number(first[0]) and _is_number(first[1]):
        return _Columns(x=0, y=1, name=2 if len(first) > 2 else None, header=False)
    titles = [title.strip().lower() for title in first]
    name = next((titles.index(title) for title in _CLASSES if title in titles), None)
    for microns, pairs in ((False, _PIXELS), (True, _MICRONS)):
        for x, y in pairs:
            if x in titles and y in titles:
                places = {"x": titles.index(x), "y": titles.index(y)}
                return _Columns(**places, name=name, header=True, microns=microns)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
