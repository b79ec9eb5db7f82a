"""From a slide, DICOM or not, to DICOM files that tell the objects and masks of the run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import shapely
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.testing import PerfectTileModel, Scene, make_scene, perfect_spec, render_scene
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export.dicom_ann import write_ann
from slideloom.workflows.export.dicom_seg import write_seg
from slideloom.workflows.export.dicom_terms import local_code
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, open_slide
from tests.makers.dicom import DicomStyle, write_dicom_slide

FACTOR = 2
"""Level-0 pixels of the DICOM slide per pixel of the scene."""


@pytest.fixture(scope="module")
def dicom_path(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene as a DICOM slide of twice its resolution; the path is that of a coarse level."""
    folder = tmp_path_factory.mktemp("made") / "S1"
    picture = render_scene(scene).repeat(FACTOR, axis=0).repeat(FACTOR, axis=1)
    mpp = scene.mpp / FACTOR
    style = DicomStyle(mpp=(mpp, mpp), described=True)
    return write_dicom_slide(folder, picture, style=style)[1]


def _run(
    path: Path, scene: Scene, out: Path, *, task: Task = "instance", **spec: Any
) -> SlideResult:
    model = PerfectTileModel(
        scene, spec=perfect_spec(scene, task=task, tile_px=256, halo_px=32, **spec)
    )
    return run_slide(path, model, out=out, config=RunConfig(tissue=False, formats=()))


def _check_annotations(result: SlideResult, path: Path) -> Dataset:
    """The file tells every object; single outlines without holes are equal to the table's."""
    write_ann(result, path)
    document = hd.ann.annread(path)
    counts, areas = {}, {}
    for group in document.AnnotationGroupSequence:
        numbers = group.get_measurements(name=local_code("Object"))[1][:, 0].astype(int)
        counts[group.label] = len(np.unique(numbers))
        areas[group.label] = float(group.get_measurements()[1][:, 1].sum(dtype=np.float64))
        geometry = result.objects.geometry.to_numpy()[numbers - 1]
        plain = shapely.get_num_geometries(geometry) == 1
        plain[plain] = shapely.get_num_interior_rings(geometry[plain]) == 0
        drawn = np.array([shapely.Polygon(points) for points in group.get_graphic_data("2D")])
        assert plain.any()
        assert shapely.equals(drawn[plain], geometry[plain]).all()
        np.testing.assert_allclose(shapely.area(drawn[plain]), shapely.area(geometry[plain]))
    assert counts == {name: count for name, count in result.record.counts.items() if count}
    truth = result.objects.groupby("class")["area_um2"].sum().to_dict()
    assert areas == pytest.approx(truth, rel=1e-6)
    return document


def _read_seg(result: SlideResult, folder: Path) -> tuple[hd.seg.Segmentation, NDArray[Any]]:
    write_seg(result, folder)
    image = hd.seg.segread(folder / "level-0.dcm")
    return image, image.get_total_pixel_matrix(combine_segments=True)


def _check_masks(result: SlideResult, folder: Path) -> hd.seg.Segmentation:
    """Pixels of each class are those of the label image, and as many as the table's areas say."""
    image, found = _read_seg(result, folder)
    names = [item.name for item in result.record.model.classes]
    numbers = result.objects["class"].map({name: n for n, name in enumerate(names, 1)}).to_numpy()
    truth = np.concatenate([[0], numbers])[result.mask.compute()]
    np.testing.assert_array_equal(found, truth)
    pixel_um2 = result.record.qa.read_mpp**2
    areas = result.objects.groupby("class")["area_um2"].sum()
    for number, name in enumerate(names, 1):
        assert (found == number).sum() * pixel_um2 == pytest.approx(areas.get(name, 0.0))
    return image


@pytest.fixture(scope="module")
def dicom_result(
    dicom_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory
) -> SlideResult:
    """Instances of the DICOM slide."""
    return _run(dicom_path, scene, tmp_path_factory.mktemp("run") / "made")


def test_a_tiff_slide(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    result = _run(slide_path, scene, tmp_path / "made")
    document = _check_annotations(result, tmp_path / "objects.ann.dcm")
    image = _check_masks(result, tmp_path / "labels.seg")
    assert document.PatientID == image.PatientID == "made"
    assert document.StudyInstanceUID == image.StudyInstanceUID


def test_a_dicom_slide(
    dicom_path: Path, dicom_result: SlideResult, scene: Scene, tmp_path: Path
) -> None:
    assert len(dicom_result.objects) == len(scene)
    document = _check_annotations(dicom_result, tmp_path / "objects.ann.dcm")
    image = _check_masks(dicom_result, tmp_path / "labels.seg")
    finest = pydicom.dcmread(dicom_path.with_name("level-1.dcm"), stop_before_pixels=True)
    for item in (document.ReferencedImageSequence[0], image.SourceImageSequence[0]):
        assert item.ReferencedSOPInstanceUID == finest.SOPInstanceUID
    assert document.StudyInstanceUID == image.StudyInstanceUID == finest.StudyInstanceUID
    assert str(document.PatientName) == str(image.PatientName) == "Müller^Ann"


def test_annotations_and_masks_meet_on_the_glass(
    dicom_path: Path, dicom_result: SlideResult, tmp_path: Path
) -> None:
    image, found = _read_seg(dicom_result, tmp_path / "labels.seg")
    source = pydicom.dcmread(dicom_path.with_name("level-1.dcm"), stop_before_pixels=True)
    to_glass = hd.spatial.PixelToReferenceTransformer.for_image(image, for_total_pixel_matrix=True)
    to_source = hd.spatial.ReferenceToImageTransformer.for_image(
        source, for_total_pixel_matrix=True
    )
    rng = np.random.default_rng(5)
    y, x = (rng.integers(0, side, 300) for side in found.shape)
    placed = to_source(to_glass(np.column_stack([x, y])))[:, :2]
    covered = shapely.union_all(dicom_result.objects.geometry.to_numpy())
    inside = shapely.contains_xy(covered, placed[:, 0], placed[:, 1])
    np.testing.assert_array_equal(inside, found[y, x] > 0)
    assert 0 < inside.sum() < 300


@pytest.mark.parametrize("overlapping", [False, True])
def test_masks_of_a_semantic_model(
    slide_path: Path, scene: Scene, tmp_path: Path, overlapping: bool
) -> None:
    result = _run(slide_path, scene, tmp_path / "made", task="semantic", overlapping=overlapping)
    _check_annotations(result, tmp_path / "objects.ann.dcm")
    write_seg(result, tmp_path / "labels.seg")
    image = hd.seg.segread(tmp_path / "labels.seg" / "level-0.dcm")
    assert image.segmentation_type.value == ("BINARY" if overlapping else "LABELMAP")
    found = image.get_total_pixel_matrix()
    truth = np.stack(
        [scene.classes_in(Box.of_size(scene.size)) == number for number in (1, 2)], axis=-1
    )
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize("points", [False, True])
def test_detections(slide_path: Path, scene: Scene, tmp_path: Path, points: bool) -> None:
    result = _run(slide_path, scene, tmp_path / "made", task="detection", points=points)
    write_ann(result, tmp_path / "objects.ann.dcm")
    for group in hd.ann.annread(tmp_path / "objects.ann.dcm").AnnotationGroupSequence:
        assert group.graphic_type.value == ("POINT" if points else "RECTANGLE")
        of_class = result.objects[result.objects["class"] == group.label].geometry.to_numpy()
        drawn = np.stack(group.get_graphic_data("2D"))
        bounds = np.column_stack([drawn.min(axis=1), drawn.max(axis=1)])
        np.testing.assert_allclose(bounds, shapely.bounds(of_class), rtol=1e-6)


def test_tiles_of_a_classification(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    result = _run(slide_path, scene, tmp_path / "made", task="classification")
    write_ann(result, tmp_path / "objects.ann.dcm")
    groups = hd.ann.annread(tmp_path / "objects.ann.dcm").AnnotationGroupSequence
    assert {group.graphic_type.value for group in groups} == {"RECTANGLE"}
    found = {group.label: group.number_of_annotations for group in groups}
    assert found == {name: count for name, count in result.record.counts.items() if count}
    with pytest.raises(SettingsError, match="classes of tiles"):
        write_seg(result, tmp_path / "labels.seg")


# One of the identifiers in the DICOM slide is longer than the standard allows.
@pytest.mark.filterwarnings("ignore:The value length:UserWarning")
@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["multiframe_camelyon_challenge_image.dcm", "CMU-1-Small-Region.svs"]
)
def test_real_slides(data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / "slides" / name
    with open_slide(path) as slide:
        size, mpp = slide.size, slide.require_mpp()
    scene = make_scene(size=size, mpp=0.5, seed=3, nuclei_per_mm2=400, large_objects=2)
    scene = replace(scene, mpp=mpp)
    result = _run(path, scene, tmp_path / "real")
    document = _check_annotations(result, tmp_path / "objects.ann.dcm")
    image = _check_masks(result, tmp_path / "labels.seg")
    if path.suffix == ".dcm":
        source = pydicom.dcmread(path, stop_before_pixels=True)
        uid = source["SOPInstanceUID"].value
        assert document.ReferencedImageSequence[0].ReferencedSOPInstanceUID == uid
        spacing = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert measures.PixelSpacing == pytest.approx(list(spacing))
