"""Labels, masks and classes become targets."""

import numpy as np
from numpy.typing import NDArray

from slideloom.models.heads.pieces import piece_boxes, pieces
from slideloom.models.heads.targets_masks import (
    class_targets,
    component_targets,
    label_targets,
    mask_targets,
    touching_weight,
)
from slideloom.models.truth import TileTruth
from tests.makers.tile_truths import discs, head_spec, truth_of

Labels = NDArray[np.int32]
SPEC = head_spec("semantic", "exclusive", classes=3)


def crossing_masks() -> TileTruth:
    masks = np.zeros((3, 4, 6), np.bool_)
    masks[0, :, :4] = True
    masks[2, :2, 2:] = True
    return TileTruth(
        masks=masks,
        instances=np.zeros((4, 6), np.int32),
        boxes=np.zeros((0, 4), np.float32),
        class_id=np.zeros(0, np.int16),
        labels=np.array([True, False, True]),
        known=np.ones((4, 6), np.bool_),
    )


def random_labels(seed: int, *, shape: tuple[int, int] = (20, 24), count: int = 6) -> Labels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count + 1, (-(-shape[0] // 4), -(-shape[1] // 4)))
    return np.kron(coarse, np.ones((4, 4))).astype(np.int32)[: shape[0], : shape[1]]


def test_the_last_class_wins_where_masks_overlap() -> None:
    number = class_targets(crossing_masks(), SPEC)
    assert number.dtype == np.float32
    np.testing.assert_array_equal(number[0, :2], [[1, 1, 3, 3, 3, 3]] * 2)
    np.testing.assert_array_equal(number[0, 2:], [[1, 1, 1, 1, 0, 0]] * 2)


def test_overlapping_masks_stay_as_they_are() -> None:
    truth = crossing_masks()
    np.testing.assert_array_equal(mask_targets(truth, SPEC), truth.masks)


def test_labels_of_a_tile() -> None:
    got = label_targets(crossing_masks(), SPEC)
    assert got.shape == (3, 1, 1)
    assert got.ravel().tolist() == [1, 0, 1]


def test_a_line_parts_touching_objects_of_one_class_alone() -> None:
    instances = np.array([[1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 0, 3]], np.int32)
    truth = truth_of(instances, np.array([0, 0, 1], np.int16), classes=3)
    number, weight = component_targets(truth, SPEC)
    np.testing.assert_array_equal(number, [[1, 1, 0, 1, 2, 2], [1, 1, 0, 1, 0, 2]])
    np.testing.assert_array_equal(weight, touching_weight(instances))


def test_no_two_objects_of_a_class_touch() -> None:
    for seed in range(5):
        labels = random_labels(seed)
        class_id = np.arange(6, dtype=np.int16) % 3
        number = component_targets(truth_of(labels, class_id, classes=3), SPEC)[0]
        for one, two in (
            (np.s_[:, :-1], np.s_[:, 1:]),
            (np.s_[:-1], np.s_[1:]),
        ):
            met = (labels[one] != labels[two]) & (number[one] > 0)
            assert not (met & (number[one] == number[two])).any()
        lost = (labels > 0) & (number == 0)
        assert lost.any()
        assert lost.sum() < 0.5 * (labels > 0).sum()


def test_weight_is_high_within_two_pixels_of_two_objects() -> None:
    for seed in range(3):
        labels = random_labels(seed)
        wanted = np.ones(labels.shape)
        for y in range(labels.shape[0]):
            for x in range(labels.shape[1]):
                near = labels[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                if len(np.unique(near[near > 0])) > 1:
                    wanted[y, x] = 3
        np.testing.assert_array_equal(touching_weight(labels), wanted)
    assert touching_weight(np.zeros((0, 4), np.int32)).shape == (0, 4)


def test_what_others_part_is_in_pieces() -> None:
    instances = np.array([[1, 2, 1], [1, 2, 1], [0, 0, 3]], np.int32)
    found = pieces(truth_of(instances, np.zeros(3, np.int16), classes=1))
    np.testing.assert_array_equal(found, [[1, 2, 3], [1, 2, 3], [0, 0, 4]])
    boxes = piece_boxes(found, 4)
    assert boxes.tolist() == [[0, 1, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [2, 2, 2, 2]]
    assert not pieces(truth_of(discs((90, 90)), np.zeros(1, np.int16), classes=1)).any()
