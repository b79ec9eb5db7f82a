"""Files that a run leaves for other programs: one file here and one entry below per format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
import pandas as pd

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.workflows.export.geojson import ObjectType, write_geojson
from slideloom.workflows.export.geoparquet import write_geoparquet
from slideloom.workflows.export.tables import write_csv
from slideloom.wsi.geometry import Point

__all__ = ["EXPORTERS", "ExportInput", "Exporter", "check_formats", "write_exports"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportInput:
    """What a slide's result gives to every exporter.

    Attributes:
        objects: Table of objects, geometry in level-0 pixels, `mpp` in `attrs`.
        counts: One row per region of interest and class.
        classes: Name and colour of each class.
        object_type: What the objects are in QuPath.
        offset: Where QuPath's image begins, in level-0 pixels (the slide's bounds).
    """

    objects: gpd.GeoDataFrame
    counts: pd.DataFrame
    classes: tuple[ModelClass, ...]
    object_type: ObjectType
    offset: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """One format.

    Attributes:
        file_name: Of the file in the slide's folder.
        write: Writes the file at a path, atomically.
    """

    file_name: str
    write: Callable[[Path, ExportInput], object]


def _geojson(path: Path, data: ExportInput) -> int:
    return write_geojson(
        path,
        data.objects,
        classes=data.classes,
        object_type=data.object_type,
        offset=data.offset,
    )


EXPORTERS: Mapping[str, Exporter] = MappingProxyType(
    {
        "geojson": Exporter(file_name="objects.geojson", write=_geojson),
        "geojson.gz": Exporter(file_name="objects.geojson.gz", write=_geojson),
        "parquet": Exporter(
            file_name="objects.parquet",
            write=lambda path, data: write_geoparquet(path, data.objects),
        ),
        "csv": Exporter(
            file_name="counts.csv", write=lambda path, data: write_csv(path, data.counts)
        ),
    }
)


def write_exports(folder: Path, data: ExportInput, *, formats: Iterable[str]) -> list[Path]:
    """Write one file per format into `folder`, and return their paths in the order asked.

    Raises:
        SettingsError: A format that no exporter writes; nothing is written then.
        OutputError: A file cannot be written.
    """
    wanted = list(formats)
    check_formats(wanted)
    paths = []
    for name in wanted:
        path = folder / EXPORTERS[name].file_name
        EXPORTERS[name].write(path, data)
        paths.append(path)
    return paths


def check_formats(formats: Iterable[str]) -> None:
    """Refuse formats that no exporter writes.

    Raises:
        SettingsError: Names the unknown ones and the known.
    """
    unknown = [name for name in formats if name not in EXPORTERS]
    if unknown:
        msg = f"no exporter writes {', '.join(unknown)}: choose from {', '.join(EXPORTERS)}"
        raise SettingsError(msg)
