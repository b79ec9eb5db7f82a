"""Runs of one slide: resume, ROIs, tissue, resampling, faults."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest
import shapely

import slideloom as sl
from slideloom.errors import MissingMppError, OutputError, RegionError, RoiError, SettingsError
from slideloom.testing import PerfectTileModel, Scene, perfect_spec, write_slide
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult, load_result
from slideloom.workflows.run import run_slide
from slideloom.wsi import open_slide
from tests.makers.dying_model import DyingModel

CONFIG = RunConfig(tissue=False, region_px=300, workers=1, batch_size=1)


@pytest.fixture
def model(scene: Scene) -> PerfectTileModel:
    return PerfectTileModel(
        scene, spec=perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    )


def _files(folder: Path) -> dict[str, bytes]:
    """All files but those that tell times, which differ."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"report.html", "result.json"}
    }


def test_a_finished_run_is_not_computed_again(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path
) -> None:
    first = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    calls = model.calls.total()
    again = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert model.calls.total() == calls
    pd.testing.assert_frame_equal(again.counts, first.counts)
    pd.testing.assert_frame_equal(again.objects, first.objects)
    assert again.objects.attrs == first.objects.attrs
    run_slide(slide_path, model, out=tmp_path, config=CONFIG.model_copy(update={"overwrite": True}))
    assert model.calls.total() == 2 * calls


def test_a_result_that_lost_a_file_is_computed_again(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path
) -> None:
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    (tmp_path / "objects.geojson").unlink()
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert (tmp_path / "objects.geojson").exists()


def test_a_record_that_cannot_be_read_is_written_again(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path
) -> None:
    (tmp_path / "result.json").write_text('{"format": 9}')
    with pytest.raises(OutputError, match="no finished result"):
        load_result(tmp_path)
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert load_result(tmp_path).record.format == 1


def test_an_interrupted_run_goes_on_where_it_stopped(
    slide_path: Path, scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    whole = run_slide(slide_path, model, out=tmp_path / "whole", config=CONFIG)
    model = PerfectTileModel(scene, spec=model.spec)
    with pytest.raises(MemoryError):
        run_slide(slide_path, DyingModel(model, tiles=9), out=tmp_path / "broken", config=CONFIG)
    assert not (tmp_path / "broken" / "result.json").exists()
    run_slide(slide_path, model, out=tmp_path / "broken", config=CONFIG)
    # One worker and one tile at a time: only the tiles of the region that was cut short come twice.
    assert sum(count > 1 for count in model.calls.values()) <= 4
    assert len(model.calls) == whole.record.qa.tiles
    assert _files(tmp_path / "broken") == _files(tmp_path / "whole")


def test_other_settings_start_anew(
    slide_path: Path, scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    spec = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32)
    result = run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=CONFIG)
    assert list(result.masks) == ["classes"]
    assert load_result(tmp_path).record.key == result.record.key


def test_no_work_files_are_left(slide_path: Path, model: PerfectTileModel, tmp_path: Path) -> None:
    run_slide(slide_path, model, out=tmp_path / "out", config=CONFIG)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "counts.csv",
        "labels.ome.zarr",
        "objects.geojson",
        "objects.parquet",
        "overlay.png",
        "report.html",
        "result.json",
    }


def _write_rois(path: Path, *areas: shapely.Geometry) -> Path:
    features = [
        {
            "type": "Feature",
            "properties": {"name": f"area {number}"},
            "geometry": orjson.loads(shapely.to_geojson(area)),
        }
        for number, area in enumerate(areas)
    ]
    path.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_rois_keep_the_objects_inside_and_skip_far_tiles(
    slide_path: Path, scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    areas = shapely.box(100, 100, 400, 350), shapely.Point(800, 600).buffer(120)
    roi = _write_rois(tmp_path / "rois.geojson", *areas)
    whole = run_slide(slide_path, model, out=tmp_path / "whole", config=CONFIG)
    model = PerfectTileModel(scene, spec=model.spec)
    config = CONFIG.model_copy(update={"roi": roi})
    part = run_slide(slide_path, model, out=tmp_path / "part", config=config)
    assert 0 < model.calls.total() < whole.record.qa.tiles
    assert part.counts["roi"].unique().tolist() == ["area 0", "area 1"]
    assert part.counts["count"].sum() == len(part.objects) > 0
    # An object in a ROI is the same object as in the whole slide's result.
    by_place = whole.objects.set_index(["centroid_x_px", "centroid_y_px"])["area_um2"]
    small = part.objects[part.objects["class"] == "nucleus"]
    for row in small.itertuples():
        assert by_place[row.centroid_x_px, row.centroid_y_px] == row.area_um2
    inside = shapely.union_all(shapely.buffer(areas, -20))
    whole_inside = whole.objects[whole.objects["class"] == "nucleus"].geometry.within(inside)
    part_inside = small.geometry.within(inside)
    assert whole_inside.sum() == part_inside.sum() > 10


def test_rois_cut_masks(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    roi = _write_rois(tmp_path / "rois.geojson", shapely.box(130, 90, 420, 371))
    spec = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32)
    config = CONFIG.model_copy(update={"roi": roi})
    result = run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=config)
    mask, whole = result.mask.compute(), np.zeros(scene.labels.shape, np.uint8)
    numbers = np.concatenate([[0], scene.class_id])[scene.labels]
    whole[90:371, 130:420] = numbers[90:371, 130:420]
    np.testing.assert_array_equal(mask, whole)


def test_tissue_leaves_out_empty_tiles(
    scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    glass = np.full((930, 1150, 3), 245, np.uint8)
    glass[300:500, 300:500] = (190, 90, 160)
    write_slide(tmp_path / "glass.tif", glass, mpp=0.5)
    config = RunConfig(region_px=300)
    result = run_slide(tmp_path / "glass.tif", model, out=tmp_path / "out", config=config)
    assert 0 < result.record.qa.tiles_predicted < result.record.qa.tiles
    assert 3 < result.record.qa.tissue_percent < 12


def test_an_empty_slide_gives_an_empty_result(
    scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    write_slide(tmp_path / "blank.tif", np.full((930, 1150, 3), 245, np.uint8), mpp=0.5)
    result = run_slide(tmp_path / "blank.tif", model, out=tmp_path / "out")
    assert len(result.objects) == 0
    assert result.counts["count"].tolist() == [0, 0]
    assert model.calls.total() == 0
    assert len(load_result(tmp_path / "out").objects) == 0


def test_a_finer_slide_is_resampled_and_exported_in_its_own_pixels(
    scene: Scene, model: PerfectTileModel, tmp_path: Path
) -> None:
    picture = np.zeros((2 * scene.size.height, 2 * scene.size.width, 3), np.uint8)
    write_slide(tmp_path / "fine.tif", picture, mpp=0.25)
    result = run_slide(tmp_path / "fine.tif", model, out=tmp_path / "out", config=CONFIG)
    assert result.objects.attrs["mpp"] == pytest.approx(0.25)
    assert result.record.qa.read_mpp == pytest.approx(0.5)
    np.testing.assert_allclose(
        np.sort(shapely.area(result.objects.geometry)), np.sort(4 * scene.areas_px)
    )


def test_the_python_calls_of_the_readme(slide_path: Path, tmp_path: Path) -> None:
    with sl.open_slide(slide_path) as slide:
        result = sl.run_slide(slide, model="nuclei", out=tmp_path / "out")
    assert isinstance(result, SlideResult)
    assert len(result.objects) > 50
    assert result.mask.shape == (930, 1150)
    assert result.counts["count"].tolist() == [len(result.objects)]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file"
    path.write_text("in the way")
    yield path / "out"
    shutil.rmtree(path, ignore_errors=True)


def test_faults_are_clear_errors(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path, read_only: Path
) -> None:
    with pytest.raises(OutputError, match="choose another --out"):
        run_slide(slide_path, model, out=read_only, config=CONFIG)
    with pytest.raises(SettingsError, match="no exporter writes pdf"):
        run_slide(slide_path, model, out=tmp_path, config=RunConfig(formats=("pdf",)))
    coarse = open_slide(slide_path, mpp=3.0)
    with coarse, pytest.raises(RegionError, match=r"3 um/px at its finest.*needs 0\.5"):
        run_slide(coarse, model, out=tmp_path, config=CONFIG)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "is not GeoJSON"),
        ('[{"type":"Feature","geometry":null}]', "is not GeoJSON"),
        ('{"type":"FeatureCollection","features":[]}', "holds no polygon"),
        ('{"type":"Feature","geometry":{"type":"Point","coordinates":[1,2]}}', "holds no polygon"),
        (
            '[{"type":"Feature","geometry":{"type":"Polygon",'
            '"coordinates":[[[9000,0],[9001,0],[9001,1],[9000,0]]]}}]',
            "lies outside slide 'made' of 1150 x 930 px",
        ),
    ],
)
def test_rois_that_cannot_be_used(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path, *, text: str, fault: str
) -> None:
    roi = tmp_path / "rois.geojson"
    roi.write_text(text)
    config = CONFIG.model_copy(update={"roi": roi})
    with pytest.raises(RoiError, match=fault):
        run_slide(slide_path, model, out=tmp_path / "out", config=config)


@pytest.mark.realdata
def test_a_slide_without_mpp_is_an_error_that_names_the_option(
    data_dir: Path, model: PerfectTileModel, tmp_path: Path
) -> None:
    path = data_dir / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
    with pytest.raises(MissingMppError, match="--mpp"):
        run_slide(path, model, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_clear_error_wherever_it_is_met(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("slideloom.workflows.run.finish_labels", full)
    with pytest.raises(OutputError, match=r"labels\.ome\.zarr' \(No space left.*disk has room"):
        run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    monkeypatch.undo()
    calls = model.calls.total()
    run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert model.calls.total() == calls
