"""Tiles as rows: their classes, their places, their ROIs."""

import uuid

import numpy as np
import pytest
import shapely

from slideloom.postprocess.classification import (
    ClassifiedTiles,
    assigned_classes,
    core_boxes,
    tabulate_tiles,
    tile_members,
)
from slideloom.postprocess.measure.table import Roi, Scale
from slideloom.tiling.grid import TileGrid
from slideloom.wsi.geometry import Size

# Two level-0 pixels to a model pixel.
SCALE = Scale(extent=Size(width=100, height=80), mpp=0.5, slide_mpp=0.25)
GRID = TileGrid(extent=SCALE.extent, core_px=32, halo_px=8, mpp=SCALE.mpp)
NAMES = ("tumour", "fat tissue")
EVERY = np.ones((GRID.rows, GRID.cols), np.bool_)


def _tiles(seed: int = 1) -> ClassifiedTiles:
    rng = np.random.default_rng(seed)
    cores = core_boxes(GRID, EVERY)
    probabilities = rng.random((len(cores), 2)).astype(np.float32)
    return ClassifiedTiles(cores=cores, probabilities=probabilities)


def test_cores_are_those_of_the_grid() -> None:
    expected = [(t.core.x0, t.core.y0, t.core.x1, t.core.y1) for t in GRID]
    assert core_boxes(GRID, EVERY).tolist() == [list(core) for core in expected]
    chosen = np.random.default_rng(0).random(EVERY.shape) < 0.5
    kept = [core for core, keep in zip(expected, chosen.ravel(), strict=True) if keep]
    assert core_boxes(GRID, chosen).tolist() == [list(core) for core in kept]
    assert core_boxes(GRID, ~EVERY).shape == (0, 4)


def test_exclusive_classes_are_the_most_probable_ones() -> None:
    rows = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0, 0, 1]], np.float32)
    assigned = assigned_classes(rows, threshold=None)
    assert assigned.tolist() == [[False, True, False], [True, False, False], [False, False, True]]
    assert assigned_classes(rows[:0], threshold=None).shape == (0, 3)


def test_overlapping_classes_are_all_above_the_threshold() -> None:
    rows = np.array([[0.9, 0.6], [0.5, 0.51], [0.1, 0.2]], np.float32)
    assigned = assigned_classes(rows, threshold=0.5)
    assert assigned.tolist() == [[True, True], [False, True], [False, False]]


def test_a_tile_belongs_to_the_rois_that_hold_its_centre() -> None:
    areas = [shapely.box(0, 0, 70, 200), shapely.Point(100, 90).buffer(60), shapely.box(1, 1, 9, 9)]
    rois = [Roi(name=str(k), geometry=area) for k, area in enumerate(areas)]
    cores = core_boxes(GRID, EVERY)
    members = tile_members(cores, scale=SCALE, rois=rois)
    for row, area in zip(members, areas, strict=True):
        for inside, (x0, y0, x1, y1) in zip(row.tolist(), cores.tolist(), strict=True):
            assert inside == area.contains(shapely.Point(x0 + x1, y0 + y1))
    assert members.sum(axis=1).tolist()[2] == 0
    assert members.any()


def test_each_tile_is_a_square_with_its_class_and_all_probabilities() -> None:
    tiles = _tiles()
    assigned = assigned_classes(tiles.probabilities, threshold=None)
    table = tabulate_tiles(tiles, assigned=assigned, scale=SCALE, class_names=NAMES, seed="s")
    assert len(table) == len(GRID)
    rows = zip(GRID, tiles.probabilities.tolist(), table.itertuples(index=False), strict=True)
    for tile, shares, row in rows:
        core = tile.core
        assert row.geometry.equals(shapely.box(2 * core.x0, 2 * core.y0, 2 * core.x1, 2 * core.y1))
        assert (row.centroid_x_px, row.centroid_y_px) == (core.x0 + core.x1, core.y0 + core.y1)
        assert row.area_um2 == core.width * core.height * 0.25
        assert row.score == max(shares)
        assert row.at_slide_border == (
            core.x0 == 0 or core.y0 == 0 or core.x1 == 100 or core.y1 == 80
        )
    first = tiles.probabilities[:, 0] >= tiles.probabilities[:, 1]
    assert table["class"].tolist() == [NAMES[0 if one else 1] for one in first]
    np.testing.assert_array_equal(table["probability_tumour"], tiles.probabilities[:, 0])
    np.testing.assert_array_equal(table["probability_fat tissue"], tiles.probabilities[:, 1])
    assert table["score"].dtype == np.float32
    assert not table["at_roi_border"].any()
    assert table.attrs == {"mpp": 0.25}
    assert table.crs is None


def test_a_tile_of_two_classes_has_two_rows_and_one_of_none_has_none() -> None:
    tiles = _tiles().take(np.arange(3))
    assigned = np.array([[True, True], [False, False], [False, True]])
    table = tabulate_tiles(tiles, assigned=assigned, scale=SCALE, class_names=NAMES, seed="s")
    assert table["class"].tolist() == ["tumour", "fat tissue", "fat tissue"]
    assert table["score"].tolist() == tiles.probabilities[[0, 0, 2], [0, 1, 1]].tolist()
    assert table["centroid_x_px"].tolist() == [32, 32, 160]
    assert table["id"].is_unique


def test_tiles_on_a_rois_border_are_flagged() -> None:
    rois = [Roi(name="left", geometry=shapely.box(10, 10, 100, 150))]
    tiles = _tiles()
    table = tabulate_tiles(
        tiles,
        assigned=assigned_classes(tiles.probabilities, threshold=None),
        scale=SCALE,
        class_names=NAMES,
        seed="s",
        rois=rois,
    )
    border = shapely.box(10, 10, 100, 150).boundary
    expected = [shape.distance(border) <= SCALE.factor for shape in table.geometry]
    assert table["at_roi_border"].tolist() == expected
    assert True in expected
    assert False in expected


def test_ids_follow_from_seed_class_and_place() -> None:
    tiles = _tiles()
    assigned = np.ones((len(tiles), 2), np.bool_)

    def ids(seed: str, order: list[int]) -> list[str]:
        index = np.array(order)
        table = tabulate_tiles(
            tiles.take(index), assigned=assigned[index], scale=SCALE, class_names=NAMES, seed=seed
        )
        return list(map(str, table["id"]))

    forth = list(range(len(tiles)))
    assert len(set(ids("s", forth))) == 2 * len(tiles)
    assert set(ids("s", forth)) == set(ids("s", forth[::-1]))
    assert not set(ids("s", forth)) & set(ids("t", forth))
    assert all(uuid.UUID(each).version == 5 for each in ids("s", forth))


def test_a_table_without_tiles_has_the_same_columns() -> None:
    tiles, none = _tiles(), _tiles().take(np.arange(0))
    tables = [
        tabulate_tiles(
            some,
            assigned=assigned_classes(some.probabilities, threshold=None),
            scale=SCALE,
            class_names=NAMES,
            seed="s",
        )
        for some in (tiles, none)
    ]
    assert len(tables[1]) == 0
    assert tables[0].dtypes.to_dict() == tables[1].dtypes.to_dict()


@pytest.mark.parametrize("count", [0, 5])
def test_arrays_bring_tiles_back(count: int) -> None:
    tiles = _tiles().take(np.arange(count))
    again = ClassifiedTiles.concat([ClassifiedTiles.from_arrays(tiles.to_arrays()), _tiles(2)])
    assert len(again) == count + len(GRID)
    np.testing.assert_array_equal(again.cores[:count], tiles.cores)
    np.testing.assert_array_equal(again.probabilities[:count], tiles.probabilities)
