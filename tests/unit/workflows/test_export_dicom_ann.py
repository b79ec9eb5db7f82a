"""Annotations read back by highdicom tell the objects of the table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import highdicom as hd
import numpy as np
import pytest
import shapely
from highdicom.ann import AnnotationGroup, MicroscopyBulkSimpleAnnotations
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from slideloom.errors import SlideNotFoundError
from slideloom.workflows.export import stored
from slideloom.workflows.export.dicom_ann import write_ann
from slideloom.workflows.export.dicom_source import source_image
from slideloom.workflows.export.dicom_terms import local_code
from slideloom.workflows.result import SlideResult
from tests.makers.finished_result import finished_result, squares


def _table(shapes: Sequence[shapely.Geometry], *, name: str = "tumour") -> gpd.GeoDataFrame:
    table = squares(len(shapes))
    areas = shapely.area(np.array(shapes, object)) * 0.25
    return table.assign(**{"class": name, "area_um2": areas}).set_geometry(
        gpd.GeoSeries(list(shapes))
    )


def _of_model(result: SlideResult, **model: Any) -> SlideResult:
    spec = result.record.model.model_copy(update=model)
    record = result.record.model_copy(update={"model": spec})
    return SlideResult(folder=result.folder, record=record)


def _written(result: SlideResult) -> MicroscopyBulkSimpleAnnotations:
    path = result.folder / "objects.ann.dcm"
    write_ann(result, path)
    return hd.ann.annread(path)


def _points(group: AnnotationGroup) -> list[NDArray[Any]]:
    return list(group.get_graphic_data("2D"))


def _measured(group: AnnotationGroup, name: str) -> list[float]:
    code = codes.SCT.Area if name == "Area" else local_code(name)
    values = group.get_measurements(name=code)[1]
    return np.asarray(values[:, 0]).tolist() if values.size else []


def test_each_class_with_objects_is_a_group(tmp_path: Path) -> None:
    table = squares(7)
    first, second = _written(finished_result(tmp_path / "S1", table)).AnnotationGroupSequence
    assert [first.number, second.number] == [1, 2]
    assert [first.label, second.label] == ["tumour", "stroma"]
    assert [first.number_of_annotations, second.number_of_annotations] == [4, 3]
    assert first.uid != second.uid
    assert _measured(first, "Object") == [1, 3, 5, 7]
    assert _measured(second, "Object") == [2, 4, 6]
    np.testing.assert_array_equal(_measured(first, "Score"), table["score"][::2])
    assert _measured(first, "Area") == [4.0] * 4


def test_a_class_without_objects_leaves_no_gap(tmp_path: Path) -> None:
    table = _table([shapely.box(0, 0, 1, 1)], name="stroma")
    (group,) = _written(finished_result(tmp_path / "S1", table)).AnnotationGroupSequence
    assert (group.number, group.label) == (1, "stroma")


def test_an_outline_is_its_outer_ring_without_its_end(tmp_path: Path) -> None:
    outline = shapely.Polygon([(3, 1), (7.25, 1), (7, 4), (3, 4)], [[(4, 2), (5, 2), (5, 3)]])
    (group,) = _written(finished_result(tmp_path / "S1", _table([outline]))).AnnotationGroupSequence
    assert group.graphic_type.value == "POLYGON"
    (points,) = _points(group)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, [(3, 1), (7.25, 1), (7, 4), (3, 4)])
    # The hole is not drawn, and counts.
    assert _measured(group, "Area") == [pytest.approx(outline.area * 0.25)]


def test_each_part_of_an_object_is_a_polygon_that_names_it(tmp_path: Path) -> None:
    holed = shapely.Polygon(
        shapely.box(10, 0, 14, 4).exterior, [shapely.box(11, 1, 12, 2).exterior]
    )
    shapes = [
        shapely.box(0, 0, 2, 2),
        shapely.MultiPolygon([shapely.box(4, 0, 5, 1), holed, shapely.box(20, 0, 21, 3)]),
        shapely.box(30, 0, 31, 1),
    ]
    table = _table(shapes)
    (group,) = _written(finished_result(tmp_path / "S1", table)).AnnotationGroupSequence
    assert _measured(group, "Object") == [1, 2, 2, 2, 3]
    assert sum(_measured(group, "Area")) == pytest.approx(table["area_um2"].sum())
    drawn = [shapely.Polygon(points) for points in _points(group)]
    parts = shapely.get_parts(np.array(shapes))
    filled = shapely.polygons(shapely.get_exterior_ring(parts))
    assert shapely.equals(drawn, filled).all()


def test_objects_go_on_from_part_to_part_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "ROWS_PER_PART", 4)
    result = finished_result(tmp_path / "S1", squares(10))
    first, second = _written(result).AnnotationGroupSequence
    assert _measured(first, "Object") == [1, 3, 5, 7, 9]
    assert _measured(second, "Object") == [2, 4, 6, 8, 10]
    tumour = result.objects[result.objects["class"] == "tumour"]
    drawn = [shapely.Polygon(points) for points in _points(first)]
    assert shapely.equals(drawn, tumour.geometry.to_numpy()).all()


def test_boxes_are_rectangles_from_the_top_left(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "S1", _table([shapely.box(1, 2, 5, 4)]))
    (group,) = _written(_of_model(result, task="detection")).AnnotationGroupSequence
    assert group.graphic_type.value == "RECTANGLE"
    np.testing.assert_array_equal(_points(group), [[(1, 2), (5, 2), (5, 4), (1, 4)]])
    assert _measured(group, "Area") == [2.0]


def test_points_have_no_area(tmp_path: Path) -> None:
    table = _table([shapely.Point(1.5, 2.25), shapely.Point(7, 9)])
    result = _of_model(finished_result(tmp_path / "S1", table), task="detection")
    (group,) = _written(result).AnnotationGroupSequence
    assert group.graphic_type.value == "POINT"
    np.testing.assert_array_equal(np.vstack(_points(group)), [(1.5, 2.25), (7, 9)])
    assert _measured(group, "Area") == []
    assert _measured(group, "Object") == [1, 2]


def test_areas_of_masks_have_no_score(tmp_path: Path) -> None:
    table = _table([shapely.box(1, 2, 5, 4)]).assign(score=np.float32(np.nan))
    (group,) = _written(finished_result(tmp_path / "S1", table)).AnnotationGroupSequence
    assert _measured(group, "Score") == []
    assert _measured(group, "Area") == [2.0]


def test_large_slides_have_precise_coordinates(tmp_path: Path) -> None:
    shape = shapely.box(140_000.01, 2, 140_000.02, 4)
    result = finished_result(tmp_path / "S1", _table([shape]), width=150_000)
    (group,) = _written(result).AnnotationGroupSequence
    assert shapely.Polygon(_points(group)[0]).equals(shape)


def test_a_result_without_objects_has_no_group(tmp_path: Path) -> None:
    document = _written(finished_result(tmp_path / "S1", squares(0)))
    assert list(document.AnnotationGroupSequence) == []


def test_the_file_refers_to_the_slide_and_names_the_model(tmp_path: Path) -> None:
    result = _of_model(
        finished_result(tmp_path / "S1", squares(2)),
        name="gländs",
        weights_sha256="0123456789abcdef0123",
    )
    source = source_image(result)
    document = _written(result)
    assert document.StudyInstanceUID == source.StudyInstanceUID
    assert document.SeriesInstanceUID != source.SeriesInstanceUID
    (image,) = document.ReferencedImageSequence
    assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert document.annotation_coordinate_type.value == "2D"
    assert document.PixelOriginInterpretation == "VOLUME"
    assert document.PatientID == "S1"
    assert document.SeriesDescription == "gländs (slideloom)"
    algorithm = document.AnnotationGroupSequence[0].algorithm_identification
    assert algorithm is not None
    assert (algorithm.name, algorithm.version) == ("gländs", "0123456789abcdef")


def test_groups_have_codes_and_colours(tmp_path: Path) -> None:
    tumour, stroma = _written(finished_result(tmp_path / "S1", squares(2))).AnnotationGroupSequence
    assert tumour.annotated_property_type == codes.SCT.Neoplasm
    assert stroma.annotated_property_type == local_code("stroma")
    assert stroma.annotated_property_type.scheme_designator == "99SLIDELOOM"
    color = hd.color.CIELabColor.from_dicom_value(tumour.RecommendedDisplayCIELabValue)
    assert color.to_rgb() == (200, 0, 0)
    assert tumour.algorithm_type.value == "AUTOMATIC"


def test_the_same_result_gives_the_same_file(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "S1", squares(5))
    for name in ("one.dcm", "two.dcm"):
        write_ann(result, tmp_path / name)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()


def test_a_failed_export_leaves_no_file(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "S1", squares(5))
    slide = result.record.slide.model_copy(update={"path": "gone.dcm", "reader": "openslide"})
    gone = SlideResult(
        folder=result.folder, record=result.record.model_copy(update={"slide": slide})
    )
    with pytest.raises(SlideNotFoundError, match=r"gone\.dcm"):
        write_ann(gone, tmp_path / "objects.ann.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["S1"]
