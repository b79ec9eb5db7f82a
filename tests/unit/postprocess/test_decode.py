"""Maps of one window become objects that are whole, apart, local and scored."""

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding import TileObjects, decode

Maps = NDArray[np.float32]


def discs(*centres_and_radii: tuple[float, float, float], side: int = 64) -> Maps:
    """Foreground and inner distance of ideal discs `(y, x, radius)`."""
    y, x = np.mgrid[:side, :side]
    inner = np.zeros((side, side), np.float32)
    for at_y, at_x, radius in centres_and_radii:
        inner = np.maximum(inner, 1 - np.hypot(y - at_y, x - at_x) / radius)
    return np.dstack([np.where(inner > 0, 0.9, 0.1), inner]).astype(np.float32)


def blobs(seed: int, side: int = 96, classes: int = 1) -> Maps:
    """Smooth random maps with touching, holed and cut objects."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side, classes)), (2.5, 2.5, 0))
    foreground = 1 / (1 + np.exp(-40 * noise))
    inner = np.clip(noise.max(axis=2) * 8 + 0.05 * rng.normal(size=(side, side)), 0, 1)
    return np.dstack([foreground, inner]).astype(np.float32)


def distance(maps: NDArray[Any], **settings: float) -> TileObjects:
    return decode(maps, name="distance", settings=settings)


def test_no_foreground_gives_no_objects() -> None:
    found = distance(np.zeros((7, 9, 3), np.float32))
    assert found.labels.shape == (7, 9)
    assert found.labels.dtype == np.int32
    assert not found.labels.any()
    assert found.class_id.shape == (0,)
    assert found.score.shape == (0,)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1)])
def test_tiny_windows(shape: tuple[int, int]) -> None:
    assert len(distance(np.zeros((*shape, 2), np.float32)).score) == 0


def test_one_disc_is_one_object_with_its_score() -> None:
    maps = discs((20, 30, 9))
    maps[20, 30, 0] = 1.0
    found = distance(maps)
    np.testing.assert_array_equal(found.labels, maps[..., 0] > 0.5)
    area = int((found.labels == 1).sum())
    assert found.score[0] == pytest.approx((0.9 * (area - 1) + 1.0) / area)
    assert found.score.dtype == np.float32
    assert found.class_id.dtype == np.int16


def test_touching_discs_are_parted_midway() -> None:
    found = distance(discs((30, 20, 10), (30, 38, 10)))
    assert found.labels.max() == 2
    assert set(np.unique(found.labels[:, :28])) == {0, 1}
    assert set(np.unique(found.labels[:, 31:])) == {0, 2}


def test_a_chain_of_touching_discs_stays_apart() -> None:
    found = distance(discs(*[(32, 8 + 12 * i, 7) for i in range(5)]))
    assert found.labels.max() == 5


def test_a_noisy_top_is_one_object() -> None:
    maps = discs((32, 32, 14))
    rng = np.random.default_rng(0)
    maps[..., 1] = np.clip(maps[..., 1] + rng.normal(0, 0.02, (64, 64)), 0, 1)
    assert distance(maps, min_depth=0.1).labels.max() == 1


def test_a_shallow_saddle_parts_nothing() -> None:
    # Two peaks of 1 over a saddle of 0.6.
    maps = discs((30, 24, 10), (30, 32, 10))
    assert [distance(maps, min_depth=d).labels.max() for d in (0.2, 0.5)] == [2, 1]


def test_an_object_without_any_peak_is_kept() -> None:
    maps = discs((32, 32, 8))
    maps[..., 1] *= 0.1
    assert distance(maps).labels.max() == 1


def test_a_saddle_above_seed_high_parts_nothing() -> None:
    maps = discs((30, 24, 10), (30, 34, 10))
    assert maps[30, 29, 1] == pytest.approx(0.5)
    assert distance(maps, seed_low=0.2, seed_high=0.4).labels.max() == 1
    assert distance(maps, seed_low=0.2, seed_high=0.7).labels.max() == 2


def test_small_objects_are_dropped_at_the_limit() -> None:
    maps = np.zeros((10, 20, 2), np.float32)
    maps[1:4, 1:5] = 0.9
    maps[1:4, 8:12] = 0.9
    maps[4, 8] = 0.9
    assert [distance(maps, min_area_px=n).labels.max() for n in (12, 13, 14)] == [2, 1, 0]


def test_a_small_object_at_the_edge_is_kept_on_request() -> None:
    maps = np.zeros((10, 20, 2), np.float32)
    maps[0:2, 1:5] = maps[3:5, 8:12] = 0.9
    assert distance(maps).labels.max() == 0
    found = decode(maps, name="distance", keep_cut=True)
    assert found.labels.max() == 1
    assert found.labels[:2, 1:5].all()


def ring() -> Maps:
    maps = np.zeros((24, 24, 2), np.float32)
    maps[4:20, 4:20] = 0.9
    maps[8:14, 8:14] = 0.0
    return maps


def test_holes_are_filled() -> None:
    found = distance(ring())
    assert int((found.labels == 1).sum()) == 16 * 16


def test_only_small_holes_are_filled() -> None:
    assert [int(distance(ring(), max_hole_px=n).labels[10, 10]) for n in (35, 36)] == [0, 1]


def test_a_hole_with_another_object_in_it_stays() -> None:
    maps = ring()
    maps[10:12, 10:12] = 0.9
    found = distance(maps, min_area_px=1)
    assert found.labels.max() == 2
    assert found.labels[8, 8] == 0
    assert int((found.labels == 2).sum()) == 4


def test_a_lumen_between_two_objects_stays() -> None:
    maps = ring()
    maps[..., 1] = 0.0
    maps[4:20, 4:8, 1] = 0.9
    maps[4:20, 16:20, 1] = 0.9
    found = distance(maps)
    assert found.labels.max() == 2
    assert not found.labels[8:14, 8:14].any()


def test_a_hole_at_the_edge_of_the_window_stays() -> None:
    found = distance(ring()[10:])
    assert found.labels.max() == 1
    assert not found.labels[:4, 8:14].any()


def test_class_by_mean_probability() -> None:
    maps = np.zeros((12, 30, 4), np.float32)
    maps[2:8, 2:8] = (0.6, 0.3, 0.0, 0.9)
    maps[2:4, 2:8, 1] = 1.0
    maps[2:8, 20:26] = (0.2, 0.6, 0.7, 0.9)
    found = distance(maps)
    np.testing.assert_array_equal(found.class_id, [0, 2])
    np.testing.assert_allclose(found.score, [(24 * 0.6 + 12 * 1.0) / 36, 0.7], rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_objects_are_whole_apart_and_in_order(seed: int) -> None:
    maps = blobs(seed, classes=2)
    found = distance(maps)
    count = len(found.score)
    assert count > 5
    firsts = []
    for label in range(1, count + 1):
        _, pieces = ndimage.label(found.labels == label)
        assert pieces == 1
        firsts.append(int(np.flatnonzero(found.labels.ravel() == label)[0]))
    assert firsts == sorted(firsts)
    assert found.labels.max() == count
    assert np.isfinite(found.score).all()


def slow_distance(maps: Maps) -> list[tuple[frozenset[int], int, float]]:
    """The same rules, object by object and pixel by pixel."""
    foreground = maps[..., :-1].max(axis=2)
    mask = foreground > 0.5
    levels = np.linspace(0.2, 0.8, 6)
    objects: list[NDArray[np.bool_]] = []
    components, count = ndimage.label(mask)
    for number in range(1, count + 1):
        component = components == number
        seeds = slow_seeds(component, maps[..., -1], levels)
        objects += [component] if len(seeds) < 2 else flood(component, seeds, maps[..., -1])
    objects = [one for one in objects if one.sum() >= 16]
    filled = slow_fill(objects)
    rows = []
    for one in filled:
        pixels = np.flatnonzero(one)
        means = maps[..., :-1].reshape(-1, maps.shape[2] - 1)[pixels].mean(axis=0)
        score = foreground.ravel()[pixels].mean()
        rows.append((frozenset(pixels.tolist()), int(np.argmax(means)), float(score)))
    return sorted(rows, key=lambda row: min(row[0]))


def slow_seeds(
    part: NDArray[np.bool_], inner: NDArray[np.float32], levels: NDArray[np.float64]
) -> list[NDArray[np.bool_]]:
    pieces, count = ndimage.label(part & (inner > levels[0]))
    seeds = [pieces == number for number in range(1, count + 1)]
    for level in levels[1:]:
        finer: list[NDArray[np.bool_]] = []
        for seed in seeds:
            pieces, count = ndimage.label(seed & (inner > level))
            parts = [pieces == number for number in range(1, count + 1)]
            parts = [one for one in parts if inner[one].max() >= level + 0.2]
            finer += parts if len(parts) > 1 else [seed]
        seeds = finer
    return seeds


def flood(
    part: NDArray[np.bool_], seeds: list[NDArray[np.bool_]], inner: NDArray[np.float32]
) -> list[NDArray[np.bool_]]:
    """Meyer's flooding: the highest pixel first, the older of equals; it claims its neighbours."""
    owner = np.zeros(part.shape, int)
    for number, seed in enumerate(seeds, start=1):
        owner[seed] = number
    queue = [(-float(inner[y, x]), age, y, x) for age, (y, x) in enumerate(np.argwhere(owner))]
    age = len(queue)
    heapq.heapify(queue)
    while queue:
        _, _, y, x = heapq.heappop(queue)
        for at in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            inside = 0 <= at[0] < part.shape[0] and 0 <= at[1] < part.shape[1]
            if inside and part[at] and owner[at] == 0:
                owner[at] = owner[y, x]
                heapq.heappush(queue, (-float(inner[at]), age, *at))
                age += 1
    return [owner == number for number in range(1, len(seeds) + 1)]


def slow_fill(objects: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    if not objects:
        return []
    taken = np.any(objects, axis=0)
    holes, count = ndimage.label(~taken, structure=np.ones((3, 3)))
    filled = [one.copy() for one in objects]
    for number in range(1, count + 1):
        hole = holes == number
        if hole.sum() > 64:
            continue
        edge = hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()
        ring = ndimage.binary_dilation(hole)
        owners = [index for index, one in enumerate(objects) if (one & ring).any()]
        if not edge and len(owners) == 1:
            filled[owners[0]] |= hole
    return filled


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_slow_twin(seed: int) -> None:
    maps = blobs(seed, side=64, classes=2)
    found = distance(maps)
    wanted = slow_distance(maps)
    assert len(found.score) == len(wanted)
    for label, (pixels, class_id, score) in enumerate(wanted, start=1):
        assert frozenset(np.flatnonzero(found.labels.ravel() == label).tolist()) == pixels
        assert found.class_id[label - 1] == class_id
        assert found.score[label - 1] == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_two_windows_agree_on_objects_that_both_see_whole(seed: int) -> None:
    maps = blobs(seed, side=128)
    whole = distance(maps)
    top, left = 17, 23
    part = distance(np.ascontiguousarray(maps[top:, left:]))
    cut = np.zeros(maps.shape[:2], bool)
    cut[:top] = cut[:, :left] = True
    # An object is seen whole where its piece of foreground, and any hole in it, is not cut.
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(maps[..., 0] > 0.5))
    reached = np.unique(pieces[ndimage.binary_dilation(cut)])
    compared = 0
    for label in range(1, len(whole.score) + 1):
        pixels = whole.labels == label
        if np.isin(pieces[pixels][0], reached):
            continue
        there = np.unique(part.labels[pixels[top:, left:]])
        assert len(there) == 1
        np.testing.assert_array_equal(part.labels == there[0], pixels[top:, left:])
        assert part.score[there[0] - 1] == whole.score[label - 1]
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("seed", range(3))
def test_equal_heights_are_flooded_alike_in_every_window(seed: int) -> None:
    # Coarse steps, so that the order of equals decides; a strip of other objects comes first.
    maps = np.round(blobs(seed) * 4) / 4
    wider = np.concatenate([blobs(seed + 50)[:40], np.zeros((1, 96, 2), np.float32), maps])
    alone = decode(maps, name="distance", settings={"min_area_px": 1})
    below = decode(wider, name="distance", settings={"min_area_px": 1}).labels[41:]
    assert (np.diff(np.unique(alone.labels)) == 1).all()
    first = below[below > 0].min()
    np.testing.assert_array_equal(alone.labels, np.where(below > 0, below - first + 1, 0))


def labels_maps(*channels: list[list[int]]) -> NDArray[np.int32]:
    return np.dstack(channels).astype(np.int32)


def test_labels_are_renumbered_in_order() -> None:
    found = decode(labels_maps([[0, 70, 70], [5, 0, -2], [5, 70, 0]]), name="labels")
    np.testing.assert_array_equal(found.labels, [[0, 1, 1], [2, 0, 3], [2, 1, 0]])
    np.testing.assert_array_equal(found.class_id, [0, 0, 0])
    np.testing.assert_array_equal(found.score, [1, 1, 1])
    assert found.labels.dtype == np.int32


def test_labels_with_classes_counted_from_one() -> None:
    found = decode(labels_maps([[0, 9], [4, 9]], [[0, 3], [1, 3]]), name="labels")
    np.testing.assert_array_equal(found.class_id, [2, 0])


def test_no_labels() -> None:
    found = decode(np.zeros((3, 4, 1), np.uint16), name="labels")
    assert len(found.score) == 0
    assert found.labels.shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "maps", "settings", "says"),
    [
        ("stardist", discs(), {}, "'stardist': choose one of components, distance"),
        ("distance", discs(), {"seeds": 1}, r"settings \['seeds'\]: it knows threshold"),
        ("distance", discs(), {"threshold": 1.0}, "0 < threshold < 1"),
        ("distance", discs(), {"threshold": math.nan}, "0 < threshold < 1"),
        ("distance", discs(), {"seed_low": 0.6, "seed_high": 0.5}, "seed_low <= seed_high"),
        ("distance", discs(), {"min_depth": 1.0}, "0 <= min_depth < 1, got 1.0"),
        ("distance", discs(), {"min_area_px": 0}, "min_area_px >= 1 and max_hole_px >= 0, got 0"),
        ("distance", discs(), {"max_hole_px": -1}, "max_hole_px >= 0, got 16 and -1"),
        ("distance", discs()[..., :1], {}, r"maps \(y, x, classes \+ 1\), got shape \(64, 64, 1\)"),
        ("labels", labels_maps([[1]]), {"threshold": 0.5}, "it knows none"),
        ("labels", np.zeros((2, 2, 1)), {}, "needs integers"),
        ("labels", np.zeros((2, 2, 3), int), {}, r"\(2, 2, 3\)"),
    ],
)
def test_wrong_asks(name: str, maps: NDArray[Any], settings: dict[str, float], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        decode(maps, name=name, settings=settings)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda maps: maps.astype(np.float64)])
def test_layout_and_width_of_the_maps_do_not_matter(
    change: Callable[[NDArray[Any]], NDArray[Any]],
) -> None:
    maps = discs((30, 20, 10), (30, 38, 10))
    np.testing.assert_array_equal(distance(change(maps)).labels, distance(maps).labels)
