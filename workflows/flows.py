"""What a run does differently for each task: the one place where tasks part.

A flow digests the predictions of one region, then weaves the digests of all regions into label
images and objects. A new task is one more flow and one more line in `FLOWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np
import shapely
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec, Task
from slideloom.postprocess import blend
from slideloom.postprocess.components import class_runs, concat_objects, connected_objects
from slideloom.postprocess.decode import decode
from slideloom.postprocess.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.rasterize import rasterize
from slideloom.postprocess.stitch import Objects, stitch_pieces
from slideloom.postprocess.table import roi_members
from slideloom.tiling.grid import Region, RegionGrid, Tile
from slideloom.workflows.export.geojson import ObjectType
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore
from slideloom.wsi import Box
from slideloom.wsi.writing.labels import LabelClass, LabelImage

Predictions = Iterable[tuple[Tile, NDArray[Any]]]
Labels = Mapping[str, zarr.Array[Any]]
RunJobs = Callable[[Iterable[Callable[[], None]]], None]
"""Runs jobs side by side and returns when all are done."""


class TaskFlow(Protocol):
    """What a task has to supply."""

    object_type: ObjectType
    """What QuPath shall take the objects for, as long as they are few."""

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """The label images that `weave` fills."""
        ...

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """What has to be kept of one region's predictions."""
        ...

    def weave(
        self, plan: RunPlan, store: RegionStore, *, labels: Labels, run_jobs: RunJobs
    ) -> Objects:
        """Join the regions into objects, and fill the label images.

        `labels` holds a `(y, x)` array for each of `label_images`, by name and in that order.
        """
        ...


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


class SemanticFlow:
    """Blend the tiles of all regions into masks; objects are the connected areas of a class."""

    object_type: ObjectType = "annotation"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """One image of classes, or one image for each class where labels may overlap."""
        if spec.overlapping:
            return tuple(
                LabelImage(
                    name=f"class-{number}",
                    dtype="uint8",
                    classes=(LabelClass(value=1, name=item.name, color=item.color),),
                )
                for number, item in enumerate(spec.classes, start=1)
            )
        classes = tuple(
            LabelClass(value=value, name=item.name, color=item.color)
            for value, item in enumerate(spec.classes, start=1)
        )
        return (LabelImage(name="classes", dtype="uint8", classes=classes),)

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The finished labels of the region's inside, and the sums of its border bands.

        The band is as wide as two halos: outside the core it goes to the neighbours, inside the
        core it waits for theirs.
        """
        spec = plan.spec
        channels = len(spec.classes) + (0 if spec.overlapping else 1)
        blended = blend.blend_region(
            region, predictions, extent=plan.grid.extent, channels=channels
        )
        bands = blend.border_bands(blended, band_px=2 * plan.grid.halo_px)
        labels = blended.labels(overlapping=spec.overlapping, threshold=spec.threshold)
        return {"labels": labels, **blend.bands_to_arrays(bands)}

    def weave(
        self, plan: RunPlan, store: RegionStore, *, labels: Labels, run_jobs: RunJobs
    ) -> Objects:
        """Finish the border bands of all regions, then connect each class's area."""
        found: list[list[PixelSets]] = [[] for _ in plan.spec.classes]

        def finish(region: Region) -> None:
            masks = self._finished(region, plan, store=store)
            core = region.core
            for array, mask in zip(labels.values(), masks, strict=True):
                array[core.y0 : core.y1, core.x0 : core.x1] = mask
            for class_id, parts in enumerate(found):
                chosen = masks[class_id] if plan.spec.overlapping else masks[0] == class_id + 1
                parts.append(class_runs(chosen, box=core))

        run_jobs(partial(finish, region) for region in plan.regions)
        return concat_objects(
            connected_objects(parts, class_id=class_id) for class_id, parts in enumerate(found)
        )

    def _finished(self, region: Region, plan: RunPlan, *, store: RegionStore) -> NDArray[np.uint8]:
        """Masks `(images, y, x)` of the region's core, with the neighbours' votes counted."""
        arrays = store.load(region.index)
        masks = np.asarray(arrays.pop("labels"), np.uint8)
        frame = region.window.intersect(plan.grid.bounds)
        bands = blend.bands_from_arrays(arrays)
        for other in plan.regions.reaching(region):
            votes = store.load(other.index, without="labels")
            for band in blend.bands_from_arrays(votes):
                for own in bands:
                    own.add(band)
        for own in bands:
            y, x = own.box.slices_in(frame)
            masks[:, y, x] = own.labels(
                overlapping=plan.spec.overlapping, threshold=plan.spec.threshold
            )
        y, x = region.core.slices_in(frame)
        masks = masks[:, y, x]
        if plan.rois:
            factor = plan.scale.factor
            areas = shapely.union_all([roi.geometry for roi in plan.rois])
            area = shapely.transform(areas, lambda xy: xy / factor)
            masks = masks * rasterize(area, region.core)
        return masks


FLOWS: Mapping[Task, TaskFlow] = {"instance": InstanceFlow(), "semantic": SemanticFlow()}


def flow_for(task: Task) -> TaskFlow:
    """The flow of a task.

    Raises:
        SettingsError: The task cannot be run on slides yet.
    """
    if task not in FLOWS:
        msg = f"task '{task}' cannot be run on slides yet: use a model for {' or '.join(FLOWS)}"
        raise SettingsError(msg)
    return FLOWS[task]
