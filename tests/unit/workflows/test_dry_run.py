from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slideloom.errors import RoiError, SettingsError
from slideloom.models.spec import ModelSpec, Task
from slideloom.testing import PerfectTileModel, Scene, make_slide, perfect_spec
from slideloom.workflows.batch.entries import SlideEntry
from slideloom.workflows.batch.run import run_batch
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl, StopFlag
from slideloom.workflows.dry_run import PlannedSlide, PlannedWork, plan_batch, print_plan
from slideloom.workflows.events import Event
from slideloom.wsi import Size, SlideOptions

CONFIG = RunConfig(tissue=False, region_px=256, workers=1)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slides") / "made.tif"


@pytest.fixture(scope="module")
def scene(slide: Path) -> Scene:
    return make_slide(slide, size=Size(width=700, height=500), mpp=0.5, seed=3)


@pytest.fixture
def spec(scene: Scene) -> ModelSpec:
    return perfect_spec(scene, task="instance", tile_px=160, halo_px=16)


@pytest.fixture
def plan(slide: Path, spec: ModelSpec, tmp_path: Path) -> Callable[..., PlannedSlide]:
    def plan_one(config: RunConfig = CONFIG, **own: object) -> PlannedSlide:
        entry = replace(SlideEntry(source=slide, name="made"), **own)  # type: ignore[arg-type]
        (planned,) = plan_batch(
            [entry], spec, out=tmp_path / "out", config=config, options=SlideOptions()
        )
        return planned

    return plan_one


def work_of(planned: PlannedSlide) -> PlannedWork:
    assert planned.error == ""
    assert planned.work is not None
    return planned.work


def test_a_plan_counts_tiles_and_regions_and_writes_nothing(
    plan: Callable[..., PlannedSlide], tmp_path: Path
) -> None:
    work = work_of(plan())
    # Cores of 128 px: 6 x 4 tiles, and regions of 2 x 2 of them.
    assert (work.tiles, work.to_predict, work.regions, work.regions_kept) == (24, 24, 6, 0)
    assert work.size == Size(width=700, height=500)
    assert (work.slide_mpp, work.read_mpp) == (0.5, 0.5)
    assert not work.done
    assert work.anew == ""
    assert 1e9 < work.memory_bytes < 3e9
    assert not (tmp_path / "out").exists()


def test_what_a_slide_of_a_list_states_holds(
    plan: Callable[..., PlannedSlide], tmp_path: Path
) -> None:
    assert work_of(plan(mpp=0.25)).slide_mpp == 0.25
    roi = tmp_path / "roi.geojson"
    roi.write_text('{"type":"Feature","geometry":{"type":"Polygon","coordinates":')
    assert "is not GeoJSON" in plan(roi=roi).error
    box = "[[[10,10],[90,10],[90,90],[10,90],[10,10]]]"
    roi.write_text(
        '{"type":"Feature","properties":{},"geometry":{"type":"Polygon","coordinates":'
        f"{box}}}}}"
    )
    assert work_of(plan(roi=roi)).to_predict == 1


def test_regions_of_a_stopped_run_are_kept_and_a_finished_slide_is_done(
    plan: Callable[..., PlannedSlide], slide: Path, scene: Scene, spec: ModelSpec, tmp_path: Path
) -> None:
    flag, done = StopFlag(), []

    def hear(event: Event) -> None:
        if event.kind == "region_done":
            done.append(event)
            if len(done) == 2:
                flag.request()

    def run(control: RunControl | None = None) -> None:
        run_batch(
            [SlideEntry(source=slide, name="made")],
            PerfectTileModel(scene, spec=spec),
            out=tmp_path / "out",
            config=CONFIG,
            options=SlideOptions(),
            control=control,
        )

    run(RunControl(listen=hear, stop=flag))
    before = sorted(path for path in tmp_path.rglob("*"))
    work = work_of(plan())
    assert len(done) <= work.regions_kept < work.regions == 6
    assert 0 < work.to_predict < work.tiles
    assert work_of(plan(CONFIG.model_copy(update={"overwrite": True}))).regions_kept == 0
    other = work_of(plan(CONFIG.model_copy(update={"region_px": 128})))
    assert other.regions_kept == 0
    assert "settings" in other.anew
    assert sorted(path for path in tmp_path.rglob("*")) == before
    run()
    work = work_of(plan())
    assert work.done
    assert (work.to_predict, work.regions_kept) == (0, 6)
    files = [path for path in (tmp_path / "out" / "made").rglob("*") if path.is_file()]
    # The estimate counts full pages, and this slide is far from filling them.
    assert sum(path.stat().st_size for path in files) < work.output_bytes < 10_000_000


def test_each_slide_is_planned_and_failures_are_named(
    slide: Path, spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"II*\0" + bytes(99))
    sources = {"broken": broken, "first": slide, "gone": tmp_path / "gone.svs", "last": slide}
    planned = plan_batch(
        [SlideEntry(source=source, name=name) for name, source in sources.items()],
        spec,
        out=tmp_path / "out",
        config=CONFIG,
        options=SlideOptions(),
    )
    assert [item.error == "" for item in planned] == [False, True, False, True]
    assert print_plan(planned) == 1
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert lines[0][0] == "slide"
    assert lines[1][:4] == ["first", "700", "x", "500"]
    assert lines[1][4:10] == ["0.5", "0.5", "24", "24", "6", "0"]
    assert lines[3][:7] == ["2", "in", "all", "48", "48", "12", "0"]
    assert "Nothing was written" in printed.out
    assert f"slideloom: {broken}: " in printed.err
    assert printed.err.endswith("slideloom: 2 of 4 slides would fail\n")
    assert print_plan(planned[1:2]) == 0
    assert print_plan(planned[:1]) == 1
    assert not (tmp_path / "out").exists()


def test_the_page_says_what_is_done_and_what_begins_anew(
    plan: Callable[..., PlannedSlide], capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan()
    work = work_of(planned)
    big = replace(work, done=True, output_bytes=2_345_000_000)
    anew = replace(work, anew="changed since: model", output_bytes=123_000_000_000)
    print_plan(
        [
            replace(planned, work=big),
            replace(planned, entry=replace(planned.entry, name="other"), work=anew),
        ]
    )
    out = capsys.readouterr().out
    assert "made: done by an earlier run\n" in out
    assert "other: begins anew (changed since: model)\n" in out
    assert "2.3 GB\n" in out
    assert "2 in all" in out
    assert "123 GB\n" in out


@pytest.mark.parametrize("task", ["semantic", "detection", "classification"])
def test_all_tasks_are_planned(
    plan: Callable[..., PlannedSlide], slide: Path, scene: Scene, tmp_path: Path, task: Task
) -> None:
    halo = 0 if task == "classification" else 16
    own = perfect_spec(scene, task=task, tile_px=128 + 2 * halo, halo_px=halo)
    (planned,) = plan_batch(
        [SlideEntry(source=slide, name="made")],
        own,
        out=tmp_path,
        config=CONFIG,
        options=SlideOptions(),
    )
    work = work_of(planned)
    assert work.tiles == 24
    assert work.output_bytes < work_of(plan()).output_bytes or task == "semantic"


def test_settings_that_no_slide_can_be_run_with_are_refused(
    plan: Callable[..., PlannedSlide],
) -> None:
    with pytest.raises(SettingsError, match="no exporter writes pdf"):
        plan(CONFIG.model_copy(update={"formats": ("pdf",)}))
    with pytest.raises(RoiError, match="no ROI file"):
        plan(CONFIG.model_copy(update={"roi": Path("gone.geojson")}))


def test_a_ceiling_of_memory_chooses_the_regions(plan: Callable[..., PlannedSlide]) -> None:
    wide = RunConfig(tissue=False, max_memory=4_000_000_000)
    assert work_of(plan(wide)).regions == 1
    assert work_of(plan(wide)).memory_bytes < 4_000_000_000
    assert "needs at least" in plan(wide.model_copy(update={"max_memory": 1000})).error
