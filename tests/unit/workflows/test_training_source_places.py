from collections import Counter

import numpy as np
import pytest
import shapely

from slideloom.models.spec import Task
from slideloom.workflows.training.annotated import AnnotatedImage
from slideloom.workflows.training.places import PlaceDraw, grid_places, tiles_to_cover
from slideloom.workflows.training.truth import ImageTruth
from slideloom.wsi.geometry import Box, Size
from tests.makers.training_images import make_image, make_spec

DRAWS = 1000
LARGE = Size(width=1000, height=1000)


def nucleus(x: float, y: float) -> shapely.Geometry:
    return shapely.Point(x, y).buffer(6)


def draws(
    images: list[AnnotatedImage], task: Task = "semantic", *, halo_px: int = 8
) -> list[tuple[int, Box]]:
    draw = PlaceDraw(images, make_spec(task, halo_px=halo_px))
    rng = np.random.default_rng(1)
    places = [draw.draw(rng) for _ in range(DRAWS)]
    return [(place.image, place.window) for place in places]


def test_a_rare_class_comes_as_often_as_a_frequent_one() -> None:
    rng = np.random.default_rng(0)
    often = [(0, nucleus(*rng.uniform(0, 400, 2))) for _ in range(400)]
    image = make_image([*often, (1, nucleus(900, 900))], size=LARGE)
    near = [window.intersect(Box(x0=894, y0=894, x1=906, y1=906)) for _, window in draws([image])]
    share = sum(not box.is_empty for box in near) / DRAWS
    # Half of three quarters, and the few that fall there by chance.
    assert share == pytest.approx(0.375, abs=0.04)


def test_images_of_one_size_come_equally_often() -> None:
    images = [make_image([(0, nucleus(50, 50))] * count, size=LARGE) for count in (1, 10, 100)]
    counts = Counter(place for place, _ in draws(images))
    assert [counts[k] / DRAWS for k in range(3)] == pytest.approx([1 / 3] * 3, abs=0.04)


def test_larger_images_come_more_often_by_the_root_of_their_area() -> None:
    images = [
        make_image([(0, nucleus(50, 50))], size=Size(width=side, height=side))
        for side in (100, 300)
    ]
    counts = Counter(place for place, _ in draws(images))
    assert counts[1] / DRAWS == pytest.approx(0.75, abs=0.04)


def test_images_without_objects_are_seen() -> None:
    images = [make_image([(0, nucleus(50, 50))]), make_image()]
    counts = Counter(place for place, _ in draws(images))
    assert counts[1] / DRAWS == pytest.approx(0.125, abs=0.03)


@pytest.mark.parametrize("side", [40, 60, 64, 70, 300])
def test_no_more_than_the_halo_lies_outside(side: int) -> None:
    image = make_image([(0, nucleus(5, 5))], size=Size(width=side, height=side))
    for _, window in draws([image])[:200]:
        assert window.shape == (64, 64)
        inside = window.intersect(Box(x0=0, y0=0, x1=side, y1=side))
        assert min(inside.shape) >= min(side, 64 - 8)


def test_tiles_lie_in_the_roi() -> None:
    area = shapely.box(500, 100, 700, 300)
    image = make_image(size=LARGE, area=area)
    for _, window in draws([image]):
        middle = shapely.Point(window.x0 + 32, window.y0 + 32)
        assert area.buffer(1).contains(middle)


def test_classes_of_whole_images_come_equally_often() -> None:
    images = [make_image(labels=[True, False])] * 9 + [make_image(labels=[False, True])]
    counts = Counter(place for place, _ in draws(images, "classification", halo_px=0))
    assert counts[9] / DRAWS == pytest.approx(0.5, abs=0.04)


def test_tiles_of_areas_have_their_class_in_the_middle() -> None:
    image = make_image([(1, shapely.box(300, 300, 700, 700))], size=LARGE)
    truth = ImageTruth(image, make_spec("classification"))
    known = [truth.of(window).known.any() for _, window in draws([image], "classification")[:200]]
    assert np.mean(known) > 0.85


def test_as_many_tiles_as_cover_the_known_area() -> None:
    spec = make_spec(tile_px=64, halo_px=7)
    images = [
        make_image(size=LARGE),
        make_image(size=LARGE, area=shapely.box(0, 0, 100, 100)),
        make_image(size=Size(width=2000, height=2000), mpp=0.25),
        make_image(size=Size(width=10, height=10)),
    ]
    assert tiles_to_cover(images, spec) == 400 + 4 + 400 + 1


def test_the_grid_of_validation_is_that_of_a_run() -> None:
    places = grid_places([make_image()], make_spec(tile_px=64, halo_px=8), most=100)
    corners = [(place.window.x0, place.window.y0) for place in places]
    assert corners == [(x - 8, y - 8) for y in range(0, 150, 48) for x in range(0, 200, 48)]


def test_a_small_image_is_one_tile_with_the_image_in_its_middle() -> None:
    image = make_image(size=Size(width=40, height=64))
    (place,) = grid_places([image], make_spec(tile_px=64, halo_px=8), most=100)
    assert place.window == Box(x0=-12, y0=0, x1=52, y1=64)


def test_validation_looks_where_something_is_known() -> None:
    area = shapely.box(100, 100, 130, 110)
    places = grid_places(
        [make_image(size=LARGE, area=area)], make_spec(tile_px=64, halo_px=8), most=100
    )
    assert [(place.window.x0, place.window.y0) for place in places] == [(88, 88)]


def test_validation_is_bounded_spread_and_shows_objects() -> None:
    spec = make_spec(tile_px=64, halo_px=8)
    small = make_image(size=Size(width=60, height=60))
    large = make_image([(0, nucleus(500, 500))], size=LARGE)
    places = grid_places([large, small, small], spec, most=20)
    counts = Counter(place.image for place in places)
    assert counts == {0: 18, 1: 1, 2: 1}
    corners = np.array([(p.window.x0, p.window.y0) for p in places if p.image == 0])
    assert np.ptp(corners, axis=0).min() > 700
    truth = ImageTruth(large, spec)
    assert any(truth.of(place.window).masks.any() for place in places if place.image == 0)


def test_some_images_are_left_out_where_there_are_too_many() -> None:
    images = [make_image(size=Size(width=60, height=60))] * 100
    places = grid_places(images, make_spec(), most=10)
    assert [place.image for place in places] == list(range(5, 100, 10))


def test_validation_of_areas_looks_where_there_is_a_class() -> None:
    image = make_image([(1, shapely.box(300, 300, 500, 500))], size=LARGE)
    spec = make_spec("classification", tile_px=64, halo_px=0)
    places = grid_places([image], spec, most=400)
    truth = ImageTruth(image, spec)
    known = [truth.of(place.window).known.any() for place in places]
    assert len(known) == 9
    assert all(known)
