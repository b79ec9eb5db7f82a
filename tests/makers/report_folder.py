"""A slide's folder with all that a report is made of, and nothing that has to be computed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from PIL import Image

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import ExportContext
from slideloom.workflows.export.geoparquet import open_geoparquet
from slideloom.workflows.result import QaRecord, RunRecord, SlideRecord
from slideloom.wsi import SlideOptions
from slideloom.wsi.geometry import Point

HOSTILE = "<b>&\"'</b>{{ 7 * 7 }}"
CLASSES = (
    ModelClass(name="gland", color=(200, 30, 30)),
    ModelClass(name=HOSTILE, color=(0, 120, 255)),
)
QA = QaRecord(
    read_mpp=0.5,
    tiles=1400,
    tiles_predicted=1234,
    tissue_percent=41.5,
    bad_tiles=0,
    recombined=17,
    conflicts=3,
    seam_score=0.01234,
)
WIDTH, HEIGHT, MPP = 22_000, 12_000, 0.25


def make_record(*, qa: Mapping[str, object] | None = None, **changed: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "key": "0123456789abcdef",
        "slide": SlideRecord(
            path=f"/slides/{HOSTILE}.svs",
            name=HOSTILE,
            fingerprint="f" * 64,
            reader="tiff",
            options=SlideOptions(),
            width=WIDTH,
            height=HEIGHT,
            mpp=MPP,
            bounds_x=0,
            bounds_y=0,
        ),
        "model": ModelSpec(
            name="made",
            task="instance",
            architecture=None,
            classes=CLASSES,
            mpp=0.5,
            tile_px=512,
            halo_px=32,
            normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
            decode={"name": "made"},
            licence="CC BY-NC 4.0 <not> for sale",
            training_data="made & drawn",
            scores={"PQ held out": 0.71234},
        ),
        "settings": RunConfig(formats=("geojson", "csv"), workers=3),
        "qa": QA.model_copy(update=dict(qa or {})),
        "counts": {"gland": 12_345, HOSTILE: 0},
        "seconds": {"predict": 12.34, "merge": 2.04},
        "peak_memory_mb": 1545.3,
        "versions": {"slideloom": "0.1.0", "torch": "2.6.0+cpu"},
    }
    return RunRecord(**fields | changed)


def make_counts(*rois: str, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {
            "slide": "made",
            "roi": roi,
            "class": item.name,
            "count": int(rng.integers(0, 100_000)),
            "area_um2": float(rng.uniform(0, 1e6)),
            "area_percent": float(rng.uniform(0, 100)),
            "density_per_mm2": float(rng.uniform(0, 9000)),
        }
        for roi in rois
        for item in CLASSES
    ]
    return pd.DataFrame(rows)


def make_objects(count: int = 400, *, seed: int = 5) -> gpd.GeoDataFrame:
    """Objects of both classes in one half of the slide, with a few values far from all others."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, WIDTH / 2, count), rng.uniform(0, HEIGHT, count)
    area = rng.gamma(4, 10, count)
    density = rng.normal(1, 0.2, count)
    if count:
        area[:2], density[3] = 90_000, np.nan
    return gpd.GeoDataFrame(
        {
            "id": pd.Series([str(number) for number in range(count)], dtype=str),
            "class": pd.Series(rng.choice([item.name for item in CLASSES], count), dtype=str),
            "score": rng.uniform(0.5, 1, count).astype(np.float32),
            "area_um2": area,
            "circularity": rng.beta(9, 2, count),
            "haematoxylin_od_mean": density,
            "centroid_x_px": x,
            "centroid_y_px": y,
        },
        geometry=shapely.box(x - 9, y - 9, x + 9, y + 9),
    )


def write_objects(folder: Path, objects: gpd.GeoDataFrame) -> None:
    context = ExportContext(
        classes=CLASSES, object_type="detection", offset=Point(x=0, y=0), mpp=MPP
    )
    with open_geoparquet(folder / "objects.parquet", context) as writer:
        writer.write(objects)


def make_folder(
    folder: Path, counts: pd.DataFrame, objects: gpd.GeoDataFrame | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    counts.to_csv(folder / "counts.csv", index=False)
    Image.new("RGB", (300, 200), (180, 90, 150)).save(folder / "overlay.png")
    write_objects(folder, make_objects(0) if objects is None else objects)
    for name in ("objects.geojson", "objects.geojson.gz"):
        (folder / name).touch()
    return folder
