import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.models.training.source import TrainingTile
from slideloom.models.training.warp import about_centre, warp_tile
from slideloom.models.truth import TileTruth
from tests.makers.training_discs import DiscTiles, disc_tile

SIDE = 48
QUARTER = np.array([[0.0, -1.0], [1.0, 0.0]])
MIRROR = np.diag([-1.0, 1.0])


def linear_map(angle_deg: float, *, size: float, shear: float) -> NDArray[np.float64]:
    turned = np.deg2rad(angle_deg)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    return np.asarray(size * rotation @ np.array([[1, shear], [0, 1]]))


maps = st.builds(
    linear_map,
    st.floats(-45, 45),
    size=st.floats(0.7, 1.4),
    shear=st.floats(-0.3, 0.3),
)
seeds = st.integers(0, 1000)


def drawn(truth: TileTruth) -> NDArray[np.uint8]:
    """A picture that shows the truth: its masks, and which object is where."""
    return np.stack(
        [255 * truth.masks[0], 40 * truth.instances, np.zeros_like(truth.instances)], axis=-1
    ).astype(np.uint8)


def disc_truth(seed: int) -> TileTruth:
    return DiscTiles(tiles=1, seed=seed, side_px=SIDE).read(0, epoch=0).truth


def warped(truth: TileTruth, linear: NDArray[np.float64]) -> TrainingTile:
    tile = TrainingTile(pixels=drawn(truth), truth=truth)
    return warp_tile(tile, about_centre(linear, height=SIDE, width=SIDE))


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_quarter_turns_and_mirrors_are_exact(turns: int, mirrored: bool) -> None:
    truth = disc_truth(turns)
    linear = np.linalg.matrix_power(QUARTER, turns) @ (MIRROR if mirrored else np.eye(2))
    after = warped(truth, linear)

    def twin(maps: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.rot90(maps[:, ::-1] if mirrored else maps, -turns)

    np.testing.assert_array_equal(after.truth.instances, twin(truth.instances))
    np.testing.assert_array_equal(after.truth.masks[0], twin(truth.masks[0]))
    np.testing.assert_array_equal(after.pixels, drawn(after.truth))
    assert after.truth.known.all()
    areas = np.diff(truth.boxes.reshape(-1, 2, 2), axis=1).prod(axis=2)
    after_areas = np.diff(after.truth.boxes.reshape(-1, 2, 2), axis=1).prod(axis=2)
    np.testing.assert_allclose(after_areas, areas, rtol=1e-5)


@given(seed=seeds, linear=maps)
def test_a_warped_picture_is_the_picture_of_the_warped_truth(
    seed: int, linear: NDArray[np.float64]
) -> None:
    truth = disc_truth(seed)
    after = warped(truth, linear)
    known = after.truth.known
    shown = after.pixels[..., 0] > 127
    differ = (shown != after.truth.masks[0]) & known
    # Interpolation and the nearest pixel may differ by a pixel where a disc ends.
    mask = after.truth.masks[0]
    padded = np.pad(mask, 1, mode="edge")
    around = [padded[y : y + SIDE, x : x + SIDE] for y in range(3) for x in range(3)]
    at_edge = np.any(around, axis=0) != np.all(around, axis=0)
    assert not (differ & ~at_edge).any()
    assert differ.sum() <= 0.02 * known.sum()


@given(seed=seeds, linear=maps)
def test_masks_objects_and_boxes_stay_together(seed: int, linear: NDArray[np.float64]) -> None:
    truth = warped(disc_truth(seed), linear).truth
    np.testing.assert_array_equal(truth.masks[0], truth.instances > 0)
    assert len(truth.boxes) == len(truth.class_id)
    assert truth.instances.max() <= len(truth.boxes)
    for number in np.unique(truth.instances[truth.instances > 0]):
        y, x = np.nonzero(truth.instances == number)
        x0, y0, x1, y1 = truth.boxes[number - 1]
        assert x0 - 1.5 <= x.min()
        assert x.max() + 1 <= x1 + 1.5
        assert y0 - 1.5 <= y.min()
        assert y.max() + 1 <= y1 + 1.5


@given(linear=maps)
def test_the_box_of_a_disc_that_others_hide_is_that_of_the_moved_disc(
    linear: NDArray[np.float64],
) -> None:
    centre = np.array([[24.0, 24.0], [27.0, 24.0]])
    radius = np.array([6.0, 7.0])
    tile = disc_tile(centre, radius, side_px=SIDE, noise=np.random.default_rng(0))
    boxes = warp_tile(tile, about_centre(linear, height=SIDE, width=SIDE)).truth.boxes
    extent = 6 * np.linalg.norm(linear, axis=1)
    np.testing.assert_allclose(boxes[0, 2:] - boxes[0, :2], 2 * extent, rtol=1e-4)


def test_what_comes_from_outside_is_not_known() -> None:
    truth = warped(disc_truth(0), 0.5 * np.eye(2)).truth
    inner = slice(SIDE // 4, -SIDE // 4)
    assert truth.known[inner, inner].all()
    assert truth.known.sum() == (SIDE // 2) ** 2
    assert not truth.masks[0][~truth.known].any()


def test_objects_that_leave_the_tile_are_gone() -> None:
    centre = np.array([[5.0, 5.0], [24.0, 24.0]])
    tile = disc_tile(centre, np.array([3.0, 4.0]), side_px=SIDE, noise=np.random.default_rng(0))
    truth = warp_tile(tile, about_centre(2 * np.eye(2), height=SIDE, width=SIDE)).truth
    np.testing.assert_allclose(truth.boxes, [[16, 16, 32, 32]], atol=1e-4)
    assert set(np.unique(truth.instances)) == {0, 1}


def test_points_move_and_stay_points() -> None:
    empty = disc_tile(np.zeros((0, 2)), np.zeros(0), side_px=SIDE, noise=np.random.default_rng(0))
    points = np.array([[10, 20, 10, 20], [24, 24, 24, 24], [2, 2, 2, 2]], np.float32)
    truth = TileTruth(
        masks=empty.truth.masks,
        instances=empty.truth.instances,
        boxes=points,
        class_id=np.array([0, 1, 2], np.int16),
        labels=empty.truth.labels,
        known=empty.truth.known,
    )
    linear = 1.2 * linear_map(20, size=1, shear=0)
    after = warped(truth, linear).truth
    np.testing.assert_array_equal(after.class_id, [0, 1])
    np.testing.assert_array_equal(after.boxes[:, :2], after.boxes[:, 2:])
    np.testing.assert_allclose(after.boxes[0, :2], linear @ [-14, -4] + 24, rtol=1e-5)
