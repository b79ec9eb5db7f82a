"""The objects table: what every export and every caller reads."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.measure.shape import circularity, measure_shapes
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Size

_NAMESPACE = uuid.UUID("5b1e0a5e-6d0b-5c0e-9f5a-2f4b8f1d7c11")
_BORDER_PIECE_PX = 256.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From model pixels to level-0 pixels and micrometres.

    Attributes:
        extent: Size of the slide in model pixels.
        mpp: Micrometres per model pixel.
        slide_mpp: Micrometres per level-0 pixel.
    """

    extent: Size
    mpp: float
    slide_mpp: float

    @property
    def factor(self) -> float:
        """Level-0 pixels per model pixel."""
        return self.mpp / self.slide_mpp


@dataclass(frozen=True, slots=True, kw_only=True)
class Roi:
    """A region of interest.

    Attributes:
        name: As in the counts table.
        geometry: Polygon or MultiPolygon in level-0 pixels.
    """

    name: str
    geometry: shapely.Geometry


def tabulate_objects(
    objects: Objects,
    *,
    scale: Scale,
    class_names: Sequence[str],
    seed: str,
    rois: Sequence[Roi] = (),
) -> gpd.GeoDataFrame:
    """One row for each object.

    Args:
        objects: In model pixels.
        scale: Of the model pixels.
        class_names: By class id.
        seed: What the ids are made from, beside each object's place: the same seed and the same
            object give the same id.
        rois: What the run was limited to.

    Returns:
        Columns `id` (UUID), `geometry` (level-0 pixels), `class`, `score`; the sizes `area_um2`,
        `perimeter_um`, `equivalent_diameter_um`, `major_axis_um`, `minor_axis_um`,
        `bbox_width_um` and `bbox_height_um`; the forms `orientation_deg`, `eccentricity`,
        `circularity`, `solidity` and `holes` (their number); `centroid_x_px` and
        `centroid_y_px` (level-0 pixels); and the flags
        `at_slide_border` (a pixel of the slide's outermost rows and columns belongs to the
        object), `at_roi_border` (the object reaches within one model pixel of a ROI's border, from
        either side; never without ROIs), `recombined` and `has_holes`. `attrs["mpp"]` holds
        micrometres per level-0 pixel.
    """
    factor = scale.factor
    outlines = trace_outlines(objects.pixels, factor=factor)
    shapes = measure_shapes(objects.pixels)
    boxes, centroids, mpp = shapes.boxes, shapes.centroids, scale.mpp
    names = np.array(list(class_names), dtype=object)
    frame = gpd.GeoDataFrame(
        {
            # The type is named, so that a table without objects has the same columns.
            "id": pd.Series(_ids(objects, seed), dtype=str),
            "class": pd.Series(names[objects.class_id], dtype=str),
            "score": objects.score,
            "area_um2": shapes.area_px * mpp**2,
            "perimeter_um": outlines.perimeter_px * mpp,
            "equivalent_diameter_um": shapes.equivalent_diameter_px * mpp,
            "major_axis_um": shapes.major_axis_px * mpp,
            "minor_axis_um": shapes.minor_axis_px * mpp,
            "bbox_width_um": (boxes[:, 2] - boxes[:, 0]) * mpp,
            "bbox_height_um": (boxes[:, 3] - boxes[:, 1]) * mpp,
            "orientation_deg": shapes.orientation_deg,
            "eccentricity": shapes.eccentricity,
            "circularity": circularity(shapes.area_px, outlines.perimeter_px),
            "solidity": shapes.solidity,
            "holes": outlines.holes,
            "centroid_x_px": centroids[:, 0] * factor,
            "centroid_y_px": centroids[:, 1] * factor,
            "at_slide_border": (boxes[:, :2] <= 0).any(axis=1)
            | (boxes[:, 2] >= scale.extent.width)
            | (boxes[:, 3] >= scale.extent.height),
            "at_roi_border": _near_border(outlines.geometry, rois, distance=factor),
            "recombined": objects.recombined,
            "has_holes": outlines.holes > 0,
        },
        geometry=outlines.geometry,
    )
    frame.attrs["mpp"] = scale.slide_mpp
    return frame


def _near_border(
    geometry: NDArray[Any], rois: Sequence[Roi], *, distance: float
) -> NDArray[np.bool_]:
    """Which polygons come within `distance` of a ROI's border; units are level-0 pixels."""
    near = np.zeros(len(geometry), np.bool_)
    borders = shapely.boundary(shapely.get_parts([roi.geometry for roi in rois]))
    # Short pieces have small boxes, so that the tree hands most objects no piece at all.
    points, owner = shapely.get_coordinates(
        shapely.segmentize(shapely.get_parts(borders), _BORDER_PIECE_PX), return_index=True
    )
    same = owner[1:] == owner[:-1]
    pieces = shapely.linestrings(np.stack([points[:-1], points[1:]], axis=1)[same])
    found = shapely.STRtree(pieces).query(geometry, predicate="dwithin", distance=distance)
    near[found[0]] = True
    return near


def _ids(objects: Objects, seed: str) -> list[str]:
    """Name-based UUIDs (RFC 9562, version 5) from the seed, the class and the first pixel."""
    space = hashlib.sha1(uuid.uuid5(_NAMESPACE, seed).bytes, usedforsecurity=False)

    def digest(name: list[int]) -> bytes:
        hashed = space.copy()
        hashed.update(b"%d/%d/%d" % tuple(name))
        return hashed.digest()

    names = np.column_stack([objects.class_id, objects.pixels.first_pixels]).tolist()
    digests = b"".join(map(digest, names))
    # `uuid` itself takes five times as long.
    octets = np.frombuffer(digests, np.uint8).reshape(-1, 20)[:, :16].copy()
    octets[:, 6] = octets[:, 6] & 0x0F | 0x50
    octets[:, 8] = octets[:, 8] & 0x3F | 0x80
    digits = octets.tobytes().hex()
    return [
        f"{digits[k : k + 8]}-{digits[k + 8 : k + 12]}-{digits[k + 12 : k + 16]}"
        f"-{digits[k + 16 : k + 20]}-{digits[k + 20 : k + 32]}"
        for k in range(0, len(digits), 32)
    ]


def roi_members(pixels: PixelSets, *, scale: Scale, rois: Sequence[Roi]) -> NDArray[np.bool_]:
    """Which objects belong to which ROI, `(rois, n)`.

    An object belongs to the ROI that holds the middle of its middle run of pixels, a point that
    is always inside it; it may reach across the ROI's border.
    """
    points = pixels.inner_points * scale.factor
    members = np.zeros((len(rois), len(pixels)), np.bool_)
    for row, roi in zip(members, rois, strict=True):
        shapely.prepare(roi.geometry)
        row[:] = shapely.contains_xy(roi.geometry, points[:, 0], points[:, 1])
    return members
