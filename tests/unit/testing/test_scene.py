"""A scene's truth is exact, repeatable and looks like tissue in numbers."""

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.testing import Scene, make_scene
from slideloom.testing._placing import add_nuclei
from slideloom.testing._shapes import Candidates, Look
from slideloom.wsi.geometry import Box, Size

MPP = 0.25


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(
        size=Size(width=1300, height=1100), mpp=MPP, seed=4, large_objects=3, large_object_um=90
    )


def test_the_same_arguments_give_the_same_scene() -> None:
    first, again, other = (
        make_scene(size=Size(width=400, height=300), mpp=MPP, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.look, again.look)
    assert not np.array_equal(first.labels, other.labels)


def test_every_instance_is_one_piece_and_ids_are_dense(scene: Scene) -> None:
    assert scene.labels.dtype == np.int32
    assert np.array_equal(np.unique(scene.labels), np.arange(len(scene) + 1))
    for value, place in enumerate(ndimage.find_objects(scene.labels), start=1):
        assert ndimage.label(scene.labels[place] == value)[1] == 1, value


def test_boxes_areas_and_edges_agree_with_the_pixels(scene: Scene) -> None:
    labels, (height, width) = scene.labels, scene.labels.shape
    for value in range(1, len(scene) + 1, 7):
        y, x = np.nonzero(labels == value)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert scene.boxes[value - 1].tolist() == box
        assert scene.areas_px[value - 1] == len(x)
        at_edge = box[0] == 0 or box[1] == 0 or box[2] == width or box[3] == height
        assert scene.touches_edge[value - 1] == at_edge
    assert 0 < scene.touches_edge.sum() < len(scene) / 4


def test_classes_are_nuclei_and_glands(scene: Scene) -> None:
    assert [item.name for item in scene.classes] == ["nucleus", "gland"]
    assert scene.class_counts.tolist() == [len(scene) - 3, 3]
    for number in (1, 2):
        pixels = scene.classes_in(Box.of_size(scene.size)) == number
        assert scene.class_areas_px[number - 1] == pixels.sum()
    assert np.array_equal(scene.class_id == 2, scene.look == Look.GLAND)


def test_a_scene_without_large_objects_has_one_class() -> None:
    plain = make_scene(size=Size(width=300, height=300), mpp=MPP, seed=1)
    assert [item.name for item in plain.classes] == ["nucleus"]
    assert set(plain.class_id.tolist()) == {1}


@pytest.mark.parametrize(
    ("look", "low_um2", "high_um2"),
    [(Look.LYMPHOCYTE, 22, 38), (Look.TUMOUR, 48, 95), (Look.STROMAL, 20, 50)],
)
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_nuclei_have_real_sizes(look: Look, low_um2: float, high_um2: float, mpp: float) -> None:
    side = round(320 / mpp)
    drawn = make_scene(size=Size(width=side, height=side), mpp=mpp, seed=3)
    areas = drawn.areas_px[(drawn.look == look) & ~drawn.touches_edge] * mpp**2
    assert len(areas) > 20
    assert low_um2 < np.median(areas) < high_um2


def test_density_is_as_asked_where_there_is_room() -> None:
    size = Size(width=2000, height=2000)
    drawn = make_scene(size=size, mpp=MPP, seed=5, nuclei_per_mm2=2000)
    assert len(drawn) == 500
    assert len(make_scene(size=size, mpp=MPP, seed=5, nuclei_per_mm2=0)) == 0


def test_some_nuclei_touch_and_some_glass_is_empty(scene: Scene) -> None:
    left, right = scene.labels[:, :-1], scene.labels[:, 1:]
    touching = (left != right) & (left > 0) & (right > 0)
    pairs = np.unique(np.stack([left[touching], right[touching]]), axis=1)
    assert pairs.shape[1] > 10
    away = ndimage.distance_transform_edt(scene.labels == 0)
    assert away.max() * MPP > 15


def test_a_later_nucleus_never_takes_pixels_of_an_earlier_one() -> None:
    rng = np.random.default_rng(3)
    crowd = Candidates(
        xy_um=rng.uniform(0, 60, (6000, 2)),
        angle=rng.uniform(0, 6, 6000),
        look=rng.integers(0, 3, 6000).astype(np.uint8),
    )
    few, many = np.zeros((2, 240, 240), dtype=np.int32)
    for labels, target in ((few, 30), (many, 6000)):
        add_nuclei(np.random.default_rng(1), labels, nuclei=crowd, mpp=MPP, target=target)
    assert few.max() == 30
    assert many.max() > 60
    assert np.array_equal(np.where(many > 30, 0, many), few)


def holes_in(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(np.pad(~mask, 1, constant_values=True))[1]) - 1


def test_large_objects_exceed_tiles_and_some_have_holes_and_some_bend() -> None:
    holes, solidity = [], []
    for seed in range(6):
        drawn = make_scene(size=Size(width=1600, height=1600), mpp=MPP, seed=seed, large_objects=3)
        x0, y0, x1, y1 = drawn.boxes[:3].T
        assert np.all(np.maximum(x1 - x0, y1 - y0) > 200)
        for value, box in enumerate(drawn.boxes[:3], start=1):
            mask = drawn.labels[box[1] : box[3], box[0] : box[2]] == value
            holes.append(holes_in(mask))
            solidity.append(mask.mean())
    assert 0 in holes
    assert max(holes) > 0
    assert min(solidity) < 0.45


def test_labels_outside_the_slide_are_no_object(scene: Scene) -> None:
    box = Box(x0=-20, y0=-10, x1=60, y1=40)
    labels = scene.labels_in(box)
    assert labels.shape == (50, 80)
    assert not labels[:10].any()
    assert not labels[:, :20].any()
    assert np.array_equal(labels[10:, 20:], scene.labels[:40, :60])
    assert not scene.labels_in(Box(x0=9000, y0=0, x1=9010, y1=10)).any()


def test_a_tiny_slide_is_a_scene() -> None:
    for width, height in ((1, 1), (3, 200)):
        drawn = make_scene(size=Size(width=width, height=height), mpp=MPP, seed=0)
        assert drawn.labels.shape == (height, width)


def test_a_scene_pickles(scene: Scene) -> None:
    again = pickle.loads(pickle.dumps(scene))
    assert np.array_equal(again.labels, scene.labels)
    assert again.classes == scene.classes


def test_settings_that_make_no_sense_are_refused() -> None:
    size = Size(width=64, height=64)
    with pytest.raises(SettingsError, match="at least one pixel"):
        make_scene(size=Size(width=0, height=9), mpp=MPP, seed=0)
    with pytest.raises(SettingsError, match="mpp 0"):
        make_scene(size=size, mpp=0, seed=0)
    with pytest.raises(SettingsError, match="large_objects -1"):
        make_scene(size=size, mpp=MPP, seed=0, large_objects=-1)
    with pytest.raises(SettingsError, match="nuclei_per_mm2 nan"):
        make_scene(size=size, mpp=MPP, seed=0, nuclei_per_mm2=float("nan"))
    with pytest.raises(SettingsError, match="no room for large object"):
        make_scene(size=size, mpp=MPP, seed=0, large_objects=500)
