"""Lists of slides as CSV files, one slide a row, as spreadsheets and other tools write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

from slideloom.errors import SettingsError
from slideloom.wsi.source import Source, parse_source

__all__ = ["ListedSlide", "list_error", "read_slide_list"]

_COLUMNS = {
    "path": ("path", "wsi"),
    "id": ("id",),
    "mpp": ("mpp", "slide_mpp"),
    "roi": ("roi",),
    "case": ("case",),
}
"""What a column may be called. TRIDENT's lists have `wsi` and `mpp`, CellViT's `path` and
`slide_mpp`. A column `slide` or `slide_id` holds a name, not a path, in the tables of others."""
_DELIMITERS = (",", ";", "\t")
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSlide:
    """One row of a list.

    Attributes:
        line: Of the file, from 1, at which the row starts.
        source: The slide; it need not exist.
        id: As stated; empty without.
        mpp: Micrometres per level-0 pixel; None where the row states none.
        roi: File of regions of interest; None where the row states none.
        case: As stated; empty without.
    """

    line: int
    source: Source
    id: str
    mpp: float | None
    roi: Path | None
    case: str


def read_slide_list(path: Path) -> list[ListedSlide]:
    """The rows of a list of slides.

    The first line names the columns, in any order and in small or capital letters: `path` is
    needed, `id`, `mpp`, `roi` and `case` may be there, and others are ignored. Commas, semicolons
    or tabs stand between the fields; with the last two a number may have a decimal comma, as
    spreadsheets write it in many countries. Relative paths start at the list's folder. Lines
    without any text are skipped.

    Raises:
        SettingsError: The file cannot be read as such a list; all faults are named, with their
            lines.
    """
    rows = list(_rows(path))
    if not rows:
        msg = f"slide list '{path}' is empty: its first line names the columns, at least 'path'"
        raise SettingsError(msg)
    (_, header, delimiter), body = rows[0], rows[1:]
    places = _places(header)
    if "path" not in places:
        named = ", ".join(repr(name.strip()) for name in header)
        msg = (
            f"slide list '{path}' has no column 'path': its first line names {named}; "
            "call the column with the slides' files 'path'"
        )
        raise SettingsError(msg)
    if not body:
        msg = f"slide list '{path}' names no slide: add a line for each"
        raise SettingsError(msg)
    listed, faults = [], []
    for line, cells, _ in body:
        if len(cells) > len(header):
            faults.append(
                f"line {line}: {len(cells)} fields, and the first line names {len(header)} (put "
                "text that holds a delimiter into quotes)"
            )
            continue
        fields = {name: cells[at].strip() for name, at in places.items() if at < len(cells)}
        try:
            listed.append(_listed(fields, line, folder=path.parent, delimiter=delimiter))
        except ValueError as fault:
            faults.append(f"line {line}: {fault}")
    if faults:
        raise list_error(path, faults)
    return listed


def list_error(path: Path, faults: Sequence[str]) -> SettingsError:
    """What is wrong with the lines of a list, in one error."""
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return SettingsError(
        f"slide list '{path}' has {len(faults)} fault{'s' if len(faults) > 1 else ''}: "
        f"{'; '.join(faults[:_SHOWN])}{more}; correct the list"
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str], str]]:
    """The line at which it starts, the cells and the delimiter of each row that has text."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        msg = f"slide list '{path}' cannot be read ({error.strerror}): check the path"
        raise SettingsError(msg) from error
    except UnicodeDecodeError as error:
        msg = (
            f"slide list '{path}' is not UTF-8: save it as 'CSV UTF-8', which spreadsheets "
            "offer beside plain CSV"
        )
        raise SettingsError(msg) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells, delimiter
            line = reader.line_num + 1
    except csv.Error as error:
        msg = f"slide list '{path}' is no CSV from line {line} on ({error}): check its quotes"
        raise SettingsError(msg) from error


def _places(header: Sequence[str]) -> dict[str, int]:
    """At which cell each column stands that is there."""
    named = [name.strip().casefold() for name in header]
    places = {}
    for column, names in _COLUMNS.items():
        known = [named.index(name) for name in names if name in named]
        if known:
            places[column] = known[0]
    return places


def _listed(fields: dict[str, str], line: int, *, folder: Path, delimiter: str) -> ListedSlide:
    """One row; a `ValueError` says all that is wrong with it."""
    faults = []
    stated, mpp_text = fields.get("path", ""), fields.get("mpp", "")
    if not stated:
        faults.append("no path")
    mpp = None
    if mpp_text:
        mpp = _number(mpp_text if delimiter == "," else mpp_text.replace(",", "."))
        if mpp is None:
            faults.append(f"mpp {mpp_text!r} is not a number above 0")
    if faults:
        raise ValueError(" and ".join(faults))
    source = parse_source(stated)
    return ListedSlide(
        line=line,
        source=folder / source if isinstance(source, Path) else source,
        id=fields.get("id", ""),
        mpp=mpp,
        roi=folder / fields["roi"] if fields.get("roi") else None,
        case=fields.get("case", ""),
    )


def _number(text: str) -> float | None:
    """A number above 0; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < inf else None
