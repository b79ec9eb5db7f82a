"""Stain densities of objects and of the rings around them, read from the slide cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.measure.intensity import (
    IntensityTally,
    measure_intensities,
    stain_densities,
)
from slideloom.postprocess.measure.rings import ring_pixels, ring_reach
from slideloom.postprocess.measure.stain_vectors import STANDARD, StainBasis, estimate_stains
from slideloom.postprocess.objects import Objects
from slideloom.tiling.cells import boxes_by_cell
from slideloom.tiling.grid import TileGrid
from slideloom.workflows.config import MeasureSettings
from slideloom.workflows.result import StainVectorsRecord
from slideloom.workflows.stain_vectors import read_stain_vectors, sample_tissue
from slideloom.wsi import Box, Slide
from slideloom.wsi.storage import Folder
from slideloom.wsi.writing.labels import label_names, open_labels

STATISTICS = ("mean", "std", "min", "max")

_CELL_PX = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The ring around objects.

    Attributes:
        width_px: In model pixels, at least 1.
        labels: Folder of the label images, which are filled before objects are measured: they tell
            where other objects are, whatever part of the table these belong to.
    """

    width_px: float
    labels: Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class StainPlan:
    """What to measure of stains, decided before a run.

    Attributes:
        basis: The stains.
        record: What the result says of them.
        ring: None measures none.
    """

    basis: StainBasis
    record: StainVectorsRecord
    ring: Ring | None = None


def plan_stains(
    slide: Slide, settings: MeasureSettings, *, mpp: float, labels: Folder | None
) -> StainPlan | None:
    """Choose the stain vectors of one slide; None where no stains are measured.

    Args:
        slide: The slide.
        settings: Of the run.
        mpp: Of the model pixels.
        labels: Folder of the run's label images; rings need it.

    Raises:
        SettingsError: A file of stain vectors cannot be used, or a ring has no stains to measure,
            or no label images.
    """
    check_stains(settings)
    if not settings.stains:
        return None
    found = None
    if settings.stain_vectors == "estimated":
        found = estimate_stains(sample_tissue(slide))
    elif isinstance(settings.stain_vectors, Path):
        found = read_stain_vectors(settings.stain_vectors)
    basis = found or STANDARD
    ring = None
    if settings.ring_um:
        if labels is None:
            msg = "rings of stains need to know where objects are: give the label images' folder"
            raise SettingsError(msg)
        ring = Ring(width_px=max(1.0, settings.ring_um / mpp), labels=labels)
    record = StainVectorsRecord(
        estimated=found is not None and settings.stain_vectors == "estimated",
        background=basis.background,
        vectors=dict(zip(basis.names, basis.vectors, strict=True)),
    )
    return StainPlan(basis=basis, record=record, ring=ring)


def check_stains(settings: MeasureSettings) -> None:
    """Refuse settings that no slide can be measured with, before any slide is opened.

    Raises:
        SettingsError: There are settings of stains but no stains, or a file of stain vectors cannot
            be used.
    """
    if settings.stains:
        if isinstance(settings.stain_vectors, Path):
            read_stain_vectors(settings.stain_vectors)
    elif settings.ring_um:
        msg = "--ring measures stains around objects: add --stains"
        raise SettingsError(msg)
    elif settings.stain_vectors != "standard":
        msg = "--stain-vectors says how stains are measured: add --stains"
        raise SettingsError(msg)


def add_stains(
    table: gpd.GeoDataFrame, objects: Objects, *, slide: Slide, grid: TileGrid, stains: StainPlan
) -> gpd.GeoDataFrame:
    """The table with the optical density of each stain over each object's pixels and its ring.

    Every cell of the slide that an object or its ring meets is read once at the grid's mpp, so
    memory is set by a cell, whatever the size of an object. Cells are those of the slide, and what
    lies around an object is read from the finished label images: so the figures are the same for
    any tiles, regions and parts of the table. The ring is free of all objects in the label image
    that the object is in: of every instance, and of every class where classes exclude each other;
    where they overlap, of its own class. See `ring_pixels`.

    Args:
        table: One row for each object.
        objects: In model pixels.
        slide: The slide.
        grid: Of the model pixels.
        stains: What to measure.

    Returns:
        With columns `haematoxylin_od_mean`, `haematoxylin_od_std` and so on for the basis' stains
        and `STATISTICS`, and where there is a ring, `haematoxylin_ring_od_mean` and so on, NaN for
        an object whose ring has no pixel; see `stain_densities`.
    """
    names = stains.basis.names
    inside = IntensityTally(len(objects), len(names))
    around = None if stains.ring is None else _RingTally(objects, stains.ring, channels=len(names))
    reach = 0 if stains.ring is None else ring_reach(stains.ring.width_px)
    for index, frame in _frames(objects, grid.bounds, reach=reach):
        corners = np.array([[frame.x0, frame.y0, frame.x1, frame.y1]])
        pieces = objects.pixels.take(index).crop(corners.repeat(len(index), axis=0))
        densities = stain_densities(slide.read_at_mpp(frame, mpp=grid.mpp), basis=stains.basis)
        inside.add(index, pieces, measured=measure_intensities(pieces, densities, frame=frame))
        if around is not None:
            around.add(index, densities, frame=frame)
    _add_columns(table, inside, names=[f"{name}_od" for name in names])
    if around is not None:
        _add_columns(table, around.tally, names=[f"{name}_ring_od" for name in names])
    return table


def _frames(
    objects: Objects, bounds: Box, *, reach: int
) -> Iterator[tuple[NDArray[np.int64], Box]]:
    """The cells that objects, widened by `reach`, meet, and which objects these are."""
    boxes = objects.pixels.boxes.astype(np.int64)
    boxes[:, :2] = np.maximum(boxes[:, :2] - reach, (bounds.x0, bounds.y0))
    boxes[:, 2:] = np.minimum(boxes[:, 2:] + reach, (bounds.x1, bounds.y1))
    for members in boxes_by_cell(boxes, _CELL_PX):
        x0, y0 = members.cell.col * _CELL_PX, members.cell.row * _CELL_PX
        frame = Box(x0=x0, y0=y0, x1=x0 + _CELL_PX, y1=y0 + _CELL_PX)
        yield members.index, frame.intersect(bounds)


class _RingTally:
    """Densities in the rings of some objects, cell by cell."""

    def __init__(self, objects: Objects, ring: Ring, *, channels: int) -> None:
        self.tally = IntensityTally(len(objects), channels)
        self._objects, self._ring = objects, ring
        self._masks = [open_labels(ring.labels, name) for name in label_names(ring.labels)]

    def add(self, index: NDArray[np.int64], densities: NDArray[np.float32], *, frame: Box) -> None:
        """Add what a frame shows of the rings of the objects at `index`."""
        window = (slice(frame.y0, frame.y1), slice(frame.x0, frame.x1))
        for number, mask in enumerate(self._masks):
            # Each class has a label image of its own, or all share the first.
            alone = len(self._masks) == 1
            chosen = index if alone else index[self._objects.class_id[index] == number]
            if len(chosen):
                rings = ring_pixels(
                    self._objects.pixels.take(chosen),
                    np.asarray(mask[window]) != 0,
                    frame=frame,
                    ring_px=self._ring.width_px,
                )
                measured = measure_intensities(rings, densities, frame=frame)
                self.tally.add(chosen, rings, measured=measured)


def _add_columns(table: gpd.GeoDataFrame, tally: IntensityTally, *, names: Sequence[str]) -> None:
    measured = tally.intensities
    for place, name in enumerate(names):
        for statistic in STATISTICS:
            table[f"{name}_{statistic}"] = getattr(measured, statistic)[:, place]
