"""Counts per area and class, whole and in parts."""

from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from slideloom.postprocess.measure.counts import COUNT_COLUMNS, CountedArea, CountTally

NAMES = ("tumour", "stroma", "other")


def _table(classes: list[str], areas_um2: list[float]) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame({"class": classes, "area_um2": np.array(areas_um2, float)})


def _add(
    tally: CountTally,
    table: gpd.GeoDataFrame,
    members: NDArray[np.bool_],
    over_px: list[list[int]] | None = None,
) -> None:
    over = np.zeros((len(members), 1), np.int64) if over_px is None else np.array(over_px)
    tally.add(table, members, over_px=over)


def _rows(tally: CountTally) -> list[dict[Any, Any]]:
    rows: list[dict[Any, Any]] = tally.table("s", pixel_um2=0.25).to_dict("records")
    return rows


FOUR = _table(["tumour", "stroma", "other", "tumour"], [3, 5, 0.25, 3.5])


def test_counts_per_class_and_area() -> None:
    slide, left = CountedArea(name="", area_um2=200.0), CountedArea(name="left", area_um2=50.0)
    tally = CountTally(NAMES, [slide, left])
    _add(tally, FOUR, np.array([[True, True, True, True], [True, False, False, True]]))
    rows = _rows(tally)
    assert [(row["slide"], row["roi"], row["class"], row["count"]) for row in rows] == [
        ("s", "", "tumour", 2),
        ("s", "", "stroma", 1),
        ("s", "", "other", 1),
        ("s", "left", "tumour", 2),
        ("s", "left", "stroma", 0),
        ("s", "left", "other", 0),
    ]
    assert [row["area_um2"] for row in rows] == pytest.approx([6.5, 5, 0.25, 6.5, 0, 0])
    percent = [3.25, 2.5, 0.125, 13, 0, 0]
    assert [row["area_percent"] for row in rows] == pytest.approx(percent)
    density = [1e4, 5e3, 5e3, 4e4, 0, 0]
    assert [row["density_per_mm2"] for row in rows] == pytest.approx(density)


def test_without_a_reference_area_shares_are_not_a_number() -> None:
    tally = CountTally(NAMES, [CountedArea(name="", area_um2=0.0)])
    _add(tally, FOUR, np.ones((1, 4), np.bool_))
    rows = _rows(tally)
    assert [row["count"] for row in rows] == [2, 1, 1]
    for row in rows:
        assert np.isnan([row["area_percent"], row["density_per_mm2"]]).all()


def test_no_objects_count_as_none() -> None:
    tally = CountTally(NAMES, [CountedArea(name="", area_um2=100.0)])
    before = tally.table("s", pixel_um2=0.25)
    _add(tally, _table([], []), np.zeros((1, 0), np.bool_))
    pd.testing.assert_frame_equal(tally.table("s", pixel_um2=0.25), before, check_exact=True)
    assert before["class"].tolist() == list(NAMES)
    for row in _rows(tally):
        figures = ("count", "area_um2", "area_percent", "density_per_mm2")
        assert [row[name] for name in figures] == [0, 0, 0, 0]


def test_objects_of_other_classes_are_left_out() -> None:
    tally = CountTally(["stroma"], [CountedArea(name="", area_um2=100.0)])
    _add(tally, FOUR, np.ones((1, 4), np.bool_))
    assert [(row["class"], row["count"], row["area_um2"]) for row in _rows(tally)] == [
        ("stroma", 1, 5.0)
    ]


def _drawn(rng: np.random.Generator, size: int) -> tuple[gpd.GeoDataFrame, NDArray[np.bool_]]:
    table = _table(list(rng.choice(NAMES, size)), list(rng.lognormal(3, 2, size)))
    return table, rng.random((2, size)) < 0.7


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=4))
def test_a_table_in_parts_gives_the_very_same_figures(seed: int, cuts: list[int]) -> None:
    table, members = _drawn(np.random.default_rng(seed), 60)
    areas = [CountedArea(name="a", area_um2=900.0), CountedArea(name="b", area_um2=7.0)]
    whole, parts = CountTally(NAMES, areas), CountTally(NAMES, areas)
    _add(whole, table, members)
    edges = [0, *sorted(cuts), 60]
    for start, stop in pairwise(edges):
        _add(parts, table.iloc[start:stop], members[:, start:stop])
    one, other = (tally.table("s", pixel_um2=0.25) for tally in (parts, whole))
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    for row, chosen in zip(_rows(whole)[::3], members, strict=True):
        found = table["area_um2"].to_numpy()[chosen & (table["class"] == NAMES[0]).to_numpy()]
        assert row["count"] == len(found)
        assert row["area_um2"] == pytest.approx(found.sum())


ROI = CountedArea(name="roi", area_um2=50.0, roi_um2=50.0, tissue_um2=40.0)


def test_what_a_class_covers_is_cut_at_the_areas_border() -> None:
    tally = CountTally(NAMES, [ROI])
    # 4 px of a tumour lie outside, 8 px of a stroma that does not belong to it lie inside.
    _add(tally, FOUR, np.array([[True, False, False, True]]), [[-3, 8, 0]])
    _add(tally, FOUR.iloc[:0], np.zeros((1, 0), np.bool_), [[-1, 0, 0]])
    table = tally.table("s", pixel_um2=0.25)
    assert table.columns.tolist() == list(COUNT_COLUMNS)
    assert table["count"].tolist() == [2, 0, 0]
    assert table["area_um2"].tolist() == [6.5, 0, 0]
    assert table["covered_um2"].tolist() == [5.5, 2, 0]
    assert table["surrounding_um2"].tolist() == [44.5, 48, 50]
    assert table["reference_um2"].tolist() == table["roi_um2"].tolist() == [50, 50, 50]
    assert table["tissue_um2"].tolist() == [40, 40, 40]
    assert table["area_percent_of_roi"].tolist() == pytest.approx([11, 4, 0])
    assert table["area_percent_of_tissue"].tolist() == pytest.approx([13.75, 5, 0])
    assert table["area_percent"].tolist() == pytest.approx([13, 0, 0])


def test_without_a_roi_or_tissue_there_is_nothing_to_refer_to() -> None:
    tally = CountTally(NAMES, [CountedArea(name="", area_um2=5.0)])
    _add(tally, FOUR, np.ones((1, 4), np.bool_))
    table = tally.table("s", pixel_um2=0.25)
    for name in ("roi_um2", "tissue_um2", "area_percent_of_roi", "area_percent_of_tissue"):
        assert table[name].isna().all()
    assert table["covered_um2"].tolist() == table["area_um2"].tolist()
    # More may be found than the tissue that it should lie in.
    assert table["surrounding_um2"].tolist() == [0, 0, 4.75]


def test_of_objects_that_overlap_it_is_unknown_what_they_cover() -> None:
    tally = CountTally(NAMES, [ROI])
    _add(tally, FOUR, np.ones((1, 4), np.bool_))
    tally.add(FOUR, np.ones((1, 4), np.bool_), over_px=None)
    table = tally.table("s", pixel_um2=0.25)
    assert table["area_um2"].tolist() == [13, 10, 0.5]
    for name in ("covered_um2", "surrounding_um2", "area_percent_of_roi", "area_percent_of_tissue"):
        assert table[name].isna().all()
    assert table["roi_um2"].notna().all()
