"""Objects as GeoParquet 1.1, for Python, R and databases."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd

from slideloom.errors import SettingsError
from slideloom.workflows.export.atomic import atomic_file

__all__ = ["write_geoparquet"]

# Small enough that a reader of one window skips most of a slide, large enough to compress well.
_ROWS_PER_GROUP = 50_000


def write_geoparquet(path: Path, objects: gpd.GeoDataFrame) -> None:
    """Write objects with every column and a bounding box per object, atomically.

    The geometry stays in level-0 pixels, y down, and has no coordinate reference system: `crs` is
    null, which GeoParquet defines as unknown. `attrs` (with the slide's `mpp`) is kept, and
    `geopandas.read_parquet` gives it back.

    Follows the GeoParquet 1.1.0 specification (WKB geometry, `covering.bbox`).

    Args:
        path: `.parquet`.
        objects: Table of objects; an empty one gives a file without rows.

    Raises:
        SettingsError: The table has a coordinate reference system, or no `mpp` in its `attrs`.
        OutputError: The file cannot be written.
    """
    if objects.crs is not None or "mpp" not in objects.attrs:
        msg = (
            f"objects for GeoParquet must be in level-0 pixels, with um per pixel in attrs['mpp'], "
            f"got crs {objects.crs} and attrs {objects.attrs}: pass the table that a run gives"
        )
        raise SettingsError(msg)
    with atomic_file(path) as file:
        objects.to_parquet(
            file,
            index=False,
            compression="zstd",
            schema_version="1.1.0",
            write_covering_bbox=True,
            row_group_size=_ROWS_PER_GROUP,
        )
