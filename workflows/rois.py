"""Regions of interest from a GeoJSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from slideloom.errors import RoiError
from slideloom.postprocess.measure.table import Roi
from slideloom.wsi import Slide


def read_rois(path: Path, slide: Slide) -> tuple[Roi, ...]:
    """The areas of a GeoJSON file, as QuPath writes them.

    Coordinates are level-0 pixels from the top left of the image as QuPath shows it, so a slide's
    bounds offset is added; what lies outside the slide is cut off. A feature without a name is
    called `roi-1`, `roi-2` and so on.

    Raises:
        RoiError: The file is missing, is not GeoJSON, holds no area, or an area lies wholly outside
            the slide.
    """
    try:
        document = orjson.loads(path.read_bytes())
        features = _features(document)
    except OSError as error:
        msg = f"ROI file '{path}' cannot be read ({error.strerror}): check --roi"
        raise RoiError(msg) from error
    except (AttributeError, ValueError, TypeError, KeyError, shapely.errors.ShapelyError) as error:
        msg = f"ROI file '{path}' is not GeoJSON with polygons ({error}): export it from QuPath"
        raise RoiError(msg) from error
    if not features:
        msg = f"ROI file '{path}' holds no polygon: draw at least one area"
        raise RoiError(msg)
    return tuple(
        Roi(name=name or f"roi-{number}", geometry=_on_slide(area, slide, source=path))
        for number, (name, area) in enumerate(features, start=1)
    )


def _on_slide(area: shapely.Geometry, slide: Slide, *, source: Path) -> shapely.Geometry:
    """The part of an area of QuPath's image that lies on the slide, in level-0 pixels."""
    shift = np.array([slide.bounds_offset.x, slide.bounds_offset.y])
    frame = shapely.box(0, 0, slide.size.width, slide.size.height)
    part = shapely.intersection(shapely.transform(area, lambda xy: xy + shift), frame)
    if not shapely.area(part) > 0:
        bounds = ", ".join(f"{value:g}" for value in shapely.bounds(area).tolist())
        msg = (
            f"a ROI of '{source}' covers x0, y0, x1, y1 = {bounds} and lies outside slide "
            f"'{slide.name}' of {slide.size.width} x {slide.size.height} px: give level-0 pixels"
        )
        raise RoiError(msg)
    return part


def _features(document: Any) -> list[tuple[str | None, shapely.Geometry]]:  # noqa: ANN401  (JSON)
    """Name and area of each feature; a collection, a bare list and one feature are all read."""
    if isinstance(document, dict):
        document = document.get("features", [document])
    found: list[tuple[str | None, shapely.Geometry]] = []
    for feature in document:
        geometry = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        areas = [part for part in shapely.get_parts(geometry) if part.area > 0]
        if areas:
            name = (feature.get("properties") or {}).get("name")
            found.append((name, shapely.union_all(areas)))
    return found
