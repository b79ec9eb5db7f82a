"""Files that the tools of the field wrote, and public data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image

from slideloom.workflows.annotations import AnnotationRules, ReadAnnotations, read_annotations
from slideloom.wsi.geometry import Size

pytestmark = pytest.mark.realdata

WIDE = Size(width=30_000, height=22_000)
NUCLEI = AnnotationRules(default_class="nucleus")


def _pixels(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def _size(pixels: NDArray[np.int64]) -> Size:
    return Size(width=pixels.shape[1], height=pixels.shape[0])


def _fixture(data_dir: Path, name: str) -> ReadAnnotations:
    (path,) = (data_dir / "annotation_fixtures").rglob(name)
    return read_annotations(path, size=WIDE, rules=NUCLEI)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("qupath-brush.json", ["Polygon"]),
        ("qupath-ellipse.json", ["Polygon"]),
        ("qupath-multipoint.json", ["Point"] * 3),
        ("qupath-point.json", ["Point"]),
        ("qupath-polygon.json", ["Polygon"]),
        ("qupath-rectangle.json", ["Polygon"]),
        ("qupath-wand.json", ["Polygon"]),
        ("qupath-polygon-cell-classified.json", ["Polygon"] * 4),
        ("asap-dot.xml", ["Point"]),
        ("asap-pointset.xml", ["Point"] * 5),
        ("asap-polygon.xml", ["Polygon"]),
    ],
)
def test_files_of_qupath_and_asap_are_read(data_dir: Path, name: str, kinds: list[str]) -> None:
    found = _fixture(data_dir, name)
    assert found.faults == ()
    assert [shape.geom_type for shape in found.objects.geometry] == kinds


def test_places_and_classes_are_those_of_the_file(data_dir: Path) -> None:
    rectangle = _fixture(data_dir, "qupath-rectangle.json").objects.geometry[0]
    assert rectangle.equals(shapely.box(26268, 15298, 26478, 15474))
    dot = _fixture(data_dir, "asap-dot.xml").objects.geometry[0]
    assert (dot.x, dot.y) == (23071.5605, 16831.0098)
    cells = _fixture(data_dir, "qupath-polygon-cell-classified.json").objects
    assert Counter(cells["class"]) == {"Cell": 2, "Nucleus": 2}


@pytest.mark.parametrize("name", ["qupath-line.json", "qupath-polyline.json"])
def test_lines_of_qupath_are_faults(data_dir: Path, name: str) -> None:
    found = _fixture(data_dir, name)
    assert len(found.objects) == 0
    (fault,) = found.faults
    assert "a line" in fault.problem


@pytest.mark.parametrize("folder", ["cytomine", "sectra"])
def test_files_of_other_tools_are_one_fault_each(data_dir: Path, folder: str) -> None:
    paths = sorted((data_dir / "annotation_fixtures" / folder).iterdir())
    assert paths
    for path in paths:
        (fault,) = read_annotations(path, size=WIDE).faults
        assert "JSON with the keys" in fault.problem


def test_nuclei_of_monuseg_are_valid_and_inside(data_dir: Path) -> None:
    counts: Counter[str] = Counter()
    for path in sorted((data_dir / "monuseg_train" / "annotations").iterdir())[2:6]:
        found = read_annotations(path, size=Size(width=1000, height=1000), mpp=0.25, rules=NUCLEI)
        shapes = found.objects.geometry
        assert shapes.is_valid.all()
        assert shapely.box(0, 0, 1000, 1000).covers(shapely.box(*shapes.total_bounds))
        assert 50 < shapes.area.median() < 1000
        counts["objects"] += len(shapes)
        for fault in found.faults:
            counts[fault.problem.rsplit(": ", 1)[-1]] += 1
    assert counts == {"objects": 1596, "left out": 1, "cut at its edge": 3, "repaired": 1}


def test_boxes_of_bccd_lie_on_their_images(data_dir: Path) -> None:
    classes: Counter[str] = Counter()
    faults: list[str] = []
    for path in sorted((data_dir / "bccd" / "BCCD" / "Annotations").iterdir()):
        found = read_annotations(path, size=Size(width=640, height=480))
        classes.update(found.objects["class"])
        faults += [fault.problem for fault in found.faults]
    assert classes == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    assert len(faults) == 2
    assert all("without an area" in problem for problem in faults)


def test_instances_of_dsb_keep_every_pixel(data_dir: Path) -> None:
    rules = AnnotationRules(default_class="nucleus", instances=True)
    for path in sorted((data_dir / "dsb2018_brightfield" / "labels").iterdir())[:10]:
        labels = _pixels(path)
        found = read_annotations(path, size=_size(labels), rules=rules)
        assert found.faults == ()
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        assert len(found.objects) == len(values)
        assert found.objects.geometry.area.tolist() == counts.tolist()


def test_soft_masks_of_ebhi_are_cut_in_the_middle(data_dir: Path) -> None:
    rules = AnnotationRules(default_class="gland", threshold=127)
    for path in sorted((data_dir / "ebhi_seg_subset" / "masks").rglob("*.png"))[::60]:
        pixels = _pixels(path)
        found = read_annotations(path, size=_size(pixels), rules=rules)
        assert found.faults == ()
        assert found.objects.geometry.area.sum() == (pixels > 127).sum()
        without = read_annotations(path, size=_size(pixels))
        assert len(without.objects) == 0
        assert "set `instances`" in without.faults[0].problem


def test_points_and_types_of_nucls_are_read(data_dir: Path) -> None:
    folder = data_dir / "nucls_examples" / "test"
    for path in sorted((folder / "points").iterdir()):
        labels = _pixels(folder / "types" / f"{path.stem}.png")
        found = read_annotations(path, size=_size(labels))
        assert found.faults == ()
        assert len(found.objects) == len(path.read_text().split())
        classes = AnnotationRules(classes={"1": "other", "2": "tumor"})
        areas = read_annotations(
            folder / "types" / f"{path.stem}.png", size=_size(labels), rules=classes
        )
        assert areas.faults == ()
        for value, name in ((1, "other"), (2, "tumor")):
            chosen = areas.objects.geometry[areas.objects["class"] == name]
            assert chosen.area.sum() == (labels == value).sum()
