"""`slideloom export` and further formats of a run: the same files, and no second prediction."""

import shutil
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from slideloom.errors import SettingsError
from slideloom.models.spec import Task
from slideloom.testing import PerfectTileModel, Scene, perfect_spec, validate_geojson
from slideloom.workflows import run
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import EXPORTERS, ResultExporter
from slideloom.workflows.export.finished import export_result
from slideloom.workflows.result import SlideResult, load_result
from slideloom.workflows.run import run_slide

CONFIG = RunConfig(
    tissue=False, region_px=300, workers=1, batch_size=1, formats=("geojson", "csv", "geojson.gz")
)
TASKS: dict[Task, str] = {
    "instance": "detection",
    "semantic": "annotation",
    "detection": "detection",
    "classification": "tile",
}


def new_model(scene: Scene, task: Task = "instance") -> PerfectTileModel:
    return PerfectTileModel(scene, spec=perfect_spec(scene, task=task, tile_px=256, halo_px=32))


def config(*formats: str, **changed: Any) -> RunConfig:
    return CONFIG.model_copy(update={"formats": formats, **changed})


@pytest.fixture(scope="module")
def finished_of(
    scene: Scene, slide_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Task], SlideResult]:
    @cache
    def run_once(task: Task) -> SlideResult:
        out = tmp_path_factory.mktemp("run") / "made"
        return run_slide(slide_path, new_model(scene, task), out=out, config=CONFIG)

    return run_once


@pytest.fixture(scope="module")
def finished(finished_of: Callable[[Task], SlideResult]) -> SlideResult:
    return finished_of("instance")


@pytest.fixture
def copied(finished: SlideResult, tmp_path: Path) -> SlideResult:
    shutil.copytree(finished.folder, tmp_path / "out" / "made")
    return load_result(tmp_path / "out" / "made")


@pytest.mark.parametrize("task", TASKS)
def test_an_export_equals_what_the_run_wrote(
    finished_of: Callable[[Task], SlideResult], tmp_path: Path, task: Task
) -> None:
    result = finished_of(task)
    formats = ["geojson", "geojson.gz", "csv", "parquet"]
    for path in export_result(load_result(result.folder), formats=formats, out=tmp_path / "out"):
        assert path.read_bytes() == (result.folder / path.name).read_bytes()
    summary = validate_geojson(tmp_path / "out" / "objects.geojson")
    assert summary.object_types == {TASKS[task]: len(result.objects)}
    assert summary == validate_geojson(tmp_path / "out" / "objects.geojson.gz")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", EXPORTERS)
def test_each_format_is_made_where_the_task_gives_what_it_needs(
    finished_of: Callable[[Task], SlideResult], tmp_path: Path, name: str, task: Task
) -> None:
    item, result = EXPORTERS[name], finished_of(task)
    if isinstance(item, ResultExporter):
        if any(find_spec(package) is None for package in item.packages):
            pytest.skip(f"{name} needs {item.packages}")
        if task not in item.tasks:
            with pytest.raises(SettingsError, match=f"one is for {task}: choose a format of"):
                export_result(result, formats=["csv", name], out=tmp_path / "out")
            assert not (tmp_path / "out").exists()
            return
    [path] = export_result(result, formats=[name], out=tmp_path / "out")
    assert [path] == list((tmp_path / "out").iterdir())
    assert path.name == item.file_name


def test_a_format_that_the_task_cannot_give_stops_a_run_before_it_predicts(
    scene: Scene, slide_path: Path, tmp_path: Path
) -> None:
    model = new_model(scene, "detection")
    with pytest.raises(SettingsError, match="'ome-tiff' is made from results of instance and"):
        run_slide(slide_path, model, out=tmp_path / "out", config=config("ome-tiff"))
    assert model.calls.total() == 0
    assert not (tmp_path / "out").exists()


def test_formats_asked_for_later_are_made_without_the_model(
    scene: Scene, slide_path: Path, copied: SlideResult
) -> None:
    model = new_model(scene)
    for name in ("objects.csv", "objects.geojson"):
        (copied.folder / name).unlink()
    wanted = config("geojson", "xlsx", "csv")
    again = run_slide(slide_path, model, out=copied.folder, config=wanted)
    assert model.calls.total() == 0
    assert again.record == copied.record
    assert validate_geojson(copied.folder / "objects.geojson").features == len(copied.objects)
    assert (copied.folder / "objects.csv").exists()
    written = (copied.folder / "objects.xlsx").stat().st_mtime_ns
    run_slide(slide_path, model, out=copied.folder, config=wanted)
    assert (copied.folder / "objects.xlsx").stat().st_mtime_ns == written


@pytest.mark.parametrize("name", ["objects.parquet", "labels.ome.zarr", "counts.csv"])
def test_a_result_that_lost_what_it_is_read_from_is_computed_again(
    scene: Scene, slide_path: Path, copied: SlideResult, name: str
) -> None:
    model = new_model(scene)
    path = copied.folder / name
    path.rename(path.with_name("gone"))
    run_slide(slide_path, model, out=copied.folder, config=config())
    assert model.calls.total() > 0
    assert path.exists()


def test_a_run_that_is_stopped_at_the_last_formats_goes_on_with_them(
    scene: Scene, slide_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(result: SlideResult, **settings: Any) -> list[Path]:
        assert load_result(result.folder).record == result.record
        assert list(settings["formats"]) == ["xlsx"]
        raise KeyboardInterrupt

    wanted = config("xlsx", "csv")
    with monkeypatch.context() as patch:
        patch.setattr(run, "export_result", stop)
        with pytest.raises(KeyboardInterrupt):
            run_slide(slide_path, new_model(scene), out=tmp_path, config=wanted)
    assert (tmp_path / "objects.csv").exists()
    assert not (tmp_path / "objects.xlsx").exists()
    model = new_model(scene)
    run_slide(slide_path, model, out=tmp_path, config=wanted)
    assert model.calls.total() == 0
    assert (tmp_path / "objects.xlsx").exists()


def test_files_of_another_result_do_not_stay(
    scene: Scene, slide_path: Path, copied: SlideResult
) -> None:
    export_result(copied, formats=["geojson.gz", "xlsx"], split_mb=None)
    export_result(copied, formats=["geojson"], split_mb=0.05)
    assert (copied.folder / "objects.2.geojson").exists()
    run_slide(slide_path, new_model(scene), out=copied.folder, config=config(overwrite=True))
    names = {path.name for path in copied.folder.iterdir()}
    assert {name for name in names if name.startswith("objects.")} == {"objects.parquet"}


def test_a_run_cuts_its_geojson_and_cuts_it_anew_where_told_otherwise(
    scene: Scene, slide_path: Path, copied: SlideResult
) -> None:
    model = new_model(scene)
    cut = config("geojson", "csv", split_mb=0.05)
    csv = (copied.folder / "objects.csv").stat().st_mtime_ns
    run_slide(slide_path, model, out=copied.folder, config=cut)
    assert model.calls.total() == 0
    paths = sorted(copied.folder.glob("objects*.geojson"))
    assert len(paths) > 2
    assert max(path.stat().st_size for path in paths) <= 50_000
    assert sum(validate_geojson(path).features for path in paths) == len(copied.objects)
    assert (copied.folder / "objects.csv").stat().st_mtime_ns == csv
    fresh = copied.folder.with_name("fresh")
    run_slide(slide_path, model, out=fresh, config=cut)
    for path in paths:
        assert path.read_bytes() == (fresh / path.name).read_bytes()


def export(*words: str | Path) -> int:
    return run_command(["export", *(str(word) for word in words)])


def test_the_command_names_each_file_that_it_wrote(
    copied: SlideResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(copied.folder, "--format", "geojson.gz, csv", "--out", tmp_path / "new") == 0
    printed = capsys.readouterr()
    place = tmp_path / "new" / "made"
    assert printed.out.splitlines() == [
        str(place / "objects.geojson.gz"),
        str(place / "objects.csv"),
    ]
    assert printed.err == ""
    assert validate_geojson(place / "objects.geojson.gz").features == len(copied.objects)


def test_a_folder_of_a_run_gives_all_slides_and_names_the_unfinished(
    copied: SlideResult, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied.folder.parent
    shutil.copytree(copied.folder, out / "other")
    shutil.copytree(copied.folder, out / "lost")
    (out / "lost" / "objects.parquet").unlink()
    (out / "stopped" / ".work").mkdir(parents=True)
    (out / "notes").mkdir()
    words = ["--format", "geojson", "--split-mb", "0.05", "--object-type", "cell"]
    assert export(out, *words) == 1
    printed = capsys.readouterr()
    written = [Path(line) for line in printed.out.splitlines()]
    assert {path.parent.name for path in written} == {"made", "other"}
    assert {path.name for path in written} >= {"objects.geojson", "objects.3.geojson"}
    kinds = [validate_geojson(path).object_types for path in written]
    assert {kind for kinds in kinds for kind in kinds} == {"cell"}
    faults = printed.err.splitlines()
    assert len(faults) == 3
    assert "stopped' holds no finished result" in faults[0]
    assert "lost" in faults[1]
    assert faults[2] == "slideloom: 2 of 4 slides were not exported"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none", "--format", "csv"], "no result in 'none'"),
        (["RESULT", "--format", "shp"], "no exporter writes shp"),
        (["RESULT", "--format", ","], "names no format"),
        (["RESULT"], "--format"),
        (["RESULT", "--format", "csv", "--split-mb", "3"], "--split-mb is for geojson"),
        (["RESULT", "--format", "geojson", "--split-mb", "0"], "--split-mb must be above 0"),
        (["RESULT", "--format", "geojson", "--object-type", "blob"], "choose from auto, detection"),
        (["RESULT", "TWIN", "--format", "csv", "--out", "new"], "are both of a slide 'made'"),
    ],
)
def test_a_wrong_command_is_one_line_and_writes_nothing(
    copied: SlideResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(copied.folder, tmp_path / "twin")
    before = sorted(tmp_path.rglob("*"))
    places = {"RESULT": "out/made", "TWIN": "twin"}
    assert export(*(places.get(word, word) for word in words)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_were_written_before_a_fault_are_named(
    copied: SlideResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    (out / "made" / "objects.xlsx").mkdir(parents=True)
    assert export(copied.folder, "--format", "xlsx,csv", "--out", out) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(out / "made" / "objects.csv")]
    assert "objects.xlsx" in printed.err.splitlines()[0]


def test_a_slide_named_twice_is_exported_once(
    copied: SlideResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(copied.folder, copied.folder.parent, "--format", "csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
