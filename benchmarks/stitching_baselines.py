"""The libraries' side of `benchmarks.stitching`: what single calls do with the same objects."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, TypeVar

import cv2
import geopandas as gpd
import numpy as np
import orjson
import shapely
from numpy.typing import NDArray
from skimage.measure import regionprops_table

from benchmarks.stitching_run import GEOJSON, MEASURE, PARQUET, STITCH
from benchmarks.stitching_source import CELL_PX, CLASSES, Lattice
from slideloom.wsi.geometry import Box

T = TypeVar("T", bound=Sized)

_SAMPLE = 2000
"""About so many objects are given to the slowest call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What one library call did.

    Attributes:
        name: Of the call.
        stage: Of ours that it is set beside; the call does a part of that.
        objects: Given to it.
        cpu_s: CPU seconds, all threads.
    """

    name: str
    stage: str
    objects: int
    cpu_s: float


def measure_baselines(objects: int) -> list[Baseline]:
    """Time every call once on about so many objects, on one thread.

    Raises:
        AssertionError: A call does not find the objects that were generated.
    """
    cv2.setNumThreads(1)
    lattice = Lattice.of(objects)
    maps = lattice.paint(Box.of_size(lattice.extent))
    labels = np.ascontiguousarray(maps[:, :, 0])
    clock = _Clock()
    contours = clock.time(
        "cv2.findContours per label", lambda: _contours(lattice, labels), stage=MEASURE
    )
    count = len(lattice.areas())
    if len(contours) != count:
        msg = f"{len(contours)} contours of {count} objects"
        raise AssertionError(msg)
    polygons = clock.time("shapely.polygons", lambda: _polygons(contours), stage=MEASURE)
    clock.time("skimage.regionprops_table", lambda: _regionprops(lattice, labels), stage=MEASURE)
    clock.time("shapely STRtree self-join", lambda: _pairs(polygons), stage=STITCH)
    clock.time("shapely.to_geojson", lambda: shapely.to_geojson(polygons), stage=GEOJSON)
    clock.time("dicts and orjson", lambda: _dicts(polygons), stage=GEOJSON)
    table = gpd.GeoDataFrame({"class": [CLASSES[0]] * count}, geometry=polygons)
    clock.time("geopandas.to_parquet", lambda: _to_parquet(table), stage=PARQUET)
    return clock.rows


class _Clock:
    def __init__(self) -> None:
        self.rows: list[Baseline] = []

    def time(self, name: str, call: Callable[[], T], *, stage: str) -> T:
        """Run a call; its result has one item for each object."""
        start = process_time()
        result = call()
        seconds = process_time() - start
        self.rows.append(Baseline(name=name, stage=stage, objects=len(result), cpu_s=seconds))
        return result


def _contours(lattice: Lattice, labels: NDArray[np.int32]) -> list[NDArray[np.int32]]:
    """The outer contour of each object, found in the room that it may fill."""
    contours = []
    for number, room in lattice.rooms():
        mask = (labels[room.slices_in(Box.of_size(lattice.extent))] == number + 1).view(np.uint8)
        found, _ = cv2.findContours(
            mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(room.x0, room.y0)
        )
        contours.append(found[0][:, 0])
    return contours


def _polygons(contours: list[NDArray[np.int32]]) -> NDArray[Any]:
    sizes = [len(contour) for contour in contours]
    points = np.concatenate(contours).astype(np.float64)
    rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(sizes)), sizes))
    return np.asarray(shapely.polygons(rings))


def _regionprops(lattice: Lattice, labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Of the objects in the upper rows of cells."""
    rows = max(1, _SAMPLE // lattice.cols)
    table = regionprops_table(
        labels[: rows * CELL_PX], properties=("label", "area", "centroid", "eccentricity")
    )
    area: NDArray[np.float64] = table["area"]
    return area


def _pairs(polygons: NDArray[Any]) -> NDArray[Any]:
    shapely.STRtree(polygons).query(polygons, predicate="intersects")
    return polygons


def _dicts(polygons: NDArray[Any]) -> list[dict[str, Any]]:
    features = [
        {
            "type": "Feature",
            "geometry": polygon.__geo_interface__,
            "properties": {"objectType": "detection", "classification": {"name": CLASSES[0]}},
        }
        for polygon in polygons
    ]
    orjson.dumps({"type": "FeatureCollection", "features": features})
    return features


def _to_parquet(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    with tempfile.TemporaryDirectory() as folder:
        table.to_parquet(Path(folder) / "objects.parquet", compression="zstd")
    return table
