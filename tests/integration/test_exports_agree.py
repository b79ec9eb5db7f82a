"""One result in every format: each read by a program of others, and all tell the same objects."""

import gzip
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import geopandas as gpd
import highdicom as hd
import numpy as np
import openpyxl
import pandas as pd
import pytest
import shapely
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from slideloom.models.folder import load_model
from slideloom.models.tile_model import TileModel
from slideloom.testing import (
    PerfectTileModel,
    perfect_spec,
    render_scene,
    validate_geojson,
    write_slide,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import EXPORTERS
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size
from tests.makers.cases import make_cases


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a file says of all objects together; None where it does not say it."""

    count: int | None
    area_um2: float


def _numbers(labels: NDArray[Any], result: SlideResult) -> Told:
    found = np.unique(labels[labels > 0])
    return Told(count=len(found), area_um2=np.count_nonzero(labels) * _pixel_um2(result))


def _pixel_um2(result: SlideResult) -> float:
    return result.record.qa.read_mpp**2


def read_geojson(path: Path, result: SlideResult) -> Told:
    validate_geojson(path)
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()

    def refuse(word: str) -> None:
        pytest.fail(f"JSON has no {word}")

    features = json.loads(raw, parse_constant=refuse)["features"]
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features]
    assert shapely.is_valid(shapes).all()
    area_um2 = float(shapely.area(shapes).sum()) * result.record.slide.mpp**2
    return Told(count=len(features), area_um2=area_um2)


def read_parquet(path: Path, result: SlideResult) -> Told:
    table = gpd.read_parquet(path)
    assert table.geometry.area.sum() * result.record.slide.mpp**2 == pytest.approx(
        table["area_um2"].sum()
    )
    return Told(count=len(table), area_um2=table["area_um2"].sum())


def read_csv(path: Path, result: SlideResult) -> Told:
    del result
    table = pd.read_csv(path)
    return Told(count=len(table), area_um2=table["area_um2"].sum())


def read_xlsx(path: Path, result: SlideResult) -> Told:
    del result
    book = openpyxl.load_workbook(path, read_only=True)
    head, *rows = book["objects"].iter_rows(values_only=True)
    place = head.index("area_um2")
    return Told(count=len(rows), area_um2=math.fsum(float(str(row[place])) for row in rows))


def read_ome_tiff(path: Path, result: SlideResult) -> Told:
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.is_bigtiff
        return _numbers(file.series[0].levels[0].asarray(), result)


def read_ome_zarr(path: Path, result: SlideResult) -> Told:
    location = parse_url(path / "labels")
    assert location is not None
    (node,) = (node for node in Reader(location)() if node.data)
    return _numbers(np.asarray(node.data[0]), result)


def read_ann(path: Path, result: SlideResult) -> Told:
    """Outlines have no holes in DICOM: the measured area is what says how large an object is."""
    count, area_um2 = 0, 0.0
    for group in hd.ann.annread(path).AnnotationGroupSequence:
        names, values, _ = group.get_measurements()
        columns = [name.meaning for name in names]
        count += len(np.unique(values[:, columns.index("Object")]))
        area_um2 += float(values[:, columns.index("Area")].sum(dtype=np.float64))
    del result
    return Told(count=count, area_um2=area_um2)


def read_seg(path: Path, result: SlideResult) -> Told:
    """Segments are the classes: no file of them counts objects."""
    image = hd.seg.segread(path / "level-0.dcm")
    covered = np.count_nonzero(image.get_total_pixel_matrix(combine_segments=True))
    return Told(count=None, area_um2=covered * _pixel_um2(result))


def read_spatialdata(path: Path, result: SlideResult) -> Told:
    del result
    from spatialdata import read_zarr

    table = read_zarr(path).tables["table"]
    return Told(count=table.n_obs, area_um2=float(table[:, "area_um2"].X.sum()))


READERS: Mapping[str, Callable[[Path, SlideResult], Told]] = {
    "geojson": read_geojson,
    "geojson.gz": read_geojson,
    "parquet": read_parquet,
    "csv": read_csv,
    "xlsx": read_xlsx,
    "ome-tiff": read_ome_tiff,
    "ome-zarr-0.4": read_ome_zarr,
    "dicom-ann": read_ann,
    "dicom-seg": read_seg,
    "spatialdata": read_spatialdata,
}


def agree(result: SlideResult, out: Path) -> None:
    """Export to every format, and compare what the files say with the counts of the run."""
    formats = [name for name in EXPORTERS if name != "spatialdata" or find_spec("spatialdata")]
    export_result(result, formats=formats, out=out)
    count = sum(result.record.counts.values())
    area_um2 = float(result.counts["area_um2"].sum())
    assert count > 0
    told = {name: READERS[name](out / EXPORTERS[name].file_name, result) for name in formats}
    told["ome-zarr-0.5"] = read_ome_zarr(result.folder / "labels.ome.zarr", result)
    assert zarr.open_group(result.folder / "labels.ome.zarr").metadata.zarr_format == 3
    assert {item.count for item in told.values()} <= {count, None}
    for name, item in told.items():
        # GeoJSON is rounded to 0.01 px, and DICOM measures in single precision.
        assert item.area_um2 == pytest.approx(area_um2, rel=1e-5), name


def test_every_format_is_read_back() -> None:
    assert READERS.keys() == EXPORTERS.keys()


def test_a_made_slide_with_all_cases(tmp_path: Path) -> None:
    cases = make_cases(size=Size(width=1100, height=900), tile_px=128, seed=3, fill=60)
    slide = tmp_path / "cases.tif"
    write_slide(slide, render_scene(cases), mpp=cases.mpp)
    spec = perfect_spec(cases, task="instance", tile_px=128, halo_px=16)
    model: TileModel = PerfectTileModel(cases, spec=spec)
    result = run_slide(slide, model, out=tmp_path / "out", config=RunConfig(tissue=False))
    objects = result.objects
    assert objects["has_holes"].any()
    assert objects["recombined"].any()
    assert objects["at_slide_border"].any()
    assert objects["area_um2"].min() == pytest.approx(_pixel_um2(result))
    agree(result, tmp_path / "exports")


@pytest.mark.slow
@pytest.mark.realdata
def test_a_real_slide(data_dir: Path, tmp_path: Path) -> None:
    slide = data_dir / "slides" / "CMU-1-Small-Region.svs"
    model = load_model("nuclei", device="cpu")
    result = run_slide(slide, model, out=tmp_path / "out", config=RunConfig())
    agree(result, tmp_path / "exports")
