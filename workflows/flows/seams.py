"""The seam score of a run: what every flow keeps of a region for it, and how it is added up."""

from __future__ import annotations

from slideloom.postprocess.seam import SeamScore, SeamTally
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.store import Arrays, RegionStore, under

_SEAM = "seam."


def new_tally(plan: RunPlan) -> SeamTally:
    """For the tiles of one region."""
    return SeamTally(plan.selected)


def seam_arrays(tally: SeamTally) -> Arrays:
    """What a region keeps: counts of its inner borders, and the codes at its outer ones."""
    return under(_SEAM, tally.to_arrays())


def total_seam(plan: RunPlan, store: RegionStore) -> SeamScore:
    """Of all regions."""
    total = new_tally(plan)
    for place in plan.regions.places:
        arrays = store.load(place, under=_SEAM)
        total.merge(SeamTally.from_arrays(arrays, predicted=plan.selected))
    return total.score
