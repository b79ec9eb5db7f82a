"""Instances: decode each tile, join the pieces of all tiles, paint what comes out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec
from slideloom.postprocess.aggregate import SlideScore
from slideloom.postprocess.decoding import decode, min_area_px
from slideloom.postprocess.measure.table import roi_members
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.seam import seam_codes, seam_pixels
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.stitching.settle import settle_region
from slideloom.postprocess.stitching.stitch import stitch_pieces
from slideloom.tiling.cells import boxes_by_cell
from slideloom.tiling.grid import Region
from slideloom.workflows.export import ObjectType
from slideloom.workflows.flows.flow import Labels, Predictions, RunJobs, TablePart
from slideloom.workflows.flows.seams import new_tally, seam_arrays, total_seam
from slideloom.workflows.flows.tabulate import tabulate_part
from slideloom.workflows.found import KEYS, SETTLED, Found, FoundObjects, order_keys
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore, under
from slideloom.wsi import Box, Slide
from slideloom.wsi.writing.labels import LabelImage, write_chunks

_WAITING = "waiting."


class InstanceFlow:
    """See the module; `P` is `Objects`."""

    object_type: ObjectType = "detection"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """One image of object numbers, shared by all classes."""
        return (LabelImage(name="objects", dtype="uint32"),)

    def probability_image(self, plan: RunPlan) -> None:
        """None: a decode reads more than probabilities."""
        del plan

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The objects that the region can finish, and the pieces that wait for other regions."""
        rule = _rule_of(plan)
        parts = []
        seam = new_tally(plan)
        for tile, maps in predictions:
            seen = decode(maps, name=rule.name, settings=rule.settings, keep_cut=True)
            parts.append(pieces_of_tile(seen, tile, extent=plan.grid.extent))
            seam.add(tile, seam_codes(seam_pixels(seen.labels, tile), class_id=seen.class_id))
        settled = settle_region(
            Pieces.concat(parts), region, grid=plan.grid, predicted=plan.selected
        )
        objects = admit(settled.objects, plan)
        return {
            KEYS: order_keys(objects),
            **under(SETTLED, objects.to_arrays()),
            **under(_WAITING, settled.waiting.to_arrays()),
            **seam_arrays(seam),
        }

    def weaver(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> InstanceWeaver:
        """See `TaskFlow`."""
        return InstanceWeaver(plan, store, image=labels["objects"])

    def tabulate(self, part: Objects, *, slide: Slide, plan: RunPlan) -> TablePart:
        """See `TaskFlow`."""
        return tabulate_part(part, slide=slide, plan=plan)

    def slide_scores(self, found: Found[Objects], *, plan: RunPlan) -> tuple[SlideScore, ...]:
        """None: objects are counted instead."""
        del found, plan
        return ()


class InstanceWeaver:
    """Stitches what waits in all regions, and paints the numbers of all objects."""

    def __init__(self, plan: RunPlan, store: RegionStore, *, image: zarr.Array[Any]) -> None:
        self._plan, self._store, self._image = plan, store, image

    def finish(self, region: Region) -> None:
        """Nothing: an object's number depends on all that come before it."""

    def found(self, run_jobs: RunJobs) -> FoundObjects:
        """Object `i` in canonical order gets number `i + 1`."""
        plan, store, regions = self._plan, self._store, self._plan.regions
        places = list(regions.places)
        waiting = [Pieces.from_arrays(store.load(at, under=_WAITING)) for at in places]
        rest = stitch_pieces(Pieces.concat(waiting), grid=plan.grid, predicted=plan.selected)
        rest = admit(rest, plan)
        found = FoundObjects(store, places, rest=rest, seam=total_seam(plan, store))
        met = boxes_by_cell(rest.pixels.boxes, regions.core_px)
        crossing = {members.cell: members.index for members in met}
        nobody = np.zeros(0, np.int64)
        run_jobs(
            partial(
                _paint_region,
                found,
                number,
                crossing=crossing.get(region.index, nobody),
                image=self._image,
                core=region.core,
            )
            for number, region in enumerate(regions)
        )
        return found


def _rule_of(plan: RunPlan) -> Decode:
    rule = plan.spec.decode
    if rule is None:
        msg = f"model '{plan.spec.name}' finds instances but names no decode: edit model.json"
        raise SettingsError(msg)
    return rule


def admit(objects: Objects, plan: RunPlan) -> Objects:
    """The objects that are large enough for the decode, and belong to a ROI where there are any.

    A tile keeps the small tip that it sees of a large object, so only the whole can be judged.
    """
    rule = _rule_of(plan)
    admitted = objects.pixels.areas >= min_area_px(rule.name, rule.settings)
    if plan.rois:
        members = roi_members(objects.pixels, scale=plan.scale, rois=plan.rois)
        admitted &= members.any(axis=0)
    return objects.take(np.flatnonzero(admitted))


def _paint_region(
    found: FoundObjects,
    number: int,
    *,
    crossing: NDArray[np.int64],
    image: zarr.Array[Any],
    core: Box,
) -> None:
    """Write the numbers of the objects of one region: its own, and `crossing` ones of the rest."""
    settled = found.settled(number)
    if not len(settled) and not len(crossing):
        return
    canvas = np.zeros(core.shape, image.dtype)
    settled.pixels.paint(canvas, found.places(number) + 1, frame=core)
    places = found.rest_places[crossing]
    found.rest.pixels.take(crossing).paint(canvas, places + 1, frame=core)
    write_chunks(image, canvas, box=core)
