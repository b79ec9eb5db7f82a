"""The objects table: ids, units and flags."""

import hashlib
import uuid

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.measure.table import (
    Roi,
    Scale,
    roi_members,
    tabulate_objects,
)
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.wsi.geometry import Size

SCALE = Scale(extent=Size(width=40, height=30), mpp=0.5, slide_mpp=0.2)
NAMES = ("tumour", "stroma", "other")


def _objects(labels: NDArray[np.int32], *, classes: int = 3) -> Objects:
    """Object `i` has class `i % classes`, counted from 0."""
    count = int(labels.max(initial=0))
    pixels = PixelSets.from_labels(labels, count=count, x0=0, y0=0)
    number = np.flatnonzero(pixels.areas > 0)
    return Objects(
        pixels=pixels.take(number),
        class_id=(number % classes).astype(np.int16),
        score=np.linspace(0, 1, len(number), dtype=np.float32),
        recombined=number % 2 == 1,
    )


def _drawn() -> Objects:
    """A ring at the top, a bar at the slide's right side, a pixel and an L-shape."""
    labels = np.zeros((30, 40), np.int32)
    labels[0:4, 5:9] = 1
    labels[1:3, 6:8] = 0
    labels[10:12, 30:40] = 2
    labels[20, 20] = 3
    labels[15:25, 2] = labels[24, 2:7] = 4
    return _objects(labels)


def test_a_row_states_places_in_level_0_pixels_and_sizes_in_micrometres() -> None:
    table = tabulate_objects(_drawn(), scale=SCALE, class_names=NAMES, seed="a")
    assert SCALE.factor == 2.5
    assert table["class"].tolist() == ["tumour", "stroma", "other", "tumour"]
    assert table["area_um2"].tolist() == pytest.approx([12 / 4, 20 / 4, 1 / 4, 14 / 4])
    assert table["centroid_x_px"].tolist()[:3] == pytest.approx([7 * 2.5, 35 * 2.5, 20.5 * 2.5])
    assert table["centroid_y_px"].tolist()[:3] == pytest.approx([2 * 2.5, 11 * 2.5, 20.5 * 2.5])
    assert table.geometry.bounds.to_numpy()[1].tolist() == [75, 25, 100, 30]
    # Of a pixel, the line through the middles of its four edges; in micrometres, not pixels.
    assert table["perimeter_um"].tolist()[2] == pytest.approx(4 * np.sqrt(0.5) * 0.5)
    assert table["score"].tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert table.attrs["mpp"] == 0.2


def test_sizes_are_in_micrometres_and_forms_in_numbers() -> None:
    table = tabulate_objects(_drawn(), scale=SCALE, class_names=NAMES, seed="a")
    bar = table.iloc[1]
    # 10 x 2 pixels of 0.5 um.
    assert (bar["bbox_width_um"], bar["bbox_height_um"]) == (5.0, 1.0)
    assert bar["equivalent_diameter_um"] == pytest.approx(np.sqrt(4 * 5 / np.pi))
    assert bar["major_axis_um"] == pytest.approx(5 * 2 / np.sqrt(3))
    assert bar["minor_axis_um"] == pytest.approx(1 * 2 / np.sqrt(3))
    assert bar["eccentricity"] == pytest.approx(np.sqrt(1 - 1 / 25))
    assert table["orientation_deg"].tolist()[:3] == [0, 0, 0]
    assert table["holes"].tolist() == [1, 0, 0, 0]
    # A ring of 12 pixels around 4.
    assert table["solidity"].tolist()[:3] == [12 / 16, 1, 1]
    form = 4 * np.pi * table["area_um2"] / table["perimeter_um"] ** 2
    np.testing.assert_allclose(table["circularity"], np.minimum(form, 1))
    assert table["circularity"][2] == 1


def test_flags() -> None:
    table = tabulate_objects(_drawn(), scale=SCALE, class_names=NAMES, seed="a")
    assert table["at_slide_border"].tolist() == [True, True, False, False]
    assert table["recombined"].tolist() == [False, True, False, True]
    assert table["has_holes"].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("y", "x", "at_border"),
    [(0, 7, True), (29, 7, True), (7, 0, True), (7, 39, True), (1, 1, False), (28, 38, False)],
)
def test_each_side_of_the_slide_is_its_border(y: int, x: int, at_border: bool) -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[y, x] = 1
    table = tabulate_objects(_objects(labels), scale=SCALE, class_names=NAMES, seed="a")
    assert table["at_slide_border"].tolist() == [at_border]


def _at_roi_border(objects: Objects, *areas: shapely.Geometry) -> list[bool]:
    rois = [Roi(name="", geometry=area) for area in areas]
    table = tabulate_objects(objects, scale=SCALE, class_names=NAMES, seed="a", rois=rois)
    flags: list[bool] = table["at_roi_border"].tolist()
    return flags


@pytest.mark.parametrize("y0", [-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_the_border_of_a_roi_reaches_one_pixel_to_either_side(y0: int) -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[3:7, 10:12] = 1
    # A quarter of a pixel off the grid, so that no distance is exactly one pixel.
    border = (y0 + 0.25) * SCALE.factor
    below = shapely.box(-10, border, 200, 200)
    assert _at_roi_border(_objects(labels), below) == [2 <= y0 + 0.25 <= 8]
    inside = shapely.difference(shapely.box(-10, -10, 200, 200), below)
    assert _at_roi_border(_objects(labels), inside) == [2 <= y0 + 0.25 <= 8]


def test_no_object_is_at_the_border_of_a_roi_where_there_is_none() -> None:
    assert _at_roi_border(_drawn()) == [False] * 4
    assert _at_roi_border(_objects(np.zeros((30, 40), np.int32)), shapely.box(0, 0, 9, 9)) == []


def test_all_borders_of_all_rois_count() -> None:
    # The hole's border runs through the bar, and the box lies beside the single pixel.
    ring = shapely.difference(shapely.box(-50, -50, 150, 150), shapely.box(60, 20, 150, 32))
    box = shapely.box(47, 47, 48.9, 48.9)
    assert _at_roi_border(_drawn(), ring) == [False, True, False, False]
    assert _at_roi_border(_drawn(), ring, box) == [False, True, True, False]
    both = shapely.union(box, shapely.box(60, 20, 150, 32))
    assert _at_roi_border(_drawn(), both) == [False, True, True, False]
    mixed = shapely.GeometryCollection([shapely.LineString([(0, 0), (3, 3)]), box])
    assert _at_roi_border(_drawn(), mixed) == [False, False, True, False]


@given(st.integers(0, 2**32 - 1))
def test_the_border_of_a_roi_is_found_as_by_measuring_each_distance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.integers(1, 90, (30, 40)) * (rng.random((30, 40)) < 0.1)).astype(np.int32)
    objects = _objects(labels)
    area = shapely.MultiPoint(rng.uniform(-500, 600, (4, 2))).convex_hull
    table = tabulate_objects(objects, scale=SCALE, class_names=NAMES, seed="a")
    distance = shapely.distance(table.geometry.to_numpy(), shapely.boundary(area))
    assert _at_roi_border(objects, area) == (distance <= SCALE.factor).tolist()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 2), st.floats(0.1, 2))
def test_areas_are_pixel_counts_and_polygon_areas(seed: int, mpp: float, slide_mpp: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, (30, 40)).astype(np.int32) * (rng.random((30, 40)) < 0.7)
    objects = _objects(labels.astype(np.int32))
    scale = Scale(extent=Size(width=40, height=30), mpp=mpp, slide_mpp=slide_mpp)
    table = tabulate_objects(objects, scale=scale, class_names=NAMES, seed="a")
    pixels = np.bincount(labels.ravel())[1:]
    np.testing.assert_allclose(table["area_um2"], pixels[pixels > 0] * mpp**2)
    np.testing.assert_allclose(table.geometry.area * slide_mpp**2, table["area_um2"])
    places = shapely.centroid(table.geometry.to_numpy())
    np.testing.assert_allclose(table["centroid_x_px"], shapely.get_x(places))
    np.testing.assert_allclose(table["centroid_y_px"], shapely.get_y(places))
    assert table.geometry.is_valid.all()


def test_ids_are_unique_and_of_version_5() -> None:
    labels = np.arange(1, 1201, dtype=np.int32).reshape(30, 40)
    table = tabulate_objects(_objects(labels), scale=SCALE, class_names=NAMES, seed="a")
    ids = [uuid.UUID(text) for text in table["id"]]
    assert len(set(ids)) == 1200
    assert {number.version for number in ids} == {5}
    assert {number.variant for number in ids} == {uuid.RFC_4122}
    assert table["id"].tolist() == [str(number) for number in ids]


def test_ids_follow_the_specification_and_never_change() -> None:
    table = tabulate_objects(_drawn(), scale=SCALE, class_names=NAMES, seed="slide")
    space = uuid.UUID("5b1e0a5e-6d0b-5c0e-9f5a-2f4b8f1d7c11").bytes
    for name in ("slide", "1/10/30"):
        # RFC 9562, 5.5: the first 16 bytes of SHA-1 over name space and name, with the version in
        # the high bits of byte 6 and the variant in those of byte 8.
        digest = bytearray(hashlib.sha1(space + name.encode()).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        space = bytes(digest)
    assert table["id"][1] == str(uuid.UUID(bytes=space))


def test_an_id_depends_on_the_seed_the_class_and_the_place_alone() -> None:
    objects = _drawn()
    ids = tabulate_objects(objects, scale=SCALE, class_names=NAMES, seed="a")["id"].tolist()
    some = objects.take(np.array([3, 1]))
    again = tabulate_objects(some, scale=SCALE, class_names=NAMES, seed="a")["id"].tolist()
    assert again == [ids[3], ids[1]]
    other_seed = tabulate_objects(objects, scale=SCALE, class_names=NAMES, seed="b")["id"].tolist()
    assert not set(ids) & set(other_seed)
    same_place = Objects(
        pixels=objects.pixels.take(np.array([1, 1])),
        class_id=np.array([0, 1], np.int16),
        score=np.ones(2, np.float32),
        recombined=np.zeros(2, np.bool_),
    )
    of_classes = tabulate_objects(same_place, scale=SCALE, class_names=NAMES, seed="a")["id"]
    assert of_classes[0] != of_classes[1] == ids[1]


def test_a_table_without_objects_has_all_columns() -> None:
    empty = _objects(np.zeros((30, 40), np.int32))
    full = tabulate_objects(_drawn(), scale=SCALE, class_names=NAMES, seed="a")
    table = tabulate_objects(empty, scale=SCALE, class_names=NAMES, seed="a")
    assert len(table) == 0
    assert table.columns.tolist() == full.columns.tolist()
    assert table.dtypes.tolist() == full.dtypes.tolist()
    assert table.attrs["mpp"] == 0.2


def _square(x0: float, y0: float, x1: float, y1: float) -> shapely.Geometry:
    return shapely.box(x0, y0, x1, y1)


def test_an_object_belongs_to_the_roi_that_holds_its_middle() -> None:
    objects = _drawn()
    # Places in level-0 pixels, 2.5 to a model pixel.
    rois = [
        Roi(name="all", geometry=_square(0, 0, 100, 75)),
        Roi(name="top", geometry=_square(0, 0, 100, 40)),
        Roi(name="pixel", geometry=_square(51, 51, 52, 52)),
        Roi(name="beside", geometry=_square(40, 40, 50, 50)),
        Roi(name="hole", geometry=_square(15, 2.5, 20, 7.5)),
        Roi(name="halves", geometry=shapely.union(_square(0, 0, 30, 75), _square(80, 0, 100, 75))),
    ]
    members = roi_members(objects.pixels, scale=SCALE, rois=rois)
    assert members.tolist() == [
        [True, True, True, True],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, False],
        [False, False, False, False],
        [True, True, False, True],
    ]
    assert roi_members(objects.pixels, scale=SCALE, rois=[]).shape == (0, 4)
    empty = _objects(np.zeros((30, 40), np.int32))
    assert roi_members(empty.pixels, scale=SCALE, rois=rois).shape == (6, 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 39))
def test_rois_side_by_side_share_the_objects_out(seed: int, at: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.integers(1, 50, (30, 40)) * (rng.random((30, 40)) < 0.2)).astype(np.int32)
    # Off the grid of half pixels, on which the middles lie.
    middle = (at + 0.2) * SCALE.factor
    rois = [
        Roi(name="left", geometry=_square(-1, -1, middle, 76)),
        Roi(name="right", geometry=_square(middle, -1, 101, 76)),
    ]
    members = roi_members(_objects(labels).pixels, scale=SCALE, rois=rois)
    assert (members.sum(axis=0) == 1).all()
