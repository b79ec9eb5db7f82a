"""Measure objects that are sets of pixels: what the flows of masks and of instances share."""

from __future__ import annotations

import numpy as np

from slideloom.postprocess.measure.table import roi_members, tabulate_objects
from slideloom.postprocess.objects import Objects
from slideloom.workflows.flows.flow import TablePart
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.stains import add_stains
from slideloom.wsi import Slide


def tabulate_part(part: Objects, *, slide: Slide, plan: RunPlan) -> TablePart:
    """See `TaskFlow.tabulate`."""
    table = tabulate_objects(
        part, scale=plan.scale, class_names=plan.class_names, seed=plan.seed, rois=plan.rois
    )
    if plan.stains is not None:
        table = add_stains(table, part, slide=slide, grid=plan.grid, stains=plan.stains)
    if plan.rois:
        members = roi_members(part.pixels, scale=plan.scale, rois=plan.rois)
    else:
        members = np.ones((1, len(part)), np.bool_)
    return TablePart(objects=table, members=members)
