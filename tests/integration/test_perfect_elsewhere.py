"""Perfect tiles at another mpp than the slide's, and inside regions of interest only."""

import json
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.postprocess.pixels import PixelSets
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    assert_same_instances,
    perfect_spec,
    write_slide,
)
from slideloom.tiling.grid import TileGrid
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size
from tests.makers.cases import make_cases

ROIS = {
    "left": shapely.Polygon([(150, 120), (520, 90), (600, 400), (330, 560), (120, 420)]),
    "right": shapely.box(700, 500, 899, 700),
}


@pytest.fixture(scope="module")
def cases() -> Scene:
    return make_cases(size=Size(width=900, height=760), tile_px=64, seed=3, fill=4000)


def _blank(path: Path, size: Size, *, mpp: float) -> Path:
    """A slide without anything on it: perfect models do not look."""
    write_slide(path, np.full((*size.shape, 3), 240, np.uint8), mpp=mpp)
    return path


@pytest.mark.parametrize("slide_mpp", [0.25, 0.3, 0.5, 0.8])
def test_objects_are_true_where_the_slide_is_resampled(
    cases: Scene, tmp_path: Path, slide_mpp: float
) -> None:
    factor = cases.mpp / slide_mpp
    size = Size(width=ceil(900 * factor), height=ceil(760 * factor))
    path = _blank(tmp_path / "slide.tif", size, mpp=slide_mpp)
    spec = perfect_spec(cases, task="instance", tile_px=128, halo_px=16)
    config = RunConfig(tissue=False, region_px=300, formats=())
    result = run_slide(
        path, PerfectTileModel(cases, spec=spec), out=tmp_path / "out", config=config
    )
    found = result.mask.compute().astype(np.int64)
    # Where the sides are no whole number of model pixels the slide's last row may be a part of one.
    found = found[: cases.size.height, : cases.size.width]
    assert_same_instances(found, cases.labels)
    first = np.unique(found, return_index=True)[1][1:]
    number = cases.labels.ravel()[first] - 1
    table = result.objects
    areas = table.geometry.area.to_numpy()
    np.testing.assert_allclose(areas, cases.areas_px[number] * factor**2, rtol=1e-6)
    boxes = cases.boxes[number] * factor
    np.testing.assert_allclose(table.geometry.bounds.to_numpy(), boxes, rtol=1e-6)
    np.testing.assert_allclose(table["area_um2"], cases.areas_px[number] * cases.mpp**2)


def _run_rois(
    cases: Scene, folder: Path, *, tile_px: int, halo_px: int, region_px: int
) -> tuple[SlideResult, NDArray[np.int64]]:
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(area)),
            "properties": {"name": name},
        }
        for name, area in ROIS.items()
    ]
    rois = folder / "rois.geojson"
    rois.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    path = _blank(folder / "slide.tif", cases.size, mpp=cases.mpp)
    spec = perfect_spec(cases, task="instance", tile_px=tile_px, halo_px=halo_px)
    config = RunConfig(tissue=False, region_px=region_px, roi=rois, formats=())
    result = run_slide(path, PerfectTileModel(cases, spec=spec), out=folder / "out", config=config)
    return result, result.mask.compute().astype(np.int64)


def _known(cases: Scene, *, tile_px: int, halo_px: int) -> NDArray[np.bool_]:
    """The objects all of whose pixels lie in cores of tiles whose windows meet a ROI, `(n,)`."""
    core_px = tile_px - 2 * halo_px
    grid = TileGrid(extent=cases.size, core_px=core_px, halo_px=halo_px, mpp=cases.mpp)
    area = shapely.union_all(list(ROIS.values()))
    blind = np.ones(cases.labels.shape, np.bool_)
    for tile in grid:
        seen = tile.window.intersect(grid.bounds)
        if area.intersects(shapely.box(seen.x0, seen.y0, seen.x1, seen.y1)):
            blind[tile.core.slices_in(grid.bounds)] = False
    cut = np.zeros(len(cases) + 1, np.bool_)
    cut[cases.labels[blind]] = True
    return ~cut[1:]


@pytest.mark.parametrize(
    ("tile_px", "halo_px", "region_px"), [(64, 8, 100), (128, 16, 300), (256, 32, 400)]
)
def test_objects_of_a_roi_come_out_whole(
    cases: Scene, tmp_path: Path, *, tile_px: int, halo_px: int, region_px: int
) -> None:
    result, found = _run_rois(
        cases, tmp_path, tile_px=tile_px, halo_px=halo_px, region_px=region_px
    )
    truth = PixelSets.from_labels(cases.labels, count=len(cases), x0=0, y0=0)
    x, y = truth.inner_points.T
    inside = np.any([shapely.contains_xy(area, x, y) for area in ROIS.values()], axis=0)
    known = _known(cases, tile_px=tile_px, halo_px=halo_px)
    assert (inside & known).sum() > 500
    table = result.objects
    # Only an object that leaves the tiles around its ROI may be cut, and then it says so.
    cut = np.zeros(len(table) + 1, np.bool_)
    cut[np.unique(found[~np.concatenate([[True], known])[cases.labels]])] = True
    assert table["at_roi_border"].to_numpy()[cut[1:]].all()
    whole = np.concatenate([[False], inside & known])[cases.labels]
    assert_same_instances(np.where(cut[found], 0, found), np.where(whole, cases.labels, 0))


def test_the_roi_flag_of_every_object_is_right(cases: Scene, tmp_path: Path) -> None:
    result, _ = _run_rois(cases, tmp_path, tile_px=128, halo_px=16, region_px=300)
    table = result.objects
    near = [
        any(shape.distance(area.boundary) <= 1 for area in ROIS.values())
        for shape in table.geometry
    ]
    assert table["at_roi_border"].tolist() == near
    assert 5 < sum(near) < len(near)
