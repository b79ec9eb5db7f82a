"""Objects as GeoJSON that QuPath reads: one feature per line, strict JSON, valid polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import pandas as pd
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.compression import gzip_members
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.measurements import measured_columns, measurement_name
from slideloom.workflows.export.ring_text import geometry_text
from slideloom.workflows.export.rounding import round_shapes
from slideloom.workflows.export.text import (
    TextColumn,
    chosen_text,
    join_rows,
    number_text,
    same_text,
)

__all__ = ["GeojsonWriter", "open_geojson"]

# Text takes several times the memory of the coordinates, so it is made for a batch at a time. An
# object's other text is as long as that of some points.
_POINTS_PER_BATCH = 1_500_000
_POINTS_PER_OBJECT = 25
_UUID_LENGTH = 36


@contextmanager
def open_geojson(path: Path, context: ExportContext) -> Iterator[GeojsonWriter]:
    """A file of objects for QuPath that appears when the block ends without an error.

    A name that ends in `.gz` is compressed. Without a single object the collection is empty.

    Args:
        path: `.geojson` or `.geojson.gz`.
        context: What holds for all objects.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as file:
        if path.suffix == ".gz":
            with gzip_members(file) as write, _collection(write, context) as writer:
                yield writer
        else:
            with _collection(file.write, context) as writer:
                yield writer


@contextmanager
def _collection(
    write: Callable[[bytes], object], context: ExportContext
) -> Iterator[GeojsonWriter]:
    write(b'{"type":"FeatureCollection","features":[')
    yield GeojsonWriter(write, context)
    write(b"\n]}\n")


class GeojsonWriter:
    """Writes objects as features.

    Coordinates are rounded to 0.01 px and polygons are made valid after that, as one invalid
    polygon makes QuPath refuse the file; polygons without an area after that are left out. Points
    stay points. Every column of numbers or flags is a measurement; those that are not finite
    become the strings "NaN", "Infinity" and "-Infinity".

    Args:
        write: Appends to the file.
        context: What holds for all objects.
    """

    def __init__(self, write: Callable[[bytes], object], context: ExportContext) -> None:
        self._write = write
        self._context = context
        self._numbers = {item.name: number for number, item in enumerate(context.classes)}
        self._classes = [
            orjson.dumps({"name": item.name, "color": item.color}) for item in context.classes
        ]
        self._count = 0

    def write(self, objects: gpd.GeoDataFrame) -> None:
        """Append a part of the objects table; see `TableWriter`.

        Raises:
            SettingsError: An object has a class without a colour, or its id is no UUID.
        """
        measured = measured_columns(objects)
        for batch in _batches(objects):
            self._write_batch(batch, measured)

    def _write_batch(self, objects: gpd.GeoDataFrame, measured: list[str]) -> None:
        classes = self._class_numbers(objects["class"])
        geometry = objects.geometry.to_numpy()
        shapes = round_shapes(geometry, self._context.offset, traced=self._context.traced)
        kept = objects[shapes.kept]
        if kept.empty:
            return
        count = len(kept)
        kind = orjson.dumps(self._context.object_type)
        columns = [
            same_text(b',\n{"type":"Feature","id":"', count),
            _id_text(kept["id"]),
            same_text(b'","geometry":', count),
            *geometry_text(shapes),
            same_text(b'},"properties":{"objectType":%b,"classification":' % kind, count),
            chosen_text(self._classes, classes[shapes.kept]),
            same_text(b',"measurements":{', count),
            *_measurement_text(kept, measured),
            same_text(b"}}}", count),
        ]
        text = join_rows(columns)
        # No comma before the first feature.
        self._write(text[0 if self._count else 1 :].tobytes())
        self._count += count

    def _class_numbers(self, names: pd.Series[str]) -> NDArray[np.int64]:
        codes, found = pd.factorize(names)
        unknown = sorted(set(found) - set(self._numbers))
        if unknown:
            msg = (
                f"objects of class {unknown} have no colour among the classes "
                f"{list(self._numbers)}: give every class that the table holds"
            )
            raise SettingsError(msg)
        return np.array([self._numbers[name] for name in found], np.int64)[codes]


def _batches(objects: gpd.GeoDataFrame) -> Iterator[gpd.GeoDataFrame]:
    points = shapely.get_num_coordinates(objects.geometry.to_numpy()) + _POINTS_PER_OBJECT
    number = np.cumsum(points) // _POINTS_PER_BATCH
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    for start, stop in pairwise(edges.tolist()):
        yield objects.iloc[start:stop]


def _id_text(ids: pd.Series[str]) -> TextColumn:
    width = _UUID_LENGTH + 3
    raw = np.frombuffer(orjson.dumps(ids.tolist()), np.uint8)[1:]
    fits = len(raw) == len(ids) * width
    # Quotes in their places and nowhere else: each id has the right length.
    if not (fits and (raw.reshape(-1, width)[:, [0, width - 2]] == ord('"')).all()):
        msg = "QuPath knows objects by UUIDs, and the table has other ids: give every object a UUID"
        raise SettingsError(msg)
    starts = np.arange(len(ids), dtype=np.int64) * width + 1
    return TextColumn(data=raw, starts=starts, stops=starts + _UUID_LENGTH)


def _measurement_text(objects: gpd.GeoDataFrame, measured: list[str]) -> Iterator[TextColumn]:
    for place, name in enumerate(measured):
        key = orjson.dumps(measurement_name(name))
        yield same_text(b"%b%b:" % (b"," if place else b"", key), len(objects))
        values: NDArray[Any] = objects[name].to_numpy(np.float64, na_value=np.nan)
        yield number_text(values)
