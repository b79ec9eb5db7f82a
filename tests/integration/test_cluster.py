"""Runs on a real scheduler, with workers in other processes: the same bytes as on threads."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import dask
import pytest
from distributed import Client

from slideloom.errors import (
    ClusterError,
    RunStoppedError,
    SettingsError,
    SlideFormatError,
    SlideNotFoundError,
)
from slideloom.models.spec import Task
from slideloom.models.tile_model import TileModel
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.cluster import open_executor
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.events import Event
from slideloom.workflows.executing import Executor, Threads
from slideloom.workflows.run import SlideRun
from slideloom.wsi import Slide, SlideOptions, open_slide
from tests.makers.cluster_parts import (
    WORKERS,
    FailingModel,
    TellingModel,
    TellingSlide,
    cluster_in_processes,
    kill_this_process,
    note_devices,
    noted,
)

pytestmark = pytest.mark.slow

CONFIG = RunConfig(tissue=False, region_px=192, batch_size=4, workers=2)
REGIONS = 30


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with cluster_in_processes(tmp_path_factory.mktemp("cluster")) as file:
        yield file


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def executor(
    scheduler_file: Path, said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Executor]:
    with open_executor(
        scheduler=str(scheduler_file),
        devices=("auto",),
        workers=1,
        out=tmp_path_factory.mktemp("shared"),
        say=said.append,
    ) as executor:
        yield executor


@pytest.fixture
def client(scheduler_file: Path) -> Iterator[Client]:
    with Client(scheduler_file=str(scheduler_file), set_as_default=False) as client:
        client.wait_for_workers(WORKERS)
        yield client


@pytest.fixture(scope="module")
def models(scene: Scene) -> dict[Task, PerfectTileModel]:
    tasks: list[Task] = ["instance", "semantic", "classification", "detection"]
    return {
        task: PerfectTileModel(scene, spec=perfect_spec(scene, task=task, tile_px=256, halo_px=32))
        for task in tasks
    }


@pytest.fixture(scope="module")
def local(
    slide_path: Path, models: dict[Task, PerfectTileModel], tmp_path_factory: pytest.TempPathFactory
) -> dict[Task, dict[str, bytes]]:
    """What threads of this process leave."""
    files = {}
    for task, model in models.items():
        out = tmp_path_factory.mktemp(task)
        with open_slide(slide_path) as slide:
            _run(slide, model, out, Threads(2))
        files[task] = _files(out)
        assert len(files[task]) > 3
    return files


def _run(
    slide: Slide,
    model: TileModel,
    out: Path,
    executor: Executor,
    *,
    control: RunControl | None = None,
) -> None:
    run = SlideRun(
        slide=slide,
        model=model,
        out=out,
        config=CONFIG,
        control=control or RunControl(),
        executor=executor,
    )
    run.predict()
    run.deliver()


def _files(folder: Path) -> dict[str, bytes]:
    """All files but those that tell times."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {"report.html", "result.json"}
    }


@pytest.mark.parametrize("task", ["instance", "semantic", "classification", "detection"])
def test_every_task_leaves_the_bytes_of_a_run_on_threads(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    local: dict[Task, dict[str, bytes]],
    executor: Executor,
    tmp_path: Path,
    task: Task,
) -> None:
    events: list[Event] = []
    asked = models[task].calls.total()
    with open_slide(slide_path) as slide:
        _run(slide, models[task], tmp_path, executor, control=RunControl(listen=events.append))
    assert _files(tmp_path) == local[task]
    assert models[task].calls.total() == asked
    assert sum(event.kind == "region_done" for event in events) == REGIONS


def test_relative_paths_hold_on_workers_with_other_working_folders(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    local: dict[Task, dict[str, bytes]],
    executor: Executor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(slide_path.parent)
    out = Path(os.path.relpath(tmp_path))
    with open_slide(slide_path.name) as slide:
        _run(slide, models["semantic"], out, executor)
    assert _files(tmp_path) == local["semantic"]


def test_the_dashboard_is_named_once(executor: Executor, said: list[str]) -> None:
    assert executor.workers == WORKERS
    ((word, _, link),) = (text.partition(" ") for text in said if "waiting" not in text)
    assert word == "dashboard:"
    with urlopen(link, timeout=60) as page:
        assert "task-stream" in page.read().decode()


def test_models_and_slides_are_loaded_once_for_each_worker(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    executor: Executor,
    client: Client,
    tmp_path: Path,
) -> None:
    model = TellingModel(models["instance"], tmp_path / "models.log", pause_s=0.05)
    pids = sorted(client.run(os.getpid).values())
    for number in range(2):
        log = tmp_path / f"slide-{number}.log"
        slide = TellingSlide(slide_path, SlideOptions(), log, copied=False)
        with slide:
            _run(slide, model, tmp_path / f"out-{number}", executor)
        assert noted(log) == pids
    assert noted(tmp_path / "models.log") == pids


def test_a_worker_that_is_killed_in_mid_run_changes_no_byte(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    local: dict[Task, dict[str, bytes]],
    executor: Executor,
    client: Client,
    tmp_path: Path,
) -> None:
    pids = sorted(client.run(os.getpid).values())
    regions = 0

    def listen(event: Event) -> None:
        nonlocal regions
        regions += event.kind == "region_done"
        if event.kind == "region_done" and regions == 8:
            os.kill(pids[0], signal.SIGKILL)

    model = TellingModel(models["semantic"], tmp_path / "models.log", pause_s=0.1)
    out = tmp_path / "out"
    with open_slide(slide_path) as slide:
        _run(slide, model, out, executor, control=RunControl(listen=listen))
    assert _files(out) == local["semantic"]
    assert regions == REGIONS
    client.wait_for_workers(WORKERS)
    now = set(client.run(os.getpid).values())
    assert pids[0] not in now
    assert pids[1] in now


def test_a_stopped_run_goes_on_with_the_regions_that_are_missing(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    local: dict[Task, dict[str, bytes]],
    executor: Executor,
    tmp_path: Path,
) -> None:
    control, events = RunControl(), list[Event]()
    model = TellingModel(models["instance"], tmp_path / "models.log", pause_s=0.1)

    def listen(event: Event) -> None:
        events.append(event)
        if sum(item.kind == "region_done" for item in events) == 5:
            control.stop.request()

    out = tmp_path / "out"
    stoppable = RunControl(listen=listen, stop=control.stop)
    with open_slide(slide_path) as slide:
        with pytest.raises(RunStoppedError):
            _run(slide, model, out, executor, control=stoppable)
        kept = len(list(out.rglob("region-*.safetensors")))
        assert 5 <= kept < REGIONS
        events.clear()
        _run(slide, model, out, executor, control=RunControl(listen=events.append))
    planned = next(event for event in events if event.kind == "slide_planned")
    assert planned.facts["regions_kept"] == kept
    assert sum(event.kind == "region_done" for event in events) == REGIONS - kept
    assert _files(out) == local["instance"]


def test_the_error_of_a_task_comes_through(
    slide_path: Path, models: dict[Task, PerfectTileModel], executor: Executor, tmp_path: Path
) -> None:
    model = FailingModel(models["instance"].spec, SlideFormatError("the tile is damaged"))
    with open_slide(slide_path) as slide, pytest.raises(SlideFormatError, match="tile is damaged"):
        _run(slide, model, tmp_path / "out", executor)


def test_a_slide_that_only_this_machine_sees_is_an_error_that_names_the_other(
    slide_path: Path, models: dict[Task, PerfectTileModel], executor: Executor, tmp_path: Path
) -> None:
    path = tmp_path / "moved.tif"
    path.symlink_to(slide_path)
    with open_slide(path) as slide:
        path.unlink()
        with pytest.raises(SlideNotFoundError, match=r"moved.*\(said the worker on"):
            _run(slide, models["instance"], tmp_path / "out", executor)


def test_several_devices_get_a_process_each(
    slide_path: Path,
    models: dict[Task, PerfectTileModel],
    local: dict[Task, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    model = TellingModel(models["instance"], tmp_path / "models.log", pause_s=0.05)
    said: list[str] = []
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_executor(
            scheduler=None, devices=("cpu", "cpu"), workers=2, out=tmp_path, say=said.append
        ) as executor,
    ):
        with open_slide(slide_path) as slide:
            _run(slide, model, tmp_path / "out", executor)
        assert _files(tmp_path / "out") == local["instance"]
        assert len(set(noted(tmp_path / "models.log"))) == 2
        assert os.getpid() not in noted(tmp_path / "models.log")
        graph: dict[str, Any] = {"job": tmp_path, "seen": (note_devices, "job")}
        executor.run(graph, done=lambda key: None)
        assert [path.read_text() for path in tmp_path.glob("process-*")] == [""]
        with pytest.raises(ClusterError, match=r"given up after 1 workers died.*--max-memory"):
            executor.run({"job": 1, "killing": (kill_this_process, "job")}, done=lambda key: None)


def test_a_folder_that_workers_do_not_see_is_refused(
    scheduler_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slideloom.workflows.cluster.checking._PATIENCE_S", 0.2)
    # A folder of this process alone: it is reached through what it has open.
    number = os.open(tmp_path, os.O_DIRECTORY)
    try:
        with (
            pytest.raises(SettingsError, match=r"does not see '/proc/self/fd.*object store"),
            open_executor(
                scheduler=str(scheduler_file),
                devices=("auto",),
                workers=1,
                out=Path(f"/proc/self/fd/{number}"),
            ),
        ):
            pytest.fail("opened")
    finally:
        os.close(number)
