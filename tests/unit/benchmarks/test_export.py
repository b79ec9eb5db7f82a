"""The benchmark of exports measures whole exports of objects that are known exactly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.export import ExportCost, cost_table, measure_export
from benchmarks.export_result import write_result
from benchmarks.stitching_source import Lattice
from slideloom.testing.geojson import validate_geojson
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.result import load_result

LATTICE = Lattice(rows=70, cols=40)
"""More than two parts of rows, with two glands."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "result"
    assert write_result(folder, LATTICE) == len(LATTICE.areas())
    return folder


def test_the_result_holds_the_objects_of_the_lattice(folder: Path, tmp_path: Path) -> None:
    result = load_result(folder)
    areas_px = np.sort(LATTICE.areas())
    assert np.allclose(np.sort(result.objects["area_um2"]), areas_px * 0.25)
    assert result.objects["class"].value_counts().to_dict() == result.record.counts
    [path] = export_result(result, formats=["geojson"], out=tmp_path)
    summary = validate_geojson(path)
    assert summary.counts == result.record.counts
    assert sum(summary.areas_px.values()) == 4 * areas_px.sum()


def test_a_cost_is_that_of_the_files(folder: Path) -> None:
    cost = measure_export(folder, 7, name="csv", warm_up=folder)
    assert (cost.format, cost.objects) == ("csv", 7)
    assert cost.size_mb > 0.3
    assert cost.cpu_s > 0
    assert 50 < cost.start_mb <= cost.peak_mb
    assert {path.name for path in folder.iterdir()} == {"objects.parquet", "result.json"}


def test_the_table_tells_the_growth() -> None:
    few = ExportCost(
        format="csv", objects=10, wall_s=1, cpu_s=2, peak_mb=500, start_mb=400, size_mb=3
    )
    many = replace(few, objects=100, wall_s=8, cpu_s=30, peak_mb=550, size_mb=30)
    lines = cost_table([few, many]).splitlines()
    assert lines[-1] == "| csv, growth | 10.0x | 8.0x | 15.0x | 1.1x | | 10.0x |"
    assert len(cost_table([few]).splitlines()) == 3
