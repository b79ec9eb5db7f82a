"""What holds for annotations of every format: names, shapes, places, faults."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from slideloom.errors import AnnotationError
from slideloom.workflows.annotations import (
    AnnotationRules,
    Fault,
    ReadAnnotations,
    fault_table,
    read_annotations,
)
from slideloom.wsi.geometry import Size
from tests.makers.annotation_files import (
    Drawn,
    coco_document,
    feature,
    write_asap,
    write_geojson,
    write_imagescope,
    write_json,
)

SIZE = Size(width=120, height=100)
SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 40.0), (10.0, 40.0))
Writer = Callable[[Path, Sequence[Drawn]], Path]


def _write_coco(path: Path, drawn: Sequence[Drawn]) -> Path:
    return write_json(path, coco_document(drawn, size=SIZE))


WRITERS: dict[str, Writer] = {
    "geojson": write_geojson,
    "imagescope": write_imagescope,
    "asap": write_asap,
    "coco": _write_coco,
}
WITH_HOLES = ("geojson", "imagescope")


@st.composite
def stars(draw: st.DrawFn, *, holes: bool) -> Drawn:
    """A polygon around a centre, never crossing itself, with half-pixel corners."""
    x, y = draw(st.integers(20, 100)), draw(st.integers(20, 80))
    radii = draw(st.lists(st.integers(8, 20), min_size=4, max_size=12))
    angles = [2 * math.pi * number / len(radii) for number in range(len(radii))]
    outline = tuple(
        (x + radius * math.cos(angle), y + radius * math.sin(angle))
        for radius, angle in zip(radii, angles, strict=True)
    )
    inner = ((x - 1.5, y - 1.5), (x + 1.5, y - 1.5), (x + 1.5, y + 1.5), (x - 1.5, y + 1.5))
    has_hole = holes and draw(st.booleans())
    name = draw(st.sampled_from(["Tumor", "Stroma & more", "Läsion <2>"]))
    return Drawn(name=name, outline=outline, holes=(inner,) if has_hole else ())


@pytest.mark.parametrize("format_name", WRITERS)
@given(data=st.data())
def test_what_is_written_is_read_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, format_name: str, data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(stars(holes=format_name in WITH_HOLES), min_size=0, max_size=5))
    path = WRITERS[format_name](tmp_path_factory.mktemp("any") / "no-ending", drawn)

    found = read_annotations(path, size=SIZE)

    assert found.faults == ()
    assert found.area is None
    _assert_is(found.objects, [(item.name, item.geometry) for item in drawn])


def _assert_is(objects: gpd.GeoDataFrame, expected: Sequence[tuple[str, shapely.Geometry]]) -> None:
    assert list(objects.columns) == ["geometry", "class"]
    assert objects["class"].tolist() == [name for name, _ in expected]
    for got, (_, wanted) in zip(objects.geometry, expected, strict=True):
        assert got.is_valid
        difference = shapely.area(shapely.symmetric_difference(got, wanted))
        assert difference <= 1e-9 * shapely.area(wanted)


def read(path: Path, *, size: Size = SIZE, rules: AnnotationRules | None = None) -> ReadAnnotations:
    return read_annotations(path, size=size, rules=rules or AnnotationRules())


def problems(found: ReadAnnotations) -> list[tuple[str, str]]:
    return [(fault.object, fault.problem) for fault in found.faults]


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    plain = write_geojson(tmp_path / "a.geojson", [Drawn(name="Tumor", outline=SQUARE)])
    packed = tmp_path / "a.geojson.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(packed).objects["class"].tolist() == ["Tumor"]


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a", [Drawn(name="Tumor", outline=SQUARE)])
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes())
    assert read(path).faults == ()


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a", [Drawn(name="Tumor", outline=SQUARE)])
    assert len(read(path).objects) == 1
    write_geojson(path, [])
    assert len(read(path).objects) == 0


@pytest.mark.parametrize("missing", ["nothing.xml", ""])
def test_a_missing_file_and_a_folder_raise(tmp_path: Path, missing: str) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        read(tmp_path / missing)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"type": "FeatureCollection", "features": [', "damaged JSON"),
        (b"<Annotations><Annotation>", "damaged XML"),
        (b"\x1f\x8b\x08\x00rubbish", "damaged gzip"),
        (b"\x89PNG\r\n\x1a\nrubbish", "picture"),
        (b"II*\0rubbish!", "picture"),
        (b"\x00\x01\xff\xfe", "neither text nor a picture"),
        (b"", "an empty file of no format"),
        (b"hello\nworld\n", "text of no format"),
        (b"<svg/>", "XML with the root 'svg'"),
        (b'[{"id": 1, "content": []}]', "JSON with the keys id, content"),
        (b'{"annotation": {"location": "POINT (1 2)"}}', "JSON with the keys annotation"),
    ],
)
def test_an_unreadable_file_is_one_fault_and_nothing_is_known(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    found = read(path)
    ((name, stated),) = problems(found)
    assert name == ""
    assert problem in stated
    assert list(found.objects.columns) == ["geometry", "class"]
    assert len(found.objects) == 0
    assert found.area is not None
    assert shapely.is_empty(found.area)


def test_classes_are_mapped_left_out_and_missed(tmp_path: Path) -> None:
    drawn = [Drawn(name=name, outline=SQUARE) for name in ("Tumour", "Fold", "Odd", "tumor")]
    rules = AnnotationRules(classes={"Tumour": "tumor", "tumor": "tumor", "Fold": None})
    found = read(write_geojson(tmp_path / "a", drawn), rules=rules)
    assert found.objects["class"].tolist() == ["tumor", "tumor"]
    assert problems(found) == [("feature 3", "class 'Odd' is not among the known ones: left out")]


def test_objects_without_a_class_take_the_default_or_are_a_fault(tmp_path: Path) -> None:
    square = {"type": "Polygon", "coordinates": [SQUARE]}
    path = write_json(tmp_path / "a", [feature(square, name="first"), feature(square)])
    assert problems(read(path)) == [
        ("feature 1 'first'", "it has no class, and there is no default: left out"),
        ("feature 2", "it has no class, and there is no default: left out"),
    ]
    rules = AnnotationRules(default_class="nucleus", classes={"a": "b"})
    assert read(path, rules=rules).objects["class"].tolist() == ["nucleus", "nucleus"]


BOW = ((10.0, 10.0), (30.0, 30.0), (30.0, 10.0), (10.0, 30.0))
TWICE = ((10, 10), (40, 10), (40, 40), (10, 40), (10, 10), (20, 10), (20, 20), (10, 20))


def test_an_outline_that_crosses_itself_is_repaired_and_reported(tmp_path: Path) -> None:
    found = read(write_geojson(tmp_path / "a", [Drawn(name="t", outline=BOW)]))
    ((name, problem),) = problems(found)
    assert name == "feature 1"
    assert problem == "an invalid outline (Self-intersection[20 20]): repaired"
    assert found.objects.geometry[0].is_valid
    assert found.objects.geometry[0].area == pytest.approx(200)


def test_what_a_line_goes_round_twice_is_no_hole(tmp_path: Path) -> None:
    found = read(write_geojson(tmp_path / "a", [Drawn(name="t", outline=TWICE)]))
    assert found.objects.geometry[0].area == pytest.approx(900)
    assert found.objects.geometry[0].is_valid


def test_an_outline_that_only_touches_itself_is_no_fault(tmp_path: Path) -> None:
    spike = [(10, 10), (30, 10), (30, 30), (20, 30), (20, 35), (20, 30), (10, 30)]
    found = read(write_geojson(tmp_path / "a", [Drawn(name="t", outline=spike)]))
    assert problems(found) == []
    assert found.objects.geometry[0].equals(shapely.box(10, 10, 30, 30))


def test_objects_outside_are_dropped_and_those_on_the_edge_are_cut(tmp_path: Path) -> None:
    drawn = [
        Drawn(name="in", outline=SQUARE),
        Drawn(name="out", outline=[(x + 200, y) for x, y in SQUARE]),
        Drawn(name="part", outline=[(x - 20, y) for x, y in SQUARE]),
        Drawn(name="touch", outline=[(x + 110, y) for x, y in SQUARE]),
        Drawn(name="round", outline=[(x - 11, y) for x, y in SQUARE]),
    ]
    found = read(write_geojson(tmp_path / "a", drawn))
    assert found.objects["class"].tolist() == ["in", "part", "round"]
    assert [geometry.bounds for geometry in found.objects.geometry] == [
        (10, 10, 30, 40), (0, 10, 10, 40), (0, 10, 19, 40)
    ]  # fmt: skip
    assert [name for name, _ in problems(found)] == ["feature 2", "feature 4", "feature 3"]
    stated = [problem for _, problem in problems(found)]
    assert stated[0].endswith("210, 10, 230, 40 lies outside the image: left out")
    assert stated[2].endswith("-10, 10, 10, 40 lies partly outside the image: cut at its edge")


def test_points_outside_are_dropped(tmp_path: Path) -> None:
    places = {"type": "MultiPoint", "coordinates": [[1, 2], [120, 100], [120.5, 3], [-0.1, 3]]}
    path = write_json(tmp_path / "a", feature(places, classification={"name": "cell"}))
    found = read(path)
    assert [(point.x, point.y) for point in found.objects.geometry] == [(1, 2), (120, 100)]
    assert [name for name, _ in problems(found)] == ["feature 1", "feature 1"]


def test_shapes_without_points_area_or_numbers_are_faults(tmp_path: Path) -> None:
    outlines: list[list[tuple[float, float]]] = [
        [(1, 1), (2, 2), (1, 1), (2, 2)],
        [(1, 1), (2, 2), (3, 3)],
        [(1, 1), (2, 2), (math.nan, 3)],
        [(1, 1), (2, 2), (math.inf, 3)],
        [(1, 1), (2, 2), (-1e200, 3)],
    ]
    found = read(write_geojson(tmp_path / "a", [Drawn(name="t", outline=o) for o in outlines]))
    assert len(found.objects) == 0
    assert sorted(problems(found)) == [
        ("feature 1", "an outline of 2 points (3 are needed): left out"),
        ("feature 2", "it has no area: left out"),
        ("feature 3", "a coordinate is not a finite number: left out"),
        ("feature 4", "a coordinate is not a finite number: left out"),
        ("feature 5", "a coordinate is larger than any image: left out"),
    ]


def test_rois_are_where_annotations_are_complete(tmp_path: Path) -> None:
    drawn = [
        Drawn(name="Region*", outline=SQUARE),
        Drawn(name="training AREA", outline=[(x + 40, y) for x, y in SQUARE]),
        Drawn(name="Ignore*", outline=[(15, 15), (20, 15), (20, 20), (15, 20)]),
        Drawn(name="t", outline=SQUARE),
    ]
    found = read(write_geojson(tmp_path / "a", drawn))
    assert found.objects["class"].tolist() == ["t"]
    assert found.area is not None
    wanted = shapely.box(10, 10, 30, 40) | shapely.box(50, 10, 70, 40)
    assert shapely.equals(found.area, wanted - shapely.box(15, 15, 20, 20))


def test_ignored_areas_are_cut_out_of_the_whole_image(tmp_path: Path) -> None:
    found = read(write_geojson(tmp_path / "a", [Drawn(name="ignore*", outline=SQUARE)]))
    assert found.area is not None
    assert shapely.area(found.area) == 120 * 100 - 20 * 30


def test_a_roi_without_a_usable_shape_leaves_nothing_known(tmp_path: Path) -> None:
    outside = [(x + 200, y) for x, y in SQUARE]
    found = read(write_geojson(tmp_path / "a", [Drawn(name="ROI", outline=outside)]))
    assert found.area is not None
    assert shapely.is_empty(found.area)
    assert len(found.faults) == 1


def test_a_name_that_the_classes_hold_is_no_roi(tmp_path: Path) -> None:
    path = write_geojson(tmp_path / "a", [Drawn(name="Region 1", outline=SQUARE)])
    assert read(path).area is not None
    found = read(path, rules=AnnotationRules(classes={"Region 1": "tumor"}))
    assert found.area is None
    assert found.objects["class"].tolist() == ["tumor"]


def test_the_name_of_an_object_without_a_class_marks_a_roi(tmp_path: Path) -> None:
    square = {"type": "Polygon", "coordinates": [SQUARE]}
    named = feature(square, name="ROI")
    classed = feature(square, name="ROI", classification={"name": "Tumor"})
    rules = AnnotationRules(default_class="other")
    found = read(write_json(tmp_path / "a", [named, classed]), rules=rules)
    assert found.objects["class"].tolist() == ["Tumor"]
    assert found.area is not None
    assert shapely.area(found.area) == 600


@pytest.mark.parametrize(
    "settings",
    [
        {"instances": True},
        {"threshold": 3},
        {"threshold": 3, "instances": True, "default_class": "a"},
        {"threshold": -1, "default_class": "a"},
        {"colour": "red"},
    ],
)
def test_rules_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        AnnotationRules.model_validate(settings)


def test_the_fault_table_has_one_line_for_each_fault() -> None:
    faults = [
        Fault(file=Path("a/long-name.xml"), object="", problem="damaged XML"),
        Fault(file=Path("b.xml"), object="layer 1 region 2", problem="it has\nno area"),
    ]
    assert fault_table(faults).splitlines() == [
        "file             object            what is wrong",
        "a/long-name.xml                    damaged XML",
        "b.xml            layer 1 region 2  it has no area",
    ]
    assert fault_table([]) == "no faults in the annotations"


@given(
    outline=st.lists(
        st.tuples(st.integers(-20, 140), st.integers(-20, 120)), min_size=1, max_size=12
    )
)
def test_any_scribble_gives_valid_objects_inside_the_image(
    tmp_path_factory: pytest.TempPathFactory, outline: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("scribble") / "a"
    found = read(write_geojson(path, [Drawn(name="t", outline=outline)]))
    assert len(found.objects) + len(found.faults) >= 1
    frame = shapely.box(0, 0, SIZE.width, SIZE.height)
    for shape in found.objects.geometry:
        assert shape.is_valid
        assert shape.geom_type in {"Polygon", "MultiPolygon"}
        assert shape.area > 0
        assert frame.covers(shape)


def test_order_is_kept_among_mixed_shapes(tmp_path: Path) -> None:
    names = [f"class {number}" for number in np.random.default_rng(5).permutation(20)]
    features = [
        feature(
            {"type": "Point", "coordinates": [3, 4]}
            if number % 3
            else {"type": "Polygon", "coordinates": [SQUARE]},
            classification={"name": name},
        )
        for number, name in enumerate(names)
    ]
    assert read(write_json(tmp_path / "a", features)).objects["class"].tolist() == names
