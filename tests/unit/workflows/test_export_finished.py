"""Files made from a finished result, and faults that stop them before anything is written."""

import gzip
from pathlib import Path
from typing import get_args

import geopandas as gpd
import orjson
import pytest
from geopandas.testing import assert_geodataframe_equal

import slideloom as sl
from slideloom.errors import OutputError, SettingsError
from slideloom.models.spec import ModelClass, Task
from slideloom.testing.geojson import validate_geojson
from slideloom.workflows import export
from slideloom.workflows.export import EXPORTERS, ObjectType, ResultExporter, check_formats
from slideloom.workflows.export.finished import export_context, export_result
from slideloom.workflows.result import SlideResult
from slideloom.wsi.geometry import Point
from tests.makers.finished_result import SPEC, finished_result, squares


@pytest.fixture
def result(tmp_path: Path) -> SlideResult:
    return finished_result(tmp_path / "a", squares(40), squares(60, 40))


def features(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = orjson.loads(path.read_bytes())["features"]
    return found


def test_tables_are_written_beside_the_result(result: SlideResult) -> None:
    written = export_result(result, formats=["geojson.gz", "csv", "csv"])
    assert written == [result.folder / "objects.geojson.gz", result.folder / "objects.csv"]
    summary = validate_geojson(written[0])
    assert summary.counts == {"tumour": 50, "stroma": 50}
    assert summary.areas_px == {"tumour": 800, "stroma": 800}
    assert len(written[1].read_text().splitlines()) == 101


def test_another_folder_is_made(result: SlideResult, tmp_path: Path) -> None:
    before = sorted(result.folder.iterdir())
    [path] = export_result(result, formats=["parquet"], out=tmp_path / "deep" / "out")
    assert path == tmp_path / "deep" / "out" / "objects.parquet"
    assert_geodataframe_equal(gpd.read_parquet(path), result.objects)
    assert sorted(result.folder.iterdir()) == before


def test_the_table_may_be_written_over_itself(result: SlideResult) -> None:
    before = (result.folder / "objects.parquet").read_bytes()
    export_result(result, formats=["parquet"])
    assert (result.folder / "objects.parquet").read_bytes() == before


def test_the_public_name_is_the_function() -> None:
    assert sl.export_result is export_result


def test_bounds_are_subtracted(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(1), bounds_x=-3, bounds_y=5)
    [path] = export_result(result, formats=["geojson"])
    ring = orjson.loads(path.read_bytes())["features"][0]["geometry"]["coordinates"][0]
    assert (min(x for x, _ in ring), min(y for _, y in ring)) == (3, -5)


def test_split_files_are_all_named(result: SlideResult) -> None:
    written = export_result(result, formats=["csv", "geojson"], split_mb=0.01)
    names = ["objects.csv", "objects.geojson", "objects.2.geojson", "objects.3.geojson"]
    assert [path.name for path in written[:4]] == names
    assert sum(validate_geojson(path).features for path in written[1:]) == 100


@pytest.mark.parametrize("kind", get_args(ObjectType))
def test_the_type_of_objects_can_be_chosen(result: SlideResult, kind: ObjectType) -> None:
    [path] = export_result(result, formats=["geojson"], object_type=kind)
    assert validate_geojson(path).object_types == {kind: 100}


def test_too_many_annotations_are_refused(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(1001))
    before = sorted(result.folder.iterdir())
    with pytest.raises(SettingsError, match=r"1001 objects, .* more than 1000 annotations"):
        export_result(result, formats=["geojson"], object_type="annotation")
    assert sorted(result.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("task", "count", "expected"),
    [
        ("semantic", 1000, "annotation"),
        ("semantic", 1001, "detection"),
        ("classification", 5000, "tile"),
        ("instance", 3, "detection"),
        ("detection", 3, "detection"),
    ],
)
def test_the_task_and_the_number_tell_the_type(task: Task, count: int, expected: str) -> None:
    spec = SPEC.model_copy(update={"task": task})
    context = export_context(spec, count=count, offset=Point(x=1, y=2), mpp=0.25)
    assert context.object_type == expected
    assert context.traced is (task in {"semantic", "instance"})
    assert (context.classes, context.offset, context.mpp) == (spec.classes, Point(x=1, y=2), 0.25)


def write_name(result: SlideResult, path: Path) -> None:
    path.write_text(result.record.slide.name)


def test_exporters_of_results_get_the_result_and_their_path(
    result: SlideResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ResultExporter(file_name="late.txt", write=write_name)
    monkeypatch.setattr(export, "EXPORTERS", {**EXPORTERS, "late": late})
    written = export_result(result, formats=["late", "csv"], out=tmp_path / "out")
    assert [path.name for path in written] == ["late.txt", "objects.csv"]
    assert written[0].read_text() == "a"


def stop(result: SlideResult, path: Path) -> None:
    raise KeyboardInterrupt(result, path)


def test_ctrl_c_leaves_whole_files_alone(
    result: SlideResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = ResultExporter(file_name="late.txt", write=stop)
    monkeypatch.setattr(export, "EXPORTERS", {**EXPORTERS, "late": late})
    with pytest.raises(KeyboardInterrupt):
        export_result(result, formats=["late", "geojson.gz"], out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["objects.geojson.gz"]
    assert validate_geojson(tmp_path / "out" / "objects.geojson.gz").features == 100


def test_a_table_without_a_colour_for_a_class_leaves_nothing(tmp_path: Path) -> None:
    result = finished_result(tmp_path / "a", squares(4))
    model = SPEC.model_copy(update={"classes": (ModelClass(name="tumour", color=(1, 2, 3)),)})
    other = SlideResult(
        folder=result.folder, record=result.record.model_copy(update={"model": model})
    )
    before = sorted(result.folder.iterdir())
    with pytest.raises(SettingsError, match="stroma"):
        export_result(other, formats=["csv", "geojson"])
    assert sorted(result.folder.iterdir()) == before


def test_an_unknown_format_names_all(result: SlideResult, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"writes shp: choose from {', '.join(EXPORTERS)}"):
        export_result(result, formats=["csv", "shp"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_without_effect_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"--split-mb is for geojson and geojson\.gz alone"):
        check_formats(["csv"], split_mb=1)
    with pytest.raises(SettingsError, match="--object-type is for geojson"):
        check_formats([], object_type="cell")
    with pytest.raises(SettingsError, match="--split-mb must be above 0, got 0"):
        check_formats(["geojson"], split_mb=0)
    check_formats(["csv", "geojson.gz"], split_mb=1, object_type="cell")


def test_a_missing_table_is_an_error(result: SlideResult, tmp_path: Path) -> None:
    (result.folder / "objects.parquet").unlink()
    with pytest.raises(OutputError, match=r"objects\.parquet"):
        export_result(result, formats=["csv"], out=tmp_path / "out")


def test_the_compressed_file_holds_the_plain_one(result: SlideResult) -> None:
    plain, packed = export_result(result, formats=["geojson", "geojson.gz"])
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert len(features(plain)) == 100
