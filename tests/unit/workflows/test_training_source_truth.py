import numpy as np
import pytest
import shapely

from slideloom.workflows.training.truth import ImageTruth
from slideloom.wsi.geometry import Box, Size
from tests.makers.training_images import (
    assert_same_truth,
    blobs,
    cut,
    make_image,
    make_spec,
    slow_masks,
)

SIZE = Size(width=200, height=150)
WINDOWS = [
    Box(x0=40, y0=30, x1=104, y1=94),
    Box(x0=-20, y0=-10, x1=44, y1=54),
    Box(x0=160, y0=120, x1=224, y1=184),
    Box(x0=300, y0=300, x1=364, y1=364),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("mpp", [0.5, 0.25, 0.4])
def test_truth_is_the_whole_image_drawn_and_cut(window: Box, overlapping: bool, mpp: float) -> None:
    side = 0.5 / mpp
    size = Size(width=round(200 * side), height=round(150 * side))
    image = make_image(blobs(60, size=size, seed=3), size=size, mpp=mpp)
    masks, owner = slow_masks(image, overlapping=overlapping)
    truth = ImageTruth(image, make_spec("instance", overlapping=overlapping)).of(window)
    np.testing.assert_array_equal(truth.masks, cut(masks, window))
    wanted = cut(owner, window)
    # Numbers follow the drawing order of the objects of the tile.
    places = np.unique(wanted[wanted > 0])
    found = np.unique(truth.instances[truth.instances > 0])
    assert len(found) == len(places)
    renumbered = np.zeros(int(owner.max()) + 1, np.int32)
    renumbered[places] = found
    np.testing.assert_array_equal(truth.instances, renumbered[wanted])
    np.testing.assert_array_equal(truth.class_id[found - 1], image.class_id[places - 1])
    assert truth.known.any() == (window.x0 < 200)


def test_boxes_are_cut_at_the_tile() -> None:
    image = make_image([(0, shapely.box(-5, 10, 30, 40)), (1, shapely.box(50, 50, 90, 60))])
    truth = ImageTruth(image, make_spec()).of(Box(x0=0, y0=0, x1=64, y1=64))
    assert truth.boxes.tolist() == [[0, 10, 30, 40], [50, 50, 64, 60]]
    assert truth.boxes.dtype == np.float32
    assert truth.class_id.tolist() == [0, 1]
    assert truth.labels.tolist() == [True, True]


def test_a_covered_object_keeps_its_number_and_owns_nothing() -> None:
    small, large = shapely.box(20, 20, 30, 30), shapely.box(10, 10, 40, 40)
    image = make_image([(0, small), (1, large), (0, shapely.box(50, 50, 60, 60))])
    truth = ImageTruth(image, make_spec("instance", overlapping=True)).of(WINDOWS[0].grow(40))
    assert np.unique(truth.instances).tolist() == [0, 2, 3]
    assert truth.masks[0].sum() == 200
    assert truth.masks[1].sum() == 900
    exclusive = ImageTruth(image, make_spec("instance")).of(WINDOWS[0].grow(40))
    assert exclusive.masks[0].sum() == 100


def test_holes_stay_empty_and_points_own_nothing() -> None:
    ring = shapely.box(10, 10, 40, 40).difference(shapely.box(20, 20, 30, 30))
    image = make_image([(0, ring), (1, shapely.Point(25, 25))])
    truth = ImageTruth(image, make_spec()).of(Box(x0=0, y0=0, x1=64, y1=64))
    assert truth.masks[0].sum() == 800
    assert not truth.masks[1].any()
    assert truth.boxes[1].tolist() == [25, 25, 25, 25]


def test_for_detection_an_object_is_in_the_tile_that_holds_its_centre() -> None:
    objects: list[tuple[int, shapely.Geometry]] = [
        (0, shapely.box(x, 10, x + 20, 30)) for x in (40, 54, 60)
    ]
    objects += [(1, shapely.Point(64, 20)), (1, shapely.Point(63.9, 20))]
    image = make_image(objects)
    truths = ImageTruth(image, make_spec("detection"))
    left = truths.of(Box(x0=0, y0=0, x1=64, y1=64))
    right = truths.of(Box(x0=64, y0=0, x1=128, y1=64))
    assert left.boxes[:, 0].tolist() == [40, pytest.approx(63.9)]
    assert right.boxes[:, 0].tolist() == [0, 0, 0]
    assert left.class_id.tolist() == [0, 1]
    assert len(left.boxes) + len(right.boxes) == len(objects)


def test_a_sliver_between_pixel_centres_is_in_no_tile() -> None:
    image = make_image([(0, shapely.box(10, 10, 64.3, 20)), (0, shapely.box(70, 5, 70.2, 6))])
    truths = ImageTruth(image, make_spec("instance"))
    truth = truths.of(Box(x0=64, y0=0, x1=128, y1=64))
    # The first has no pixel's centre there; the second has none anywhere, but its own centre.
    assert truth.boxes.tolist() == [[6, 5, pytest.approx(6.2), 6]]


def test_outside_the_roi_and_outside_the_image_nothing_is_known() -> None:
    area = shapely.box(30, 20, 90, 60).union(shapely.box(180, 140, 210, 160))
    image = make_image(area=area)
    truths = ImageTruth(image, make_spec())
    known = truths.of(Box(x0=0, y0=0, x1=64, y1=64)).known
    wanted = np.zeros((64, 64), np.bool_)
    wanted[20:60, 30:] = True
    np.testing.assert_array_equal(known, wanted)
    corner = truths.of(Box(x0=170, y0=130, x1=234, y1=194)).known
    wanted[:] = False
    wanted[10:20, 10:30] = True
    np.testing.assert_array_equal(corner, wanted)
    beside = ImageTruth(make_image(), make_spec()).of(Box(x0=-10, y0=-20, x1=54, y1=44)).known
    assert beside.sum() == 54 * 44
    assert beside[20:, 10:].all()


def test_a_tile_takes_the_classes_of_its_image() -> None:
    image = make_image(labels=[False, True])
    truth = ImageTruth(image, make_spec("classification")).of(WINDOWS[0])
    assert truth.labels.tolist() == [False, True]
    assert truth.known.all()


def test_a_tile_takes_the_class_that_covers_its_middle() -> None:
    image = make_image([(1, shapely.box(0, 0, 75, 150)), (0, shapely.box(170, 0, 200, 150))])
    window = Box(x0=40, y0=30, x1=104, y1=94)
    truths = ImageTruth(image, make_spec("classification"))
    assert truths.of(window).labels.tolist() == [False, True]
    beyond = truths.of(Box(x0=46, y0=30, x1=110, y1=94))
    assert beyond.labels.tolist() == [False, False]
    assert not beyond.known.any()
    several = ImageTruth(image, make_spec("classification", overlapping=True))
    assert several.of(Box(x0=46, y0=30, x1=110, y1=94)).known.all()


def test_truth_does_not_depend_on_what_was_asked_before() -> None:
    image = make_image(blobs(40, size=SIZE, seed=5))
    truths = ImageTruth(image, make_spec("instance"))
    first = truths.of(WINDOWS[0])
    for window in WINDOWS:
        truths.of(window)
    assert_same_truth(truths.of(WINDOWS[0]), first)


def test_points_and_boxes_are_asked_of_objects() -> None:
    truths = ImageTruth(make_image([(0, shapely.box(20, 20, 40, 40))], mpp=0.25), make_spec())
    assert truths.has_object_at(np.array([[15.0, 15], [30, 30]])).tolist() == [True, False]
    boxes = np.array([[0.0, 0, 12, 12], [21, 0, 30, 30]])
    assert truths.meets_object(boxes).tolist() == [True, False]
    empty = ImageTruth(make_image(), make_spec())
    assert empty.meets_object(boxes).tolist() == [False, False]
