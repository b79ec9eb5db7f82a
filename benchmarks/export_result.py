"""A finished result of many objects that no run made, for `benchmarks.export`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np

from benchmarks.stitching_source import CELL_PX, CLASSES, Lattice
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation
from slideloom.postprocess.measure.table import Scale, tabulate_objects
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import open_exports
from slideloom.workflows.export.atomic import atomic_file
from slideloom.workflows.export.finished import export_context
from slideloom.workflows.result import (
    RECORD_FILE,
    TABLE_FORMAT,
    QaRecord,
    RunRecord,
    SlideRecord,
)
from slideloom.wsi import SlideOptions
from slideloom.wsi.geometry import Box, Point

# The lattice repeats after so many rows, so no object is cut between two parts.
_ROWS_PER_PART = 32
_MPP, _SLIDE_MPP = 0.5, 0.25


def write_result(folder: Path, lattice: Lattice) -> int:
    """Leave `objects.parquet` and `result.json` of a lattice's objects in a new folder.

    The outlines are traced from pixels and measured as a run does it.

    Returns:
        Number of objects.
    """
    folder.mkdir()
    record = _record(folder.name, lattice)
    spec, origin = record.model, Point(x=0, y=0)
    counts: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
    context = export_context(spec, count=lattice.rows * lattice.cols, offset=origin, mpp=_SLIDE_MPP)
    with open_exports(folder, context, formats=[TABLE_FORMAT]) as writer:
        for part in _parts(lattice):
            writer.write(part)
            counts.update(part["class"].value_counts().to_dict())
    with atomic_file(folder / RECORD_FILE) as file:
        record = record.model_copy(update={"counts": dict(counts)})
        file.write(record.model_dump_json().encode())
    return counts.total()


def _parts(lattice: Lattice) -> Iterator[gpd.GeoDataFrame]:
    scale = Scale(extent=lattice.extent, mpp=_MPP, slide_mpp=_SLIDE_MPP)
    for row in range(0, lattice.rows, _ROWS_PER_PART):
        top, bottom = row * CELL_PX, min(row + _ROWS_PER_PART, lattice.rows) * CELL_PX
        ids, classes = np.moveaxis(
            lattice.paint(Box(x0=0, y0=top, x1=lattice.extent.width, y1=bottom)), 2, 0
        )
        found, first, places = np.unique(ids, return_index=True, return_inverse=True)
        labels = places.reshape(ids.shape).astype(np.int32)
        count = len(found) - 1
        objects = Objects(
            pixels=PixelSets.from_labels(labels, count=count, x0=0, y0=top),
            class_id=(classes.ravel()[first[1:]] - 1).astype(np.int16),
            score=np.linspace(0.5, 1, count, dtype=np.float32),
            recombined=np.zeros(count, np.bool_),
        )
        yield tabulate_objects(objects, scale=scale, class_names=CLASSES, seed="export")


def _record(name: str, lattice: Lattice) -> RunRecord:
    classes = tuple(
        ModelClass(name=each, color=(60 * index, 120, 200)) for index, each in enumerate(CLASSES)
    )
    spec = ModelSpec(
        name="made",
        task="instance",
        architecture=None,
        classes=classes,
        mpp=_MPP,
        tile_px=512,
        halo_px=32,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=Decode(name="labels"),
        licence="none",
        training_data="none",
    )
    factor = round(_MPP / _SLIDE_MPP)
    slide = SlideRecord(
        path=f"{name}.tif",
        name=name,
        fingerprint="",
        reader="none",
        options=SlideOptions(),
        width=factor * lattice.extent.width,
        height=factor * lattice.extent.height,
        mpp=_SLIDE_MPP,
        bounds_x=0,
        bounds_y=0,
    )
    qa = QaRecord(
        read_mpp=_MPP,
        tiles=1,
        tiles_predicted=1,
        tissue_percent=100,
        bad_tiles=0,
        recombined=0,
        conflicts=0,
        seam_score=None,
    )
    return RunRecord(
        key="",
        slide=slide,
        model=spec,
        settings=RunConfig(),
        qa=qa,
        counts={},
        seconds={},
        peak_memory_mb=0,
        versions={},
    )
