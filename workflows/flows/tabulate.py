"""Measure objects that are sets of pixels: what the flows of masks and of instances share."""

from __future__ import annotations

import numpy as np

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.table import roi_members, tabulate_objects
from slideloom.workflows.flows.flow import TablePart
from slideloom.workflows.plan import RunPlan


def tabulate_part(part: Objects, *, plan: RunPlan) -> TablePart:
    """See `TaskFlow.tabulate`."""
    table = tabulate_objects(
        part, scale=plan.scale, class_names=plan.class_names, seed=plan.key, rois=plan.rois
    )
    if plan.rois:
        members = roi_members(part.pixels, scale=plan.scale, rois=plan.rois)
    else:
        members = np.ones((1, len(part)), np.bool_)
    return TablePart(objects=table, members=members)
