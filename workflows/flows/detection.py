"""Boxes and points: decode each tile, match what tiles see, keep what their owners vouch for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec
from slideloom.postprocess.aggregate import SlideScore
from slideloom.postprocess.decoding.boxes import BoxSettings, box_settings, decode_boxes
from slideloom.postprocess.detection.detections import (
    Detections,
    TileDetections,
    detections_of_tile,
)
from slideloom.postprocess.detection.stitch import (
    StitchedDetections,
    settle_detections,
    stitch_detections,
)
from slideloom.postprocess.detection.table import detection_members, tabulate_detections
from slideloom.postprocess.seam import SeamScore
from slideloom.tiling.grid import Region
from slideloom.workflows.export import ObjectType
from slideloom.workflows.flows.flow import Labels, Predictions, RunJobs, TablePart
from slideloom.workflows.found import OBJECTS_PER_PART, SETTLED, Found, canonical_order
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore, under
from slideloom.wsi import Slide
from slideloom.wsi.writing.labels import LabelImage

_WAITING = "waiting."
_FIGURES = "figures"


class FoundDetections:
    """The detections of a slide; at 50 bytes each, all of them fit into memory.

    Args:
        detections: In any order.
        figures: Conflicts, views that two tiles were asked for, and those that one does not have.
    """

    def __init__(self, detections: Detections, figures: NDArray[np.int64]) -> None:
        detections = detections.sorted()
        corner = np.floor(detections.boxes[:, 1::-1]).astype(np.int32)
        keys = np.column_stack([corner, detections.class_id.astype(np.int32)])
        self._detections = detections.take(canonical_order(keys))
        self.recombined = int(detections.recombined.sum())
        self.conflicts, shared, unconfirmed = figures.tolist()
        self.seam = SeamScore(compared=shared, positions=shared, differing=unconfirmed)

    def __len__(self) -> int:
        return len(self._detections)

    def parts(self) -> Iterator[Detections]:
        """See `Found`."""
        for start in range(0, max(1, len(self)), OBJECTS_PER_PART):
            stop = min(start + OBJECTS_PER_PART, len(self))
            yield self._detections.take(np.arange(start, stop))


class DetectionFlow:
    """See the module; `P` is `Detections`.

    The seam score counts detections: of those that two tiles were asked for, the share that one of
    the two does not have.
    """

    object_type: ObjectType = "detection"

    def label_images(self, spec: ModelSpec) -> tuple[LabelImage, ...]:
        """None: boxes own no pixels."""
        del spec
        return ()

    def probability_image(self, plan: RunPlan) -> None:
        """None: the task has no masks."""
        del plan

    def digest(self, region: Region, predictions: Predictions, *, plan: RunPlan) -> Arrays:
        """The detections that the region can finish, and those that wait for other regions."""
        rule = _rule(plan.spec)
        seen = [
            detections_of_tile(
                decode_boxes(maps, name=rule.name, settings=rule.settings),
                tile,
                extent=plan.grid.extent,
            )
            for tile, maps in predictions
        ]
        settled = settle_detections(
            TileDetections.concat(seen),
            region,
            grid=plan.grid,
            predicted=plan.selected,
            settings=_settings(plan.spec),
        )
        return {
            _FIGURES: _figures(settled.stitched),
            **under(SETTLED, _in_rois(settled.stitched.detections, plan).to_arrays()),
            **under(_WAITING, settled.waiting.to_arrays()),
        }

    def weaver(self, plan: RunPlan, store: RegionStore, *, labels: Labels) -> DetectionWeaver:
        """See `TaskFlow`."""
        del labels
        return DetectionWeaver(plan, store)

    def tabulate(self, part: Detections, *, slide: Slide, plan: RunPlan) -> TablePart:
        """See `TaskFlow`."""
        del slide
        table = tabulate_detections(
            part,
            scale=plan.scale,
            class_names=plan.class_names,
            seed=plan.seed,
            rois=plan.rois,
            points=_settings(plan.spec).points == 1,
        )
        if plan.rois:
            members = detection_members(part, scale=plan.scale, rois=plan.rois)
        else:
            members = np.ones((1, len(part)), np.bool_)
        return TablePart(objects=table, members=members)

    def slide_scores(self, found: Found[Detections], *, plan: RunPlan) -> tuple[SlideScore, ...]:
        """None: objects are counted instead."""
        del found, plan
        return ()


class DetectionWeaver:
    """Stitches what waits in all regions."""

    def __init__(self, plan: RunPlan, store: RegionStore) -> None:
        self._plan, self._store = plan, store

    def finish(self, region: Region) -> None:
        """Nothing: its own detections are finished, and what waits may hang on any region."""

    def found(self, run_jobs: RunJobs) -> FoundDetections:
        """The detections of all regions, and those of what waited."""
        del run_jobs
        plan, store = self._plan, self._store
        places = list(plan.regions.places)
        waiting = [TileDetections.from_arrays(store.load(at, under=_WAITING)) for at in places]
        rest = stitch_detections(
            TileDetections.concat(waiting),
            grid=plan.grid,
            predicted=plan.selected,
            settings=_settings(plan.spec),
        )
        settled = [Detections.from_arrays(store.load(at, under=SETTLED)) for at in places]
        figures = [store.load_array(at, _FIGURES) for at in places]
        return FoundDetections(
            Detections.concat([*settled, _in_rois(rest.detections, plan)]),
            np.sum([*figures, _figures(rest)], axis=0),
        )


def _rule(spec: ModelSpec) -> Decode:
    if spec.decode is None:
        msg = f"model '{spec.name}' finds boxes or points but names no decode: edit model.json"
        raise SettingsError(msg)
    return spec.decode


def _settings(spec: ModelSpec) -> BoxSettings:
    rule = _rule(spec)
    return box_settings(rule.name, rule.settings)


def _figures(stitched: StitchedDetections) -> NDArray[np.int64]:
    """In the order of `FoundDetections`."""
    return np.array([stitched.conflicts, stitched.shared, stitched.unconfirmed], np.int64)


def _in_rois(detections: Detections, plan: RunPlan) -> Detections:
    """Those that belong to a ROI; all where there are none."""
    if not plan.rois:
        return detections
    members = detection_members(detections, scale=plan.scale, rois=plan.rois)
    return detections.take(np.flatnonzero(members.any(axis=0)))
