"""A row for each region of interest in every table, against the masks themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.errors import RoiError, SettingsError
from slideloom.models.spec import Task
from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.testing import PerfectTileModel, Scene, perfect_spec, write_slide
from slideloom.tiling.tissue import find_tissue
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, open_slide
from tests.makers.roi_files import write_rois

# The first two have a strip in common; the third has a hole and lies partly off the slide.
AREAS = {
    "nest": shapely.box(130, 90, 420.4, 371),
    "disc": shapely.Point(480, 300).buffer(130),
    "ring": shapely.Point(1000, 700).buffer(300).difference(shapely.Point(1080, 800).buffer(60)),
}


def _model(
    scene: Scene, task: Task, *, overlapping: bool = False, points: bool = False
) -> PerfectTileModel:
    spec = perfect_spec(
        scene, task=task, tile_px=256, halo_px=32, overlapping=overlapping, points=points
    )
    return PerfectTileModel(scene, spec=spec)


def _class_pixels(result: SlideResult, scene: Scene, task: str) -> NDArray[np.bool_]:
    """`(classes, y, x)`, from the label images."""
    masks = [mask.compute() for mask in result.masks.values()]
    if len(masks) > 1:
        return np.stack(masks) > 0
    numbers = masks[0]
    if task == "instance":
        names = [item.name for item in scene.classes]
        class_id = [0, *(1 + names.index(name) for name in result.objects["class"])]
        numbers = np.array(class_id)[numbers]
    return np.stack([numbers == value for value in range(1, len(scene.classes) + 1)])


def _inside(area: Any, scene: Scene) -> NDArray[np.bool_]:
    return rasterize(area, Box.of_size(scene.size))


@pytest.mark.parametrize("region_px", [300, 4000])
@pytest.mark.parametrize(
    ("task", "overlapping"), [("instance", False), ("semantic", False), ("semantic", True)]
)
def test_what_is_covered_of_each_roi_is_what_the_masks_show_of_it(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    *,
    task: Task,
    overlapping: bool,
    region_px: int,
) -> None:
    config = RunConfig(
        tissue=False,
        roi=write_rois(tmp_path / "rois.geojson", AREAS),
        region_px=region_px,
        formats=(),
    )
    model = _model(scene, task, overlapping=overlapping)
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    shown = _class_pixels(result, scene, task)
    frame = shapely.box(0, 0, scene.size.width, scene.size.height)
    for name, area in AREAS.items():
        rows = result.counts[result.counts["roi"] == name]
        assert rows["class"].tolist() == [item.name for item in scene.classes]
        covered = (shown & _inside(area, scene)).sum(axis=(1, 2)) * scene.mpp**2
        assert covered[0] > 0
        roi_um2 = shapely.intersection(area, frame).area * scene.mpp**2
        np.testing.assert_allclose(rows["covered_um2"], covered)
        np.testing.assert_allclose(rows["roi_um2"], roi_um2)
        np.testing.assert_allclose(rows["reference_um2"], roi_um2)
        np.testing.assert_allclose(rows["surrounding_um2"], roi_um2 - covered)
        np.testing.assert_allclose(rows["area_percent_of_roi"], 100 * covered / roi_um2)
        assert rows[["tissue_um2", "area_percent_of_tissue"]].isna().all(axis=None)
    assert (result.counts.groupby("class")["covered_um2"].sum() > 0).all()
    # Instances are kept whole, so their areas are not what they cover of the regions.
    assert not np.allclose(result.counts["area_um2"], result.counts["covered_um2"])


@pytest.mark.parametrize("task", ["instance", "semantic", "classification"])
def test_without_rois_objects_cover_their_area(
    slide_path: Path, scene: Scene, tmp_path: Path, task: Task
) -> None:
    config = RunConfig(tissue=False, formats=())
    result = run_slide(slide_path, _model(scene, task), out=tmp_path, config=config)
    counts = result.counts
    assert "roi" not in result.objects
    assert counts["roi"].tolist() == ["", ""]
    assert counts["covered_um2"].tolist() == counts["area_um2"].tolist()
    rest = counts["reference_um2"] - counts["area_um2"]
    np.testing.assert_allclose(counts["surrounding_um2"], rest)
    assert counts[["roi_um2", "area_percent_of_roi"]].isna().all(axis=None)


@pytest.mark.parametrize("points", [False, True])
def test_of_boxes_and_points_it_is_unknown_what_they_cover(
    slide_path: Path, scene: Scene, tmp_path: Path, points: bool
) -> None:
    roi = write_rois(tmp_path / "rois.geojson", AREAS)
    config = RunConfig(tissue=False, roi=roi, formats=())
    model = _model(scene, "detection", points=points)
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    assert result.counts["roi_um2"].notna().all()
    columns = ["covered_um2", "surrounding_um2", "area_percent_of_roi", "area_percent_of_tissue"]
    assert result.counts[columns].isna().all(axis=None)
    assert set(result.objects["roi"]) == set(AREAS)


@pytest.mark.parametrize("task", ["instance", "semantic", "detection", "classification"])
def test_each_object_names_the_first_roi_that_holds_it(
    slide_path: Path, scene: Scene, tmp_path: Path, task: Task
) -> None:
    rois = write_rois(tmp_path / "rois.geojson", AREAS)
    config = RunConfig(tissue=False, roi=rois, region_px=400, formats=("csv",))
    result = run_slide(slide_path, _model(scene, task), out=tmp_path / "out", config=config)
    objects, counts = result.objects, result.counts
    assert objects.columns.get_loc("roi") == objects.columns.get_loc("class") + 1
    centre = shapely.centroid(objects.geometry.to_numpy())
    inside = np.stack([shapely.contains(area, centre) for area in AREAS.values()])
    # A tile belongs to where its centre is; of an object only what is clear of borders is sure.
    clear = (objects["class"] == "nucleus") & ~objects["at_roi_border"]
    sure = inside.any(axis=0) & ((task == "classification") | clear.to_numpy())
    expected = np.array(list(AREAS))[inside.argmax(axis=0)]
    assert sure.sum() > (4 if task == "classification" else 50)
    assert objects["roi"].to_numpy()[sure].tolist() == expected[sure].tolist()
    # What lies in two regions is counted in both, and in the table under the first.
    named = objects["roi"].value_counts()
    counted = counts.groupby("roi")["count"].sum()
    assert (counted >= named.reindex(counted.index)).all()
    assert counted["nest"] == named["nest"]
    text = pd.read_csv(tmp_path / "out" / "objects.csv", keep_default_na=False)
    assert text["roi"].tolist() == objects["roi"].tolist()


def test_tissue_is_measured_inside_each_roi(scene: Scene, tmp_path: Path) -> None:
    glass = np.full((*scene.size.shape, 3), 245, np.uint8)
    glass[200:640, 150:700] = (190, 90, 160)
    path = tmp_path / "glass.tif"
    write_slide(path, glass, mpp=scene.mpp)
    areas = {**AREAS, "empty": shapely.box(900, 100, 1000, 200)}
    rois = write_rois(tmp_path / "rois.geojson", areas)
    config = RunConfig(roi=rois, formats=())
    out = tmp_path / "out"
    counts = run_slide(path, _model(scene, "semantic"), out=out, config=config).counts
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
    y, x = np.mgrid[: scene.size.height, : scene.size.width]
    stained = tissue.mask[
        ((y + 0.5) / tissue.scale_y).astype(int), ((x + 0.5) / tissue.scale_x).astype(int)
    ]
    assert 0.15 < stained.mean() < 0.4
    for name, area in areas.items():
        rows = counts[counts["roi"] == name]
        tissue_um2 = (stained & _inside(area, scene)).sum() * scene.mpp**2
        np.testing.assert_allclose(rows["tissue_um2"], tissue_um2, rtol=0.01, atol=3)
        if name == "empty":
            assert rows["area_percent_of_tissue"].isna().all()
        else:
            percent = 100 * rows["covered_um2"] / rows["tissue_um2"]
            np.testing.assert_allclose(rows["area_percent_of_tissue"], percent)
            assert (rows["tissue_um2"] <= rows["roi_um2"]).all()


def test_tissue_of_the_whole_slide_is_what_everything_refers_to(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    result = run_slide(
        slide_path, _model(scene, "instance"), out=tmp_path, config=RunConfig(formats=())
    )
    counts = result.counts
    slide_um2 = scene.size.width * scene.size.height * scene.mpp**2
    share = result.record.qa.tissue_percent / 100
    np.testing.assert_allclose(counts["tissue_um2"], share * slide_um2, rtol=1e-3)
    assert counts["reference_um2"].tolist() == counts["tissue_um2"].tolist()
    assert counts["area_percent_of_tissue"].tolist() == counts["area_percent"].tolist()


def test_rois_are_chosen_by_name(
    slide_path: Path, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roi = write_rois(tmp_path / "rois.geojson", AREAS)
    config = RunConfig(tissue=False, roi=roi, roi_names=("ring", "nest"), formats=())
    model = _model(scene, "instance")
    result = run_slide(slide_path, model, out=tmp_path / "out", config=config)
    assert result.counts["roi"].unique().tolist() == ["nest", "ring"]
    with pytest.raises(RoiError, match="no area called 'rind': it has 'nest', 'disc', 'ring'"):
        run_slide(
            slide_path,
            model,
            out=tmp_path / "out",
            config=config.model_copy(update={"roi_names": ("rind",)}),
        )
    with pytest.raises(SettingsError, match="add --roi"):
        run_slide(slide_path, model, out=tmp_path, config=RunConfig(roi_names=("ring",)))
    words = ["run", str(slide_path), "--model", "nuclei", "--out", str(tmp_path / "cli")]
    words += ["--no-tissue", "--roi", str(roi), "--roi-name", "nest", "--roi-name", "disc"]
    assert run_command([*words, "--format", "csv"]) == 0
    capsys.readouterr()
    table = pd.read_csv(tmp_path / "cli" / "counts.csv")
    assert table["roi"].tolist() == ["nest", "disc"]
