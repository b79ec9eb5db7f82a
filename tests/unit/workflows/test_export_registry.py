"""Each format that a run may be asked for has one exporter, which takes tables part by part."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import metadata
from pathlib import Path
from threading import Event
from time import sleep

import geopandas as gpd
import numpy as np
import pytest
import shapely

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.workflows import export
from slideloom.workflows.export import (
    EXPORTERS,
    ExportContext,
    ResultExporter,
    TableExporter,
    TableWriter,
    check_formats,
    open_exports,
    result_exporters,
    table_exporters,
)
from slideloom.workflows.result import SlideResult
from slideloom.wsi.geometry import Point

CONTEXT = ExportContext(
    classes=(ModelClass(name="tumour", color=(200, 0, 0)),),
    object_type="annotation",
    offset=Point(x=1, y=0),
    mpp=0.25,
)
TABLES = list(table_exporters(EXPORTERS))


def table(count: int, first: int = 0) -> gpd.GeoDataFrame:
    numbers = np.arange(first, first + count)
    return gpd.GeoDataFrame(
        {
            "id": [f"7f3e2c60-3a7b-4b8a-9f0e-{number:012d}" for number in numbers],
            "class": np.full(count, "tumour"),
            "score": np.full(count, 0.5, np.float32),
            "area_um2": np.ones(count),
        },
        geometry=[shapely.box(8 * number, 0, 8 * number + 4, 4) for number in numbers.tolist()],
    )


def write(folder: Path, *parts: gpd.GeoDataFrame, formats: list[str]) -> list[bytes]:
    folder.mkdir()
    with open_exports(folder, CONTEXT, formats=formats) as writer:
        for part in parts:
            writer.write(part)
    return [(folder / EXPORTERS[name].file_name).read_bytes() for name in formats]


@pytest.mark.parametrize("name", TABLES)
def test_each_format_writes_its_own_file(tmp_path: Path, name: str) -> None:
    [content] = write(tmp_path / "out", table(1), formats=[name])
    assert content
    assert [file.name for file in (tmp_path / "out").iterdir()] == [EXPORTERS[name].file_name]


def test_files_of_different_formats_differ_in_name() -> None:
    assert len({item.file_name for item in EXPORTERS.values()}) == len(EXPORTERS)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "geojson.gz"])
def test_parts_do_not_show(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / "whole", table(7), formats=[name])
    parts = [table(2), table(0), table(4, 2), table(1, 6)]
    assert write(tmp_path / "parts", *parts, formats=[name]) == whole


def test_all_formats_are_written_side_by_side(tmp_path: Path) -> None:
    formats = TABLES
    alone = [write(tmp_path / name, table(5), formats=[name])[0] for name in formats]
    assert write(tmp_path / "all", table(5), formats=formats) == alone


@pytest.mark.parametrize("name", TABLES)
def test_no_part_at_all_leaves_a_whole_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / "out", formats=[name])
    assert (tmp_path / "out" / EXPORTERS[name].file_name).exists()


def test_an_error_in_the_block_leaves_no_file(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with open_exports(tmp_path, CONTEXT, formats=TABLES) as writer:
            writer.write(table(3))
            assert len(list(tmp_path.iterdir())) == len(TABLES)
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_one_format_that_fails_stops_all(tmp_path: Path) -> None:
    objects = table(2)
    objects["class"] = "gland"
    with (
        pytest.raises(SettingsError, match=r"\['gland'\] have no colour"),
        open_exports(tmp_path, CONTEXT, formats=TABLES) as writer,
    ):
        writer.write(objects)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_closed_under_a_writer_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, events = Event(), []

    class Failing:
        def write(self, objects: gpd.GeoDataFrame) -> None:
            failed.set()
            raise KeyError

    class Slow:
        def write(self, objects: gpd.GeoDataFrame) -> None:
            failed.wait(10)
            sleep(0.05)
            events.append("written")

    @contextmanager
    def opened(path: Path, context: ExportContext) -> Iterator[TableWriter]:
        try:
            yield Slow() if path.name == "slow" else Failing()
        finally:
            events.append("closed")

    fakes = {name: TableExporter(file_name=name, open=opened) for name in ("failing", "slow")}
    monkeypatch.setattr(export, "EXPORTERS", fakes)
    with pytest.raises(KeyError), open_exports(tmp_path, CONTEXT, formats=fakes) as writer:
        writer.write(table(1))
    assert events == ["written", "closed", "closed"]


def test_the_settings_reach_the_file(tmp_path: Path) -> None:
    [content] = write(tmp_path / "out", table(1), formats=["geojson"])
    assert b'"objectType":"annotation"' in content
    assert b"[[[3,0],[3,4],[-1,4],[-1,0],[3,0]]]" in content


def test_an_unknown_format_stops_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="writes shp: choose from geojson,"):
        write(tmp_path / "out", table(1), formats=["geojson", "shp"])
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(SettingsError, match="writes shp"):
        check_formats(["shp"])


def write_nothing(result: SlideResult, path: Path) -> None:
    raise AssertionError(result, path)


def test_formats_of_finished_results_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ResultExporter(file_name="late", write=write_nothing)
    monkeypatch.setattr(export, "EXPORTERS", {**EXPORTERS, "late": late})
    assert result_exporters(["late", "csv", "late"]) == {"late": late}
    assert list(table_exporters(["late", "csv", "csv"])) == ["csv"]
    with open_exports(tmp_path, CONTEXT, formats=["late", "csv"]) as writer:
        writer.write(table(1))
    assert [file.name for file in tmp_path.iterdir()] == ["objects.csv"]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    late = ResultExporter(
        file_name="late", write=write_nothing, packages=("json", "no_such_library"), extra="late"
    )
    monkeypatch.setattr(export, "EXPORTERS", {"late": late})
    with pytest.raises(SettingsError, match=r"needs no_such_library, .*'slideloom\[late\]'"):
        check_formats(["late"])


@pytest.mark.parametrize("name", result_exporters(EXPORTERS))
def test_an_extra_of_an_exporter_is_one_of_the_project(name: str) -> None:
    extra = result_exporters([name])[name].extra
    assert extra is None or extra in (metadata("slideloom").get_all("Provides-Extra") or [])
