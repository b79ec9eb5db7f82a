"""Tiles with class probabilities: which classes each tile has, and the table of tiles."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.measure.table import Roi, Scale
from slideloom.tiling.grid import TileGrid

_NAMESPACE = uuid.UUID("8f2d6a51-94c3-5d0e-8b7a-61e0c5b3f9a4")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassifiedTiles:
    """Predicted tiles of a slide, in any order.

    Attributes:
        cores: `(n, 4)`, `x0, y0, x1, y1` of the part that each tile owns, in model pixels; cut at
            the slide's edge.
        probabilities: `(n, k)`, of each class.
    """

    cores: NDArray[np.int32]
    probabilities: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cores)

    def take(self, index: NDArray[np.integer]) -> ClassifiedTiles:
        """Some of the tiles, in the order of `index`."""
        return ClassifiedTiles(cores=self.cores[index], probabilities=self.probabilities[index])

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays by name, for a file."""
        return {"cores": self.cores, "probabilities": self.probabilities}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> ClassifiedTiles:
        """The opposite of `to_arrays`."""
        return cls(
            cores=arrays["cores"].astype(np.int32),
            probabilities=arrays["probabilities"].astype(np.float32),
        )

    @classmethod
    def concat(cls, parts: Sequence[ClassifiedTiles]) -> ClassifiedTiles:
        """All tiles of one or more parts."""
        return cls(
            cores=np.concatenate([part.cores for part in parts]),
            probabilities=np.concatenate([part.probabilities for part in parts]),
        )


def core_boxes(grid: TileGrid, chosen: NDArray[np.bool_]) -> NDArray[np.int32]:
    """`(n, 4)`, `x0, y0, x1, y1` of the cores of the chosen tiles, row by row.

    Args:
        grid: The tile grid.
        chosen: `(rows, cols)`.
    """
    rows, cols = np.nonzero(chosen)
    corner = np.column_stack([cols, rows]) * grid.core_px
    end = np.minimum(corner + grid.core_px, [grid.extent.width, grid.extent.height])
    return np.hstack([corner, end]).astype(np.int32)


def assigned_classes(
    probabilities: NDArray[np.float32], *, threshold: float | None
) -> NDArray[np.bool_]:
    """Which tile has which class, `(n, k)`.

    Args:
        probabilities: `(n, k)`.
        threshold: Above it a tile has a class, where a tile may have several classes or none. None
            where classes exclude each other: each tile has its most probable class, of equal ones
            the first.
    """
    if threshold is not None:
        return np.asarray(probabilities > threshold)
    classes = np.arange(probabilities.shape[1])
    return np.asarray(probabilities.argmax(axis=1)[:, None] == classes)


def tile_members(
    cores: NDArray[np.integer], *, scale: Scale, rois: Sequence[Roi]
) -> NDArray[np.bool_]:
    """Which tiles belong to which ROI, `(rois, n)`: those whose core's centre it holds."""
    centre = _centres(cores) * scale.factor
    members = np.zeros((len(rois), len(cores)), np.bool_)
    for row, roi in zip(members, rois, strict=True):
        shapely.prepare(roi.geometry)
        row[:] = shapely.contains_xy(roi.geometry, centre[:, 0], centre[:, 1])
    return members


def tabulate_tiles(
    tiles: ClassifiedTiles,
    *,
    assigned: NDArray[np.bool_],
    scale: Scale,
    class_names: Sequence[str],
    seed: str,
    rois: Sequence[Roi] = (),
) -> gpd.GeoDataFrame:
    """One row for each class of each tile, tile by tile.

    Args:
        tiles: In model pixels.
        assigned: `(n, k)`, of `assigned_classes`; a tile without a class has no row.
        scale: Of the model pixels.
        class_names: By class id.
        seed: What the ids are made from, beside each tile's place and class: the same seed and the
            same tile give the same id.
        rois: What the run was limited to.

    Returns:
        Columns `id` (UUID), `geometry` (the core as a Polygon, level-0 pixels), `class`, `score`
        (the probability of that class), `probability_<class>` for each class, `area_um2` (of the
        core), `centroid_x_px` and `centroid_y_px` (level-0 pixels), and the flags
        `at_slide_border` (the core reaches the slide's edge) and `at_roi_border` (it reaches within
        one model pixel of a ROI's border, from either side; never without ROIs). `attrs["mpp"]`
        holds micrometres per level-0 pixel.
    """
    row, class_id = np.nonzero(assigned)
    cores, probabilities = tiles.cores[row], tiles.probabilities[row]
    names = np.array(list(class_names), dtype=object)
    centre = _centres(cores) * scale.factor
    sides = np.diff(cores.reshape(-1, 2, 2), axis=1)[:, 0] * scale.mpp
    geometry = shapely.box(*(cores * scale.factor).T)
    extent = np.array([scale.extent.width, scale.extent.height])
    at_border = (cores[:, :2] <= 0).any(axis=1) | (cores[:, 2:] >= extent).any(axis=1)
    frame = gpd.GeoDataFrame(
        {
            # The type is named, so that a table without tiles has the same columns.
            "id": pd.Series(_ids(cores, class_id, seed=seed), dtype=str),
            "class": pd.Series(names[class_id], dtype=str),
            "score": probabilities[np.arange(len(row)), class_id],
            **{f"probability_{name}": probabilities[:, k] for k, name in enumerate(class_names)},
            "area_um2": sides.prod(axis=1),
            "centroid_x_px": centre[:, 0],
            "centroid_y_px": centre[:, 1],
            "at_slide_border": at_border,
            "at_roi_border": shapely.dwithin(_borders(rois), geometry, scale.factor),
        },
        geometry=geometry,
    )
    frame.attrs["mpp"] = scale.slide_mpp
    return frame


def _centres(cores: NDArray[np.integer]) -> NDArray[np.float64]:
    """`(n, 2)`, x and y in model pixels."""
    return np.asarray((cores[:, :2] + cores[:, 2:]) / 2, np.float64)


def _borders(rois: Sequence[Roi]) -> shapely.Geometry:
    areas = shapely.get_parts(np.array([roi.geometry for roi in rois], dtype=object))
    borders = shapely.union_all(shapely.boundary(areas))
    shapely.prepare(borders)
    return borders


def _ids(cores: NDArray[np.int32], class_id: NDArray[np.int64], *, seed: str) -> list[str]:
    """Name-based UUIDs (RFC 9562, version 5) from the seed, the class and the core's corner."""
    space = uuid.uuid5(_NAMESPACE, seed)
    rows = zip(class_id.tolist(), cores[:, :2].tolist(), strict=True)
    return [str(uuid.uuid5(space, f"{number}/{corner}")) for number, corner in rows]
