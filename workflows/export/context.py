"""What every exporter is told of a slide, and what it gives back: a writer that takes tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import geopandas as gpd

from slideloom.models.spec import ModelClass
from slideloom.wsi.geometry import Point

__all__ = ["ExportContext", "ObjectType", "TableWriter"]

ObjectType = Literal["detection", "annotation", "cell", "tile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What holds for all objects of one slide.

    Attributes:
        classes: Name and colour of every class that the objects may have.
        object_type: What QuPath takes the objects for: `detection`, `annotation` for the areas of a
            semantic result, `tile` for the tiles of a classification, or `cell`.
        offset: Where the image as QuPath opens it begins, in level-0 pixels (the slide's bounds).
        mpp: Micrometres per level-0 pixel.
        traced: Whether all polygons were traced along pixels: those are valid, and need no test.
        split_mb: Most megabytes of one GeoJSON file; None makes one file.
    """

    classes: tuple[ModelClass, ...]
    object_type: ObjectType
    offset: Point
    mpp: float
    traced: bool = False
    split_mb: float | None = None


class TableWriter(Protocol):
    """Takes a slide's objects part by part."""

    def write(self, objects: gpd.GeoDataFrame) -> None:
        """Append a part of the objects table.

        Args:
            objects: Geometry in level-0 pixels. Every part has the same columns; one without rows
                still tells them.

        Raises:
            SettingsError: The table does not fit the format or the slide.
            OutputError: The file cannot be written.
        """
        ...
