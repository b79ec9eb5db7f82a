"""Stitching: perfect tiles give the truth back, in any order; imperfect ones give no duplicates."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import label

from slideloom.postprocess.decoding import TileObjects
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.stitching.pieces import Pieces, pieces_of_tile
from slideloom.postprocess.stitching.stitch import stitch_pieces
from slideloom.tiling.grid import GridIndex, Tile, TileGrid
from slideloom.wsi.geometry import Box, Size

Labels = NDArray[np.int32]
Look = Callable[..., TileObjects]
Draw = Callable[..., TileObjects]
seeds = st.integers(0, 2**32 - 1)


def _grid(truth: Labels, *, core_px: int, halo_px: int) -> TileGrid:
    extent = Size(width=truth.shape[1], height=truth.shape[0])
    return TileGrid(extent=extent, core_px=core_px, halo_px=halo_px, mpp=1.0)


def _any_grid(truth: Labels, rng: np.random.Generator) -> TileGrid:
    core_px, halo_px = int(rng.integers(8, 51)), int(rng.integers(1, 21))
    return _grid(truth, core_px=core_px, halo_px=halo_px)


def _stitch(grid: TileGrid, tell: Callable[[Tile], TileObjects], *, seed: int = 0) -> Objects:
    """Stitch what `tell` says of each tile, the tiles in a random order."""
    tiles = list(grid)
    order = np.random.default_rng(seed).permutation(len(tiles)).tolist()
    parts = [pieces_of_tile(tell(tiles[i]), tiles[i], extent=grid.extent) for i in order]
    predicted = np.ones((grid.rows, grid.cols), np.bool_)
    return stitch_pieces(Pieces.concat(parts), grid=grid, predicted=predicted)


def _paint(objects: Objects, grid: TileGrid) -> NDArray[np.uint32]:
    canvas = np.zeros(grid.extent.shape, np.uint32)
    objects.pixels.paint(canvas, np.arange(1, len(objects) + 1), frame=grid.bounds)
    # A pixel in two objects, or one outside the slide, would be counted but not seen.
    assert objects.pixels.areas.sum() == (canvas > 0).sum()
    return canvas


def _renumber(scene: NDArray[np.integer]) -> Labels:
    """Every 4-connected area of one value, numbered by first pixel."""
    return np.asarray(label(scene, background=0, connectivity=1), np.int32)


def _ring(y: NDArray[np.int64], x: NDArray[np.int64], size: float) -> NDArray[np.bool_]:
    distance = np.hypot(y, x)
    return (distance <= size) & (distance > 0.6 * size)


def _bracket(y: NDArray[np.int64], x: NDArray[np.int64], size: float) -> NDArray[np.bool_]:
    far = np.maximum(np.abs(y), np.abs(x))
    return (far <= size) & ((far > 0.5 * size) | (x < -0.5 * size)) & ~((x > 0) & (abs(y) < 1))


def _random_scene(rng: np.random.Generator) -> Labels:
    """Shapes of 1 px up to the slide's side that touch, cover each other and leave the slide."""
    height, width = (int(side) for side in rng.integers(15, 120, 2))
    scene = np.zeros((height, width), np.int32)
    y, x = np.mgrid[:height, :width]
    for value in range(1, int(rng.integers(2, 25))):
        size = rng.choice([0.5, 2, 5, 9, 16, 40, 70])
        dy, dx = y - int(rng.integers(-3, height + 3)), x - int(rng.integers(-3, width + 3))
        flat = rng.uniform(0.2, 1)
        kind = rng.integers(6)
        if kind == 0:
            shape = np.hypot(dy, dx * flat) <= size
        elif kind == 1:
            shape = (np.abs(dy) <= size * flat) & (np.abs(dx) <= size)
        elif kind == 2:
            shape = _ring(dy, dx, size)
        elif kind == 3:
            shape = _bracket(dy, dx, size) if rng.random() < 0.5 else _bracket(dx, dy, size)
        elif kind == 4:
            shape = (np.abs(dy + dx) <= 1) & (np.abs(dx) <= size)
        else:
            shape = ndimage.label(rng.random(scene.shape) < 0.6)[0] == 1
        scene[shape] = value
    return _renumber(scene)


@given(seeds)
def test_perfect_tiles_give_the_truth(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = _random_scene(rng)
    grid = _any_grid(truth, rng)
    objects = _stitch(grid, lambda tile: look(truth, tile, seed=seed), seed=seed)
    np.testing.assert_array_equal(_paint(objects, grid), truth)
    assert objects.conflicts == 0
    assert objects.class_id.tolist() == [number % 3 for number in range(1, truth.max() + 1)]


@given(seeds, st.floats(0.5, 0.75), st.integers(1, 3))
def test_labyrinths_come_out_whole(look: Look, seed: int, filled: float, values: int) -> None:
    # Such objects cross each overlap strip many times, joined now in one tile, now in the other.
    rng = np.random.default_rng(seed)
    shape = rng.integers(15, 100, 2)
    truth = _renumber((rng.random(shape) < filled) * rng.integers(1, values + 1, shape))
    grid = _any_grid(truth, rng)
    objects = _stitch(grid, lambda tile: look(truth, tile, seed=seed), seed=seed)
    np.testing.assert_array_equal(_paint(objects, grid), truth)
    assert objects.conflicts == 0


def _jittered(found: TileObjects, tile: Tile, *, grid: TileGrid) -> TileObjects:
    """Borders a pixel further out or in, or as they are: never the same in adjacent tiles."""
    kind = (tile.index.row + 2 * tile.index.col) % 3
    cross = ndimage.generate_binary_structure(2, 1)
    highest = ndimage.grey_dilation(found.labels, footprint=cross, mode="nearest")
    lowest = ndimage.grey_erosion(found.labels, footprint=cross, mode="nearest")
    labels = found.labels.copy()
    if kind == 1:
        labels[labels == 0] = highest[labels == 0]
    if kind == 2:
        labels[highest != lowest] = 0
    inside = tile.window.intersect(grid.bounds).slices_in(tile.window)
    scene = np.zeros_like(labels)
    scene[inside] = labels[inside]
    parts = _renumber(scene)
    number, first = np.unique(parts, return_index=True)
    origin = scene.ravel()[first[number > 0]] - 1
    return TileObjects(labels=parts, class_id=found.class_id[origin], score=found.score[origin])


def _discs(rng: np.random.Generator, *, radius: tuple[int, int], side: int = 130) -> Labels:
    """Discs that may touch and may leave the slide a little, never cover each other."""
    scene = np.zeros((side, side), np.int32)
    count = 0
    for _ in range(120):
        centre = tuple(rng.integers(0, side, 2).tolist())
        size = int(rng.integers(*radius)) + 0.5
        place = disk(centre, size, shape=scene.shape)
        if len(place[0]) > 2.5 * size**2 and not scene[place].any():
            count += 1
            scene[place] = count
    return _renumber(scene)


def _table(objects: Objects, truth: Labels, *, grid: TileGrid) -> NDArray[np.int64]:
    """Pixels that each true object (row) and each found one (column) share; 0 = none."""
    found = _paint(objects, grid).astype(np.int64)
    width = len(objects) + 1
    flat = np.bincount((truth * width + found).ravel(), minlength=(int(truth.max()) + 1) * width)
    return flat.reshape(-1, width)


@given(seeds)
def test_the_order_of_pieces_changes_nothing(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = _random_scene(rng)
    grid = _grid(truth, core_px=int(rng.integers(8, 30)), halo_px=int(rng.integers(1, 12)))
    tell = [_jittered(look(truth, tile, seed=seed), tile, grid=grid) for tile in grid]
    parts = [
        pieces_of_tile(told, tile, extent=grid.extent)
        for told, tile in zip(tell, grid, strict=True)
    ]
    predicted = np.ones((grid.rows, grid.cols), np.bool_)
    pieces = Pieces.concat(parts)
    first = stitch_pieces(pieces, grid=grid, predicted=predicted)
    mixed = pieces.take(rng.permutation(len(pieces)))
    second = stitch_pieces(mixed, grid=grid, predicted=predicted)
    np.testing.assert_array_equal(first.pixels.runs, second.pixels.runs)
    np.testing.assert_array_equal(first.pixels.offsets, second.pixels.offsets)
    np.testing.assert_array_equal(first.class_id, second.class_id)
    np.testing.assert_array_equal(first.score, second.score)
    np.testing.assert_array_equal(first.recombined, second.recombined)
    assert first.conflicts == second.conflicts


# Smaller discs lose a pixel all around to nothing.
@given(seeds, st.sampled_from([(3, 5), (4, 8), (7, 11), (8, 30)]))
def test_borders_that_differ_between_tiles_give_no_duplicates(
    look: Look, seed: int, radius: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    truth = _discs(rng, radius=radius)
    grid = _grid(truth, core_px=int(rng.integers(24, 50)), halo_px=int(rng.integers(12, 17)))
    objects = _stitch(grid, lambda tile: _jittered(look(truth, tile), tile, grid=grid), seed=seed)
    shares = _table(objects, truth, grid=grid)[1:, 1:]
    assert np.bincount(shares.argmax(axis=0)).tolist() == [1] * int(truth.max())
    area = np.bincount(truth.ravel())[1:]
    joined = area[:, None] + objects.pixels.areas - shares
    assert ((shares / joined).max(axis=1) > 0.6)[area > 100].all()


@given(seeds)
def test_an_object_that_some_tiles_miss_is_found_by_its_owner(look: Look, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = _discs(rng, radius=(3, 11))
    grid = _grid(truth, core_px=int(rng.integers(24, 50)), halo_px=int(rng.integers(12, 17)))
    number = np.arange(truth.max() + 1)
    missed = {
        tile.index: (number % 4 == 0) & ((tile.index.row + tile.index.col + number // 4) % 2 == 0)
        for tile in grid
    }
    objects = _stitch(
        grid, lambda tile: look(np.where(missed[tile.index][truth], 0, truth), tile), seed=seed
    )
    shares = _table(objects, truth, grid=grid)[:, 1:]
    assert not shares[0].any()
    assert (np.count_nonzero(shares, axis=0) == 1).all()
    assert (np.count_nonzero(shares[1:], axis=1) <= 1).all()
    complete = shares.max(axis=1) == np.bincount(truth.ravel())
    for index in number[1:].tolist():
        y, x = (int(place.mean() + 0.5) // grid.core_px for place in np.nonzero(truth == index))
        assert complete[index] or missed[GridIndex(row=y, col=x)][index]


def _named(look: Look, truth: Labels, *, core_px: int, halo_px: int) -> Objects:
    """Stitch perfect tiles of a drawn scene, which has to come back exactly."""
    grid = _grid(truth, core_px=core_px, halo_px=halo_px)
    objects = _stitch(grid, lambda tile: look(truth, tile))
    np.testing.assert_array_equal(_paint(objects, grid), truth)
    assert objects.conflicts == 0
    return objects


@pytest.mark.parametrize("halo_px", [1, 2, 5])
@pytest.mark.parametrize("turned", [False, True])
def test_a_chain_of_fifty_touching_cells_stays_fifty(
    look: Look, halo_px: int, turned: bool
) -> None:
    truth = np.zeros((40, 150), np.int32)
    truth[10:22] = np.repeat(np.arange(1, 51), 3)
    truth = np.ascontiguousarray(_renumber(truth.T if turned else truth))
    assert len(_named(look, truth, core_px=16, halo_px=halo_px)) == 50


def test_an_object_larger_than_a_tile_is_one(look: Look) -> None:
    truth = np.zeros((130, 140), np.int32)
    truth[disk((64, 70), 60)] = 1
    truth[60:70, 60:70] = 0
    truth[64, 64] = 2
    objects = _named(look, _renumber(truth), core_px=16, halo_px=4)
    assert objects.recombined.tolist() == [True, False]


def test_a_large_cell_between_two_small_ones_is_kept(look: Look) -> None:
    truth = np.zeros((40, 60), np.int32)
    truth[14:20, 6:13] = 1
    truth[8:30, 13:45] = 2
    truth[14:20, 45:52] = 3
    objects = _named(look, _renumber(truth), core_px=20, halo_px=8)
    assert sorted(objects.pixels.areas.tolist()) == [42, 42, 22 * 32]


@pytest.mark.parametrize("gap", [0, 1])
@pytest.mark.parametrize("at", range(12, 22))
def test_neighbours_a_pixel_apart_or_less_stay_two(look: Look, gap: int, at: int) -> None:
    truth = np.zeros((32, 34), np.int32)
    truth[3:29, 2:at] = 1
    truth[3:29, at + gap : 32] = 2
    assert len(_named(look, truth, core_px=16, halo_px=4)) == 2


def test_a_u_whose_arms_alone_one_tile_sees_is_one(look: Look) -> None:
    truth = np.zeros((30, 60), np.int32)
    truth[2:28, 4:50] = 1
    truth[8:22, 4:44] = 0
    objects = _named(look, truth, core_px=30, halo_px=6)
    assert objects.recombined.tolist() == [True]


def test_two_lobes_on_either_side_of_a_thin_bridge_are_one(look: Look) -> None:
    # In the strip that both tiles see, each tile knows of one lobe and the bridge that they belong
    # together, and the bridge alone is less than half of that.
    truth = np.zeros((34, 64), np.int32)
    truth[16, 18:47] = 1
    truth[4:17, 18:22] = truth[4:14, 22:31] = 1
    truth[16:29, 43:47] = truth[19:29, 34:43] = 1
    assert len(_named(look, truth, core_px=32, halo_px=8)) == 1


def test_a_c_whose_centroid_lies_in_a_core_that_it_avoids_is_one(look: Look) -> None:
    truth = np.zeros((48, 48), np.int32)
    truth[9:39, 31:39] = 1
    truth[16:32, 32:39] = 0
    truth[24, 18:32] = 1
    objects = _named(look, truth, core_px=16, halo_px=8)
    assert objects.recombined.tolist() == [False]


def _two_tiles() -> TileGrid:
    """Two tiles with a strip of 20 pixels, x = 30 to 50, that both see."""
    return TileGrid(extent=Size(width=80, height=40), core_px=40, halo_px=10, mpp=1.0)


def _pair(draw: Draw, left: Sequence[Box], right: Sequence[Box]) -> Objects:
    """Stitch what the left tile says with score 0.25 and the right one with 0.75."""
    said = [
        draw(tile, *boxes, score=score)
        for tile, boxes, score in zip(_two_tiles(), (left, right), (0.25, 0.75), strict=True)
    ]
    return _stitch(_two_tiles(), lambda tile: said[tile.index.col])


def _rows(y0: int, y1: int, *, x0: int = 20, x1: int = 60) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def test_touching_cells_are_not_joined_by_a_piece_that_fuses_them(draw: Draw) -> None:
    objects = _pair(draw, [_rows(10, 16), _rows(16, 30)], [_rows(10, 30)])
    # The larger of the two cells continues in the fused piece; the other stays by itself.
    assert objects.pixels.areas.tolist() == [6 * 20, 14 * 20 + 20 * 20]
    assert objects.recombined.tolist() == [False, True]


def test_a_joined_object_has_the_mean_score_and_the_class_of_most_pixels(draw: Draw) -> None:
    objects = _pair(draw, [_rows(5, 6), _rows(10, 20, x0=25)], [_rows(10, 20, x0=25)])
    # The right tile does not see the thin bar, so it goes on to the edge of the left one's window.
    assert objects.pixels.areas.tolist() == [30, 150 + 200]
    assert objects.score[1] == pytest.approx((150 * 0.25 + 200 * 0.75) / 350)
    assert objects.class_id[1] == 0


def test_pixels_that_two_objects_claim_go_to_the_tile_that_owns_them(draw: Draw) -> None:
    left, right = _rows(10, 20, x0=25, x1=39), _rows(10, 20, x0=36, x1=46)
    objects = _pair(draw, [left], [right])
    assert objects.conflicts == 1
    assert objects.pixels.areas.tolist() == [140, 70]


def test_an_object_that_loses_most_of_its_pixels_gives_way(draw: Draw) -> None:
    # The left tile's thin bar is whole; the tile that owns most of it sees a cell there.
    objects = _pair(draw, [_rows(14, 15, x0=38, x1=48)], [_rows(10, 20, x0=34, x1=48)])
    assert objects.pixels.areas.tolist() == [140]
    assert objects.conflicts == 1


def test_a_cut_object_goes_on_where_no_other_tile_was_predicted(draw: Draw) -> None:
    grid = _two_tiles()
    tile = grid[GridIndex(row=0, col=0)]
    pieces = pieces_of_tile(draw(tile, _rows(10, 20, x0=37)), tile, extent=grid.extent)
    alone = stitch_pieces(pieces, grid=grid, predicted=np.array([[True, False]]))
    assert alone.pixels.areas.tolist() == [130]
    # The other tile owns nearly all of it and does not see it.
    assert len(stitch_pieces(pieces, grid=grid, predicted=np.array([[True, True]]))) == 0


def test_a_cut_object_is_kept_whole_where_its_neighbour_misses_the_smaller_part(
    draw: Draw,
) -> None:
    objects = _pair(draw, [_rows(10, 20, x0=25)], [])
    assert objects.pixels.areas.tolist() == [250]
    assert objects.recombined.tolist() == [False]


def test_a_small_cell_is_not_lost_in_a_large_neighbour_that_another_tile_draws_over_it(
    draw: Draw,
) -> None:
    # The left tile owns the cell; the right one missed it and drew its neighbour over half of it.
    objects = _pair(draw, [_rows(10, 16, x0=32, x1=38)], [_rows(13, 33, x0=34, x1=46)])
    assert objects.pixels.areas.tolist() == [36, 240 - 12]


def test_neighbours_that_one_tile_leaves_to_the_other_are_not_taken_for_one_object(
    draw: Draw,
) -> None:
    # Each tile sees both, one right at the border of cores, and draws the border between them 3 px
    # apart from where the other does.
    left = [_rows(10, 18, x0=31, x1=40), _rows(10, 18, x0=40, x1=48)]
    right = [_rows(10, 18, x0=31, x1=37), _rows(10, 18, x0=37, x1=48)]
    assert len(_pair(draw, left, right)) == 2


def test_without_a_halo_each_tile_keeps_what_it_sees(look: Look) -> None:
    truth = np.zeros((20, 20), np.int32)
    truth[5:15, 5:15] = 1
    objects = _stitch(_grid(truth, core_px=10, halo_px=0), lambda tile: look(truth, tile))
    assert objects.pixels.areas.tolist() == [25] * 4


def test_no_pieces_give_no_objects() -> None:
    grid = _two_tiles()
    predicted = np.zeros((1, 2), np.bool_)
    objects = stitch_pieces(Pieces.concat([]), grid=grid, predicted=predicted)
    assert len(objects) == 0
    assert objects.conflicts == 0
