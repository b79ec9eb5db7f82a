"""Classified tiles are the same bytes however they were computed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows import run as run_module
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box
from tests.makers.orders import regions_in

FILES = ("objects.parquet", "objects.geojson", "counts.csv", "overlay.png")
RUN = RunConfig(tissue=False, region_px=160, workers=2, batch_size=4)


class _KilledError(Exception):
    """Ends a run in its middle."""


class _Killed:
    """A model that stops the run after some tiles."""

    def __init__(self, model: PerfectTileModel, *, after: int) -> None:
        self.spec = model.spec
        self.asked: list[Box] = []
        self._model, self._after = model, after

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        if len(self.asked) >= self._after:
            raise _KilledError
        self.asked.extend(batch.windows)
        return self._model.predict(batch)


def _model(scene: Scene, *, overlapping: bool = True) -> PerfectTileModel:
    spec = perfect_spec(
        scene, task="classification", tile_px=48, halo_px=8, overlapping=overlapping
    )
    return PerfectTileModel(scene, spec=spec.model_copy(update={"threshold": 0.12}))


def _state(result: SlideResult) -> dict[str, str]:
    """Hashes of the files that hold what was found, and the scores."""
    files = [result.folder / name for name in FILES]
    heat_map = result.folder / "probabilities.ome.zarr"
    files += sorted(path for path in heat_map.glob("**/*") if path.is_file())
    assert len(files) > len(FILES) + 2
    hashes = {
        str(path.relative_to(result.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    return hashes | {"slide_scores": str(result.record.slide_scores)}


@pytest.fixture(scope="module")
def once(slide_path: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    """The result that all others are held to."""
    return run_slide(slide_path, _model(scene), out=tmp_path_factory.mktemp("once"), config=RUN)


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 1, "batch_size": 1},
        {"workers": 4, "batch_size": 7},
        {"batch_size": 100, "region_px": 5000},
        {"region_px": 32},
        {"region_px": 333},
    ],
)
def test_batches_workers_and_regions_change_no_byte(
    slide_path: Path, scene: Scene, once: SlideResult, tmp_path: Path, settings: dict[str, int]
) -> None:
    assert len(once.objects) > 300
    config = RUN.model_copy(update=settings)
    result = run_slide(slide_path, _model(scene), out=tmp_path, config=config)
    assert _state(result) == _state(once)


@pytest.mark.parametrize(
    "order",
    [
        lambda count: list(range(count))[::-1],
        lambda count: np.random.default_rng(3).permutation(count).tolist(),
    ],
)
def test_the_order_of_regions_changes_no_byte(
    slide_path: Path,
    scene: Scene,
    once: SlideResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    order: Callable[[int], list[int]],
) -> None:
    monkeypatch.setattr(run_module, "run_regions", regions_in(order))
    result = run_slide(slide_path, _model(scene), out=tmp_path, config=RUN)
    assert _state(result) == _state(once)


@pytest.mark.parametrize("after", [1, 150])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    slide_path: Path, scene: Scene, once: SlideResult, tmp_path: Path, after: int
) -> None:
    killed = _Killed(_model(scene), after=after)
    with pytest.raises(_KilledError):
        run_slide(slide_path, killed, out=tmp_path, config=RUN)
    finished = len(list(tmp_path.glob(".work/*/region-*.safetensors")))
    again = _Killed(_model(scene), after=10**9)
    result = run_slide(slide_path, again, out=tmp_path, config=RUN)
    assert _state(result) == _state(once)
    assert (len(again.asked) < result.record.qa.tiles_predicted) == (finished > 0)
    assert len(set(again.asked) | set(killed.asked)) == result.record.qa.tiles_predicted


def test_parts_of_the_table_change_no_byte(
    slide_path: Path,
    scene: Scene,
    once: SlideResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slideloom.workflows.flows.classification.OBJECTS_PER_PART", 37)
    result = run_slide(slide_path, _model(scene), out=tmp_path, config=RUN)
    assert _state(result) == _state(once)
