"""The areas of each class of a semantic model become objects."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding import DECODES, TileObjects, decode, min_area_px

Maps = NDArray[np.float32]


def components(maps: Maps, **settings: float) -> TileObjects:
    return decode(maps, name="components", settings=settings)


def noise(seed: int, side: int = 60, classes: int = 3) -> Maps:
    rng = np.random.default_rng(seed)
    logits = ndimage.gaussian_filter(rng.normal(size=(side, side, classes + 1)), (2, 2, 0)) * 20
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=2, keepdims=True), np.float32)


def slow_components(maps: Maps, min_area: int) -> list[tuple[frozenset[int], int, float]]:
    number = maps.argmax(axis=2)
    rows = []
    for value in range(1, maps.shape[2]):
        areas, count = ndimage.label(number == value)
        for one in range(1, count + 1):
            pixels = np.flatnonzero(areas == one)
            score = float(maps[..., value].ravel()[pixels].mean())
            if len(pixels) >= min_area:
                rows.append((frozenset(pixels.tolist()), value - 1, score))
    return sorted(rows, key=lambda row: min(row[0]))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_slow_twin(seed: int) -> None:
    maps = noise(seed)
    found = components(maps, min_area_px=9)
    wanted = slow_components(maps, 9)
    assert len(wanted) > 8
    assert len(found.score) == len(wanted)
    for label, (pixels, class_id, score) in enumerate(wanted, start=1):
        assert frozenset(np.flatnonzero(found.labels.ravel() == label).tolist()) == pixels
        assert found.class_id[label - 1] == class_id
        assert found.score[label - 1] == pytest.approx(score, rel=1e-5)
    assert found.labels.dtype == np.int32


def test_nothing_predicted_is_background() -> None:
    # Outside the slide all maps are 0.
    found = components(np.zeros((5, 6, 3), np.float32))
    assert not found.labels.any()
    assert len(found.score) == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (1, 1)])
def test_tiny_windows(shape: tuple[int, int]) -> None:
    assert len(components(np.zeros((*shape, 2), np.float32)).score) == 0


def test_corners_do_not_connect_and_holes_stay() -> None:
    maps = np.zeros((12, 12, 2), np.float32)
    maps[..., 0] = 0.5
    maps[1:6, 1:6, 1] = maps[6:11, 6:11, 1] = 0.8
    maps[3, 3, 1] = 0.0
    found = components(maps)
    assert found.labels.max() == 2
    assert found.labels[3, 3] == 0
    np.testing.assert_allclose(found.score, 0.8)


def test_cut_areas_are_kept_on_request() -> None:
    maps = np.zeros((12, 12, 2), np.float32)
    maps[0:2, 4:9, 1] = maps[5:7, 4:9, 1] = 0.8
    kept = [
        decode(maps, name="components", settings={"min_area_px": 11}, keep_cut=keep).labels.max()
        for keep in (False, True)
    ]
    assert kept == [0, 1]


def test_wrong_asks() -> None:
    with pytest.raises(SettingsError, match=r"maps \(y, x, 1 \+ classes\), got shape \(2, 2, 1\)"):
        components(np.zeros((2, 2, 1), np.float32))
    with pytest.raises(SettingsError, match="min_area_px >= 1"):
        components(np.zeros((2, 2, 2), np.float32), min_area_px=0)


def test_smallest_areas() -> None:
    found = {name: min_area_px(name, {}) for name in DECODES}
    assert found == {"components": 16, "distance": 16, "flows": 16, "hover": 16, "labels": 1}
    assert min_area_px("hover", {"min_area_px": 40}) == 40
    with pytest.raises(SettingsError, match="decode 'labels' was given"):
        min_area_px("labels", {"min_area_px": 4})
