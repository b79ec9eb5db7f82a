"""Masks: blend the tiles of all regions; objects are the connected areas of a class."""

from __future__ import annotations

from functools import partial

import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.models.spec import ModelSpec
from slideloom.postprocess import blend
from slideloom.postprocess.components import class_runs, connected_objects, reaches_other_regions
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.rasterize import rasterize
from slideloom.postprocess.seam import SeamTally, seam_codes, seam_pixels
from slideloom.tiling.grid import Region
from slideloom.workflows.export import ObjectType
from slideloom.workflows.flows.flow import Labels, Predictions, RunJobs, TablePart
from slideloom.workflows.flows.seams import new_tally, seam_arrays, total_seam
from slideloom.workflows.flows.tabulate import tabulate_part
from slideloom.workflows.found import KEYS, SETTLED, FoundObjects, order_keys
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore, under
from slideloom.wsi import Slide
from slideloom.wsi.writing.labels import LabelClass, LabelImage

_BANDS = "bands."


class SemanticFlow:
    """See the module; `P` is `Objects`."""

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
        seam = new_tally(plan)
        blended = blend.blend_region(
            region,
            _counting_seams(predictions, seam, spec=spec),
            extent=plan.grid.extent,
            channels=channels,
        )
        bands = blend.border_bands(blended, band_px=2 * plan.grid.halo_px)
        labels = blended.labels(overlapping=spec.overlapping, threshold=spec.threshold)
        return {
            "labels": labels,
            **under(_BANDS, blend.bands_to_arrays(bands)),
            **seam_arrays(seam),
        }

    def weave(
        self, plan: RunPlan, store: RegionStore, *, labels: Labels, run_jobs: RunJobs
    ) -> FoundObjects:
        """Finish the border bands of all regions, then connect each class's area."""
        areas = store.beside("areas")
        waiting: list[list[Objects]] = [[] for _ in plan.spec.classes]

        def finish(region: Region) -> None:
            masks = self._finished(region, plan, store=store)
            core = region.core
            for array, mask in zip(labels.values(), masks, strict=True):
                array[core.y0 : core.y1, core.x0 : core.x1] = mask
            settled = []
            for class_id, parts in enumerate(waiting):
                chosen = masks[class_id] if plan.spec.overlapping else masks[0] == class_id + 1
                found = connected_objects([class_runs(chosen, box=core)], class_id=class_id)
                crossing = reaches_other_regions(found, core, bounds=plan.grid.bounds)
                settled.append(found.take(np.flatnonzero(~crossing)))
                parts.append(found.take(np.flatnonzero(crossing)))
            objects = Objects.concat(settled)
            areas.save(
                region.index,
                {KEYS: order_keys(objects), **under(SETTLED, objects.to_arrays())},
            )

        run_jobs(partial(finish, region) for region in plan.regions)
        rest = Objects.concat(
            [
                connected_objects([part.pixels for part in parts], class_id=class_id)
                for class_id, parts in enumerate(waiting)
            ]
        )
        places = [region.index for region in plan.regions]
        return FoundObjects(areas, places, rest=rest, seam=total_seam(plan, store))

    def tabulate(self, part: Objects, *, slide: Slide, plan: RunPlan) -> TablePart:
        """See `TaskFlow`."""
        return tabulate_part(part, slide=slide, plan=plan)

    def _finished(self, region: Region, plan: RunPlan, *, store: RegionStore) -> NDArray[np.uint8]:
        """Masks `(images, y, x)` of the region's core, with the neighbours' votes counted."""
        masks = np.asarray(store.load_array(region.index, "labels"), np.uint8)
        frame = region.window.intersect(plan.grid.bounds)
        bands = blend.bands_from_arrays(store.load(region.index, under=_BANDS))
        for other in plan.regions.reaching(region):
            votes = store.load(other.index, under=_BANDS)
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


def _counting_seams(predictions: Predictions, seam: SeamTally, *, spec: ModelSpec) -> Predictions:
    """The predictions as they come, with what each tile says of its borders entered in `seam`."""
    for tile, maps in predictions:
        edges = seam_pixels(maps, tile)
        said = edges > spec.threshold if spec.overlapping else edges.argmax(axis=-1)
        seam.add(tile, seam_codes(said))
        yield tile, maps
