"""Coordinates of polygons as JSON text, many at a time: the hot loop of the GeoJSON export."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.workflows.export.rounding import STEPS_PER_PX
from slideloom.wsi.jit import jit

__all__ = ["polygons_to_json"]

_OPEN, _CLOSE, _COMMA, _MINUS, _DOT, _ZERO = (np.uint8(ord(sign)) for sign in "[],-.0")
# A number of at most 15 digits, its sign, point and hundredths, twice, and "[,],".
_BYTES_PER_POINT = 2 * 19 + 4


def polygons_to_json(geometry: NDArray[Any]) -> list[bytes]:
    """The GeoJSON geometry of each polygon, without spaces and without needless zeros.

    Args:
        geometry: `(n,)` shapely Polygon or MultiPolygon, none empty, with coordinates that are
            multiples of 0.01.

    Examples:
        >>> polygons_to_json(np.array([shapely.box(0, 0.5, 2, 1)]))
        [b'{"type":"Polygon","coordinates":[[[2,0.5],[2,1],[0,1],[0,0.5],[2,0.5]]]}']
    """
    if not len(geometry):
        return []
    kind, points, offsets = shapely.to_ragged_array(geometry)
    levels = [np.asarray(offset, np.int64) for offset in offsets]
    if kind == shapely.GeometryType.POLYGON:
        levels.append(np.arange(len(geometry) + 1, dtype=np.int64))
    rings, polygons, objects = levels
    steps = np.rint(points * STEPS_PER_PX).astype(np.int64)
    size = len(steps) * _BYTES_PER_POINT + 2 * (len(rings) + len(polygons) + len(objects))
    text = np.empty(size, np.uint8)
    ends = _write_objects(text, steps, rings, polygons, objects)
    raw = text[: ends[-1]].tobytes()
    parts = zip(ends[:-1].tolist(), ends[1:].tolist(), np.diff(objects).tolist(), strict=True)
    # One polygon's text lies within its MultiPolygon's: the outer brackets go.
    return [
        b'{"type":"Polygon","coordinates":%b}' % raw[start + 1 : stop - 1]
        if count == 1
        else b'{"type":"MultiPolygon","coordinates":%b}' % raw[start:stop]
        for start, stop, count in parts
    ]


@jit
def _write_number(text: NDArray[np.uint8], place: int, steps: int) -> int:
    """Write `steps` hundredths at `place`; return the place behind."""
    if steps < 0:
        text[place] = _MINUS
        place += 1
        steps = -steps
    whole, part = steps // 100, steps % 100
    digits = 1
    rest = whole // 10
    while rest > 0:
        digits += 1
        rest //= 10
    for i in range(digits):
        text[place + digits - 1 - i] = _ZERO + whole % 10
        whole //= 10
    place += digits
    if part > 0:
        text[place] = _DOT
        text[place + 1] = _ZERO + part // 10
        place += 2
        if part % 10 > 0:
            text[place] = _ZERO + part % 10
            place += 1
    return place


@jit
def _write_ring(text: NDArray[np.uint8], place: int, points: NDArray[np.int64]) -> int:
    """Write `[[x,y],...]`; return the place behind."""
    text[place] = _OPEN
    place += 1
    for i in range(len(points)):
        text[place] = _OPEN
        place = _write_number(text, place + 1, points[i, 0])
        text[place] = _COMMA
        place = _write_number(text, place + 1, points[i, 1])
        text[place] = _CLOSE
        text[place + 1] = _COMMA
        place += 2
    text[place - 1] = _CLOSE
    return place


@jit
def _write_objects(
    text: NDArray[np.uint8],
    points: NDArray[np.int64],
    rings: NDArray[np.int64],
    polygons: NDArray[np.int64],
    objects: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Write every object as a MultiPolygon's coordinates; return where each begins and ends."""
    ends = np.zeros(len(objects), np.int64)
    place = 0
    for item in range(len(objects) - 1):
        text[place] = _OPEN
        place += 1
        for polygon in range(objects[item], objects[item + 1]):
            text[place] = _OPEN
            place += 1
            for ring in range(polygons[polygon], polygons[polygon + 1]):
                place = _write_ring(text, place, points[rings[ring] : rings[ring + 1]])
                text[place] = _COMMA
                place += 1
            text[place - 1] = _CLOSE
            text[place] = _COMMA
            place += 1
        text[place - 1] = _CLOSE
        ends[item + 1] = place
    return ends
