"""Shapes as well-known binary in an Arrow array, without a Python object for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from slideloom.workflows.export.rings import ring_tree
from slideloom.wsi.jit import jit

__all__ = ["wkb_array"]

# Kinds as WKB numbers them; of the three GEOS numbers only points otherwise.
_WKB_POINT, _POLYGON, _MULTIPOLYGON = 1, 3, 6
_GEOS_POINT = int(shapely.GeometryType.POINT)
# Byte order and kind, then the number of rings or parts.
_HEAD, _COUNT, _BYTES_PER_POINT = 5, 4, 16
_MOST_BYTES = 2**31 - 1


def wkb_array(geometry: NDArray[Any]) -> pa.Array:
    """Well-known binary of each shape, little-endian, as `shapely.to_wkb` writes it.

    Follows OGC 06-103r4 (Simple Feature Access 1.2.1), section 8.2.

    Args:
        geometry: `(n,)` shapely geometries; None is null.

    Returns:
        `(n,)` of Arrow's type `binary`.
    """
    kinds = shapely.get_type_id(geometry)
    usual = np.isin(kinds, [_GEOS_POINT, _POLYGON, _MULTIPOLYGON])
    if not usual.all() or (shapely.is_empty(geometry) | shapely.has_z(geometry)).any():
        return pa.array(shapely.to_wkb(geometry), pa.binary())
    tree = ring_tree(geometry)
    kinds = np.where(kinds == _GEOS_POINT, _WKB_POINT, kinds)
    # Of every array that the tree holds, one less is bytes enough for its counts and heads.
    size = _BYTES_PER_POINT * len(tree.points) + _COUNT * len(tree.rings)
    size += (_HEAD + _COUNT) * (len(tree.polygons) + len(tree.objects))
    if size > _MOST_BYTES:
        return pa.array(shapely.to_wkb(geometry), pa.binary())
    data = np.empty(size, np.uint8)
    points = np.ascontiguousarray(tree.points, "<f8").view(np.uint8).ravel()
    places = _write(data, points, kinds, tree.rings, tree.polygons, tree.objects)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(data[: places[-1]])]
    return pa.Array.from_buffers(pa.binary(), len(geometry), buffers)


@jit
def _write_number(data: NDArray[np.uint8], place: int, number: int) -> int:
    """Write 32 bits, the lowest byte first; return the place behind."""
    for i in range(4):
        data[place + i] = (number >> (8 * i)) & 255
    return place + 4


@jit
def _write_head(data: NDArray[np.uint8], place: int, kind: int) -> int:
    """Write the byte order (1: little-endian) and the kind; return the place behind."""
    data[place] = 1
    return _write_number(data, place + 1, kind)


@jit
def _write_points(
    data: NDArray[np.uint8], place: int, points: NDArray[np.uint8], first: int, last: int
) -> int:
    """Copy points `first` to `last`; return the place behind."""
    size = _BYTES_PER_POINT * (last - first)
    data[place : place + size] = points[_BYTES_PER_POINT * first : _BYTES_PER_POINT * last]
    return place + size


@jit
def _write(
    data: NDArray[np.uint8],
    points: NDArray[np.uint8],
    kinds: NDArray[np.int32],
    rings: NDArray[np.int64],
    polygons: NDArray[np.int64],
    objects: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Write every object; return where each begins in `data`, and the end."""
    places = np.zeros(len(objects), np.int32)
    place = 0
    for item in range(len(kinds)):
        if kinds[item] == _WKB_POINT:
            place = _write_head(data, place, _WKB_POINT)
            first = rings[polygons[objects[item]]]
            place = _write_points(data, place, points, first, first + 1)
        else:
            if kinds[item] == _MULTIPOLYGON:
                place = _write_head(data, place, _MULTIPOLYGON)
                place = _write_number(data, place, objects[item + 1] - objects[item])
            for polygon in range(objects[item], objects[item + 1]):
                place = _write_head(data, place, _POLYGON)
                place = _write_number(data, place, polygons[polygon + 1] - polygons[polygon])
                for ring in range(polygons[polygon], polygons[polygon + 1]):
                    place = _write_number(data, place, rings[ring + 1] - rings[ring])
                    place = _write_points(data, place, points, rings[ring], rings[ring + 1])
        places[item + 1] = place
    return places
