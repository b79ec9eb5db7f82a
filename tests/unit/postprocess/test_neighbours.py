"""Distances to neighbours and their number, against all pairs."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.measure.neighbours import FEW_CLASSES, Neighbours

NAMES = ("tumour", "stroma", "other class")
NOBODY = np.zeros((0, 2)), np.zeros(0, np.int16)


def _neighbours(
    places: NDArray[np.float64],
    class_id: NDArray[np.integer],
    *,
    names: tuple[str, ...] = NAMES,
    radius_um: float = 10,
    mpp: float = 0.5,
) -> Neighbours:
    return Neighbours(places, class_id, class_names=names, radius_um=radius_um, mpp=mpp)


def _all_pairs(
    places: NDArray[np.float64], class_id: NDArray[np.integer], *, radius_um: float, mpp: float
) -> pd.DataFrame:
    """The slow, obvious twin."""
    rows = []
    for i, (x, y) in enumerate(places.tolist()):
        to = [math.inf] * len(NAMES)
        near = 0
        for j, (other_x, other_y) in enumerate(places.tolist()):
            if i != j:
                distance = math.sqrt((x - other_x) ** 2 + (y - other_y) ** 2)
                to[class_id[j]] = min(to[class_id[j]], distance)
                near += distance <= radius_um / mpp
        others = [value for number, value in enumerate(to) if number != class_id[i]]
        found = [to[class_id[i]], min(others), *to]
        density = near / (math.pi * radius_um**2) * 1e6
        distances = [math.nan if value == math.inf else value * mpp for value in found]
        rows.append([*distances, near, density])
    columns = ["nearest_same_class_um", "nearest_other_class_um"]
    columns += [f"nearest_to_{name}_um" for name in NAMES]
    columns += [f"neighbours_within_{radius_um:g}um", "local_density_per_mm2"]
    return pd.DataFrame(rows, columns=columns)


def _drawn(seed: int, count: int, *, steps: int) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """On a grid of half pixels, so that many places, distances and radii are the same."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, steps, (count, 2)) / 2
    return places, rng.choice([0, 0, 0, 1, 1, 2], count).astype(np.int16)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.sampled_from([3, 30, 200, 3000]),
    st.sampled_from([0.5, 2.5, 10.0, 1000.0]),
)
def test_neighbours_are_those_of_all_pairs(
    seed: int, count: int, steps: int, radius_um: float
) -> None:
    places, class_id = _drawn(seed, count, steps=steps)
    neighbours = _neighbours(places, class_id, radius_um=radius_um)
    found = neighbours.measure(slice(0, count))
    expected = _all_pairs(places, class_id, radius_um=radius_um, mpp=0.5)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-14)
    within = f"neighbours_within_{radius_um:g}um"
    assert found[within].tolist() == expected[within].tolist()


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 80), max_size=5))
def test_parts_give_the_very_same_figures(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    places, class_id = rng.uniform(0, 90, (80, 2)), rng.integers(0, 3, 80).astype(np.int16)
    neighbours = _neighbours(places, class_id, mpp=0.2517)
    edges = [0, *sorted(cuts), 80]
    parts = [neighbours.measure(slice(start, stop)) for start, stop in pairwise(edges)]
    whole = neighbours.measure(slice(0, 80))
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)


def test_figures_of_three_objects() -> None:
    places = np.array([[0.0, 0.0], [6.0, 8.0], [0.0, 20.5]])
    table = _neighbours(places, np.array([0, 0, 1], np.int16), radius_um=5).measure(slice(0, 3))
    assert table["nearest_same_class_um"].tolist()[:2] == [5, 5]
    assert np.isnan(table["nearest_same_class_um"][2])
    assert table["nearest_other_class_um"].tolist()[0] == 10.25
    assert table["nearest_to_stroma_um"].tolist()[0] == 10.25
    assert table["nearest_to_tumour_um"].tolist()[:2] == [5, 5]
    assert np.isnan(table["nearest_to_other class_um"]).all()
    # The circle itself is in: 5 um are 10 px.
    assert table["neighbours_within_5um"].tolist() == [1, 1, 0]
    assert table["local_density_per_mm2"].tolist() == pytest.approx([1e6 / (np.pi * 25)] * 2 + [0])


@pytest.mark.parametrize("classes", [1, 2, FEW_CLASSES, FEW_CLASSES + 1])
def test_the_columns_follow_from_the_model_alone(classes: int) -> None:
    names = tuple(f"c{number}" for number in range(classes))
    expected = ["nearest_same_class_um"]
    if classes > 1:
        expected += ["nearest_other_class_um"]
    if 1 < classes <= FEW_CLASSES:
        expected += [f"nearest_to_{name}_um" for name in names]
    expected += ["neighbours_within_12.5um", "local_density_per_mm2"]
    some = np.array([[1.0, 2.0]]), np.zeros(1, np.int16)
    tables = [
        _neighbours(*objects, names=names, radius_um=12.5).measure(slice(0, 5))
        for objects in (NOBODY, some)
    ]
    assert [len(table) for table in tables] == [0, 1]
    assert tables[0].columns.tolist() == tables[1].columns.tolist() == expected
    assert tables[0].dtypes.equals(tables[1].dtypes)
    assert np.isnan(tables[1].iloc[0, : len(expected) - 2].astype(float)).all()
    assert tables[1].iloc[0, -2:].tolist() == [0, 0]


def test_many_classes_have_the_nearest_of_another_class_too() -> None:
    places, class_id = np.random.default_rng(5).uniform(0, 99, (60, 2)), np.arange(60) % 12
    names = tuple(f"c{number}" for number in range(12))
    found = _neighbours(places, class_id, names=names).measure(slice(0, 60))
    distance = np.hypot(*(places[:, None] - places).T) * 0.5
    np.fill_diagonal(distance, np.inf)
    same = class_id[:, None] == class_id
    expected = np.where(same, np.inf, distance).min(axis=1)
    np.testing.assert_allclose(found["nearest_other_class_um"], expected)
    expected = np.where(same, distance, np.inf).min(axis=1)
    np.testing.assert_allclose(found["nearest_same_class_um"], expected)
