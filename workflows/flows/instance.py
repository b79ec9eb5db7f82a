"""Instances: decode each tile, join the pieces of all tiles, paint what comes out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.stitch import stitch_pieces
from slideloom.postprocess.table import roi_members
from slideloom.tiling.grid import Region, RegionGrid
from slideloom.workflows.export.geojson import ObjectType
from slideloom.workflows.flows.flow import Labels, Predictions, RunJobs
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore
from slideloom.wsi import Box
from slideloom.wsi.writing.labels import LabelImage


class InstanceFlow:
    """Decode each tile, join the pieces of all tiles, paint what comes out."""

    object_type: ObjectType = "detection"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """One image of object numbers, shared by all classes."""
        return (LabelImage(name="objects", dtype="uint32"),)

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The pieces of the region's tiles."""
        rule = plan.spec.decode
        if rule is None:
            msg = f"model '{plan.spec.name}' finds instances but names no decode: edit model.json"
            raise SettingsError(msg)
        parts = [
            pieces_of_tile(
                decode(maps, name=rule.name, settings=rule.settings), tile, extent=plan.grid.extent
            )
            for tile, maps in predictions
        ]
        return Pieces.concat(parts).to_arrays()

    def weave(
        self, plan: RunPlan, store: RegionStore, *, labels: Labels, run_jobs: RunJobs
    ) -> Objects:
        """Stitch the pieces of all regions; object `i` gets number `i + 1`."""
        pieces = [Pieces.from_arrays(store.load(region.index)) for region in plan.regions]
        objects = stitch_pieces(Pieces.concat(pieces), grid=plan.grid, predicted=plan.selected)
        if plan.rois:
            members = roi_members(objects.pixels, scale=plan.scale, rois=plan.rois)
            objects = objects.take(np.flatnonzero(members.any(axis=0)))
        image = labels["objects"]
        groups = objects_by_region(objects, plan.regions)
        run_jobs(
            partial(_paint_region, objects, index, image=image, core=region.core)
            for region, index in zip(plan.regions, groups, strict=True)
            if len(index)
        )
        return objects


def _paint_region(
    objects: Objects,
    index: NDArray[np.int64],
    *,
    image: zarr.Array[Any],
    core: Box,
) -> None:
    """Write the numbers of some objects into one region of a label image."""
    canvas = np.zeros(core.shape, image.dtype)
    objects.pixels.take(index).paint(canvas, index + 1, frame=core)
    image[core.y0 : core.y1, core.x0 : core.x1] = canvas


def objects_by_region(objects: Objects, regions: RegionGrid) -> list[NDArray[np.int64]]:
    """The objects whose bounding boxes meet each region, in the order of the regions."""
    boxes = objects.pixels.boxes.astype(np.int64)
    first = boxes[:, :2] // regions.core_px
    last = (boxes[:, 2:] - 1) // regions.core_px
    spans = last - first + 1
    counts = spans.prod(axis=1)
    index = np.repeat(np.arange(len(boxes)), counts)
    step = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    col = first[index, 0] + step % spans[index, 0]
    row = first[index, 1] + step // spans[index, 0]
    place = row * regions.cols + col
    order = np.argsort(place, kind="stable")
    return np.split(index[order], np.searchsorted(place[order], np.arange(1, len(regions))))
