"""SpatialData stores of whole runs, read back by the library: the same objects, all in place."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.errors import OutputError
from slideloom.models.spec import Task
from slideloom.testing import PerfectTileModel, Scene, make_scene, perfect_spec, render_scene
from slideloom.testing.slides import write_slide
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import spatialdata as export
from slideloom.workflows.export.spatialdata import write_spatialdata
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size
from tests.makers.roi_files import write_rois

with warnings.catch_warnings():
    # Its own libraries deprecate each other at import.
    warnings.simplefilter("ignore")
    sd: Any = pytest.importorskip("spatialdata", exc_type=ImportError)

# What the libraries say to each other.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler")

# A slide's pixel is half as wide as the model's.
ZOOM = 2
KINDS = ("instance", "rois", "overlapping", "semantic", "boxes", "points", "tiles")
POINT_RADIUS_UM = 4.0


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(size=Size(width=701, height=523), mpp=0.5, seed=5, large_objects=1)


@pytest.fixture(scope="module")
def slide_path(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "fine.tif"
    pixels = render_scene(scene).repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    write_slide(path, pixels, mpp=scene.mpp / ZOOM, quality=None)
    return path


def run(slide_path: Path, scene: Scene, out: Path, *, kind: str) -> SlideResult:
    tasks: dict[str, Task] = {
        "instance": "instance",
        "rois": "instance",
        "boxes": "detection",
        "points": "detection",
        "tiles": "classification",
    }
    spec = perfect_spec(
        scene,
        task=tasks.get(kind, "semantic"),
        tile_px=200,
        halo_px=0 if kind == "tiles" else 40,
        overlapping=kind == "overlapping",
        points=kind == "points",
    )
    config = RunConfig(tissue=False, region_px=320, workers=1)
    if kind == "rois":
        areas = {
            "left part": shapely.box(0, 0, 600, 1046),
            "=right": shapely.box(700, 0, 1402, 900),
        }
        roi = write_rois(out.with_suffix(".geojson"), areas)
        config = config.model_copy(update={"roi": roi, "neighbours_um": 25.0})
    return run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=out, config=config)


@pytest.fixture(scope="module")
def results(
    slide_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, SlideResult]:
    folder = tmp_path_factory.mktemp("results")
    return {kind: run(slide_path, scene, folder / kind, kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def stores(
    results: dict[str, SlideResult], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_OVERVIEW_PX", 701)
        for kind, result in results.items():
            write_spatialdata(result, folder / f"{kind}.zarr")
    return {kind: folder / f"{kind}.zarr" for kind in results}


def mask(store: Any, name: str) -> NDArray[Any]:
    return np.asarray(store[name]["scale0"]["image"].data)


def column(store: Any, name: str) -> NDArray[np.float64]:
    return np.asarray(store["table"].obs_vector(name), np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_tells_the_same_objects(
    results: dict[str, SlideResult], stores: dict[str, Path], kind: str
) -> None:
    result, store = results[kind], sd.read_zarr(stores[kind])
    shapes, table, truth = store["objects"], store["table"], result.objects
    assert len(shapes) == len(table) == len(truth) > 10
    assert table.obs["class"].value_counts().to_dict() == result.record.counts
    assert column(store, "area_um2").sum() == truth["area_um2"].sum()
    area_um2 = shapes.geometry.area.sum() * result.record.slide.mpp**2
    if kind != "points":
        assert area_um2 == pytest.approx(truth["area_um2"].sum(), rel=1e-9)
        assert shapely.equals(shapes.geometry.to_numpy(), truth.geometry.to_numpy()).all()
    assert shapes.index.tolist() == table.obs["instance_id"].tolist()
    assert shapes.index.tolist() == list(range(1, len(truth) + 1))
    assert table.obs_names.tolist() == truth["id"].tolist()
    assert store.attrs["slideloom"]["model"]["task"] == result.record.model.task


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_has_what_the_scverse_expects(
    results: dict[str, SlideResult], stores: dict[str, Path], kind: str
) -> None:
    truth, store = results[kind].objects, sd.read_zarr(stores[kind])
    table = store["table"]
    classes = results[kind].record.model.classes
    assert table.obs["class"].cat.categories.tolist() == [item.name for item in classes]
    colors = ["#{:02x}{:02x}{:02x}".format(*item.color) for item in classes]
    assert list(table.uns["class_colors"]) == colors
    places = truth[["centroid_x_px", "centroid_y_px"]].to_numpy()
    np.testing.assert_array_equal(table.obsm["spatial"], places)
    assert table.X.dtype == np.float64
    measured = set(truth.columns[truth.dtypes.map(lambda kind: kind.kind in "fi")])
    if kind in ("semantic", "overlapping"):
        assert truth["score"].isna().all()
        measured.remove("score")
    assert set(table.var_names) == measured - {"centroid_x_px", "centroid_y_px"}
    for name in table.var_names:
        np.testing.assert_array_equal(column(store, name), truth[name].to_numpy(np.float64))
    assert table.obs["at_slide_border"].tolist() == truth["at_slide_border"].tolist()
    assert table.uns["spatialdata_attrs"]["region"] == "objects"
    if kind == "rois":
        assert table.obs["roi"].tolist() == truth["roi"].tolist()
        assert {"left part", "=right"} <= set(truth["roi"])
        assert "nearest_same_class_um" in table.var_names


def test_values_of_labels_are_the_ids_of_the_table(stores: dict[str, Path]) -> None:
    store = sd.read_zarr(stores["instance"])
    pixels = np.bincount(mask(store, "objects_labels").ravel())[1:]
    np.testing.assert_allclose(pixels * 0.5**2, column(store, "area_um2"), rtol=1e-12)


def test_masks_of_classes_have_the_area_of_their_class(
    results: dict[str, SlideResult], stores: dict[str, Path]
) -> None:
    names = [item.name for item in results["semantic"].record.model.classes]
    one, several = (sd.read_zarr(stores[kind]) for kind in ("semantic", "overlapping"))
    assert set(one.labels) == {"classes_labels"}
    assert set(several.labels) == {f"class-{number}_labels" for number in (1, 2)}
    for number, name in enumerate(names, start=1):
        found = [
            (one, mask(one, "classes_labels") == number),
            (several, mask(several, f"class-{number}_labels") == 1),
        ]
        for store, pixels in found:
            of_class = store["table"].obs["class"] == name
            area_um2 = column(store, "area_um2")[of_class].sum()
            assert pixels.sum() * 0.5**2 == pytest.approx(area_um2, rel=1e-9)
            assert area_um2 > 0


@pytest.mark.parametrize("kind", ["boxes", "points", "tiles"])
def test_a_task_without_masks_has_no_labels(stores: dict[str, Path], kind: str) -> None:
    assert not sd.read_zarr(stores[kind]).labels


def test_labels_keep_their_levels(results: dict[str, SlideResult], stores: dict[str, Path]) -> None:
    tree = sd.read_zarr(stores["instance"])["objects_labels"]
    whole = results["instance"].mask.compute()
    assert list(tree) == ["scale0", "scale1"]
    for level, name in enumerate(tree):
        found = tree[name]["image"].data
        np.testing.assert_array_equal(found.compute(), whole[:: 2**level, :: 2**level])
        assert found.dtype == np.uint32


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_gives_the_objects_in_it(
    results: dict[str, SlideResult], stores: dict[str, Path], kind: str
) -> None:
    store, truth = sd.read_zarr(stores[kind]), results[kind].objects
    mpp = results[kind].record.slide.mpp
    low, high = np.array([60.0, 40.0]), np.array([200.0, 150.0])
    found = store.query.bounding_box(
        axes=("x", "y"), min_coordinate=low, max_coordinate=high, target_coordinate_system="um"
    )
    window = shapely.box(*(low / mpp), *(high / mpp))
    inside = np.flatnonzero(truth.intersects(window)) + 1
    assert 0 < len(inside) < len(truth)
    assert found["objects"].index.tolist() == inside.tolist()
    assert found["table"].obs["instance_id"].tolist() == inside.tolist()


def test_labels_lie_over_shapes(stores: dict[str, Path]) -> None:
    store = sd.read_zarr(stores["instance"])
    shapes = sd.transform(store["objects"], to_coordinate_system="um")
    places = shapely.get_coordinates(shapely.point_on_surface(shapes.geometry.to_numpy()))
    scale = sd.transformations.get_transformation(store["objects_labels"], "um")
    to_um = scale.to_affine_matrix(input_axes=("x", "y"), output_axes=("x", "y"))
    x, y, _ = np.linalg.inv(to_um) @ np.column_stack([places, np.ones(len(places))]).T
    pixels = mask(store, "objects_labels")
    assert pixels.shape == (523, 701)
    np.testing.assert_array_equal(pixels[y.astype(int), x.astype(int)], shapes.index)


@pytest.mark.parametrize("system", ["global", "um"])
def test_all_elements_cover_the_slide(
    results: dict[str, SlideResult], stores: dict[str, Path], system: str
) -> None:
    store, slide = sd.read_zarr(stores["instance"]), results["instance"].record.slide
    unit = slide.mpp if system == "um" else 1.0
    for name in ("overview", "objects_labels"):
        extent = sd.get_extent(store[name], coordinate_system=system)
        assert extent["x"] == pytest.approx((0, slide.width * unit))
        assert extent["y"] == pytest.approx((0, slide.height * unit))
    bounds = results["instance"].objects.total_bounds * unit
    extent = sd.get_extent(store["objects"], coordinate_system=system)
    assert [*extent["x"], *extent["y"]] == pytest.approx(bounds[[0, 2, 1, 3]])


def test_the_overview_is_the_slide_made_smaller(scene: Scene, stores: dict[str, Path]) -> None:
    tree = sd.read_zarr(stores["instance"])["overview"]
    picture = tree["scale0"]["image"]
    assert picture.coords["c"].values.tolist() == ["r", "g", "b"]
    np.testing.assert_array_equal(np.moveaxis(picture.values, 0, -1), render_scene(scene))
    assert [tree[name]["image"].shape for name in tree][1:] == [(3, 261, 350), (3, 130, 175)]


def test_circles_stand_for_points(results: dict[str, SlideResult], stores: dict[str, Path]) -> None:
    shapes = sd.read_zarr(stores["points"])["objects"]
    assert (shapes["radius"] == POINT_RADIUS_UM / 0.25).all()
    truth = results["points"].objects.geometry
    assert shapely.equals(shapes.geometry.to_numpy(), truth.to_numpy()).all()


def test_the_table_can_annotate_the_labels_instead(stores: dict[str, Path]) -> None:
    store = sd.read_zarr(stores["instance"])
    store["table"].obs["region"] = "objects_labels"
    store["table"].obs["region"] = store["table"].obs["region"].astype("category")
    store.set_table_annotates_spatialelement("table", region="objects_labels")
    _, table = sd.join_spatialelement_table(
        sdata=store, spatial_element_names="objects_labels", table_name="table", how="left"
    )
    assert len(table) == len(store["objects"])


def test_without_objects_the_table_is_empty(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    empty = make_scene(size=scene.size, mpp=scene.mpp, seed=5, large_objects=1)
    spec = perfect_spec(empty, task="instance", tile_px=200, halo_px=40)
    model = _Blind(PerfectTileModel(empty, spec=spec))
    config = RunConfig(tissue=False, workers=1)
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    write_spatialdata(result, tmp_path / "empty.zarr")
    store = sd.read_zarr(tmp_path / "empty.zarr")
    assert not store.shapes
    assert len(store["table"]) == 0
    assert "area_um2" in store["table"].var_names
    assert not mask(store, "objects_labels").any()


class _Blind:
    """Finds nothing."""

    def __init__(self, model: PerfectTileModel) -> None:
        self.spec = model.spec
        self._model = model

    def predict(self, batch: Any) -> Any:
        return np.zeros_like(self._model.predict(batch))


@pytest.mark.parametrize("fate", ["gone", "another", "damaged"])
def test_a_slide_that_cannot_be_read_is_left_out(
    slide_path: Path, scene: Scene, tmp_path: Path, fate: str
) -> None:
    path = tmp_path / "slide.tif"
    shutil.copy(slide_path, path)
    result = run(path, scene, tmp_path / "out", kind="boxes")
    if fate == "gone":
        path.unlink()
    elif fate == "another":
        pixels = np.zeros((523 * ZOOM, 701 * ZOOM, 3), np.uint8)
        write_slide(path, pixels, mpp=scene.mpp / ZOOM)
    else:
        path.write_bytes(b"no slide")
    write_spatialdata(result, tmp_path / "a.zarr")
    store = sd.read_zarr(tmp_path / "a.zarr")
    assert not store.images
    assert len(store["objects"]) == len(result.objects)


def test_a_failure_leaves_what_was_there(
    results: dict[str, SlideResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    write_spatialdata(results["boxes"], path)
    before = sorted(path.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("spatialdata._io.io_table.write_adata", full)
        with pytest.raises(OutputError, match="No space left"):
            write_spatialdata(results["tiles"], path)
    assert sorted(path.rglob("*")) == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.zarr"]
    write_spatialdata(results["tiles"], path)
    assert len(sd.read_zarr(path)["objects"]) == len(results["tiles"].objects)
