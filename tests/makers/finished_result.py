"""A finished result that no run made: a table of objects and a record, without masks."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import ExportContext, open_exports
from slideloom.workflows.result import (
    RECORD_FILE,
    TABLE_FORMAT,
    QaRecord,
    RunRecord,
    SlideRecord,
    SlideResult,
    load_result,
)
from slideloom.wsi import SlideOptions
from slideloom.wsi.geometry import Point

CLASSES = (
    ModelClass(name="tumour", color=(200, 0, 0)),
    ModelClass(name="stroma", color=(0, 150, 0)),
)
SPEC = ModelSpec(
    name="made",
    task="instance",
    architecture=None,
    classes=CLASSES,
    mpp=0.5,
    tile_px=512,
    halo_px=32,
    normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
    decode={"name": "made"},
    licence="none",
    training_data="none",
)


def squares(count: int, first: int = 0) -> gpd.GeoDataFrame:
    """A table of `count` squares of 4 px side in rows of 1000, of two classes in turn."""
    numbers = np.arange(first, first + count)
    x, y = 8.25 * (numbers % 1000), 8.0 * (numbers // 1000)
    return gpd.GeoDataFrame(
        {
            "id": [f"7f3e2c60-3a7b-4b8a-9f0e-{number:012d}" for number in numbers],
            "class": np.array([item.name for item in CLASSES], object)[numbers % 2],
            "score": (numbers % 7 / 7).astype(np.float32),
            "area_um2": np.full(count, 4.0),
            "nearest_um": np.where(numbers % 3 == 0, np.nan, numbers / 8),
            "at_roi_border": numbers % 5 == 0,
        },
        geometry=shapely.box(x, y, x + 4, y + 4),
    )


def finished_result(folder: Path, *parts: gpd.GeoDataFrame, **slide: Any) -> SlideResult:
    """Write `objects.parquet` and `result.json` into a new folder and read them back.

    Args:
        folder: Of the slide; its name is the slide's.
        parts: Of the table of objects.
        slide: Fields of the `SlideRecord` that differ.
    """
    folder.mkdir(parents=True)
    fields = {"width": 9000, "height": 9000, "mpp": 0.5, "bounds_x": 0, "bounds_y": 0} | slide
    record = RunRecord(
        key="0123456789abcdef",
        slide=SlideRecord(
            path=f"{folder.name}.svs",
            name=folder.name,
            fingerprint="f" * 64,
            reader="tiff",
            options=SlideOptions(),
            **fields,
        ),
        model=SPEC,
        settings=RunConfig(formats=()),
        qa=QaRecord(
            read_mpp=0.5,
            tiles=4,
            tiles_predicted=4,
            tissue_percent=100.0,
            bad_tiles=0,
            recombined=0,
            conflicts=0,
            seam_score=None,
        ),
        counts={
            item.name: sum(int((part["class"] == item.name).sum()) for part in parts)
            for item in CLASSES
        },
        seconds={},
        peak_memory_mb=1.0,
        versions={},
    )
    context = ExportContext(
        classes=CLASSES, object_type="detection", offset=Point(x=0, y=0), mpp=record.slide.mpp
    )
    with open_exports(folder, context, formats=[TABLE_FORMAT]) as writer:
        for part in parts:
            writer.write(part)
    (folder / RECORD_FILE).write_text(record.model_dump_json())
    return load_result(folder)
