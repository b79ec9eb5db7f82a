"""Flows become objects: pixels with one end are one, wherever the window lies."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.postprocess.decoding import TileObjects, decode
from tests.makers.decode_maps import diffused_flows, unit_flows

Maps = NDArray[np.float32]
Labels = NDArray[np.int32]


def flows(maps: NDArray[Any], **settings: float) -> TileObjects:
    return decode(maps, name="flows", settings=settings)


def maps_of(labels: Labels, *, diffused: bool = False) -> Maps:
    flow = diffused_flows(labels) if diffused else unit_flows(labels)
    return np.dstack([np.where(labels > 0, 0.9, 0.1), flow]).astype(np.float32)


def discs(*centres: tuple[int, int], radius: float = 7, side: int = 48) -> Labels:
    y, x = np.mgrid[:side, :side]
    away = np.stack([np.hypot(y - at_y, x - at_x) for at_y, at_x in centres])
    return np.where(away.min(axis=0) <= radius, away.argmin(axis=0) + 1, 0).astype(np.int32)


def noise(seed: int, side: int = 56, classes: int = 1) -> Maps:
    """Smooth foreground, and flows of length 1 that whirl, part and meet."""
    rng = np.random.default_rng(seed)
    foreground = ndimage.gaussian_filter(rng.normal(size=(side, side, classes)), (2.5, 2.5, 0))
    flow = ndimage.gaussian_filter(rng.normal(size=(side, side, 2)), (3, 3, 0))
    flow /= np.linalg.norm(flow, axis=2, keepdims=True)
    return np.dstack([1 / (1 + np.exp(-40 * foreground)), flow]).astype(np.float32)


def assert_same_parts(found: Labels, wanted: Labels) -> None:
    pairs = np.unique(np.stack([found.ravel(), wanted.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_no_foreground_gives_no_objects() -> None:
    found = flows(np.zeros((7, 9, 4), np.float32))
    assert found.labels.shape == (7, 9)
    assert len(found.score) == 0


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1)])
def test_tiny_windows(shape: tuple[int, int]) -> None:
    assert len(flows(np.zeros((*shape, 3), np.float32)).score) == 0
    assert len(flows(np.ones((*shape, 3), np.float32), min_area_px=1).score) == min(shape)


@pytest.mark.parametrize("diffused", [False, True])
def test_touching_discs_come_out_to_the_pixel(diffused: bool) -> None:
    truth = discs((20, 12), (20, 24), (31, 18), (32, 30))
    assert_same_parts(flows(maps_of(truth, diffused=diffused)).labels, truth)


def test_a_long_way_is_followed_to_its_end() -> None:
    # A snake of three pixels' width: more than 300 steps from its ends to its middle.
    truth = np.zeros((48, 48), np.int32)
    for row in range(2, 42, 6):
        truth[row : row + 3, 2:46] = 1
        column = 2 if (row // 6) % 2 else 43
        truth[row : row + 9, column : column + 3] = 1
    assert_same_parts(flows(maps_of(truth)).labels, truth)


def test_one_object_with_several_ends_is_one() -> None:
    # Each half flows down in its own column and ends below; the halves run side by side.
    maps = np.zeros((20, 20, 3), np.float32)
    maps[4:16, 4:16, 0] = 0.9
    maps[4:16, 4:16, 2] = 1.0
    assert flows(maps).labels.max() == 1


def test_flows_that_part_are_two_objects() -> None:
    maps = np.zeros((20, 20, 3), np.float32)
    maps[4:16, 4:16, 0] = 0.9
    maps[4:16, 4:10, 1:] = (-0.6, 0.8)
    maps[4:16, 10:16, 1:] = (0.6, 0.8)
    found = flows(maps)
    assert found.labels.max() == 2
    assert set(np.unique(found.labels[4:16, 4:10])) == {1}
    # They part by 1.2 on average.
    assert flows(maps, min_parting=1.25).labels.max() == 1


def test_a_cut_object_whose_centre_is_not_seen_is_one() -> None:
    truth = discs((24, 12), (24, 36), radius=12.4)
    for flow in (False, True):
        seen = maps_of(truth, diffused=flow)[:20]
        assert_same_parts(flows(seen).labels, truth[:20])


def test_objects_are_in_one_piece() -> None:
    # The square on the upper left leaves through its corner into the other.
    maps = np.zeros((14, 14, 3), np.float32)
    maps[2:7, 2:7] = (0.9, 0.8, 0.8)
    maps[7:12, 7:12] = (0.9, -0.1, 0.0)
    found = flows(maps)
    assert found.labels.max() == 2
    assert found.labels[6, 6] != found.labels[7, 7]


def test_holes_up_to_the_limit_are_filled() -> None:
    truth = discs((20, 20), radius=10)
    truth[18:21, 18:22] = 0
    maps = maps_of(truth)
    assert [int(flows(maps, max_hole_px=n).labels[19, 19]) for n in (11, 12)] == [0, 1]


def test_cut_objects_are_kept_on_request() -> None:
    maps = maps_of(discs((20, 20)))[:15]
    assert flows(maps, min_area_px=60).labels.max() == 0
    found = decode(maps, name="flows", settings={"min_area_px": 60}, keep_cut=True)
    assert found.labels.max() == 1


def slow_flows(maps: Maps, min_parting: float) -> list[frozenset[int]]:
    """The same rules, pixel by pixel, without filled holes."""
    mask = maps[..., :-2].max(axis=2) > 0.5
    end_of = {}
    for y, x in np.argwhere(mask).tolist():
        path = [(y, x)]
        while (step := slow_step(maps, mask, path[-1])) not in path:
            path.append(step)
        end_of[y, x] = min(path[path.index(step) :])
    ends = sorted(set(end_of.values()))
    number = np.zeros(mask.shape, int)
    for (y, x), end in end_of.items():
        number[y, x] = 1 + ends.index(end)
    for one, two in slow_joins(number, maps, min_parting):
        group, other = number == number[one], number == number[two]
        number[group | other] = number[one]
    parts = []
    for value in np.unique(number[number > 0]):
        areas, count = ndimage.label(number == value)
        parts += [frozenset(np.flatnonzero(areas == k).tolist()) for k in range(1, count + 1)]
    return sorted((part for part in parts if len(part) >= 16), key=min)


def slow_step(maps: Maps, mask: NDArray[np.bool_], at: tuple[int, int]) -> tuple[int, int]:
    dx, dy = maps[at][-2:].tolist()
    octant = round(float(np.arctan2(dy, dx)) / (np.pi / 4))
    along = (round(np.sin(octant * np.pi / 4)), round(np.cos(octant * np.pi / 4)))
    across, down = (0, int(np.sign(dx))), (int(np.sign(dy)), 0)
    beside = [across, down] if abs(dx) >= abs(dy) else [down, across]
    for step_y, step_x in (along, *beside):
        to = (at[0] + step_y, at[1] + step_x)
        if not (0 <= to[0] < mask.shape[0] and 0 <= to[1] < mask.shape[1]):
            return at
        if mask[to]:
            return to
    return at


def slow_joins(
    number: NDArray[np.int64], maps: Maps, min_parting: float
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """A pixel of each of two touching basins whose flows do not part."""
    parting: dict[tuple[int, int], list[float]] = {}
    place: dict[tuple[int, int], tuple[tuple[int, int], tuple[int, int]]] = {}
    for y, x in np.argwhere(number).tolist():
        for to, channel in (((y, x + 1), -2), ((y + 1, x), -1)):
            inside = to[0] < number.shape[0] and to[1] < number.shape[1]
            if inside and number[to] not in (0, number[y, x]):
                pair = tuple(sorted((int(number[y, x]), int(number[to]))))
                key = (pair[0], pair[1])
                parting.setdefault(key, []).append(float(maps[to][channel] - maps[y, x, channel]))
                place[key] = ((y, x), to)
    return [place[key] for key, values in parting.items() if np.mean(values) <= min_parting]


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_slow_twin(seed: int) -> None:
    maps = noise(seed)
    found = flows(maps, max_hole_px=0, min_parting=0.1)
    wanted = slow_flows(maps, 0.1)
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
    inner = flows(framed, min_area_px=1).labels[top : top + 64, left : left + 64]
    alone = flows(np.pad(maps, ((1, 1), (1, 1), (0, 0))), min_area_px=1).labels[1:-1, 1:-1]
    assert_same_parts(inner, alone)


@pytest.mark.parametrize(
    ("shape", "settings", "says"),
    [
        ((4, 4, 2), {}, r"maps \(y, x, classes \+ 2\), got shape \(4, 4, 2\)"),
        ((4, 4, 3), {"threshold": 0.0}, "0 < threshold < 1 and 0 <= min_parting < 2, got 0.0"),
        ((4, 4, 3), {"min_parting": 2.0}, "got 0.5 and 2.0"),
        ((4, 4, 3), {"min_area_px": 0}, "min_area_px >= 1"),
        ((4, 4, 3), {"niter": 200}, "it knows threshold, min_parting"),
    ],
)
def test_wrong_asks(shape: tuple[int, ...], settings: dict[str, float], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        flows(np.zeros(shape, np.float32), **settings)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_width_of_the_maps_does_not_matter(dtype: type[np.floating[Any]]) -> None:
    maps = maps_of(discs((20, 12), (20, 24)))
    np.testing.assert_array_equal(
        flows(np.asfortranarray(maps.astype(dtype))).labels, flows(maps).labels
    )


def test_an_object_whose_end_the_window_does_not_show_is_endless() -> None:
    maps = maps_of(discs((20, 20), (20, 40), radius=9))
    assert np.asarray(flows(maps).endless).tolist() == [False, False]
    # The window ends between the centre of the right-hand disc and its left border.
    found = flows(maps[:, :36])
    assert np.asarray(found.endless).tolist() == [False, True]
    assert found.labels.max() == 2
