"""The benchmark of stitching measures what it says, on objects that are known exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import stitching_run
from benchmarks.stitching_baselines import Baseline, measure_baselines
from benchmarks.stitching_report import counted_s, library_table, run_table, stage_table
from benchmarks.stitching_run import (
    COUNTED,
    DECODE,
    GEOJSON,
    LABELS,
    MAKE,
    MEASURE,
    PARQUET,
    Measured,
    run_lattice,
)
from benchmarks.stitching_source import CELL_PX, Lattice
from slideloom.testing.geojson import validate_geojson
from slideloom.wsi.geometry import Box

LATTICE = Lattice(rows=38, cols=64)
"""A slide with two glands."""


def painted(lattice: Lattice) -> Box:
    return Box.of_size(lattice.extent)


def test_every_window_shows_the_same_slide() -> None:
    whole = LATTICE.paint(painted(LATTICE))
    window = Box(x0=300, y0=250, x1=811, y1=700)
    assert (LATTICE.paint(window) == whole[window.slices_in(painted(LATTICE))]).all()
    outside = LATTICE.paint(Box(x0=-70, y0=-40, x1=30, y1=30))
    assert (outside[40:, 70:] == whole[:30, :30]).all()
    assert not outside[:40].any()
    assert not outside[:, :70].any()


def test_objects_lie_apart_and_are_counted_right() -> None:
    ids, counts = np.unique(LATTICE.paint(painted(LATTICE))[:, :, 0], return_counts=True)
    assert sorted(counts[1:]) == sorted(LATTICE.areas())
    rooms = dict(LATTICE.rooms())
    assert [number + 1 for number in rooms] == ids[1:].tolist()
    for number in list(rooms)[::97]:
        room = rooms[number]
        shown = LATTICE.paint(room)[:, :, 0]
        assert np.unique(shown[shown > 0]).tolist() == [number + 1]
        assert (shown > 0).sum() == counts[1:][list(rooms).index(number)]


def test_most_objects_are_nuclei_and_some_are_larger_than_what_two_tiles_share() -> None:
    areas = LATTICE.areas()
    sides = [room.x1 - room.x0 for _, room in LATTICE.rooms()]
    assert sum(side > 2 * stitching_run.HALO_PX for side in sides) == 2
    assert 280 < np.median(areas) < 320


@pytest.mark.parametrize("objects", [1, 1000, 30_000])
def test_a_lattice_has_about_as_many_objects_as_asked_for(objects: int) -> None:
    lattice = Lattice.of(objects)
    assert abs(len(lattice.areas()) - objects) <= 2 + 0.15 * objects
    assert lattice.extent.width == lattice.cols * CELL_PX


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitching_run, "TILE_PX", 192)
    monkeypatch.setattr(stitching_run, "HALO_PX", 32)


@pytest.mark.usefixtures("small_tiles")
def test_a_run_finds_what_was_generated(tmp_path: Path) -> None:
    measured = run_lattice(LATTICE, tmp_path, workers=2)
    areas = LATTICE.areas()
    assert (measured.objects, measured.area_px) == (len(areas), areas.sum())
    assert measured.joined == 2
    assert set(measured.cpu_s) == {*COUNTED, MAKE, DECODE, LABELS}
    assert all(seconds >= 0 for seconds in measured.cpu_s.values())
    summary = validate_geojson(tmp_path / "geojson")
    assert summary.features == len(areas)
    assert sum(summary.areas_px.values()) == areas.sum()


@pytest.mark.usefixtures("small_tiles")
def test_a_run_that_loses_an_object_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = LATTICE.areas()
    monkeypatch.setattr(Lattice, "areas", lambda _: areas[1:])
    with pytest.raises(AssertionError, match=rf"{len(areas)} objects .* not {len(areas) - 1}"):
        run_lattice(LATTICE, tmp_path, workers=1)


def test_every_library_call_is_set_beside_a_stage() -> None:
    rows = measure_baselines(1000)
    assert {row.stage for row in rows} <= set(COUNTED)
    assert len({row.name for row in rows}) == len(rows) == 7
    assert all(row.cpu_s > 0 and row.objects > 0 for row in rows)


SMALL = Measured(
    objects=1000,
    area_px=300_000,
    joined=1,
    tiles=4,
    cpu_s=dict.fromkeys([*COUNTED, MAKE, DECODE, LABELS], 0.5),
    wall_s=4.0,
    start_mb=500.0,
    peak_mb=600.0,
)
LARGE = replace(SMALL, objects=10_000, cpu_s={**SMALL.cpu_s, MEASURE: 2.0, MAKE: 90.0}, wall_s=40.0)


def test_only_what_follows_the_tiles_is_counted() -> None:
    assert counted_s(SMALL) == 0.5 * len(COUNTED)
    assert counted_s(LARGE) == counted_s(SMALL) + 1.5


def test_the_tables_say_growth_speed_and_ratio() -> None:
    stages = stage_table([SMALL, LARGE]).splitlines()
    assert stages[0] == "| CPU seconds | 1,000 objects | 10,000 objects | growth | objects/s |"
    assert f"| {MEASURE} | 0.50 | 2.00 | 4.0 | 5,000 |" in stages
    assert "| **together** | 2.50 | 4.00 | 1.6 | 2,500 |" in stages
    assert run_table([LARGE]).splitlines()[-1] == "| 10,000 | 1 | 4 | 40.0 | 250 | 600 | 500 |"
    call = Baseline(name="a call", stage=GEOJSON, objects=100, cpu_s=0.01)
    lines = library_table(LARGE, [call, replace(call, stage=PARQUET, cpu_s=0.001)]).splitlines()
    assert lines[2:] == [
        f"| {GEOJSON} | a call | 20,000 | 10,000 | 2.00 |",
        f"| {PARQUET} | a call | 20,000 | 100,000 | 0.20 |",
    ]
