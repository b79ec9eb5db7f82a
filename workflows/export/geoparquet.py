"""Objects as GeoParquet 1.1, for Python, R and databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.context import ExportContext
from slideloom.workflows.export.wkb import wkb_array

__all__ = ["GeoparquetWriter", "open_geoparquet"]

# Small enough that a reader of one window skips most of a slide, large enough to compress well.
_ROWS_PER_GROUP = 50_000
# Areas of tissue are few and have long outlines: all of a slide's would wait for the last row.
_BYTES_PER_GROUP = 64 * 2**20
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_COVERING = {"bbox": {side: ["bbox", side] for side in _SIDES}}


@contextmanager
def open_geoparquet(path: Path, context: ExportContext) -> Iterator[GeoparquetWriter]:
    """A table file that appears when the block ends without an error.

    It holds every column and a bounding box per object, in row groups of 50,000 rows, or fewer
    where their shapes take more than 64 MiB. The geometry stays in level-0 pixels, y down, and has
    no coordinate reference system: `crs` is null, which GeoParquet defines as unknown.
    `geopandas.read_parquet` gives the columns back with their types, and `mpp` in `attrs`. Where
    nothing was written, the file has no rows and no column but the geometry.

    Follows the GeoParquet 1.1.0 specification (WKB geometry, `covering.bbox`).

    Args:
        path: `.parquet`.
        context: Gives the mpp.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_file(path) as file, ExitStack() as stack:
        writer = GeoparquetWriter(file, context, stack=stack)
        yield writer
        writer.finish()


class GeoparquetWriter:
    """Writes tables as row groups; see `open_geoparquet`.

    Args:
        file: Open for writing.
        context: Gives the mpp.
        stack: Closes what the writer opens.
    """

    def __init__(self, file: BinaryIO, context: ExportContext, *, stack: ExitStack) -> None:
        self._file = file
        self._context = context
        self._stack = stack
        self._columns: pa.Schema | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._kinds: set[str] = set()
        self._bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def write(self, objects: gpd.GeoDataFrame) -> None:
        """Append a part of the objects table; see `TableWriter`.

        Raises:
            SettingsError: The table has a coordinate reference system, so is not in pixels.
        """
        if objects.crs is not None:
            msg = (
                "objects for GeoParquet must be in level-0 pixels, without a coordinate reference "
                f"system, got crs {objects.crs}: pass the table that a run gives"
            )
            raise SettingsError(msg)
        geometry = objects.geometry.to_numpy()
        bounds = shapely.bounds(geometry)
        boxes = pa.StructArray.from_arrays(list(np.ascontiguousarray(bounds.T)), names=_SIDES)
        table = self._columns_of(objects)
        self._waiting.append(
            table.append_column("geometry", wkb_array(geometry)).append_column("bbox", boxes)
        )
        self._flush()
        self._note(geometry, bounds)

    def finish(self) -> None:
        """Write what waits, and what only the whole file tells."""
        if self._columns is None:
            self.write(gpd.GeoDataFrame(geometry=[]))
        parquet = self._flush(last=True)
        parquet.add_key_value_metadata({"geo": json.dumps(self._geo())})

    def _columns_of(self, objects: gpd.GeoDataFrame) -> pa.Table:
        """All columns but the geometry, typed as in the first part."""
        frame = pd.DataFrame(objects.drop(columns=objects.geometry.name))
        table = pa.Table.from_pandas(frame, schema=self._columns, preserve_index=False)
        self._columns = table.schema
        return table

    def _flush(self, *, last: bool = False) -> pq.ParquetWriter:
        """Write whole row groups, and what is left where nothing will follow."""
        table = pa.concat_tables(self._waiting)
        if self._parquet is None:
            self._parquet = self._open(table.schema)
        while rows := _rows_of_group(table, last=last):
            self._parquet.write_table(table.slice(0, rows))
            table = table.slice(rows)
        self._waiting = [table]
        return self._parquet

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        # Some readers see only what is known here: types and box are optional. Others see `finish`.
        own = {
            "geo": json.dumps(self._geo()),
            "PANDAS_ATTRS": json.dumps({"mpp": self._context.mpp}),
        }
        texts = [
            field.name
            for field in schema
            if pa.types.is_large_string(field.type) or pa.types.is_string(field.type)
        ]
        return self._stack.enter_context(
            pq.ParquetWriter(
                self._file,
                schema.with_metadata({**schema.metadata, **own}),
                compression="zstd",
                # Numbers, ids and shapes hardly ever repeat, and nobody looks for a row by an id's
                # or a shape's first and last value in a row group.
                use_dictionary=["class"],
                write_statistics=[
                    *(name for name in schema.names if name not in [*texts, "geometry", "bbox"]),
                    *(f"bbox.{side}" for side in _SIDES),
                ],
            )
        )

    def _note(self, geometry: NDArray[Any], bounds: NDArray[np.float64]) -> None:
        """Remember the kinds of shapes and the box around all of them."""
        shapes = geometry[~shapely.is_missing(geometry)]
        self._kinds.update(shape.geom_type for shape in shapes[_first_of_each_kind(shapes)])
        self._bounds = np.concatenate(
            [
                np.fmin(self._bounds[:2], np.fmin.reduce(bounds[:, :2], initial=np.inf)),
                np.fmax(self._bounds[2:], np.fmax.reduce(bounds[:, 2:], initial=-np.inf)),
            ]
        )

    def _geo(self) -> dict[str, Any]:
        column = {
            "encoding": "WKB",
            "crs": None,
            "geometry_types": sorted(self._kinds),
            "covering": _COVERING,
        }
        if np.isfinite(self._bounds).all():
            column["bbox"] = self._bounds.tolist()
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _rows_of_group(table: pa.Table, *, last: bool) -> int:
    """Rows of the next row group; 0 where it is not full yet, unless it is the last one.

    It follows from the rows alone, however the parts fall.
    """
    lengths = pc.binary_length(table["geometry"].slice(0, _ROWS_PER_GROUP))
    sizes = np.cumsum(pc.fill_null(lengths, 0).to_numpy())
    full = min(_ROWS_PER_GROUP, int(np.searchsorted(sizes, _BYTES_PER_GROUP)) + 1)
    return full if full <= len(table) else last * len(table)


def _first_of_each_kind(shapes: NDArray[Any]) -> NDArray[np.intp]:
    return np.unique(shapely.get_type_id(shapes), return_index=True)[1]
