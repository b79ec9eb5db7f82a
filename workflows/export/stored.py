"""The objects of a finished result, read part by part."""

from __future__ import annotations

from collections.abc import Iterator

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from slideloom.errors import OutputError
from slideloom.workflows.result import OBJECTS_FILE, SlideResult

__all__ = ["ROWS_PER_PART", "stored_count", "stored_parts"]

ROWS_PER_PART = 50_000
"""Most objects of one part."""

_GEOMETRY, _BBOX = "geometry", "bbox"


def stored_parts(result: SlideResult) -> Iterator[gpd.GeoDataFrame]:
    """The objects table in parts of at most 50,000 rows, in the order of the table.

    Together the parts are `result.objects`: the same columns, types and `attrs`, and the index goes
    on from part to part, so that it is the row of the whole table. Memory is set by a part.

    Args:
        result: A finished slide.

    Yields:
        At least one part; a result without objects has one without rows.

    Raises:
        OutputError: The table is missing or is no GeoParquet.
    """
    path = result.folder / OBJECTS_FILE
    with _open(result) as file:
        first = 0
        try:
            for batch in file.iter_batches(ROWS_PER_PART):
                yield _frame(pa.Table.from_batches([batch]), first=first, result=result)
                first += len(batch)
        except (OSError, pa.ArrowException) as error:
            msg = f"'{path}' is damaged ({error}): run the slide again with --overwrite"
            raise OutputError(msg) from error
        if first == 0:
            yield _frame(file.schema_arrow.empty_table(), first=0, result=result)


def stored_count(result: SlideResult) -> int:
    """Number of objects of a finished slide, told without reading them.

    Raises:
        OutputError: The table is missing or is no GeoParquet.
    """
    with _open(result) as file:
        return int(file.metadata.num_rows)


def _open(result: SlideResult) -> pq.ParquetFile:
    path = result.folder / OBJECTS_FILE
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        msg = f"cannot read '{path}' ({error}): run the slide again with --overwrite"
        raise OutputError(msg) from error


def _frame(table: pa.Table, *, first: int, result: SlideResult) -> gpd.GeoDataFrame:
    geometry = shapely.from_wkb(table.column(_GEOMETRY).to_numpy(zero_copy_only=False))
    # The box of an object is for readers of windows; it is no column of the objects.
    frame = table.drop_columns([name for name in (_GEOMETRY, _BBOX) if name in table.column_names])
    index = pd.RangeIndex(first, first + len(table))
    objects = gpd.GeoDataFrame(
        frame.to_pandas().set_axis(index), geometry=gpd.GeoSeries(geometry, index=index)
    )
    objects.attrs["mpp"] = result.record.slide.mpp
    return objects
