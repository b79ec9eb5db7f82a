"""Regions of interest from a GeoJSON file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely

from slideloom.errors import RoiError
from slideloom.postprocess.table import Roi
from slideloom.wsi import Slide


def read_rois(path: Path, slide: Slide) -> tuple[Roi, ...]:
    """The areas of a GeoJSON file, as QuPath writes them.

    Coordinates are level-0 pixels from the top left of the image as QuPath shows it, so a slide's
    bounds offset is added. A feature without a name is called `roi-1`, `roi-2` and so on.

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
    except (ValueError, TypeError, KeyError, shapely.errors.ShapelyError) as error:
        msg = f"ROI file '{path}' is not GeoJSON with polygons ({error}): export it from QuPath"
        raise RoiError(msg) from error
    shift = np.array([slide.bounds_offset.x, slide.bounds_offset.y])
    rois = tuple(
        Roi(
            name=name or f"roi-{number}",
            geometry=shapely.transform(area, lambda xy: xy + shift),
        )
        for number, (name, area) in enumerate(features, start=1)
    )
    if not rois:
        msg = f"ROI file '{path}' holds no polygon: draw at least one area"
        raise RoiError(msg)
    _check_inside(rois, path, slide=slide)
    return rois


def _check_inside(rois: tuple[Roi, ...], path: Path, *, slide: Slide) -> None:
    """Every ROI has to meet the slide."""
    frame = shapely.box(0, 0, slide.size.width, slide.size.height)
    for roi in rois:
        if not shapely.area(shapely.intersection(roi.geometry, frame)) > 0:
            bounds = ", ".join(f"{value:g}" for value in shapely.bounds(roi.geometry).tolist())
            msg = (
                f"ROI '{roi.name}' of '{path}' covers x0, y0, x1, y1 = {bounds} and lies outside "
                f"slide '{slide.name}' of {slide.size.width} x {slide.size.height} px: "
                "give level-0 pixels"
            )
            raise RoiError(msg)


def _features(document: Any) -> Iterable[tuple[str | None, shapely.Geometry]]:  # noqa: ANN401  (JSON)
    """Name and area of each feature; a collection, a bare list and one feature are all read."""
    if isinstance(document, dict):
        document = document.get("features", [document])
    found = []
    for feature in document:
        geometry = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
        areas = [part for part in shapely.get_parts(geometry) if part.area > 0]
        if areas:
            name = (feature.get("properties") or {}).get("name")
            found.append((name, shapely.union_all(areas)))
    return found
