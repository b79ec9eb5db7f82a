"""Coordinates as GeoJSON text, many shapes at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slideloom.workflows.export.rounding import DECIMALS, RoundedShapes
from slideloom.workflows.export.text import TextColumn, chosen_text, write_decimal
from slideloom.wsi.jit import jit

__all__ = ["geometry_text"]

_OPEN, _CLOSE, _COMMA = (np.uint8(ord(sign)) for sign in "[],")
# A sign, 17 digits and a point, twice, and "[,],".
_BYTES_PER_POINT = 2 * 19 + 4
_HEADS = tuple(
    b'{"type":"%b","coordinates":' % kind for kind in (b"MultiPolygon", b"Polygon", b"Point")
)
# Every shape is written as a MultiPolygon; a simpler one lies inside that many brackets less.
_BRACKETS = np.array([0, 1, 3])


def geometry_text(shapes: RoundedShapes) -> list[TextColumn]:
    """The GeoJSON geometry of each shape, without spaces and needless zeros, but for its last `}`.

    Returns:
        Columns that are to be joined in this order.
    """
    tree = shapes.tree
    size = len(shapes.steps) * _BYTES_PER_POINT
    size += 2 * (len(tree.rings) + len(tree.polygons) + len(tree.objects))
    text = np.empty(size, np.uint8)
    places = _write_objects(text, shapes.steps, tree.rings, tree.polygons, tree.objects)
    alone = np.diff(tree.objects) == 1
    point = alone & (np.diff(tree.rings)[tree.polygons[tree.objects[:-1]]] == 1)
    kind = alone.astype(np.int64) + point
    inside = _BRACKETS[kind]
    coordinates = TextColumn(data=text, starts=places[:-1] + inside, stops=places[1:] - inside)
    return [chosen_text(_HEADS, kind), coordinates]


@jit
def _write_ring(text: NDArray[np.uint8], place: int, points: NDArray[np.int64]) -> int:
    """Write `[[x,y],...]`; return the place behind."""
    text[place] = _OPEN
    place += 1
    for i in range(len(points)):
        text[place] = _OPEN
        place = write_decimal(text, place + 1, points[i, 0], DECIMALS)
        text[place] = _COMMA
        place = write_decimal(text, place + 1, points[i, 1], DECIMALS)
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
    places = np.zeros(len(objects), np.int64)
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
        places[item + 1] = place
    return places
