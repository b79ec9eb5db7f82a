"""Columns of text hold what plain Python would write."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideloom.workflows.export.text import (
    TextColumn,
    chosen_text,
    join_rows,
    number_text,
    same_text,
    write_decimal,
)


def rows(column: TextColumn) -> list[str]:
    raw = column.data.tobytes()
    bounds = zip(column.starts.tolist(), column.stops.tolist(), strict=True)
    return [raw[start:stop].decode() for start, stop in bounds]


def slow_number(value: float) -> float | str:
    """As JSON reads it back; from 1e11 on there is nothing to round that a float64 could tell."""
    if abs(value) >= 1e11 and np.isfinite(value):
        return value
    if np.isfinite(value):
        return float(orjson.loads(orjson.dumps(float(np.round(value, 4)))))
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (7.0, "7"),
        (-12.5, "-12.5"),
        (0.0001, "0.0001"),
        (-0.00004, "0"),
        (0.00016, "0.0002"),
        (100.0, "100"),
        (0.1 + 0.2, "0.3"),
        (99999.99995, "100000"),
        (1e10, "10000000000"),
        (1.5e300, "1.5e+300"),
        (np.nan, '"NaN"'),
        (np.inf, '"Infinity"'),
        (-np.inf, '"-Infinity"'),
    ],
)
def test_numbers_are_short_and_rounded(value: float, expected: str) -> None:
    assert rows(number_text(np.array([value]))) == [expected]


@given(st.lists(st.floats(width=64), max_size=20))
def test_numbers_parse_to_what_numpy_rounds_to(values: list[float]) -> None:
    parsed = [json.loads(row) for row in rows(number_text(np.array(values, np.float64)))]
    assert parsed == [slow_number(value) for value in values]


@given(st.integers(-(10**17), 10**17), st.integers(0, 4))
def test_decimals_are_exact(steps: int, decimals: int) -> None:
    buffer = np.full(24, ord("#"), np.uint8)
    end = write_decimal(buffer, 1, steps, decimals)
    digits = f"{abs(steps):0{decimals + 1}d}"
    whole, part = digits[: len(digits) - decimals], digits[len(digits) - decimals :].rstrip("0")
    expected = f"{'-' if steps < 0 else ''}{whole}{'.' if part else ''}{part}"
    assert buffer[1:end].tobytes().decode() == expected
    assert (buffer[end:] == ord("#")).all()


def test_rows_are_joined_in_order() -> None:
    columns = [
        same_text(b"<", 3),
        chosen_text([b"a", b"", b"long"], np.array([2, 1, 0])),
        number_text(np.array([1.5, np.nan, -2])),
        same_text(b">", 3),
    ]
    assert join_rows(columns).tobytes() == b'<long1.5><"NaN"><a-2>'


def test_no_rows_join_to_nothing() -> None:
    assert join_rows([same_text(b"x", 0), number_text(np.zeros(0))]).tobytes() == b""
