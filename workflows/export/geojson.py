"""Objects as GeoJSON that QuPath reads: one feature per line, strict JSON, valid polygons."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import geopandas as gpd
import numpy as np
import orjson
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.ring_text import polygons_to_json
from slideloom.workflows.export.rounding import round_polygons
from slideloom.wsi.geometry import Point

__all__ = ["ObjectType", "write_geojson"]

ObjectType = Literal["detection", "annotation"]

# As a person reads them in QuPath's table of measurements.
_MEASUREMENTS = {
    "area_um2": "Area um^2",
    "perimeter_um": "Perimeter um",
    "score": "Score",
}
_DECIMALS = 4
# Bounds the memory for text, which is several times that of the coordinates.
_OBJECTS_PER_BATCH = 20_000
_NOT_FINITE = {"nan": b'"NaN"', "inf": b'"Infinity"', "-inf": b'"-Infinity"'}


def write_geojson(
    path: Path,
    objects: gpd.GeoDataFrame,
    *,
    classes: Sequence[ModelClass],
    object_type: ObjectType,
    offset: Point,
) -> int:
    """Write objects for QuPath, atomically; a name that ends in `.gz` is compressed.

    Coordinates are rounded to 0.01 px and polygons are made valid after that, as one
    invalid polygon makes QuPath refuse the file. Measurements that are not finite become the
    strings "NaN", "Infinity" and "-Infinity".

    Args:
        path: `.geojson` or `.geojson.gz`.
        objects: Table of objects, geometry in level-0 pixels; none give an empty collection.
        classes: Name and colour of every class that the objects may have.
        object_type: `detection` for objects, `annotation` for the areas of a semantic result.
        offset: Where the image as QuPath opens it begins, in level-0 pixels (the slide's bounds).

    Returns:
        The number of features written: objects without an area after rounding are left out.

    Raises:
        SettingsError: An object has a class that `classes` does not hold.
        OutputError: The file cannot be written.
    """
    labels = _classifications(objects, classes)
    kind = orjson.dumps(object_type)
    # The areas of a mask have no score: a column without a single value is left out.
    measured = [column for column in _MEASUREMENTS if objects[column].notna().any()]
    count = 0
    with atomic_file(path) as raw, _compressed(raw, path) as file:
        file.write(b'{"type":"FeatureCollection","features":[')
        for start in range(0, len(objects), _OBJECTS_PER_BATCH):
            batch = objects.iloc[start : start + _OBJECTS_PER_BATCH]
            lines = list(
                _features(batch, labels=labels, kind=kind, offset=offset, measured=measured)
            )
            if lines:
                file.write(b",\n" if count else b"\n")
                file.write(b",\n".join(lines))
            count += len(lines)
        file.write(b"\n]}\n")
    return count


def _compressed(file: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    """Compress where the name asks for it; the same objects give the same bytes."""
    if path.suffix != ".gz":
        return nullcontext(file)
    # No name and no time in the header.
    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return cast("AbstractContextManager[BinaryIO]", packed)


def _classifications(objects: gpd.GeoDataFrame, classes: Sequence[ModelClass]) -> dict[str, bytes]:
    unknown = sorted(set(objects["class"].unique()) - {item.name for item in classes})
    if unknown:
        msg = (
            f"objects of class {unknown} have no colour among the classes "
            f"{[item.name for item in classes]}: give every class that the table holds"
        )
        raise SettingsError(msg)
    return {item.name: orjson.dumps({"name": item.name, "color": item.color}) for item in classes}


def _features(
    objects: gpd.GeoDataFrame,
    *,
    labels: dict[str, bytes],
    kind: bytes,
    offset: Point,
    measured: Sequence[str],
) -> Iterator[bytes]:
    rounded = round_polygons(objects.geometry.to_numpy(), offset)
    table = objects[rounded.kept]
    measurements = [_numbers(table[column].to_numpy()) for column in measured]
    names = [orjson.dumps(_MEASUREMENTS[column]) for column in measured]
    shapes = polygons_to_json(rounded.geometry)
    rows = zip(table["id"], shapes, table["class"], zip(*measurements, strict=True), strict=True)
    for identity, shape, name, values in rows:
        pairs = b",".join(
            b"%b:%b" % (measured, value) for measured, value in zip(names, values, strict=True)
        )
        yield (
            b'{"type":"Feature","id":%b,"geometry":%b,"properties":'
            b'{"objectType":%b,"classification":%b,"measurements":{%b}}}'
            % (orjson.dumps(identity), shape, kind, labels[name], pairs)
        )


def _numbers(values: NDArray[Any]) -> list[bytes]:
    """Each number as JSON text; one that is not finite as the string that QuPath knows."""
    if not len(values):
        return []
    numbers = np.round(values.astype(np.float64), _DECIMALS)
    texts = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    for place in np.flatnonzero(~np.isfinite(numbers)):
        texts[place] = _NOT_FINITE[str(float(numbers[place]))]
    return texts
