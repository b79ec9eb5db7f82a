"""Objects come in one order, whole, whatever regions they were found in."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.objects import Objects
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.seam import SeamScore
from slideloom.tiling.grid import GridIndex
from slideloom.workflows import found as found_module
from slideloom.workflows.found import (
    KEYS,
    RUNS_PER_PART,
    SETTLED,
    FoundObjects,
    canonical_order,
    order_keys,
    part_cuts,
)
from slideloom.workflows.store import RegionStore, under


def _objects(rng: np.random.Generator, count: int) -> Objects:
    """Dots at places of their own all over a slide."""
    place = rng.choice(4000 * 4000, count, replace=False)
    y, x = np.divmod(place, 4000)
    return Objects(
        pixels=PixelSets(
            offsets=np.arange(count + 1, dtype=np.int64),
            runs=np.column_stack([y, x, x + 1]).astype(np.int32),
        ),
        class_id=rng.integers(0, 3, count).astype(np.int16),
        score=rng.random(count, np.float32),
        recombined=rng.random(count) < 0.2,
        conflicts=3,
    )


def _found(folder: Path, every: Objects, group: NDArray[np.int64], *, regions: int) -> FoundObjects:
    """Objects of groups from 0 settled in that region, the others in the rest."""
    store = RegionStore(folder)
    index = [GridIndex(row=0, col=col) for col in range(regions)]
    for number, place in enumerate(index):
        part = every.take(np.flatnonzero(group == number))
        store.save(place, {KEYS: order_keys(part), **under(SETTLED, part.to_arrays())})
    rest = every.take(np.flatnonzero(group >= regions))
    seam = SeamScore(compared=5, positions=4, differing=1)
    return FoundObjects(store, index, rest=rest, seam=seam)


def _equal(one: Objects, two: Objects) -> None:
    np.testing.assert_array_equal(one.pixels.runs, two.pixels.runs)
    np.testing.assert_array_equal(one.class_id, two.class_id)
    np.testing.assert_array_equal(one.score, two.score)


def test_regions_do_not_change_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "OBJECTS_PER_PART", 70)
    rng = np.random.default_rng(1)
    every = _objects(rng, 500)
    expected = every.take(canonical_order(order_keys(every)))
    for regions in (1, 4, 40):
        group = rng.integers(0, regions + 1, len(every))
        found = _found(tmp_path / str(regions), every, group, regions=regions)
        parts = list(found.parts())
        assert [len(part) for part in parts] == [70] * 7 + [10]
        _equal(Objects.concat(parts), expected)
        assert len(found) == 500
        assert found.recombined == every.recombined.sum()
        assert found.conflicts == 3 * (regions + 1)


def test_places_are_those_in_the_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    every = _objects(rng, 60)
    found = _found(tmp_path, every, rng.integers(0, 4, 60), regions=3)
    (whole,) = found.parts()
    for number in range(3):
        _equal(whole.take(found.places(number)), found.settled(number))
    _equal(whole.take(found.rest_places), found.rest)


def test_nothing_found_is_one_empty_part(tmp_path: Path) -> None:
    none = _objects(np.random.default_rng(3), 0)
    found = _found(tmp_path, none, np.zeros(0, np.int64), regions=2)
    assert [len(part) for part in found.parts()] == [0]
    assert len(found) == 0


def test_neighbours_are_near_in_the_order() -> None:
    """A part's objects fill few blocks: the places of a block follow each other."""
    y, x = np.divmod(np.random.default_rng(4).permutation(40 * 40), 40)
    keys = np.column_stack([256 * y, 256 * x, np.zeros(1600)]).astype(np.int32)
    ordered = keys[canonical_order(keys)]
    block = ordered[:, 0] // 1024 * 10 + ordered[:, 1] // 1024
    assert (np.diff(block) != 0).sum() == 99
    # The first quarter of an 8 x 8 square of blocks is its 4 x 4 corner.
    inside = ordered[(ordered[:, :2] < 8192).all(axis=1)]
    assert (inside[: len(inside) // 4, :2] < 4096).all()


def test_order_within_a_block_is_by_first_pixel_then_class() -> None:
    keys = np.array([[5, 5, 1], [5, 5, 0], [5, 2, 2], [1, 900, 0], [0, 1024, 0]], np.int32)
    assert canonical_order(keys).tolist() == [3, 2, 1, 0, 4]


def test_parts_are_bounded_by_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "OBJECTS_PER_PART", 4)
    monkeypatch.setattr(found_module, "RUNS_PER_PART", 10)
    assert part_cuts(np.array([1, 1, 1, 1, 1])) == [0, 4, 5]
    assert part_cuts(np.array([5, 5, 1, 30, 30, 2])) == [0, 2, 3, 4, 5, 6]
    assert part_cuts(np.array([], np.int64)) == [0, 0]


@given(st.lists(st.integers(1, 3 * RUNS_PER_PART // 2), max_size=30))
def test_parts_follow_each_other(runs: list[int]) -> None:
    cuts = part_cuts(np.array(runs, np.int64))
    assert cuts[0] == 0
    assert cuts[-1] == len(runs)
    for start, stop in pairwise(cuts):
        assert stop > start or not runs
        assert sum(runs[start:stop]) <= RUNS_PER_PART or stop - start == 1
        # Nor is a part smaller than it has to be.
        assert stop == len(runs) or sum(runs[start : stop + 1]) > RUNS_PER_PART
