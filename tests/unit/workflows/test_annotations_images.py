"""Label images, and the masks, boxes and images of COCO files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks

from slideloom.workflows.annotations import AnnotationRules, ReadAnnotations, read_annotations
from slideloom.workflows.annotations.faults import BadObjectError
from slideloom.workflows.annotations.rle import decode_counts, decode_mask
from slideloom.wsi.geometry import Size
from tests.makers.annotation_files import Drawn, coco_document, plain_counts, write_json

CELLS = AnnotationRules(default_class="cell", instances=True)
SIZE = Size(width=40, height=30)
Mask = NDArray[np.bool_]


def save(path: Path, pixels: NDArray[Any]) -> Path:
    """PNG, or TIFF where the name says so."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, compression="zlib")
    else:
        Image.fromarray(pixels).save(path, format="PNG")
    return path


def read(
    path: Path, *, size: Size, rules: AnnotationRules | None = None, image: str | None = None
) -> ReadAnnotations:
    return read_annotations(path, size=size, rules=rules or AnnotationRules(), image=image)


def size_of(pixels: NDArray[Any]) -> Size:
    return Size(width=pixels.shape[1], height=pixels.shape[0])


def problems(found: ReadAnnotations) -> list[tuple[str, str]]:
    return [(fault.object, fault.problem) for fault in found.faults]


def covered(shapes: list[shapely.Geometry], size: Size) -> Mask:
    """Which pixel centres lie in any of the shapes, asked one by one."""
    mask = np.zeros(size.shape, np.bool_)
    for y, x in np.ndindex(mask.shape):
        mask[y, x] = any(shapely.contains_xy(shape, x + 0.5, y + 0.5) for shape in shapes)
    return mask


LABELS = arrays.arrays(
    np.uint16,
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    elements=st.sampled_from([0, 3, 900]),
)


@given(labels=LABELS, suffix=st.sampled_from(["a.png", "a.tif"]))
def test_outlines_are_exact_for_classes_and_instances(
    tmp_path_factory: pytest.TempPathFactory, labels: NDArray[np.uint16], suffix: str
) -> None:
    path = save(tmp_path_factory.mktemp("labels") / suffix, labels)
    size = size_of(labels)
    classes, instances = read(path, size=size), read(path, size=size, rules=CELLS)
    assert classes.faults == instances.faults == ()

    values = [value for value in (3, 900) if (labels == value).any()]
    assert instances.objects["class"].tolist() == ["cell"] * len(values)
    for shape, value in zip(instances.objects.geometry, values, strict=True):
        assert (covered([shape], size) == (labels == value)).all()
        assert shape.area == (labels == value).sum()
    names = classes.objects["class"]
    assert names.tolist() == sorted(names, key=int)
    for value in values:
        shapes = classes.objects.geometry[names == str(value)].tolist()
        assert (covered(shapes, size) == (labels == value)).all()
        assert all(shape.geom_type == "Polygon" for shape in shapes)


def test_values_are_classes_by_the_rules(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:5, 3:9], labels[10:12, 0:2], labels[20:, 30:], labels[0, 0] = 1, 1, 2, 7
    rules = AnnotationRules(classes={"1": "gland", "2": None})
    found = read(save(tmp_path / "a.png", labels), size=SIZE, rules=rules)
    assert found.objects["class"].tolist() == ["gland", "gland"]
    assert [shape.bounds for shape in found.objects.geometry] == [(3, 2, 9, 5), (0, 10, 2, 12)]
    assert problems(found) == [("7", "1 pixels of a value that `classes` does not hold: left out")]


def test_zero_is_a_class_where_the_rules_name_it(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[:, :10] = 255
    rules = AnnotationRules(classes={"0": "tissue", "255": "hole"})
    found = read(save(tmp_path / "a.png", labels), size=SIZE, rules=rules)
    assert found.objects["class"].tolist() == ["tissue", "hole"]
    assert found.objects.geometry.area.tolist() == [900, 300]


def test_palettes_count_by_index_and_bits_by_value(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:5, 3:9] = 2
    indexed = Image.fromarray(labels)
    indexed.putpalette([0, 0, 0, 255, 255, 255, 9, 9, 9])
    indexed.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as written:
        assert written.mode == "P"
    assert read(tmp_path / "a.png", size=SIZE).objects["class"].tolist() == ["2"]
    Image.fromarray(labels > 0).save(tmp_path / "b.png")
    found = read(tmp_path / "b.png", size=SIZE).objects
    assert found["class"].tolist() == ["1"]
    assert found.geometry.area.tolist() == [18]


@pytest.mark.parametrize("suffix", ["a.png", "a.tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours_are_classes(tmp_path: Path, suffix: str, alpha: bool) -> None:
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[2:5, 3:9, :3], pixels[10:20, 10:20, :3] = (255, 0, 0), (1, 2, 3)
    pixels[25:, 35:] = (8, 8, 8, 0 if alpha else 255)
    path = save(tmp_path / suffix, pixels if alpha else pixels[..., :3])
    rules = AnnotationRules(classes={"#FF0000": "tumor"})
    found = read(path, size=SIZE, rules=rules)
    assert found.objects["class"].tolist() == ["tumor"]
    assert found.objects.geometry[0].bounds == (3, 2, 9, 5)
    strangers = ["#010203"] if alpha else ["#010203", "#080808"]
    assert [name for name, _ in problems(found)] == strangers
    bare = read(path, size=SIZE).objects["class"].tolist()
    assert bare == sorted([*strangers, "#ff0000"])


def test_grey_stored_as_colour_is_grey(tmp_path: Path) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:5, 3:9] = 2
    path = save(tmp_path / "a.png", np.repeat(labels[..., None], 3, axis=2))
    assert read(path, size=SIZE).objects["class"].tolist() == ["2"]
    assert read(path, size=SIZE, rules=CELLS).objects["class"].tolist() == ["cell"]


def test_clear_grey_is_background(tmp_path: Path) -> None:
    pixels = np.full((30, 40, 2), 5, np.uint8)
    pixels[:10, :, 1] = 0
    found = read(save(tmp_path / "a.png", pixels), size=SIZE)
    assert found.objects.geometry[0].equals(shapely.box(0, 10, 40, 30))


def test_soft_masks_are_cut_at_the_threshold(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))
    path = save(tmp_path / "a.png", ramp)
    rules = AnnotationRules(default_class="gland", threshold=127)
    found = read(path, size=SIZE, rules=rules)
    assert found.objects["class"].tolist() == ["gland"]
    assert found.objects.geometry[0].equals(shapely.box(int((ramp[0] <= 127).sum()), 0, 40, 30))


def test_too_many_values_for_classes_are_one_fault(tmp_path: Path) -> None:
    ramp = np.arange(1200, dtype=np.uint16).reshape(30, 40)
    path = save(tmp_path / "a.png", ramp)
    for rules in (AnnotationRules(), AnnotationRules(classes={"1": "gland"})):
        ((_, problem),) = problems(read(path, size=SIZE, rules=rules))
        assert "a label image of 1200 values" in problem
    assert len(read(path, size=SIZE, rules=CELLS).objects) == 1199


def test_a_colour_picture_holds_no_instances(tmp_path: Path) -> None:
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[0, 0, 0] = 1
    ((_, problem),) = problems(read(save(tmp_path / "a.png", pixels), size=SIZE, rules=CELLS))
    assert "one value per pixel is needed" in problem


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((30, 40), np.float32), np.full((30, 40), -1, np.int16), np.zeros((5, 30, 40))],
)
def test_pixels_that_are_no_labels_are_one_fault(tmp_path: Path, pixels: NDArray[Any]) -> None:
    found = read(save(tmp_path / "a.tif", pixels), size=SIZE)
    assert len(found.faults) == 1
    assert found.area is not None
    assert shapely.is_empty(found.area)


@pytest.mark.parametrize("suffix", ["a.png", "a.tif"])
@pytest.mark.parametrize("kept", [20, 600, 2000])
def test_a_truncated_picture_is_one_fault(tmp_path: Path, suffix: str, kept: int) -> None:
    noise = np.random.default_rng(1).integers(0, 3, (300, 400)).astype(np.uint8)
    path = save(tmp_path / suffix, noise)
    path.write_bytes(path.read_bytes()[:kept])
    ((_, problem),) = problems(read(path, size=size_of(noise)))
    assert "picture" in problem


@pytest.mark.parametrize(("width", "height", "factor"), [(80, 60, 2), (79, 59, 2), (122, 89, 3)])
def test_smaller_label_images_are_scaled_by_whole_factors(
    tmp_path: Path, width: int, height: int, factor: int
) -> None:
    labels = np.zeros((30, 40), np.uint8)
    labels[2:5, 3:9], labels[-1, -1] = 1, 1
    size = Size(width=width, height=height)
    found = read(save(tmp_path / "a.png", labels), size=size)
    assert found.faults == ()
    first, last = (shape.bounds for shape in found.objects.geometry)
    assert first == tuple(factor * edge for edge in (3, 2, 9, 5))
    assert last[2:] == (min(width, 40 * factor), min(height, 30 * factor))


@pytest.mark.parametrize(("width", "height"), [(41, 30), (20, 15), (80, 90), (60, 45)])
def test_sizes_that_do_not_fit_are_one_fault(tmp_path: Path, width: int, height: int) -> None:
    labels = np.ones((30, 40), np.uint8)
    found = read(save(tmp_path / "a.png", labels), size=Size(width=width, height=height))
    ((_, problem),) = problems(found)
    assert f"a label image of 40 x 30 px for an image of {width} x {height}" in problem


MASKS = arrays.arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(mask=MASKS)
def test_run_lengths_are_read_plain_and_as_text(mask: Mask) -> None:
    counts = plain_counts(mask)
    assert (decode_mask({"size": list(mask.shape), "counts": counts}) == mask).all()
    packed = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode()
    assert list(decode_counts(text)) == counts
    assert (decode_mask({"size": list(mask.shape), "counts": text}) == mask).all()


def test_long_run_lengths_are_read_as_text() -> None:
    mask = np.random.default_rng(3).random((700, 900)) > 0.5
    mask[100:400, 200:700] = True
    packed = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode()
    assert (decode_mask({"size": [700, 900], "counts": text}) == mask).all()


@pytest.mark.parametrize("counts", [[3], [0, 13], [14, -2], "0 ", "o", "\x7f1"])
def test_run_lengths_that_do_not_fit_are_refused(counts: list[int] | str) -> None:
    with pytest.raises(BadObjectError, match="run-length mask"):
        decode_mask({"size": [3, 4], "counts": counts})


def _document(*annotations: dict[str, Any]) -> dict[str, Any]:
    document = coco_document([], size=SIZE)
    document["categories"] = [{"id": 4, "name": "cell"}]
    document["annotations"] = [
        {"id": number, "image_id": 7, "category_id": 4, **annotation}
        for number, annotation in enumerate(annotations, 1)
    ]
    return document


@given(mask=arrays.arrays(np.bool_, (8, 9)), as_text=st.booleans())
def test_coco_masks_are_traced_along_their_pixels(
    tmp_path_factory: pytest.TempPathFactory, mask: Mask, as_text: bool
) -> None:
    counts: list[int] | str = plain_counts(mask)
    if as_text:
        counts = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    document = _document({"segmentation": {"size": [8, 9], "counts": counts}})
    found = read(write_json(tmp_path_factory.mktemp("coco") / "a", document), size=SIZE)
    shapes = found.objects.geometry.tolist()
    assert len(shapes) == mask.any()
    assert (covered(shapes, size_of(mask)) == mask).all()
    assert len(found.faults) == (not mask.any())


def test_coco_boxes_serve_where_there_is_no_segmentation(tmp_path: Path) -> None:
    document = _document(
        {"segmentation": [], "bbox": [1, 2, 10, 5]},
        {"bbox": [1.5, 2, 0, 5]},
        {},
        {"bbox": [1, 2, 3, 4], "category_id": 5},
    )
    found = read(write_json(tmp_path / "a", document), size=SIZE)
    assert found.objects.geometry[0].equals(shapely.box(1, 2, 11, 7))
    assert problems(found) == [
        ("annotation 2", "a box of 0 x 5 px, which has no area: left out"),
        ("annotation 3", "it has neither a segmentation nor a box: left out"),
        ("annotation 4", "it has no class, and there is no default: left out"),
    ]


def test_coco_objects_of_several_polygons_stay_one_object(tmp_path: Path) -> None:
    parts = [[1, 1, 5, 1, 5, 5, 1, 5], [11, 1, 15, 1, 15, 5, 11, 5], [3, 3, 7, 3, 7, 7, 3, 7]]
    found = read(write_json(tmp_path / "a", _document({"segmentation": parts})), size=SIZE)
    (shape,) = found.objects.geometry
    assert shape.is_valid
    assert shape.area == 16 + 16 + 16 - 4


def test_a_coco_crowd_is_an_area_about_which_nothing_is_known(tmp_path: Path) -> None:
    document = _document({"bbox": [0, 0, 10, 5], "iscrowd": 1}, {"bbox": [20, 20, 5, 5]})
    found = read(write_json(tmp_path / "a", document), size=SIZE)
    assert len(found.objects) == 1
    assert found.area is not None
    assert shapely.area(found.area) == 40 * 30 - 50


@pytest.mark.parametrize(
    ("image", "count"),
    [
        ("train/a.png", 1),
        ("train\\a.png", 1),
        ("b.png", 2),
        ("elsewhere/b.png", 2),
        ("b.svs", 2),
    ],
)
def test_coco_images_are_found_by_name(tmp_path: Path, image: str, count: int) -> None:
    found = read(_two_images(tmp_path), size=SIZE, image=image)
    assert found.faults == ()
    assert len(found.objects) == count


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (None, "it holds 3 images, and none was asked for"),
        ("c.png", "image 'c.png' is not among the 3"),
        ("a.png", "it holds 2 images called 'a.png'"),
    ],
)
def test_coco_images_that_are_not_clear_are_one_fault(
    tmp_path: Path, image: str | None, problem: str
) -> None:
    found = read(_two_images(tmp_path), size=SIZE, image=image)
    ((_, stated),) = problems(found)
    assert problem in stated
    assert found.area is not None
    assert shapely.is_empty(found.area)


def _two_images(folder: Path) -> Path:
    document = _document({"bbox": [1, 2, 3, 4]}, *[{"bbox": [1, 2, 3, 4], "image_id": 8}] * 2)
    names = ((7, "train/a.png"), (8, "b.png"), (9, "test/a.png"))
    document["images"] = [{"id": number, "file_name": name} for number, name in names]
    return write_json(folder / "a", document)


def test_coco_of_another_shape_is_one_fault(tmp_path: Path) -> None:
    found = read(write_json(tmp_path / "a", {"images": [{}], "annotations": [{}]}), size=SIZE)
    ((_, problem),) = problems(found)
    assert "not as COCO says" in problem


def test_coco_of_another_size_is_noticed(tmp_path: Path) -> None:
    drawn = [Drawn(name="t", outline=((1, 1), (5, 1), (5, 5)))]
    path = write_json(tmp_path / "a", coco_document(drawn, size=Size(width=80, height=60)))
    found = read(path, size=SIZE, image="a.png")
    assert len(found.objects) == 1
    ((_, problem),) = problems(found)
    assert "made for an image of 80 x 60 px" in problem
