"""Where pixels lie in their objects: the inner distance, and the offsets from the centre."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.models.heads.targets_shapes import (
    centre_offsets,
    distance_targets,
    hover_targets,
    inner_distance,
)
from tests.makers import decode_maps
from tests.makers.tile_truths import discs, head_spec, truth_of

Labels = NDArray[np.int32]


def blobs(seed: int, *, side: int = 40) -> Labels:
    """Smooth shapes of many forms, numbered piece by piece; some touch, some are cut."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 2)
    bands = np.digitize(noise, [0.0, 0.12])
    labels = np.zeros((side, side), np.int32)
    for band in (1, 2):
        found, _ = ndimage.label(bands == band)
        labels[found > 0] = found[found > 0] + labels.max()
    return labels


def slow_inner_distance(labels: Labels) -> NDArray[np.float64]:
    """Object by object, level by level: the last level at which a pixel is joined to the top."""
    out = np.zeros(labels.shape)
    for n in range(1, int(labels.max()) + 1):
        # Beyond the tile's edge the object goes on.
        mine = np.pad(labels, 1, mode="edge") == n
        across = ndimage.generate_binary_structure(2, 1)
        inner = ndimage.binary_erosion(mine, across, border_value=1)[1:-1, 1:-1]
        depth = (ndimage.distance_transform_edt(inner) + 0.5) * (labels == n)
        if inner.all():
            depth = np.ones(labels.shape)
        top = np.unravel_index(depth.argmax(), depth.shape)
        for level in np.unique(depth[labels == n]):
            parts, _ = ndimage.label(depth >= level)
            out[parts == parts[top]] = level / depth[top]
    return out


@pytest.mark.parametrize("seed", range(6))
def test_inner_distance_is_the_slow_one(seed: int) -> None:
    labels = blobs(seed)
    assert labels.max() > 5
    got = inner_distance(labels)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, slow_inner_distance(labels), atol=1e-5)


def test_each_object_rises_to_one_place() -> None:
    # Two lobes with a neck, which the plain distance takes for two objects.
    labels = (discs((24, 14), (24, 34), radius=11) > 0).astype(np.int32)
    plain = decode_maps.inner_distance(labels)
    got = inner_distance(labels)
    assert ndimage.label(plain > 0.9)[1] == 2
    for level in np.linspace(0.05, 0.95, 19):
        assert ndimage.label(got > level)[1] == 1
    assert got.max() == 1
    np.testing.assert_array_equal(got > 0, labels > 0)


def test_the_edge_of_the_tile_is_no_border() -> None:
    whole = discs((20, 20), radius=12, shape=(41, 41))
    np.testing.assert_allclose(inner_distance(whole[20:]), inner_distance(whole)[20:], atol=1e-6)


def test_a_tile_inside_one_object_is_deep_everywhere() -> None:
    assert (inner_distance(np.ones((5, 7), np.int32)) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_offsets_are_those_of_the_twin(seed: int) -> None:
    labels = blobs(seed)
    got = centre_offsets(labels)
    assert got.dtype == np.float32
    wanted = np.moveaxis(decode_maps.centre_offsets(labels), -1, 0)
    thin = np.zeros(int(labels.max()) + 1, np.bool_)
    for n, (y, x) in enumerate(ndimage.find_objects(labels), start=1):
        thin[n] = y.stop - y.start == 1 or x.stop - x.start == 1
    sound = ~thin[labels]
    np.testing.assert_allclose(got[:, sound], wanted[:, sound], atol=1e-5)
    assert np.abs(got).max() == 1


def test_an_object_of_one_row_has_no_offset_down() -> None:
    labels = np.zeros((5, 9), np.int32)
    labels[2, 1:6] = 1
    across, down = centre_offsets(labels)
    np.testing.assert_allclose(across[2, 1:6], [-1, -0.5, 0, 0.5, 1])
    assert not down.any()


def test_targets_begin_with_the_class_number() -> None:
    labels = discs((12, 12), (30, 30))
    truth = truth_of(labels, np.array([1, 0], np.int16), classes=2)
    for kind, make in (("distance", distance_targets), ("hover", hover_targets)):
        targets = make(truth, head_spec("instance", kind, classes=2))
        assert targets.shape == (3, 48, 48)
        assert targets.dtype == np.float32
        np.testing.assert_array_equal(targets[0], np.array([0, 2, 1])[labels])
