"""The objects table of boxes and points, and which region of interest each belongs to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.detection.detections import Detections
from slideloom.postprocess.measure.table import Roi, Scale

_NAMESPACE = uuid.UUID("0c6e1c1e-3a57-5f0b-9d53-6f0a1d1f7b42")


def tabulate_detections(
    found: Detections,
    *,
    scale: Scale,
    class_names: Sequence[str],
    seed: str,
    rois: Sequence[Roi] = (),
    points: bool,
) -> gpd.GeoDataFrame:
    """One row for each detection.

    Args:
        found: In model pixels.
        scale: Of the model pixels.
        class_names: By class id.
        seed: What the ids are made from, beside each detection's class and place: the same seed and
            the same detection give the same id.
        rois: What the run was limited to.
        points: Whether all are points, else all are boxes.

    Returns:
        Columns `id` (UUID), `geometry` (level-0 pixels; the box as a Polygon, or a Point), `class`,
        `score`, `area_um2` (of the box; 0 for points), for boxes `bbox_width_um` and
        `bbox_height_um`, `centroid_x_px` and `centroid_y_px` (level-0 pixels), and the flags
        `at_slide_border` (the box reaches the slide's outermost rows and columns), `at_roi_border`
        (it reaches within one model pixel of a ROI's border, from either side; never without ROIs)
        and `recombined`. `attrs["mpp"]` holds micrometres per level-0 pixel.
    """
    factor = scale.factor
    names = np.array(list(class_names), dtype=object)
    width, height = (found.boxes[:, 2:] - found.boxes[:, :2]).T * scale.mpp
    centre = box_centres(found) * factor
    geometry = shapely.points(centre) if points else shapely.box(*(found.boxes * factor).T)
    sizes = {} if points else {"bbox_width_um": width, "bbox_height_um": height}
    last = np.array([scale.extent.width, scale.extent.height]) - 1
    at_border = (found.boxes[:, :2] < 1).any(axis=1) | (found.boxes[:, 2:] > last).any(axis=1)
    areas = shapely.get_parts(np.array([roi.geometry for roi in rois], dtype=object))
    borders = shapely.union_all(shapely.boundary(areas))
    shapely.prepare(borders)
    frame = gpd.GeoDataFrame(
        {
            # The type is named, so that a table without objects has the same columns.
            "id": pd.Series(_ids(found, seed), dtype=str),
            "class": pd.Series(names[found.class_id], dtype=str),
            "score": found.score,
            "area_um2": width * height,
            **sizes,
            "centroid_x_px": centre[:, 0],
            "centroid_y_px": centre[:, 1],
            "at_slide_border": at_border,
            "at_roi_border": shapely.dwithin(borders, geometry, factor),
            "recombined": found.recombined,
        },
        geometry=geometry,
    )
    frame.attrs["mpp"] = scale.slide_mpp
    return frame


def detection_members(found: Detections, *, scale: Scale, rois: Sequence[Roi]) -> NDArray[np.bool_]:
    """Which detections belong to which ROI, `(rois, n)`: those whose centre it holds."""
    centre = box_centres(found) * scale.factor
    members = np.zeros((len(rois), len(found)), np.bool_)
    for row, roi in zip(members, rois, strict=True):
        shapely.prepare(roi.geometry)
        row[:] = shapely.contains_xy(roi.geometry, centre[:, 0], centre[:, 1])
    return members


def box_centres(found: Detections) -> NDArray[np.float64]:
    """Where detections are: the centres of their boxes, `(n, 2)`, x and y in model pixels."""
    return np.asarray((found.boxes[:, :2] + found.boxes[:, 2:]) / 2, np.float64)


def _ids(found: Detections, seed: str) -> list[str]:
    """Name-based UUIDs (RFC 9562, version 5) from the seed, the class and the box."""
    space = uuid.uuid5(_NAMESPACE, seed)
    rows = zip(found.class_id.tolist(), found.boxes.tolist(), strict=True)
    return [str(uuid.uuid5(space, f"{class_id}/{box}")) for class_id, box in rows]
