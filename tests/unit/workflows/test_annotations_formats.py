"""What is particular to each format of annotations made of shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import shapely

from slideloom.workflows.annotations import AnnotationRules, ReadAnnotations, read_annotations
from slideloom.wsi.geometry import Point, Size
from tests.makers.annotation_files import (
    Drawn,
    asap_annotation,
    feature,
    imagescope_layer,
    imagescope_region,
    voc_text,
    write_asap_items,
    write_geojson,
    write_imagescope_layers,
    write_json,
)

SIZE = Size(width=200, height=100)
SQUARE = ((10.0, 10.0), (30.0, 10.0), (30.0, 40.0), (10.0, 40.0))
POLYGON = {"type": "Polygon", "coordinates": [SQUARE]}


def read(path: Path, **settings: Any) -> ReadAnnotations:
    return read_annotations(path, size=SIZE, **settings)


def problems(found: ReadAnnotations) -> list[tuple[str, str]]:
    return [(fault.object, fault.problem) for fault in found.faults]


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ("Tumor", "Tumor"),
        ({"name": "Tumor", "colorRGB": -1}, "Tumor"),
        ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Tumor: Positive"),
    ],
)
def test_qupath_states_classes_in_three_ways(
    tmp_path: Path, stated: str | dict[str, Any], name: str
) -> None:
    path = write_json(tmp_path / "a", feature(POLYGON, classification=stated))
    assert read(path).objects["class"].tolist() == [name]


@pytest.mark.parametrize("form", ["collection", "list", "feature", "none"])
def test_qupath_writes_collections_lists_and_single_features(tmp_path: Path, form: str) -> None:
    one = feature(POLYGON, classification={"name": "t"})
    documents: dict[str, Any] = {
        "collection": {"type": "FeatureCollection", "features": [one]},
        "list": [one],
        "feature": one,
        "none": [],
    }
    found = read(write_json(tmp_path / "a", documents[form]))
    assert len(found.objects) == (form != "none")
    assert found.faults == ()


def test_a_cell_is_its_own_outline_and_not_its_nucleus(tmp_path: Path) -> None:
    inner = {"type": "Polygon", "coordinates": [[(15, 15), (20, 15), (20, 20)]]}
    cell = feature(POLYGON, objectType="cell", classification={"name": "t"})
    found = read(write_json(tmp_path / "a", [{**cell, "nucleusGeometry": inner}]))
    assert found.objects.geometry[0].equals(shapely.box(10, 10, 30, 40))


def test_multipolygons_stay_one_object_and_multipoints_become_many(tmp_path: Path) -> None:
    other = [[(x + 50, y) for x, y in SQUARE]]
    several = {"type": "MultiPolygon", "coordinates": [[SQUARE], other]}
    points = {"type": "MultiPoint", "coordinates": [[1, 2, 0], [3, 4, 0]]}
    path = write_json(
        tmp_path / "a", [feature(g, classification={"name": "t"}) for g in (several, points)]
    )
    found = read(path).objects.geometry
    assert [shape.geom_type for shape in found] == ["MultiPolygon", "Point", "Point"]
    assert found[0].area == 1200
    assert (found[2].x, found[2].y) == (3, 4)


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        ({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}, "a line, which no task learns"),
        ({"type": "Curve", "coordinates": [1]}, "geometry type 'Curve' is not read"),
        ({"type": "Polygon", "coordinates": []}, "a Polygon without coordinates"),
        ({"type": "Polygon", "coordinates": [[1, 2, 3]]}, "no list of x, y"),
        ({"type": "Polygon", "coordinates": [["a", "b"]]}, "not as the format says"),
        ({"type": "Point", "coordinates": [None, 1]}, "not a finite number"),
        (None, "it has no geometry"),
    ],
)
def test_what_is_no_area_or_point_is_a_fault_of_its_feature(
    tmp_path: Path, geometry: dict[str, Any] | None, problem: str
) -> None:
    features = [feature(geometry, name="odd"), feature(POLYGON, classification={"name": "t"})]
    found = read(write_json(tmp_path / "a", features))
    assert len(found.objects) == 1
    ((name, stated),) = problems(found)
    assert name == "feature 1 'odd'"
    assert problem in stated


def test_a_feature_of_another_shape_is_a_fault(tmp_path: Path) -> None:
    good = feature(POLYGON, classification={"name": "t"})
    found = read(write_json(tmp_path / "a", [good, "odd", {"properties": {}}]))
    assert [name for name, _ in problems(found)] == ["feature 2", "feature 3"]


def test_the_bounds_offset_moves_qupath_only(tmp_path: Path) -> None:
    offset = Point(x=100, y=20)
    path = write_geojson(tmp_path / "a", [Drawn(name="t", outline=SQUARE)])
    found = read(path, bounds_offset=offset)
    assert found.objects.geometry[0].bounds == (110, 30, 130, 60)
    other = write_imagescope_layers(
        tmp_path / "b", [imagescope_layer([imagescope_region(SQUARE)], name="t")]
    )
    assert read(other, bounds_offset=offset).objects.geometry[0].bounds == (10, 10, 30, 40)


def test_imagescope_draws_rectangles_ellipses_and_counters(tmp_path: Path) -> None:
    corners = [(20.0, 10.0), (60.0, 30.0)]
    regions = [
        imagescope_region(SQUARE, Type="1"),
        imagescope_region(corners, Type="1"),
        imagescope_region(corners, Type="2"),
        imagescope_region(corners, Type="5"),
    ]
    path = write_imagescope_layers(tmp_path / "a", [imagescope_layer(regions, name="t")])
    found = read(path)
    assert found.faults == ()
    shapes = found.objects.geometry.tolist()
    assert shapes[0].equals(shapely.box(10, 10, 30, 40))
    assert shapes[1].equals(shapely.box(20, 10, 60, 30))
    assert shapes[2].area == pytest.approx(math.pi * 20 * 10)
    assert shapes[2].centroid.coords[0] == pytest.approx((40, 20))
    assert shapes[2].bounds == pytest.approx((20, 10, 60, 30), abs=0.05)
    assert [(point.x, point.y) for point in shapes[3:]] == corners


@pytest.mark.parametrize(
    ("kind", "problem"), [("3", "an arrow"), ("4", "a ruler"), ("9", "region type '9'")]
)
def test_imagescope_lines_and_unknown_types_are_faults(
    tmp_path: Path, kind: str, problem: str
) -> None:
    regions = [imagescope_region(SQUARE, Type=kind, Id="33"), imagescope_region(SQUARE)]
    found = read(write_imagescope_layers(tmp_path / "a", [imagescope_layer(regions, name="t")]))
    assert len(found.objects) == 1
    ((name, stated),) = problems(found)
    assert name == "layer 1 region 33"
    assert problem in stated


def test_negative_regions_cut_their_own_layer_only(tmp_path: Path) -> None:
    hole = [(20.0, 0.0), (40.0, 0.0), (40.0, 100.0), (20.0, 100.0)]
    far = [(x + 100, y) for x, y in SQUARE]
    first = imagescope_layer(
        [
            imagescope_region(hole, NegativeROA="1"),
            imagescope_region(SQUARE),
            imagescope_region(far),
        ],
        name="cut",
    )
    second = imagescope_layer([imagescope_region(SQUARE)], name="whole")
    found = read(write_imagescope_layers(tmp_path / "a", [first, second]))
    assert found.faults == ()
    assert [shape.bounds for shape in found.objects.geometry] == [
        (10, 10, 20, 40), (110, 10, 130, 40), (10, 10, 30, 40)
    ]  # fmt: skip


def test_a_region_that_is_cut_away_is_a_fault(tmp_path: Path) -> None:
    regions = [imagescope_region(SQUARE), imagescope_region(SQUARE, NegativeROA="1")]
    found = read(write_imagescope_layers(tmp_path / "a", [imagescope_layer(regions, name="t")]))
    assert problems(found) == [("layer 1 region 1", "it has no area: left out")]


@pytest.mark.parametrize(
    ("layer", "text", "attribute", "expected"),
    [
        ("Layer 1", "Tumor", "", "tumor"),
        ("Tumor", "Stroma", "", "tumor"),
        ("", "", "Stroma", "stroma"),
        ("", "Stroma", "Tumor", "stroma"),
    ],
)
def test_imagescope_states_the_class_in_three_places(
    tmp_path: Path, layer: str, text: str, attribute: str, expected: str
) -> None:
    region = imagescope_region(SQUARE, Text=text)
    path = write_imagescope_layers(
        tmp_path / "a", [imagescope_layer([region], name=layer, description=attribute)]
    )
    rules = AnnotationRules(classes={"Tumor": "tumor", "Stroma": "stroma"})
    assert read(path, rules=rules).objects["class"].tolist() == [expected]


@pytest.mark.parametrize(("mpp", "count"), [(None, 0), (0.252, 0), (0.5, 1)])
def test_imagescope_files_of_another_resolution_are_noticed(
    tmp_path: Path, mpp: float | None, count: int
) -> None:
    layers = [imagescope_layer([imagescope_region(SQUARE)], name="t")]
    found = read(write_imagescope_layers(tmp_path / "a", layers), mpp=mpp)
    assert found.objects.geometry[0].bounds == (10, 10, 30, 40)
    assert len(found.faults) == count


def test_asap_draws_dots_rectangles_splines_and_sets_of_points(tmp_path: Path) -> None:
    items = [
        asap_annotation(places, group="t", kind=kind)
        for kind, places in (
            ("Dot", SQUARE[:1]),
            ("Rectangle", SQUARE),
            ("Spline", SQUARE),
            ("PointSet", SQUARE[:2]),
            ("Measurement", SQUARE[:2]),
        )
    ]
    found = read(write_asap_items(tmp_path / "a", items, groups={"t": "None"}))
    kinds = [shape.geom_type for shape in found.objects.geometry]
    assert kinds == ["Point", "Polygon", "Polygon", "Point", "Point"]
    assert found.objects.geometry[1].equals(shapely.box(10, 10, 30, 40))
    assert problems(found) == [("it", "annotation type 'Measurement' is not read: left out")]


def test_asap_groups_within_groups_fall_back_to_the_known_one(tmp_path: Path) -> None:
    items = [asap_annotation(SQUARE, group=group) for group in ("inner", "outer", "None", "loop")]
    groups = {"inner": "outer", "outer": "None", "loop": "loop"}
    path = write_asap_items(tmp_path / "a", items, groups=groups)
    assert read(path).objects["class"].tolist() == ["inner", "outer", "loop"]
    rules = AnnotationRules(classes={"outer": "tumor"}, default_class="rest")
    found = read(path, rules=rules)
    assert found.objects["class"].tolist() == ["tumor", "tumor", "rest"]
    assert len(found.faults) == 1


def test_voc_boxes_count_from_one_and_include_their_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    boxes = [("RBC", (0, 0, 200, 100)), ("WBC", (5, 6, 8, 10))]
    path.write_text(voc_text(boxes, size=SIZE))
    assert "<xmin>6</xmin><ymin>7</ymin><xmax>8</xmax><ymax>10</ymax>" in path.read_text()
    found = read(path)
    assert found.faults == ()
    assert found.objects["class"].tolist() == ["RBC", "WBC"]
    assert [shape.bounds for shape in found.objects.geometry] == [box for _, box in boxes]


def test_voc_objects_without_a_box_or_an_area_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "a"
    frame = "<bndbox><xmin>9</xmin><ymin>1</ymin><xmax>9</xmax><ymax>5</ymax></bndbox>"
    odd = f"<object><name>t</name>{frame}</object><object><name>t</name></object>"
    broken = "<object><bndbox><xmin>1</xmin></bndbox></object>"
    path.write_text(f"<annotation>{odd}{broken}</annotation>")
    assert problems(read(path)) == [
        ("object 1", "a box without an area, from 9, 1 to 9, 5: left out"),
        ("object 2", "it has no box: left out"),
        ("object 3", "a coordinate is not a finite number: left out"),
    ]


def test_voc_files_of_another_size_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(voc_text([("t", (5, 6, 8, 10))], size=Size(width=640, height=480)))
    found = read(path)
    assert len(found.objects) == 1
    ((_, problem),) = problems(found)
    assert "made for an image of 640 x 480 px" in problem
    path.write_text(voc_text([], size=Size(width=0, height=0)))
    assert read(path).faults == ()


@pytest.mark.parametrize(
    "text",
    [
        "17.5,30,1\n4,5,2\n",
        "x,y,class\n17.5,30,1\n4,5,2\n",
        "id;Type;Y;X\r\n9;1;30;17.5\r\n8;2;5;4\r\n\r\n",
        "x\ty\tlabel\n17.5\t30\t1\n4\t5\t2",
        "Centroid X px,Centroid Y px,Classification\n17.5,30,1\n4,5,2\n",
        "Centroid X µm,Centroid Y µm,Class\n8.75,15,1\n2,2.5,2\n",
    ],
)
def test_points_come_from_tables_of_many_kinds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "points"
    path.write_text(text)
    found = read(path, mpp=0.5)
    assert found.faults == ()
    assert found.objects["class"].tolist() == ["1", "2"]
    assert [(point.x, point.y) for point in found.objects.geometry] == [(17.5, 30), (4, 5)]


def test_points_without_a_class_take_the_default(tmp_path: Path) -> None:
    path = tmp_path / "points"
    path.write_text("1,2\n3,4\n")
    found = read(path, rules=AnnotationRules(default_class="cell"))
    assert found.objects["class"].tolist() == ["cell", "cell"]


def test_rows_that_hold_no_point_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "points"
    path.write_text("x,y,class\n1,2,a\nfoo,2,a\n1\nnan,1,a\n300,1,a\n")
    found = read(path)
    assert len(found.objects) == 1
    assert [name for name, _ in problems(found)] == ["row 3", "row 4", "row 5", "row 6"]


def test_micrometres_need_an_mpp(tmp_path: Path) -> None:
    path = tmp_path / "points"
    path.write_text("Centroid X µm,Centroid Y µm\n8.75,15\n")
    found = read(path)
    assert len(found.objects) == 0
    ((_, problem),) = problems(found)
    assert "mpp is not known" in problem


def test_an_empty_table_says_that_there_are_no_points(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("")
    found = read(path)
    assert found.faults == ()
    assert found.area is None
    assert len(found.objects) == 0
