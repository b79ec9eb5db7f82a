"""The seam score against a comparison of dense images, position by position."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.seam import SeamScore, SeamTally, seam_codes, seam_pixels
from slideloom.tiling.grid import GridIndex, Tile, TileGrid
from slideloom.wsi.geometry import Box, Size

Images = Mapping[GridIndex, NDArray[Any]]


def _grid(width: int, height: int, core: int, halo: int) -> TileGrid:
    return TileGrid(extent=Size(width=width, height=height), core_px=core, halo_px=halo, mpp=1.0)


def _everywhere(grid: TileGrid) -> NDArray[np.bool_]:
    return np.ones((grid.rows, grid.cols), np.bool_)


def _state(image: NDArray[Any], classes: NDArray[Any], tile: Tile, pair: Any) -> Any:
    """What a tile states of two pixels, given as places on the slide."""
    one, two = (int(image[y - tile.window.y0, x - tile.window.x0]) for y, x in pair)
    same = one == two != 0
    return classes[one], classes[two], same


def _twin(grid: TileGrid, images: Images, classes: Mapping[GridIndex, NDArray[Any]]) -> SeamScore:
    """Look at both pixels of each position in both tiles' images."""
    compared = positions = differing = 0
    for tile in grid:
        for down in (0, 1):
            index = GridIndex(row=tile.index.row + down, col=tile.index.col + 1 - down)
            if tile.index not in images or index not in images:
                continue
            other, core = grid[index], tile.core
            if down:
                pairs = [((core.y1 - 1, x), (core.y1, x)) for x in range(core.x0, core.x1)]
            else:
                pairs = [((y, core.x1 - 1), (y, core.x1)) for y in range(core.y0, core.y1)]
            for pair in pairs:
                mine = _state(images[tile.index], classes[tile.index], tile, pair)
                theirs = _state(images[index], classes[index], other, pair)
                compared += 1
                positions += mine != (0, 0, False) or theirs != (0, 0, False)
                differing += mine != theirs
    return SeamScore(compared=compared, positions=positions, differing=differing)


class _Scene:
    """Random predictions of some tiles of a random grid, objects 1 to 4 of random classes."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        width, height, core = (int(n) for n in rng.integers(1, 20, 3))
        self.grid = _grid(width, height, core, int(rng.integers(1, 4)))
        self.predicted = rng.random((self.grid.rows, self.grid.cols)) < 0.8
        self.images: dict[GridIndex, NDArray[Any]] = {}
        self.class_id: dict[GridIndex, NDArray[np.int16]] = {}
        self.classes: dict[GridIndex, NDArray[Any]] = {}
        for tile in self.grid:
            if self.predicted[tile.index.row, tile.index.col]:
                labels = rng.integers(0, 5, tile.window.shape) * (rng.random() < 0.9)
                self.images[tile.index] = labels.astype(np.int32)
                self.class_id[tile.index] = rng.integers(0, 3, 4).astype(np.int16)
                self.classes[tile.index] = np.concatenate([[0], self.class_id[tile.index] + 1])
        self.order = [self.grid[index] for index in self.images]
        rng.shuffle(self.order)

    def add(self, tally: SeamTally, tile: Tile) -> None:
        labels = seam_pixels(self.images[tile.index], tile)
        tally.add(tile, seam_codes(labels, class_id=self.class_id[tile.index]))


@given(st.integers(0, 2**32 - 1))
def test_the_score_is_that_of_dense_images(seed: int) -> None:
    scene = _Scene(seed)
    tally = SeamTally(scene.predicted)
    for tile in scene.order:
        scene.add(tally, tile)
    assert tally.score == _twin(scene.grid, scene.images, scene.classes)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_tallies_of_some_tiles_each_make_up_the_whole(seed: int, parts: int) -> None:
    scene = _Scene(seed)
    tallies = [SeamTally(scene.predicted) for _ in range(parts)]
    for number, tile in enumerate(scene.order):
        scene.add(tallies[number % parts], tile)
    total = SeamTally(scene.predicted)
    for tally in tallies:
        total.merge(SeamTally.from_arrays(tally.to_arrays(), predicted=scene.predicted))
    assert total.score == _twin(scene.grid, scene.images, scene.classes)


def test_an_empty_tally_comes_back_from_its_arrays() -> None:
    predicted = np.ones((2, 2), np.bool_)
    tally = SeamTally.from_arrays(SeamTally(predicted).to_arrays(), predicted=predicted)
    assert tally.score == SeamScore(compared=0, positions=0, differing=0)


def test_a_tally_keeps_no_more_than_the_borders_that_wait() -> None:
    grid = _grid(40, 40, 10, 2)
    tally = SeamTally(_everywhere(grid))
    kept = []
    for tile in grid:
        image = np.ones(tile.window.shape, np.int32)
        tally.add(tile, seam_codes(seam_pixels(image, tile)))
        kept.append(len(tally.to_arrays()["codes"]))
    # The lower borders of one row of tiles, and a right one.
    assert max(kept) == 5 * 10
    assert kept[-1] == 0


def test_a_tally_keeps_codes_of_its_own() -> None:
    grid = _grid(20, 10, 10, 2)
    tally = SeamTally(_everywhere(grid))
    codes = seam_codes(np.ones((2, 40), np.uint8))
    for tile in grid:
        tally.add(tile, codes)
        codes += 1
    assert tally.score == SeamScore(compared=10, positions=10, differing=10)


def _tally(grid: TileGrid, truth: NDArray[Any], **more: Any) -> SeamScore:
    """Every tile sees the truth of its window, and 0 outside the slide."""
    bounds = Box.of_size(grid.extent)
    tally = SeamTally(_everywhere(grid))
    for tile in grid:
        shown = tile.window.intersect(bounds)
        image = np.zeros((*tile.window.shape, *truth.shape[2:]), truth.dtype)
        image[shown.slices_in(tile.window)] = truth[shown.slices_in(bounds)]
        tally.add(tile, seam_codes(seam_pixels(image, tile), **more))
    return tally.score


@pytest.mark.parametrize("core", [5, 8, 13, 40])
def test_tiles_that_tell_the_truth_agree(core: int) -> None:
    truth = np.random.default_rng(0).integers(0, 4, (30, 37)).astype(np.uint8)
    score = _tally(_grid(37, 30, core, 3), truth)
    assert score.differing == 0
    if core == 40:
        assert score.compared == 0
        assert score.score is None
    else:
        rows, cols = -(-30 // core), -(-37 // core)
        assert score.compared == (rows - 1) * 37 + (cols - 1) * 30
        at = [(truth[y - 1] | truth[y]) != 0 for y in range(core, 30, core)]
        at += [(truth[:, x - 1] | truth[:, x]) != 0 for x in range(core, 37, core)]
        assert score.positions == sum(int(line.sum()) for line in at)
        assert score.score == 0


def test_layers_count_one_by_one() -> None:
    rng = np.random.default_rng(1)
    layers = rng.random((30, 37, 3)) < 0.3
    grid = _grid(37, 30, 8, 2)
    each = [_tally(grid, layers[:, :, n]) for n in range(3)]
    together = _tally(grid, layers)
    assert together.positions == sum(score.positions for score in each)
    assert together.compared == sum(score.compared for score in each)
    assert together.differing == 0


def _two(first: NDArray[Any], second: NDArray[Any], **more: Any) -> SeamScore:
    """Two tiles side by side that see 2 x 2 pixels, of which the middle columns are the border."""
    grid = _grid(4, 2, 2, 2)
    tally = SeamTally(_everywhere(grid))
    for tile, pair in zip(grid, (first, second), strict=True):
        image = np.zeros(tile.window.shape, np.int32)
        image[2:4, 2 - tile.window.x0 - 1 : 2 - tile.window.x0 + 1] = pair
        tally.add(tile, seam_codes(seam_pixels(image, tile), **more))
    return tally.score


def test_what_counts_as_a_difference() -> None:
    one = np.array([[1, 1], [0, 0]])
    assert _two(one, one) == SeamScore(compared=2, positions=1, differing=0)
    # One tile sees nothing, a shorter object, another class, two objects instead of one.
    assert _two(one, 0 * one).score == 1
    assert _two(one, np.array([[1, 0], [0, 0]])).score == 1
    assert _two(one, 2 * one).score == 1
    alike = np.zeros(2, np.int16)
    assert _two(one, 2 * one, class_id=alike).score == 0
    assert _two(one, np.array([[1, 2], [0, 0]]), class_id=alike).score == 1
    assert _two(np.array([[2, 1], [0, 0]]), np.array([[1, 2], [0, 0]]), class_id=alike).score == 0
    # Half of the positions with an object.
    assert _two(one, np.array([[1, 1], [0, 1]])) == SeamScore(compared=2, positions=2, differing=1)
    assert _two(one, np.array([[1, 1], [0, 1]])).score == 0.5
    assert _two(0 * one, 0 * one).score == 0


def test_without_a_halo_nothing_is_compared() -> None:
    score = _tally(_grid(30, 30, 10, 0), np.ones((30, 30), np.uint8))
    assert score == SeamScore(compared=0, positions=0, differing=0)
    assert score.score is None
