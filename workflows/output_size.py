"""How large a result will be, roughly, before anything is predicted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from slideloom.postprocess.classification import core_boxes
from slideloom.workflows.config import MeasureSettings
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.result import TABLE_FORMAT

__all__ = ["OBJECTS_PER_MM2", "OUTLINE_BYTES", "SIMPLE_BYTES", "estimate_output_bytes"]

OBJECTS_PER_MM2 = 4000
"""Of tissue. The built-in model finds so many nuclei in CMU-1-Small-Region and in the demo's slide;
cells lie no denser in most tissue, so slides of larger or rarer objects take less."""

_PAGE_BYTES = 5_000_000
"""The overlay and the report; both are bounded."""
_OVERVIEW_BYTES = 48_000_000
"""The picture in a SpatialData store, 4000 pixels on a side, as if it were not compressed."""
_PYRAMID = 4 / 3
_MEASURED = 2
"""By which stains, rings and neighbours make tables longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlineBytes:
    """What an object with an outline takes in a format.

    Attributes:
        fixed: Bytes.
        outline: Bytes at 1 um/px; twice as many at 0.5, where the outline has twice the pixels.
        table: Whether measurements lie beside the outline.
    """

    fixed: int = 0
    outline: int = 0
    table: bool = True


_LABELS = OutlineBytes(outline=78, table=False)

OUTLINE_BYTES: Mapping[str, OutlineBytes] = MappingProxyType(
    {
        "geojson": OutlineBytes(fixed=604, outline=203),
        "geojson.gz": OutlineBytes(fixed=75, outline=38),
        "parquet": OutlineBytes(fixed=74, outline=35),
        "csv": OutlineBytes(fixed=272),
        "xlsx": OutlineBytes(fixed=200),
        "dicom-ann": OutlineBytes(fixed=34, outline=150, table=False),
        "dicom-seg": OutlineBytes(outline=33, table=False),
        "ome-tiff": OutlineBytes(outline=60, table=False),
        "ome-zarr-0.4": _LABELS,
        "spatialdata": OutlineBytes(fixed=74, outline=35 + 78),
    }
)
"""By format, of nuclei as a model of instances or masks finds them.

Measured on slides of `make_slide` at 0.25, 0.5 and 1 um/px with a model that makes no mistake, and
near what the built-in model leaves of CMU-1-Small-Region. SpatialData was not measured: it counts
as the table and the masks that it holds."""

SIMPLE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "geojson": 420,
        "geojson.gz": 50,
        "parquet": 90,
        "csv": 95,
        "xlsx": 115,
        "dicom-ann": 65,
        "spatialdata": 90,
    }
)
"""By format, of a box or a classified tile; measured in the same way."""


def estimate_output_bytes(plan: RunPlan, *, formats: Iterable[str]) -> int:
    """How many bytes the slide's folder will hold in the end; twice or half as many are no wonder.

    What is not known before the run is how many objects there are. For classification they are the
    tiles. For other tasks there are taken to be 4000 on each square millimetre of tissue that is
    predicted, each as large as a nucleus. Probabilities of masks count as if they were not
    compressed.

    Args:
        plan: Of the slide.
        formats: Names of exporters, beside the tables that every result holds.
    """
    wanted = {TABLE_FORMAT, *formats}
    size = _PAGE_BYTES + (_OVERVIEW_BYTES if "spatialdata" in wanted else 0)
    each = _bytes_each(plan, wanted)
    if plan.spec.task == "classification":
        return round(size + int(plan.selected.sum()) * each)
    predicted_um2 = _predicted_um2(plan)
    objects = min(plan.tissue_um2, predicted_um2) * OBJECTS_PER_MM2 / 1e6
    kept = predicted_um2 / plan.grid.mpp**2 * len(plan.spec.classes) * _PYRAMID
    return round(size + objects * each + (kept if plan.probabilities else 0))


def _bytes_each(plan: RunPlan, formats: Collection[str]) -> float:
    """Of an object in all formats and in the masks."""
    if plan.spec.task in ("classification", "detection"):
        return sum(SIMPLE_BYTES[name] for name in formats)
    longer = 1 if plan.measure == MeasureSettings() else _MEASURED
    costs = [_LABELS, *(OUTLINE_BYTES[name] for name in formats)]
    fixed = sum((longer if cost.table else 1) * cost.fixed for cost in costs)
    return fixed + sum(cost.outline for cost in costs) / plan.grid.mpp


def _predicted_um2(plan: RunPlan) -> float:
    """Area of the cores of the tiles that are predicted."""
    cores = core_boxes(plan.grid, plan.selected).astype(np.int64)
    return float((cores[:, 2:] - cores[:, :2]).prod(axis=1).sum()) * plan.grid.mpp**2
