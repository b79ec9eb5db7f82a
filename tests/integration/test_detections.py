"""Boxes and points from a slide to files equal the truth, however the run was cut into parts."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.decoding.boxes import SIZE_UNIT_PX
from slideloom.testing import PerfectTileModel, Scene, perfect_spec, validate_geojson
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult, load_result
from slideloom.workflows.run import run_slide

WHOLE = RunConfig(tissue=False)


def _model(scene: Scene, *, tile_px: int, halo_px: int, points: bool = False) -> PerfectTileModel:
    spec = perfect_spec(scene, task="detection", tile_px=tile_px, halo_px=halo_px, points=points)
    return PerfectTileModel(scene, spec=spec)


def _rows(objects: gpd.GeoDataFrame, scene: Scene) -> list[list[float]]:
    """Bounds and class number of each object, sorted."""
    numbers = {item.name: number for number, item in enumerate(scene.classes, start=1)}
    bounds = shapely.bounds(objects.geometry.to_numpy())
    return sorted(np.column_stack([bounds, objects["class"].map(numbers)]).tolist())


def _truth(boxes: NDArray[Any], scene: Scene) -> list[list[float]]:
    return sorted(np.column_stack([boxes, scene.class_id]).astype(float).tolist())


@pytest.mark.parametrize("region_px", [300, 4000])
@pytest.mark.parametrize(("tile_px", "halo_px"), [(256, 32), (512, 48), (200, 8)])
def test_boxes_equal_the_truth(
    slide_path: Path, scene: Scene, tmp_path: Path, *, tile_px: int, halo_px: int, region_px: int
) -> None:
    model = _model(scene, tile_px=tile_px, halo_px=halo_px)
    config = RunConfig(tissue=False, region_px=region_px, workers=3, batch_size=3)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    assert _rows(result.objects, scene) == _truth(scene.boxes, scene)
    assert set(model.calls.values()) == {1}
    assert result.record.qa.conflicts == 0
    assert result.record.qa.recombined > 0
    assert result.record.qa.seam_score == 0


@pytest.mark.parametrize("region_px", [300, 4000])
def test_points_equal_the_truth(
    slide_path: Path, scene: Scene, tmp_path: Path, region_px: int
) -> None:
    model = _model(scene, tile_px=256, halo_px=32, points=True)
    config = RunConfig(tissue=False, region_px=region_px)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    found = np.array(_rows(result.objects, scene))
    # Not sorted by bare coordinates: these differ in the last bits.
    truth = np.array(_truth(np.tile(scene.centroids, 2), scene))
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-4)
    assert (shapely.get_type_id(result.objects.geometry) == shapely.GeometryType.POINT).all()


@pytest.mark.parametrize("points", [False, True])
def test_files_do_not_depend_on_regions_batches_or_workers(
    slide_path: Path, scene: Scene, tmp_path: Path, points: bool
) -> None:
    written = []
    for region_px, batch_size, workers in [(200, 1, 1), (700, 5, 3)]:
        model = _model(scene, tile_px=200, halo_px=20, points=points)
        config = RunConfig(
            tissue=False, region_px=region_px, batch_size=batch_size, workers=workers
        )
        out = tmp_path / str(region_px)
        objects = run_slide(slide_path, model, out=out, config=config).objects
        # The settings of a run are part of its ids.
        written.append(objects.drop(columns="id"))
    assert written[0].equals(written[1])


@pytest.mark.parametrize("points", [False, True])
def test_every_file_tells_the_same_detections(
    slide_path: Path, scene: Scene, tmp_path: Path, points: bool
) -> None:
    model = _model(scene, tile_px=256, halo_px=32, points=points)
    result = run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    counts = {
        item.name: int(number)
        for item, number in zip(scene.classes, scene.class_counts, strict=True)
    }
    document = orjson.loads((tmp_path / "objects.geojson").read_bytes())
    kinds = {feature["geometry"]["type"] for feature in document["features"]}
    assert kinds == {"Point" if points else "Polygon"}
    assert len({feature["id"] for feature in document["features"]}) == len(scene)
    if not points:
        assert validate_geojson(tmp_path / "objects.geojson").counts == counts
    assert result.record.counts == counts
    assert dict(zip(result.counts["class"], result.counts["count"], strict=True)) == counts
    size = scene.boxes[:, 2:] - scene.boxes[:, :2]
    area_um2 = 0.0 if points else float(size.prod(axis=1).sum()) * scene.mpp**2
    assert result.counts["area_um2"].sum() == pytest.approx(area_um2)
    again = load_result(tmp_path).objects
    assert again.drop(columns="geometry").equals(result.objects.drop(columns="geometry"))
    assert not (tmp_path / "labels.ome.zarr").exists()
    assert (tmp_path / "overlay.png").stat().st_size > 0


def test_detections_whose_centre_is_in_a_roi_are_kept(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    area = shapely.box(300, 200, 700.5, 600.5)
    roi = {"type": "Feature", "properties": {"name": "nest"}, "geometry": area.__geo_interface__}
    path = tmp_path / "roi.geojson"
    path.write_bytes(orjson.dumps(roi))
    model = _model(scene, tile_px=256, halo_px=32)
    config = RunConfig(tissue=False, roi=path, region_px=300)
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    centre = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2
    inside = shapely.contains_xy(area, centre[:, 0], centre[:, 1])
    small = inside & ((scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1) < 64)
    found = _rows(result.objects, scene)
    expected = np.column_stack([scene.boxes, scene.class_id])[small].astype(float).tolist()
    # Of objects that reach far beyond the ROI only a part is seen.
    assert all(row in found for row in expected)
    assert len(found) - len(expected) <= len(scene.class_id[scene.class_id == 2]) + 2
    near = shapely.dwithin(result.objects.geometry.to_numpy(), area.boundary, 1)
    np.testing.assert_array_equal(result.objects["at_roi_border"], near)
    assert result.counts["roi"].unique().tolist() == ["nest"]


class _CentreMaps:
    """Answers with the maps of the truth: one hot pixel and the size where an object is centred."""

    def __init__(self, scene: Scene) -> None:
        spec = perfect_spec(scene, task="detection", tile_px=256, halo_px=64)
        self.spec: ModelSpec = spec.model_copy(update={"decode": Decode(name="centres")})
        self._scene = scene

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        side = self.spec.tile_px
        maps = np.zeros((len(batch.windows), side, side, len(self.spec.classes) + 2), np.float32)
        boxes, classes = self._scene.boxes, self._scene.class_id - 1
        centre = (boxes[:, :2] + boxes[:, 2:]) // 2
        for answer, window in zip(maps, batch.windows, strict=True):
            x, y = (centre - [window.x0, window.y0]).T
            seen = (x >= 0) & (x < side) & (y >= 0) & (y < side)
            answer[y[seen], x[seen], classes[seen]] = 0.9
            answer[y[seen], x[seen], -2:] = (boxes[seen, 2:] - boxes[seen, :2]) / SIZE_UNIT_PX
        return maps


def test_centre_maps_give_each_nucleus_once(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    result = run_slide(slide_path, _CentreMaps(scene), out=tmp_path, config=WHOLE)
    nuclei = result.objects[result.objects["class"] == "nucleus"]
    truth = scene.boxes[scene.class_id == 1]
    centre = (truth[:, :2] + truth[:, 2:]) // 2
    # Nuclei with one centre pixel, or with neighbouring ones, are one peak.
    gaps = np.abs(centre[:, None] - centre).max(axis=2)
    np.fill_diagonal(gaps, 99)
    assert (gaps > 1).all()
    found = shapely.bounds(nuclei.geometry.to_numpy())
    distance = np.abs(found[:, None] - truth).max(axis=2)
    assert len(nuclei) == len(truth)
    assert sorted(distance.argmin(axis=1).tolist()) == list(range(len(truth)))
    assert distance.min(axis=1).max() <= 1


class _Silent:
    """A detector that names no decode."""

    def __init__(self, scene: Scene) -> None:
        spec = perfect_spec(scene, task="detection", tile_px=256, halo_px=32)
        self.spec: ModelSpec = spec.model_copy(update={"decode": None})

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        return np.zeros((len(batch.windows), 0, 6), np.float32)


def test_a_model_without_a_decode_is_refused(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"edit model\.json"):
        run_slide(slide_path, _Silent(scene), out=tmp_path, config=WHOLE)


def _empty(result: SlideResult) -> bool:
    return len(result.objects) == 0 and sum(result.record.counts.values()) == 0


def test_a_slide_without_detections_has_an_empty_table(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = _Silent(scene)
    model.spec = model.spec.model_copy(update={"decode": Decode(name="boxes")})
    result = run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    assert _empty(result)
    assert {"class", "area_um2", "recombined"} <= set(result.objects.columns)
