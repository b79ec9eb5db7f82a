"""Classification without a slide: which tiles are chosen, what is refused, what a region keeps."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import shapely

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.testing import write_slide
from slideloom.tiling.tissue import find_tissue
from slideloom.workflows.config import RunConfig
from slideloom.workflows.deliver import tile_areas
from slideloom.workflows.flows import flow_for
from slideloom.workflows.plan import RunPlan, plan_run
from slideloom.workflows.regions import blank_outside
from slideloom.wsi import Box, Size, open_slide

CLASSES = tuple(ModelClass(name=name, color=(9, 90, 200)) for name in ("one", "two", "three"))
CORE_PX, HALO_PX = 40, 12
SIZE = Size(width=470, height=330)


def make_spec(**changed: object) -> ModelSpec:
    fields: dict[str, object] = {
        "name": "made",
        "task": "classification",
        "architecture": None,
        "classes": CLASSES,
        "mpp": 0.5,
        "tile_px": CORE_PX + 2 * HALO_PX,
        "halo_px": HALO_PX,
        "normalisation": Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        "licence": "none",
        "training_data": "none",
    }
    return ModelSpec.model_validate(fields | changed)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White glass with one stained square."""
    pixels = np.full((*SIZE.shape, 3), 245, np.uint8)
    pixels[100:210, 90:230] = (190, 80, 160)
    path = tmp_path_factory.mktemp("square") / "square.tif"
    write_slide(path, pixels, mpp=0.5)
    return path


def plan_of(path: Path, config: RunConfig, **changed: object) -> RunPlan:
    with open_slide(path) as slide:
        return plan_run(slide, make_spec(**changed), config=config)


def roi_file(folder: Path, *areas: shapely.Geometry) -> Path:
    path = folder / "rois.geojson"
    features = [
        {"type": "Feature", "properties": {}, "geometry": orjson.loads(shapely.to_geojson(area))}
        for area in areas
    ]
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_tiles_are_chosen_by_the_tissue_in_their_cores(path: Path) -> None:
    plan = plan_of(path, RunConfig())
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
    for tile in plan.grid:
        chosen = plan.selected[tile.index.row, tile.index.col]
        assert chosen == tissue.touches(tile.core)
    windows = plan_of(path, RunConfig(), task="semantic").selected
    assert (plan.selected <= windows).all()
    assert plan.selected.sum() < windows.sum()


def test_tiles_are_chosen_by_the_centres_that_rois_hold(path: Path, tmp_path: Path) -> None:
    areas = (shapely.box(30, 30, 190, 141), shapely.Point(400, 250).buffer(70))
    config = RunConfig(roi=roi_file(tmp_path, *areas), tissue=False)
    plan = plan_of(path, config)
    area_um2 = [0.0, 0.0]
    for tile in plan.grid:
        core = tile.core
        centre = shapely.Point((core.x0 + core.x1) / 2, (core.y0 + core.y1) / 2)
        held = [area.contains(centre) for area in areas]
        assert plan.selected[tile.index.row, tile.index.col] == any(held)
        for number, inside in enumerate(held):
            area_um2[number] += inside * core.width * core.height * 0.25
    assert [item.area_um2 for item in tile_areas(plan)] == area_um2
    assert min(area_um2) > 0


@pytest.mark.parametrize(
    ("setting", "value"), [("probabilities", True), ("window", "gaussian"), ("stains", True)]
)
def test_settings_without_effect_are_refused(path: Path, setting: str, value: object) -> None:
    config = RunConfig.model_validate({setting: value})
    with pytest.raises(SettingsError, match=f"classification .* leave out --{setting}"):
        plan_of(path, config)


def test_one_pixel_of_a_whole_tile_is_not_blanked() -> None:
    maps = np.array([[[0.2, 0.8]]], np.float32)
    window = Box(x0=-12, y0=-12, x1=52, y1=52)
    seen = blank_outside(maps, window, bounds=Box(x0=0, y0=0, x1=30, y1=30))
    np.testing.assert_array_equal(seen, maps)


def test_a_model_of_other_maps_is_refused(path: Path) -> None:
    plan = plan_of(path, RunConfig(tissue=False))
    (region,) = plan.regions
    flow = flow_for("classification")
    for shape in [(1, 1, 2), (64, 64, 3)]:
        maps = np.zeros(shape, np.float32)
        with pytest.raises(SettingsError, match=r"3 classes gives \(1, 1, 3\)"):
            flow.digest(region, [(region.tiles[0], maps)], plan=plan)


def test_a_region_without_tiles_keeps_no_row(path: Path) -> None:
    plan = plan_of(path, RunConfig(tissue=False))
    (region,) = plan.regions
    arrays = flow_for("classification").digest(region, [], plan=plan)
    assert {name: array.shape for name, array in arrays.items()} == {
        "settled.cores": (0, 4),
        "settled.probabilities": (0, 3),
    }
