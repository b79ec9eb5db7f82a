"""What a run keeps between tasks is in its store: each task may have a copy of its own, or two."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slideloom.models.spec import Task
from slideloom.testing import PerfectTileModel, Scene, make_scene, perfect_spec, write_slide
from slideloom.testing.render import render_scene
from slideloom.workflows.config import RunConfig
from slideloom.workflows.control import RunControl
from slideloom.workflows.executing import Executor, Graph, Threads
from slideloom.workflows.run import SlideRun
from slideloom.wsi import Size, open_slide

CONFIG = RunConfig(tissue=False, region_px=100, workers=1, formats=())


class _Copies:
    """Gives each task copies of all that it takes; the last regions come first, and all twice."""

    workers = 1
    elsewhere = True

    def run(self, graph: Graph, *, done: Callable[[str], None]) -> None:
        for step in ("predict", "finish"):
            for key in [key for key in reversed(list(graph)) if key.startswith(step)]:
                task, *arguments = graph[key]
                for _ in range(2):
                    task(*pickle.loads(pickle.dumps([self._value(graph, a) for a in arguments])))
                done(key)

    def _value(self, graph: Graph, argument: Any) -> Any:
        return graph[argument] if isinstance(argument, str) else argument


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(size=Size(width=500, height=400), mpp=0.5, seed=3, large_objects=2)


@pytest.fixture(scope="module")
def slide_path(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "made.tif"
    write_slide(path, render_scene(scene), mpp=scene.mpp)
    return path


def _run(path: Path, model: PerfectTileModel, out: Path, executor: Executor) -> dict[str, bytes]:
    with open_slide(path) as slide:
        run = SlideRun(
            slide=slide,
            model=model,
            out=out,
            config=CONFIG,
            control=RunControl(),
            executor=executor,
        )
        run.predict()
        assert len(run.plan.regions) == 20
        run.deliver()
    return {
        file.relative_to(out).as_posix(): file.read_bytes()
        for file in out.rglob("*")
        if file.is_file() and file.suffix not in {".html", ".json"}
    }


@pytest.mark.parametrize(
    ("task", "overlapping"),
    [("instance", False), ("semantic", False), ("semantic", True), ("detection", False)],
)
def test_tasks_that_share_nothing_leave_the_same_bytes(
    slide_path: Path, scene: Scene, tmp_path: Path, *, task: Task, overlapping: bool
) -> None:
    spec = perfect_spec(scene, task=task, tile_px=128, halo_px=14, overlapping=overlapping)
    model = PerfectTileModel(scene, spec=spec)
    together = _run(slide_path, model, tmp_path / "together", Threads(1))
    asked = len(model.calls)
    assert _run(slide_path, model, tmp_path / "apart", _Copies()) == together
    assert len(model.calls) == asked > 0
    assert len(together) > 2
