"""Measure what was found and write it to files, part by part: tables, exports, the overlay."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import geopandas as gpd
import numpy as np
import shapely

from slideloom.postprocess.classification import core_boxes, tile_members
from slideloom.postprocess.measure.counts import CountedArea, CountTally
from slideloom.postprocess.measure.outlines import trace_outlines
from slideloom.postprocess.pixels import PixelSets
from slideloom.tiling.tissue import TissueMask
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import open_exports
from slideloom.workflows.export.finished import export_context
from slideloom.workflows.export.tables import write_csv
from slideloom.workflows.flows import TaskFlow
from slideloom.workflows.found import Found
from slideloom.workflows.measured import Measuring, placed_parts
from slideloom.workflows.overlay import Overlay, write_png
from slideloom.workflows.plan import RunPlan
from slideloom.workflows.result import COUNTS_FILE, OVERLAY_FILE, TABLE_FORMAT
from slideloom.wsi import Slide

_OVERLAY_PX = 2000

T = TypeVar("T")
R = TypeVar("R")


def deliver(
    found: Found[Any],
    slide: Slide,
    *,
    flow: TaskFlow[Any],
    plan: RunPlan,
    config: RunConfig,
    out: Path,
) -> dict[str, int]:
    """Write the tables, the exports and the overlay of one slide into its folder.

    Parts are measured side by side and written in order.

    Args:
        found: All objects.
        slide: For the overlay's background.
        flow: Of the task.
        plan: Of the run.
        config: Names the formats.
        out: The slide's folder.

    Returns:
        Number of objects by class.

    Raises:
        OutputError: A file cannot be written.
    """
    tiled = flow.object_type == "tile"
    tally = CountTally(plan.class_names, tile_areas(plan) if tiled else counted_areas(plan))
    numbers: Counter[str] = Counter(dict.fromkeys(plan.class_names, 0))
    context = export_context(
        plan.spec,
        count=len(found),
        offset=slide.bounds_offset,
        mpp=plan.slide_mpp,
        split_mb=config.split_mb,
    )
    formats = dict.fromkeys((TABLE_FORMAT, *config.formats))
    with open_exports(out, context, formats=formats) as writer, ThreadPoolExecutor(1) as painter:
        # The overlay has a thread of its own: it is drawn while files are written.
        overlay = painter.submit(_new_overlay, slide, plan, filled=tiled)
        measure = Measuring(found, slide, flow=flow, plan=plan)
        for part in map_ahead(measure, placed_parts(found.parts()), workers=config.workers):
            drawing = painter.submit(_draw, overlay, part.objects)
            writer.write(part.objects)
            tally.add(part.objects, part.members, over_px=part.over_px)
            numbers.update(part.objects["class"].value_counts().to_dict())
            drawing.result()
        painter.submit(lambda: write_png(out / OVERLAY_FILE, overlay.result().finish())).result()
    write_csv(out / COUNTS_FILE, tally.table(slide.name, pixel_um2=plan.grid.mpp**2))
    return dict(numbers)


def _new_overlay(slide: Slide, plan: RunPlan, *, filled: bool) -> Overlay:
    thumbnail = slide.thumbnail(_OVERLAY_PX, sharp=True)
    return Overlay(
        thumbnail,
        classes=plan.spec.classes,
        scale=thumbnail.shape[1] / slide.size.width,
        mpp=plan.slide_mpp,
        filled=filled,
        rois=plan.rois,
    )


def _draw(overlay: Future[Overlay], objects: gpd.GeoDataFrame) -> None:
    overlay.result().add(objects)


def counted_areas(plan: RunPlan) -> list[CountedArea]:
    """The areas that objects are counted in: the ROIs, or else the whole slide."""
    if not plan.rois:
        tissue_um2 = np.nan if plan.tissue is None else plan.tissue_um2
        return [CountedArea(name="", area_um2=plan.tissue_um2, tissue_um2=tissue_um2)]
    tissue = None if plan.tissue is None else tissue_outline(plan.tissue)
    pixel_um2, areas = plan.slide_mpp**2, []
    for roi in plan.rois:
        roi_um2 = float(shapely.area(roi.geometry)) * pixel_um2
        tissue_um2 = np.nan
        if tissue is not None:
            tissue_um2 = float(shapely.area(shapely.intersection(roi.geometry, tissue))) * pixel_um2
        areas.append(
            CountedArea(name=roi.name, area_um2=roi_um2, roi_um2=roi_um2, tissue_um2=tissue_um2)
        )
    return areas


def tissue_outline(tissue: TissueMask) -> shapely.Geometry:
    """The tissue as one Polygon or MultiPolygon in level-0 pixels; empty without tissue."""
    pixels = PixelSets.from_labels(tissue.mask.astype(np.int32), count=1, x0=0, y0=0)
    outline: shapely.Geometry = trace_outlines(pixels).geometry[0]
    return shapely.transform(outline, lambda xy: xy * [tissue.scale_x, tissue.scale_y])


def tile_areas(plan: RunPlan) -> list[CountedArea]:
    """The areas that tiles are counted in: those of the predicted tiles, by ROI if there are any.

    Tiles cover more than the tissue or the ROI that they meet, so neither would give shares of 1.
    """
    cores = core_boxes(plan.grid, plan.selected).astype(np.int64)
    areas_um2 = (cores[:, 2:] - cores[:, :2]).prod(axis=1) * plan.grid.mpp**2
    if not plan.rois:
        return [CountedArea(name="", area_um2=float(areas_um2.sum()))]
    members = tile_members(cores, scale=plan.scale, rois=plan.rois)
    return [
        CountedArea(name=roi.name, area_um2=float(areas_um2[inside].sum()))
        for roi, inside in zip(plan.rois, members, strict=True)
    ]


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """`map` on threads, in order, with one item in work for each worker and no more in memory."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
