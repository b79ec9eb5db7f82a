"""Columns of text, built and joined for many rows at a time: hot loops of the GeoJSON export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slideloom.wsi.jit import jit

__all__ = ["TextColumn", "chosen_text", "join_rows", "number_text", "same_text", "write_decimal"]

_MINUS, _DOT, _ZERO = (np.uint8(ord(sign)) for sign in "-.0")
_TEN = np.uint64(10)
_DECIMALS = 4
# Up to here a number of steps is exact in a float64, and so is its decimal text.
_MOST_STEPS = 1e15
# Sign, 15 digits, point.
_BYTES_PER_NUMBER = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class TextColumn:
    """One text for each row.

    Attributes:
        data: The bytes of all texts, in any order.
        starts: `(n,)` int64, where the text of each row begins in `data`.
        stops: `(n,)` int64, the place behind it.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def same_text(text: bytes, count: int) -> TextColumn:
    """The same text in each of `count` rows."""
    return chosen_text([text], np.zeros(count, np.int64))


def chosen_text(options: Sequence[bytes], index: NDArray[np.integer]) -> TextColumn:
    """Text `options[index[i]]` in row `i`."""
    stops = np.cumsum([len(option) for option in options], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]])
    data = np.frombuffer(b"".join(options), np.uint8)
    return TextColumn(data=data, starts=starts[index], stops=stops[index])


def number_text(values: NDArray[np.float64]) -> TextColumn:
    """Each number as JSON with at most four decimals, rounded as `numpy.round` does.

    QuPath knows numbers that are not finite as the strings "NaN", "Infinity" and "-Infinity".

    Args:
        values: `(n,)`.
    """
    with np.errstate(over="ignore"):
        steps = np.rint(values * 10**_DECIMALS)
    plain = np.abs(steps) < _MOST_STEPS
    data, places = _write_numbers(np.where(plain, steps, 0).astype(np.int64))
    starts, stops = places[:-1].copy(), places[1:].copy()
    if not plain.all():
        found, index = np.unique(values[~plain], return_inverse=True)
        rare = chosen_text([_rare_number(value) for value in found.tolist()], index)
        starts[~plain], stops[~plain] = rare.starts + len(data), rare.stops + len(data)
        data = np.concatenate([data, rare.data])
    return TextColumn(data=data, starts=starts, stops=stops)


def join_rows(columns: Sequence[TextColumn]) -> NDArray[np.uint8]:
    """The texts of all columns, row after row, without anything between them."""
    lengths = np.sum([column.stops - column.starts for column in columns], axis=0)
    ends = np.cumsum(lengths)
    places = ends - lengths
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    for column in columns:
        _copy(column.data, column.starts, column.stops, out, places)
    return out


def _rare_number(value: float) -> bytes:
    if np.isfinite(value):
        return orjson.dumps(value)
    return b'"NaN"' if np.isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"'


@jit
def write_decimal(text: NDArray[np.uint8], place: int, steps: int, decimals: int) -> int:
    """Write `steps / 10**decimals` without needless zeros; return the place behind."""
    if steps < 0:
        text[place] = _MINUS
        place += 1
        steps = -steps
    rest = np.uint64(steps)
    while decimals > 0 and rest % _TEN == 0:
        rest //= _TEN
        decimals -= 1
    digits = 1
    above = rest // _TEN
    while above > 0:
        digits += 1
        above //= _TEN
    digits = max(digits, decimals + 1)
    end = place + digits + (1 if decimals > 0 else 0)
    last = end
    for i in range(digits):
        last -= 1
        if i == decimals and i > 0:
            text[last] = _DOT
            last -= 1
        text[last] = _ZERO + np.uint8(rest % _TEN)
        rest //= _TEN
    return end


@jit
def _write_numbers(steps: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    text = np.empty(len(steps) * _BYTES_PER_NUMBER, np.uint8)
    places = np.zeros(len(steps) + 1, np.int64)
    for i in range(len(steps)):
        places[i + 1] = write_decimal(text, places[i], steps[i], _DECIMALS)
    return text, places


@jit
def _copy(
    data: NDArray[Any],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    out: NDArray[np.uint8],
    places: NDArray[np.int64],
) -> None:
    """Copy the text of each row to its place, and move the place behind it."""
    for row in range(len(starts)):
        place = places[row]
        for i in range(starts[row], stops[row]):
            out[place] = data[i]
            place += 1
        places[row] = place
