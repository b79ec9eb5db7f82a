"""Distances to the objects' centres become objects: parted where they jump back, and local."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding import TileObjects, decode
from tests.makers.decode_maps import centre_offsets

Maps = NDArray[np.float32]


def hover(maps: NDArray[Any], **settings: float) -> TileObjects:
    return decode(maps, name="hover", settings=settings)


def maps_of(labels: NDArray[np.int32]) -> Maps:
    return np.dstack([np.where(labels > 0, 0.9, 0.1), centre_offsets(labels)]).astype(np.float32)


def discs(*centres: tuple[int, int], radius: float = 7, side: int = 48) -> NDArray[np.int32]:
    y, x = np.mgrid[:side, :side]
    away = np.stack([np.hypot(y - at_y, x - at_x) for at_y, at_x in centres])
    return np.where(away.min(axis=0) <= radius, away.argmin(axis=0) + 1, 0).astype(np.int32)


def noise(seed: int, side: int = 40, classes: int = 2) -> Maps:
    """Smooth foreground, and maps that rise and fall in patches."""
    rng = np.random.default_rng(seed)
    foreground = ndimage.gaussian_filter(rng.normal(size=(side, side, classes)), (2.5, 2.5, 0))
    offsets = ndimage.gaussian_filter(rng.normal(size=(side, side, 2)), (2, 2, 0)) * 5
    return np.dstack([1 / (1 + np.exp(-40 * foreground)), np.clip(offsets, -1, 1)]).astype("f4")


def assert_same_parts(found: NDArray[np.int32], wanted: NDArray[np.int32]) -> None:
    pairs = np.unique(np.stack([found.ravel(), wanted.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_no_foreground_gives_no_objects() -> None:
    found = hover(np.zeros((7, 9, 4), np.float32))
    assert found.labels.shape == (7, 9)
    assert len(found.score) == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1)])
def test_tiny_windows(shape: tuple[int, int]) -> None:
    assert len(hover(np.zeros((*shape, 3), np.float32)).score) == 0
    assert len(hover(np.ones((*shape, 3), np.float32), min_area_px=1).score) == min(shape)


def test_touching_discs_come_out_to_the_pixel() -> None:
    truth = discs((20, 12), (20, 24), (31, 18), (32, 30))
    assert_same_parts(hover(maps_of(truth)).labels, truth)


def test_a_blurred_jump_parts_too() -> None:
    truth = discs((20, 12), (20, 25))
    maps = ndimage.gaussian_filter(maps_of(truth), (1.5, 1.5, 0))
    found = hover(maps)
    assert found.labels.max() == 2
    shared = (found.labels == 1) & (truth == 1)
    assert shared.sum() > 0.9 * (truth == 1).sum()


def test_a_steep_rim_beside_the_background_parts_nothing() -> None:
    # Two pixels wide: each is a rim, and the maps fall from 1 to 0 beside it.
    truth = np.zeros((20, 20), np.int32)
    truth[3:17, 9:11] = 1
    assert_same_parts(hover(maps_of(truth)).labels, truth)


def test_scale_is_fixed() -> None:
    # Another object with extreme values changes nothing; HoVer-Net's own rule would.
    maps = np.zeros((40, 40, 3), np.float32)
    maps[5:15, 5:25, 0] = 0.9
    maps[5:15, 5:25, 1] = np.concatenate([np.linspace(-0.1, 0.1, 10)] * 2)
    alone = hover(maps).labels
    maps[25:35, 5:15, 0] = 0.9
    maps[25:35, 5:15, 1] = np.linspace(-1, 1, 10)
    both = hover(maps).labels
    np.testing.assert_array_equal(alone[:20], both[:20])


def test_small_seeds_go_to_what_they_are_linked_to() -> None:
    maps = maps_of(discs((20, 12), (20, 24)))
    assert [hover(maps, min_seed_px=n).labels.max() for n in (8, 500)] == [2, 1]


def test_holes_up_to_the_limit_are_filled() -> None:
    truth = discs((20, 20), radius=10)
    truth[18:21, 18:22] = 0
    maps = maps_of(truth)
    filled = [int(hover(maps, max_hole_px=n).labels[19, 19]) for n in (11, 12)]
    assert filled == [0, 1]


def test_cut_objects_are_kept_on_request() -> None:
    maps = maps_of(discs((20, 20)))[:15]
    assert hover(maps, min_area_px=60).labels.max() == 0
    found = decode(maps, name="hover", settings={"min_area_px": 60}, keep_cut=True)
    assert found.labels.max() == 1


def slow_hover(maps: Maps) -> list[frozenset[int]]:
    """The same rules, pixel by pixel, without filled holes."""
    mask = maps[..., :-2].max(axis=2) > 0.5
    fall = np.maximum(slow_fall(maps[..., -2], mask), slow_fall(maps[..., -1].T, mask.T).T)
    seeds, count = ndimage.label(mask & (fall <= 0.05))
    group = {}
    for number in range(1, count + 1):
        members = set(np.flatnonzero(seeds == number).tolist())
        if len(members) >= 8:
            group.update(dict.fromkeys(members, members))
    seeded = set(group)
    for pixel in np.flatnonzero(mask).tolist():
        group.setdefault(pixel, {pixel})
    for one, two in slow_links(maps[..., -2:], mask):
        joined = group[one] | group[two]
        both = (group[one] & seeded) and (group[two] & seeded)
        if group[one] is not group[two] and not both:
            group.update(dict.fromkeys(joined, joined))
    parts = {frozenset(members) for members in group.values()}
    return sorted((part for part in parts if len(part) >= 16), key=min)


def slow_fall(values: Maps, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    height, width = values.shape
    fall = np.zeros(values.shape)
    for y, x in np.argwhere(mask):
        for dy in (-1, 0, 1):
            for dx in (-1, 1):
                at_y, at_x = y + dy, x + dx
                inside = 0 <= at_y < height and 0 <= at_x < width
                if inside and mask[at_y, at_x]:
                    step = float(values[at_y, at_x]) - float(values[y, x])
                    fall[y, x] -= dx * (2 - abs(dy)) * step / 8
    return fall


def slow_links(offsets: Maps, mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Pairs of neighbours, the most alike first, of equals the first one in the window."""
    width = mask.shape[1]
    links = []
    for y, x in np.argwhere(mask).tolist():
        for number, (to_y, to_x) in enumerate(((y, x + 1), (y + 1, x))):
            if to_y < mask.shape[0] and to_x < width and mask[to_y, to_x]:
                step = float(np.abs(offsets[y, x] - offsets[to_y, to_x]).max())
                links.append((step, y * width + x, number, to_y * width + to_x))
    return [(one, two) for _, one, _, two in sorted(links)]


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_slow_twin(seed: int) -> None:
    maps = noise(seed)
    found = hover(maps, max_hole_px=0)
    wanted = slow_hover(maps)
    assert len(wanted) > 3
    assert len(found.score) == len(wanted)
    for label, pixels in enumerate(wanted, start=1):
        assert frozenset(np.flatnonzero(found.labels.ravel() == label).tolist()) == pixels


@pytest.mark.parametrize("seed", range(3))
def test_it_does_not_matter_where_the_window_lies(seed: int) -> None:
    maps = noise(seed, side=64)
    rng = np.random.default_rng(seed)
    top, left, below, right = rng.integers(1, 30, 4)
    framed = np.pad(maps, ((top, below), (left, right), (0, 0)))
    # An object far off, so that numbers and sums differ.
    framed[0, :20, 0] = 0.9
    found = decode(framed, name="hover", settings={"min_area_px": 1}).labels
    inner = found[top : top + 64, left : left + 64]
    alone = hover(np.pad(maps, ((1, 1), (1, 1), (0, 0))), min_area_px=1).labels[1:-1, 1:-1]
    assert_same_parts(inner, alone)


@pytest.mark.parametrize(
    ("shape", "settings", "says"),
    [
        ((4, 4, 2), {}, r"maps \(y, x, classes \+ 2\), got shape \(4, 4, 2\)"),
        ((4, 4, 3), {"threshold": 1.0}, "0 < threshold < 1 and 0 < max_fall < 1, got 1.0"),
        ((4, 4, 3), {"max_fall": 0.0}, "got 0.5 and 0.0"),
        ((4, 4, 3), {"min_seed_px": 0}, "min_seed_px >= 1, got 0"),
        ((4, 4, 3), {"max_hole_px": -1}, "max_hole_px >= 0, got 16 and -1"),
        ((4, 4, 3), {"ksize": 21}, "it knows threshold, max_fall"),
    ],
)
def test_wrong_asks(shape: tuple[int, ...], settings: dict[str, float], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        hover(np.zeros(shape, np.float32), **settings)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_width_of_the_maps_does_not_matter(dtype: type[np.floating[Any]]) -> None:
    maps = maps_of(discs((20, 12), (20, 24)))
    np.testing.assert_array_equal(
        hover(np.asfortranarray(maps.astype(dtype))).labels, hover(maps).labels
    )
