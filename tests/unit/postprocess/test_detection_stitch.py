"""Stitching of detections: perfect tiles give the truth, noise gives no copies, order nothing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.decoding.boxes import BoxSettings, TileBoxes
from slideloom.postprocess.detection.detections import Detections, TileDetections
from slideloom.postprocess.detection.stitch import (
    StitchedDetections,
    settle_detections,
    stitch_detections,
)
from slideloom.testing import Scene, make_scene
from slideloom.tiling.grid import RegionGrid, Tile, TileGrid
from slideloom.wsi.geometry import Size
from tests.makers.detections import Noise, Row, seen_boxes, seen_of_scene, slow_stitch

TILINGS = [(256, 32), (200, 8), (128, 16), (320, 70), (256, 64)]
PLAIN = BoxSettings()


@pytest.fixture(scope="module", params=[(0.5, 3), (0.25, 8)])
def scene(request: pytest.FixtureRequest) -> Scene:
    """Nuclei and glands that are larger than most of the tiles."""
    mpp, seed = request.param
    size = Size(width=1150, height=930)
    return make_scene(size=size, mpp=mpp, seed=seed, large_objects=2)


def _all(grid: TileGrid) -> NDArray[np.bool_]:
    return np.ones((grid.rows, grid.cols), np.bool_)


def _stitch(
    seen: TileDetections, grid: TileGrid, settings: BoxSettings = PLAIN
) -> StitchedDetections:
    return stitch_detections(seen, grid=grid, predicted=_all(grid), settings=settings)


def _rows(found: Detections) -> Counter[Row]:
    table = np.column_stack([found.boxes, found.class_id])
    return Counter(map(tuple, table.tolist()))


def _assert_equal(first: Detections, second: Detections) -> None:
    for name, array in first.to_arrays().items():
        np.testing.assert_array_equal(array, second.to_arrays()[name], err_msg=name)


@pytest.mark.parametrize(("tile_px", "halo_px"), TILINGS)
def test_perfect_boxes_are_the_true_boxes(scene: Scene, tile_px: int, halo_px: int) -> None:
    grid, parts = seen_of_scene(scene, tile_px=tile_px, halo_px=halo_px)
    result = _stitch(TileDetections.concat(parts), grid)
    truth = np.column_stack([scene.boxes, scene.class_id - 1]).astype(float)
    assert _rows(result.detections) == Counter(map(tuple, truth.tolist()))
    assert (result.conflicts, result.unconfirmed) == (0, 0)
    assert result.shared > 0
    larger = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1) > tile_px
    assert result.detections.recombined.sum() >= larger.sum()


@pytest.mark.parametrize(("tile_px", "halo_px"), TILINGS)
def test_perfect_points_are_the_true_points(scene: Scene, tile_px: int, halo_px: int) -> None:
    grid, parts = seen_of_scene(scene, tile_px=tile_px, halo_px=halo_px, points=True)
    result = _stitch(TileDetections.concat(parts), grid)
    found = result.detections
    assert len(found) == len(scene)
    # The model speaks in float32, in which each tile rounds to its own last bits.
    gaps = np.abs(found.boxes[:, None, :2] - scene.centroids).max(axis=2)
    assert (gaps.min(axis=1) < 1e-4).all()
    assert sorted(gaps.argmin(axis=1).tolist()) == list(range(len(scene)))
    np.testing.assert_array_equal(found.class_id, scene.class_id[gaps.argmin(axis=1)] - 1)
    np.testing.assert_array_equal(found.boxes[:, :2], found.boxes[:, 2:])
    assert (result.conflicts, result.unconfirmed) == (0, 0)


def _jitter(amount_px: float, *, seed: int = 0) -> Noise:
    """Another shift of every side, and last-bit noise of the score, in every tile."""

    def add(found: TileBoxes, tile: Tile) -> TileBoxes:
        rng = np.random.default_rng([seed, tile.index.row, tile.index.col])
        boxes = found.boxes + rng.uniform(-amount_px, amount_px, found.boxes.shape)
        point = (found.boxes[:, :2] == found.boxes[:, 2:]).all(axis=1)
        boxes[point, 2:] = boxes[point, :2]
        score = found.score - rng.uniform(0, 1e-6, len(boxes)).astype(np.float32)
        # A sliver at the window's edge that is narrower than the noise is not seen.
        sized = point | (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return TileBoxes(boxes=boxes[sized], class_id=found.class_id[sized], score=score[sized])

    return add


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("amount_px", [1e-6, 1.0])
@pytest.mark.parametrize(("tile_px", "halo_px"), [(256, 32), (320, 70)])
def test_tiles_that_differ_by_a_pixel_give_no_copies_and_no_gaps(
    scene: Scene, tile_px: int, *, halo_px: int, amount_px: float, points: bool
) -> None:
    noise = _jitter(amount_px)
    grid, parts = seen_of_scene(scene, tile_px=tile_px, halo_px=halo_px, points=points, noise=noise)
    found = _stitch(TileDetections.concat(parts), grid).detections
    truth = np.tile(scene.centroids, 2) if points else scene.boxes
    gaps = np.abs(found.boxes[:, None] - truth).max(axis=2)
    gaps[found.class_id[:, None] != scene.class_id - 1] = np.inf
    assert len(found) == len(scene)
    assert sorted(gaps.argmin(axis=1).tolist()) == list(range(len(scene)))
    assert gaps.min(axis=1).max() <= amount_px + 1e-4


@pytest.mark.parametrize("points", [False, True])
def test_the_order_of_tiles_and_of_detections_changes_nothing(scene: Scene, points: bool) -> None:
    grid, parts = seen_of_scene(scene, tile_px=256, halo_px=32, points=points, noise=_jitter(1.0))
    seen = TileDetections.concat(parts)
    mixed = seen.take(np.random.default_rng(4).permutation(len(seen)))
    first, second = _stitch(seen, grid), _stitch(mixed, grid)
    _assert_equal(first.detections, second.detections)
    assert (first.shared, first.unconfirmed) == (second.shared, second.unconfirmed)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3])
def test_regions_that_finish_what_they_can_change_nothing(
    scene: Scene, side: int, points: bool
) -> None:
    grid, parts = seen_of_scene(scene, tile_px=128, halo_px=16, points=points, noise=_jitter(0.8))
    whole = _stitch(TileDetections.concat(parts), grid)
    of_tile = dict(zip((tile.index for tile in grid), parts, strict=True))
    settled, waiting = [], []
    for region in RegionGrid(grid=grid, side=side):
        seen = TileDetections.concat([of_tile[tile.index] for tile in region.tiles])
        part = settle_detections(seen, region, grid=grid, predicted=_all(grid), settings=PLAIN)
        settled.append(part.stitched)
        waiting.append(part.waiting)
    rest = _stitch(TileDetections.concat(waiting), grid)
    settled.append(rest)
    joined = Detections.concat([part.detections for part in settled]).sorted()
    _assert_equal(joined, whole.detections)
    assert sum(part.conflicts for part in settled) == whole.conflicts
    assert sum(part.shared for part in settled) == whole.shared
    assert sum(part.unconfirmed for part in settled) == whole.unconfirmed
    assert len(rest.detections) < len(joined)


def _random_whole(rng: np.random.Generator, grid: TileGrid, *, points: bool) -> TileDetections:
    """Views that are made by and by from the same objects, and some from none; none is cut."""
    objects = rng.uniform(0, 100, (40, 2))
    sides = rng.uniform(4, 12, (40, 2)) * (0 if points else 1)

    def said(tile: Tile) -> list[Row]:
        window = tile.window.grow(-3).intersect(grid.bounds)
        rows: list[Row] = []
        for corner, side in zip(objects, sides, strict=True):
            x0, y0 = corner + rng.uniform(-3, 3, 2) * (rng.random() < 0.7)
            x1, y1 = x0 + side[0], y0 + side[1]
            inside = window.x0 < x0 and x1 < window.x1 and window.y0 < y0 and y1 < window.y1
            if inside and rng.random() < 0.8:
                rows.append((x0, y0, x1, y1, float(rng.integers(2)), round(rng.random(), 1)))
        return rows

    return seen_boxes(grid, said, scores=True)


@pytest.mark.parametrize("agnostic", [0, 1])
@pytest.mark.parametrize("points", [False, True])
def test_whole_detections_are_stitched_as_the_slow_twin_does_it(
    agnostic: int, points: bool
) -> None:
    dropped = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        grid = TileGrid(
            extent=Size(width=100, height=90),
            core_px=int(rng.integers(12, 40)),
            halo_px=int(rng.integers(8, 30)),
            mpp=1.0,
        )
        seen = _random_whole(rng, grid, points=points)
        predicted = rng.random((grid.rows, grid.cols)) < 0.8
        seen = seen.take(np.flatnonzero(predicted[tuple(seen.tile.T)]))
        settings = BoxSettings(agnostic=agnostic, iou=float(rng.choice([0.3, 0.5])), radius_px=3.5)
        result = stitch_detections(seen, grid=grid, predicted=predicted, settings=settings)
        rows, expected = slow_stitch(seen, grid=grid, predicted=predicted, settings=settings)
        found = result.detections
        table = np.column_stack([found.boxes, found.class_id, found.score])
        assert sorted(map(tuple, table.tolist())) == rows
        assert result.conflicts == expected
        dropped += len(seen) - len(found)
    assert dropped > 0


def test_joined_boxes_in_one_place_are_thinned(scene: Scene) -> None:
    # Tiles that differ by many pixels join the views of one object to several boxes.
    grid, parts = seen_of_scene(scene, tile_px=128, halo_px=48, noise=_jitter(8))
    seen = TileDetections.concat(parts)
    result = _stitch(seen, grid, BoxSettings(agnostic=1, iou=0.4))
    assert result.conflicts > 0
    assert result.unconfirmed > 0.1 * result.shared
    assert 0.8 * len(scene) < len(result.detections) < 1.25 * len(scene)


# Two tiles, from 0 to 50 and from 30 to 80; both see the strip from 30 to 50.
TWO = TileGrid(extent=Size(width=80, height=60), core_px=40, halo_px=10, mpp=1.0)


def _pair(
    left: Sequence[Row], right: Sequence[Row], settings: BoxSettings = PLAIN
) -> StitchedDetections:
    """Stitch what the left and the right tile see in the upper row; the lower sees nothing."""
    said: dict[tuple[int, int], Sequence[Row]] = {(0, 0): left, (0, 1): right}
    seen = seen_boxes(TWO, lambda tile: said.get((tile.index.row, tile.index.col), []))
    return _stitch(seen, TWO, settings)


def _boxes(result: StitchedDetections) -> list[list[float]]:
    boxes: list[list[float]] = result.detections.boxes.tolist()
    return boxes


def test_boxes_that_only_meet_are_not_joined() -> None:
    # Both are cut, and they share a corner of the strip; each goes on where the other tile is.
    left, right = (10, 5, 50, 20, 0), (30, 18, 75, 35, 0)
    seen_left, seen_right = (30, 5, 62, 20, 0), (22, 18, 50, 35, 0)
    result = _pair([left, seen_right], [right, seen_left])
    assert _boxes(result) == [[10, 5, 62, 20], [22, 18, 75, 35]]
    assert result.detections.recombined.all()


def test_two_alike_boxes_that_both_tiles_see_stay_two() -> None:
    both: list[Row] = [(36, 10, 44, 20, 0), (38, 10, 46, 20, 0)]
    assert _boxes(_pair(both, both)) == [list(row[:4]) for row in both]


def test_two_near_points_that_both_tiles_see_stay_two() -> None:
    both: list[Row] = [(39, 10, 39, 10, 0), (41, 10, 41, 10, 0)]
    assert _boxes(_pair(both, both)) == [list(row[:4]) for row in both]


def test_points_nearer_than_the_radius_are_one() -> None:
    left, right = [(39.0, 10.0, 39.0, 10.0, 0.0)], [(44.0, 10.0, 44.0, 10.0, 0.0)]
    assert len(_pair(left, right).detections) == 1
    assert len(_pair(left, right, BoxSettings(radius_px=4.9)).detections) == 2


def test_classes_share_a_place_unless_the_settings_are_agnostic() -> None:
    left, right = [(34.0, 10.0, 45.0, 20.0, 0.0)], [(36.0, 10.0, 46.0, 20.0, 1.0)]
    assert _pair(left, right).detections.class_id.tolist() == [0, 1]
    one = _pair(left, right, BoxSettings(agnostic=1)).detections
    assert one.boxes.tolist() == [[34, 10, 45, 20]]


def test_a_whole_box_explains_a_cut_one() -> None:
    result = _pair([(36, 10, 50, 20, 0)], [(36, 10, 60, 22, 0)])
    assert _boxes(result) == [[36, 10, 60, 22]]
    assert not result.detections.recombined.any()


def test_both_arms_of_a_u_are_explained_by_the_whole() -> None:
    arms: list[Row] = [(33, 5, 50, 10, 0), (33, 30, 50, 35, 0)]
    assert _boxes(_pair(arms, [(33, 5, 70, 35, 0)])) == [[33, 5, 70, 35]]


def test_both_arms_of_a_u_are_joined_by_its_bow() -> None:
    arms: list[Row] = [(5, 5, 50, 10, 0), (5, 30, 50, 35, 0)]
    result = _pair(arms, [(30, 5, 70, 35, 0)])
    assert _boxes(result) == [[5, 5, 70, 35]]
    assert result.detections.recombined.all()


def test_a_slanting_object_is_joined_though_its_views_hardly_agree() -> None:
    assert _boxes(_pair([(5, 2, 50, 20, 0)], [(30, 18, 75, 40, 0)])) == [[5, 2, 75, 40]]


def test_a_large_box_is_not_lost_in_a_small_whole_one() -> None:
    # The right tile sees a small object where the end of the large one lies, but not that end.
    result = _pair([(2, 5, 50, 25, 0)], [(33, 4, 54, 26, 0)])
    assert [2, 5, 50, 25] in _boxes(result)


def test_large_objects_side_by_side_are_joined_each_with_its_own() -> None:
    # What is large of one on the left looks like what is large of the other on the right.
    left: list[Row] = [(5, 5, 50, 40, 0), (22, 34, 50, 44, 0)]
    right: list[Row] = [(30, 5, 60, 14, 0), (30, 8, 75, 44, 0)]
    assert _boxes(_pair(left, right)) == [[5, 5, 60, 40], [22, 8, 75, 44]]


def test_what_its_owner_does_not_see_is_dropped() -> None:
    result = _pair([], [(33, 10, 39, 16, 0)])
    assert len(result.detections) == 0
    assert (result.shared, result.unconfirmed) == (1, 1)


def test_what_its_owner_was_not_asked_for_is_kept() -> None:
    seen = seen_boxes(TWO, lambda tile: [(33.0, 10.0, 39.0, 16.0, 0.0)][: tile.index.col])
    predicted = np.array([[False, True], [False, True]])
    result = stitch_detections(seen, grid=TWO, predicted=predicted, settings=PLAIN)
    assert _boxes(result) == [[33, 10, 39, 16]]
    assert result.shared == 0


def test_neither_of_two_tiles_can_leave_an_object_to_the_other() -> None:
    for gap in (-1.5, 1.5):
        left, right = (35 - gap, 10, 45 - gap, 20, 0), (35 + gap, 10, 45 + gap, 20, 0)
        assert len(_pair([left], [right]).detections) == 1


def test_a_chain_of_boxes_across_a_border_keeps_its_length() -> None:
    grid = TileGrid(extent=Size(width=150, height=40), core_px=16, halo_px=5, mpp=1.0)
    chain = [(3.0 * i, 10.0, 3.0 * i + 4, 20.0, 0.0) for i in range(48)]

    def said(tile: Tile) -> list[Row]:
        window = tile.window
        shown = [(max(r[0], window.x0), 10.0, min(r[2], window.x1), 20.0, 0.0) for r in chain]
        return [row for row in shown if row[2] > row[0]] if tile.index.row == 0 else []

    found = _stitch(seen_boxes(grid, said), grid).detections
    assert sorted(found.boxes.tolist()) == [list(row[:4]) for row in chain]


def test_objects_of_hundreds_of_tiles_are_joined_each_by_itself() -> None:
    grid = TileGrid(extent=Size(width=400, height=400), core_px=20, halo_px=8, mpp=1.0)
    objects = [(0.0, 0.0, 400.0, 195.0, 0.0), (0.0, 205.0, 400.0, 400.0, 0.0)]

    def said(tile: Tile) -> list[Row]:
        window = tile.window
        low, high = (window.x0, window.y0), (window.x1, window.y1)
        shown = [(*map(max, row[:2], low), *map(min, row[2:4], high), 0.0) for row in objects]
        return [row for row in shown if row[3] > row[1]]

    found = _stitch(seen_boxes(grid, said), grid).detections
    assert found.boxes.tolist() == [list(row[:4]) for row in objects]
    assert found.recombined.all()


def test_a_joined_box_has_the_mean_score_and_the_class_of_the_larger_part() -> None:
    said = {0: [(10.0, 10.0, 50.0, 20.0, 1.0, 0.5)], 1: [(30.0, 10.0, 60.0, 20.0, 0.0, 0.75)]}
    seen = seen_boxes(
        TWO, lambda tile: said[tile.index.col] if tile.index.row == 0 else [], scores=True
    )
    found = _stitch(seen, TWO, BoxSettings(agnostic=1)).detections
    assert found.boxes.tolist() == [[10, 10, 60, 20]]
    assert found.class_id.tolist() == [1]
    assert found.score[0] == pytest.approx((0.5 * 400 + 0.75 * 300) / 700)


def test_without_a_halo_each_tile_keeps_what_it_sees() -> None:
    grid = TileGrid(extent=Size(width=80, height=40), core_px=40, halo_px=0, mpp=1.0)
    seen = seen_boxes(grid, lambda tile: [(30.0, 10.0, 50.0, 20.0, 0.0)])
    assert _stitch(seen, grid).detections.boxes.tolist() == [[30, 10, 40, 20], [40, 10, 50, 20]]


def test_nothing_seen_gives_nothing() -> None:
    result = _stitch(TileDetections.concat([]), TWO)
    assert len(result.detections) == 0
    assert (result.conflicts, result.shared, result.unconfirmed) == (0, 0, 0)


@given(st.integers(0, 2**32 - 1))
def test_copies_of_one_object_are_one_however_many_tiles_see_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = TileGrid(
        extent=Size(width=200, height=200),
        core_px=int(rng.integers(20, 60)),
        halo_px=int(rng.integers(15, 60)),
        mpp=1.0,
    )
    corner, side = rng.uniform(0, 150, 2), rng.uniform(10, 50, 2)

    def said(tile: Tile) -> list[Row]:
        told = np.append(corner, corner + side) + rng.uniform(-1, 1, 4)
        window = tile.window
        row = np.clip(told, [window.x0, window.y0] * 2, [window.x1, window.y1] * 2)
        return [(*row.tolist(), 0.0)] if (row[2:] > row[:2]).all() else []

    found = _stitch(seen_boxes(grid, said), grid).detections
    assert len(found) == 1
    assert np.abs(found.boxes[0] - np.append(corner, corner + side)).max() <= 1
