"""Stain densities of objects, read from the slide cell by cell."""

from __future__ import annotations

import geopandas as gpd
import numpy as np

from slideloom.postprocess.measure.intensity import (
    IntensityTally,
    measure_intensities,
    stain_densities,
)
from slideloom.postprocess.objects import Objects
from slideloom.tiling.cells import boxes_by_cell
from slideloom.tiling.grid import TileGrid
from slideloom.wsi import Box, Slide

STAINS = ("haematoxylin", "eosin", "dab")
STATISTICS = ("mean", "std", "min", "max")

_CELL_PX = 1024


def add_stains(
    table: gpd.GeoDataFrame, objects: Objects, *, slide: Slide, grid: TileGrid
) -> gpd.GeoDataFrame:
    """The table with the optical density of each stain over each object's pixels.

    Every cell of the slide that an object meets is read once at the grid's mpp, so memory is set by
    a cell, whatever the size of an object.

    Args:
        table: One row for each object.
        objects: In model pixels.
        slide: The slide.
        grid: Of the model pixels.

    Returns:
        With columns `haematoxylin_od_mean`, `haematoxylin_od_std` and so on for `STAINS` and
        `STATISTICS`; see `stain_densities`.
    """
    tally = IntensityTally(len(objects), len(STAINS))
    for members in boxes_by_cell(objects.pixels.boxes, _CELL_PX):
        x0, y0 = members.cell.col * _CELL_PX, members.cell.row * _CELL_PX
        frame = Box(x0=x0, y0=y0, x1=x0 + _CELL_PX, y1=y0 + _CELL_PX).intersect(grid.bounds)
        corners = np.array([[frame.x0, frame.y0, frame.x1, frame.y1]])
        pieces = objects.pixels.take(members.index).crop(corners.repeat(len(members.index), axis=0))
        densities = stain_densities(slide.read_at_mpp(frame, mpp=grid.mpp))
        measured = measure_intensities(pieces, densities, frame=frame)
        tally.add(members.index, pieces, measured=measured)
    measured = tally.intensities
    for place, stain in enumerate(STAINS):
        for name in STATISTICS:
            table[f"{stain}_od_{name}"] = getattr(measured, name)[:, place]
    return table
