"""Flows lead every pixel to the centre of its object, and never out of it."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.heads.targets_flows import flow_targets, unit_flows
from slideloom.postprocess.decoding import decode
from tests.makers.tile_truths import discs, head_spec, truth_of

Labels = NDArray[np.int32]
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def snake() -> Labels:
    labels = np.zeros((48, 48), np.int32)
    for row in range(2, 42, 6):
        labels[row : row + 3, 2:46] = 1
        column = 2 if (row // 6) % 2 else 43
        labels[row : row + 9, column : column + 3] = 1
    return labels


def slow_times(labels: Labels) -> NDArray[np.float64]:
    """Arrival from the centre, all pixels at once until nothing changes."""
    mine = labels > 0
    y, x = np.nonzero(mine)
    away = np.hypot(y - y.mean(), x - x.mean())
    first = int(np.argmin(np.round(away, 6)))
    far = 1e9
    time = np.full(np.add(labels.shape, 2), far)
    while True:
        time[y[first] + 1, x[first] + 1] = 0
        beside = np.minimum(time[1:-1, :-2], time[1:-1, 2:])
        upright = np.minimum(time[:-2, 1:-1], time[2:, 1:-1])
        apart = np.minimum(np.abs(beside - upright), 1)
        both = (beside + upright + np.sqrt(2 - apart**2)) / 2
        new = np.where(np.abs(beside - upright) >= 1, np.minimum(beside, upright) + 1, both)
        new = np.where(mine, np.minimum(new, time[1:-1, 1:-1]), far)
        if np.abs(new - time[1:-1, 1:-1]).max() < 1e-6:
            return new
        time[1:-1, 1:-1] = new


def followed(labels: Labels, flows: NDArray[np.float32], y: int, x: int) -> tuple[int, int]:
    """Where the decode's steps of at most 45 degrees lead in the end."""
    for _ in range(labels.size):
        dx, dy = flows[:, y, x]
        if dx == 0 and dy == 0:
            return y, x
        octant = round(math.atan2(dy, dx) / (math.pi / 4))
        angle = octant * math.pi / 4
        assert labels[y, x] == labels[y + round(math.sin(angle)), x + round(math.cos(angle))]
        y, x = y + round(math.sin(angle)), x + round(math.cos(angle))
    pytest.fail("the flow leads round and round")


@pytest.mark.parametrize(
    "labels",
    [
        discs((20, 12), (20, 24), (31, 18), (32, 30)),
        discs((0, 5), (47, 47), (2, 30)),
        snake(),
    ],
    ids=["touching", "cut", "snake"],
)
def test_every_flow_ends_in_the_one_centre(labels: Labels) -> None:
    flows = unit_flows(labels)
    assert flows.dtype == np.float32
    length = np.hypot(*flows)
    still = (labels > 0) & (length == 0)
    assert still.sum() == labels.max()
    assert not length[labels == 0].any()
    np.testing.assert_allclose(length[(labels > 0) & ~still], 1, atol=1e-6)
    for y, x in np.argwhere(labels):
        end = followed(labels, flows, y, x)
        assert still[end]
        assert labels[end] == labels[y, x]


def test_flows_of_a_disc_point_to_its_middle() -> None:
    labels = discs((24, 20), radius=12)
    dx, dy = unit_flows(labels)
    y, x = np.nonzero(labels)
    away = np.hypot(y - 24, x - 20)
    cosine = -(dx[y, x] * (x - 20) + dy[y, x] * (y - 24)) / np.maximum(away, 1)
    # At the border the flow keeps to the steps that stay inside.
    assert (cosine[(away > 0) & (away < 11)] > math.cos(math.radians(13))).all()
    assert (cosine[away > 0] > math.cos(math.radians(46))).all()


@pytest.mark.parametrize("labels", [snake(), discs((24, 20), radius=12)], ids=["snake", "disc"])
def test_flows_run_down_the_slow_times(labels: Labels) -> None:
    time = slow_times(labels)
    framed = np.pad(time, 1, constant_values=1e9)
    flows = unit_flows(labels)
    straight = 0
    for y, x in np.argwhere((labels > 0) & (time > 0)):
        near = framed[y : y + 3, x : x + 3]
        fall_x = max(time[y, x] - min(near[1, 0], near[1, 2]), 0)
        fall_y = max(time[y, x] - min(near[0, 1], near[2, 1]), 0)
        wanted = np.array([fall_x, fall_y]) / math.hypot(fall_x, fall_y)
        got = np.abs(flows[:, y, x])
        falls = [(time[y, x] - near[1 + dy, 1 + dx]) / math.hypot(dy, dx) for dy, dx in OFFSETS]
        best = np.abs(OFFSETS[int(np.argmax(falls))][::-1])
        steepest = best / np.linalg.norm(best)
        straight += bool(np.allclose(got, wanted, atol=2e-3))
        assert np.allclose(got, wanted, atol=2e-3) or np.allclose(got, steepest, atol=2e-3)
    assert straight > 0.9 * np.count_nonzero(labels)


def test_what_others_part_has_a_centre_in_each_piece() -> None:
    instances = np.zeros((20, 33), np.int32)
    instances[4:16, 2:31] = 1
    instances[4:16, 14:19] = 2
    truth = truth_of(instances, np.array([0, 1], np.int16), classes=2)
    targets = flow_targets(truth, head_spec("instance", "flows", classes=2))
    np.testing.assert_array_equal(targets[0], instances)
    maps = np.stack([targets[0] == 1, targets[0] == 2, *targets[1:]], axis=-1)
    found = decode(maps.astype(np.float32), name="flows")
    assert found.class_id.tolist() == [0, 1, 0]
