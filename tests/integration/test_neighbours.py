"""Neighbours in a result are those of the whole slide, however the run was cut into parts."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec, Task
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows import found as found_module
from slideloom.workflows.config import RunConfig
from slideloom.workflows.flows import detection as detection_module
from slideloom.workflows.run import run_slide
from tests.makers.roi_files import write_rois

RADIUS_UM = 40.0
KINDS: dict[str, tuple[Task, bool]] = {
    "instance": ("instance", False),
    "semantic": ("semantic", False),
    "overlapping": ("semantic", True),
    "boxes": ("detection", False),
    "points": ("detection", True),
}


def _spec(scene: Scene, kind: str, *, tile_px: int) -> ModelSpec:
    task, option = KINDS[kind]
    overlapping, points = kind == "overlapping" and option, kind == "points" and option
    return perfect_spec(
        scene, task=task, tile_px=tile_px, halo_px=32, overlapping=overlapping, points=points
    )


def _expected(objects: gpd.GeoDataFrame, scene: Scene) -> pd.DataFrame:
    """From the table's own centroids, all pairs at once."""
    xy = objects[["centroid_x_px", "centroid_y_px"]].to_numpy() * objects.attrs["mpp"]
    distance = np.hypot(*(xy[:, None] - xy).T)
    np.fill_diagonal(distance, np.inf)
    own = objects["class"].to_numpy()

    def nearest(counts: NDArray[np.bool_]) -> NDArray[np.float64]:
        found = np.where(counts, distance, np.inf).min(axis=1, initial=np.inf)
        return np.where(np.isinf(found), np.nan, found)

    count = (distance <= RADIUS_UM).sum(axis=1)
    same = own[:, None] == own
    names = [item.name for item in scene.classes]
    return pd.DataFrame(
        {
            "nearest_same_class_um": nearest(same),
            "nearest_other_class_um": nearest(~same),
            **{f"nearest_to_{name}_um": nearest(own == name) for name in names},
            "neighbours_within_40um": count,
            "local_density_per_mm2": count / (np.pi * RADIUS_UM**2 / 1e6),
        }
    )


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_do_not_depend_on_tiles_regions_workers_or_parts(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    tables = []
    for tile_px, region_px, workers, part in [(256, 300, 3, 37), (512, 4000, 1, 50_000)]:
        monkeypatch.setattr(found_module, "OBJECTS_PER_PART", part)
        monkeypatch.setattr(detection_module, "OBJECTS_PER_PART", part)
        model = PerfectTileModel(scene, spec=_spec(scene, kind, tile_px=tile_px))
        config = RunConfig(
            tissue=False,
            region_px=region_px,
            workers=workers,
            neighbours_um=RADIUS_UM,
            formats=("csv",),
        )
        result = run_slide(slide_path, model, out=tmp_path / str(tile_px), config=config)
        tables.append(result.objects)
    expected = _expected(tables[0], scene)
    assert len(expected) > 100
    assert expected["neighbours_within_40um"].max() > 3
    assert tables[0].columns.intersection(expected.columns).tolist() == expected.columns.tolist()
    found = pd.DataFrame(tables[0][expected.columns])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, check_exact=False)
    # The ids of a run depend on its tiles, and points on how a tile's origin rounds.
    columns = expected.columns.tolist()
    if kind == "points":
        np.testing.assert_allclose(tables[0][columns], tables[1][columns], rtol=1e-5)
    else:
        one, other = (pd.DataFrame(table[columns]) for table in tables)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    text = pd.read_csv(tmp_path / "256" / "objects.csv")
    np.testing.assert_allclose(text[columns], expected, rtol=1e-9)


def test_neighbours_of_all_rois_count(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    areas = {"left": shapely.box(100, 100, 400, 500), "right": shapely.box(400, 100, 800, 500)}
    roi = write_rois(tmp_path / "rois.geojson", areas)
    model = PerfectTileModel(scene, spec=_spec(scene, "instance", tile_px=256))
    config = RunConfig(tissue=False, roi=roi, neighbours_um=RADIUS_UM, formats=())
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    expected = _expected(result.objects, scene)
    found = pd.DataFrame(result.objects[expected.columns])
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
    assert set(result.objects["roi"]) == set(areas)


def test_a_result_without_neighbours_is_not_taken_for_one_with_them(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = PerfectTileModel(scene, spec=_spec(scene, "instance", tile_px=512))
    plain = run_slide(slide_path, model, out=tmp_path, config=RunConfig(tissue=False))
    assert not [name for name in plain.objects if name.startswith("ne")]
    for radius_um in (30, 50):
        config = RunConfig(tissue=False, neighbours_um=radius_um)
        result = run_slide(slide_path, model, out=tmp_path, config=config)
        assert f"neighbours_within_{radius_um}um" in result.objects


def test_tiles_have_no_neighbours(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="classification", tile_px=256, halo_px=0)
    config = RunConfig(tissue=False, neighbours_um=RADIUS_UM)
    with pytest.raises(SettingsError, match="leave out --neighbours"):
        run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=config)
