"""Objects as GeoJSON that QuPath reads: one feature per line, strict JSON, valid polygons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.feature_files import FeatureFiles, open_feature_files
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

    A name that ends in `.gz` is compressed. Without a single object the collection is empty. Where
    the context sets a size, further files `NAME.2.geojson` and so on hold what is above it.

    Args:
        path: `.geojson` or `.geojson.gz`.
        context: What holds for all objects.

    Raises:
        OutputError: The file cannot be written.
    """
    with open_feature_files(path, split_mb=context.split_mb) as files:
        yield GeojsonWriter(files, context)


class GeojsonWriter:
    """Writes objects as features.

    Coordinates are rounded to 0.01 px and polygons are made valid after that, as one invalid
    polygon makes QuPath refuse the file; polygons without an area after that are left out. Points
    stay points. Every column of numbers or flags is a measurement; an object without a value has
    not the measurement, and infinite ones become the strings "Infinity" and "-Infinity". How the
    table is cut into parts does not change the text.

    Args:
        files: Take the features.
        context: What holds for all objects.
    """

    def __init__(self, files: FeatureFiles, context: ExportContext) -> None:
        self._files = files
        self._context = context
        self._numbers = {item.name: number for number, item in enumerate(context.classes)}
        self._classes = [
            orjson.dumps({"name": item.name, "color": item.color}) for item in context.classes
        ]

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
        lengths = np.sum([column.stops - column.starts for column in columns], axis=0)
        self._files.add(join_rows(columns), np.cumsum(lengths))

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
    follows = np.zeros(len(objects), np.int64)
    for name in measured:
        key = b"%b:" % orjson.dumps(measurement_name(name))
        values: NDArray[Any] = objects[name].to_numpy(np.float64, na_value=np.nan)
        known = ~np.isnan(values)
        yield chosen_text([b"", key, b"," + key], np.where(known, 1 + follows, 0))
        text = number_text(np.where(known, values, 0))
        yield replace(text, stops=np.where(known, text.stops, text.starts))
        follows |= known
