"""The same result however it was computed: regions, batches, workers, order, a kill in between."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.testing import (
    ImperfectTileModel,
    PerfectTileModel,
    Scene,
    TileNoise,
    perfect_spec,
    write_slide,
)
from slideloom.workflows import run as run_module
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, Size
from tests.makers.cases import make_cases
from tests.makers.orders import regions_in

NOISE = TileNoise(jitter_px=2, faint_share=0.3, faint_px=60, seed=9)
TILE_PX, HALO_PX, REGION_PX = 64, 12, 160
TABLES = ("objects.parquet", "objects.geojson", "counts.csv", "overlay.png")
RUN = RunConfig(tissue=False, region_px=REGION_PX, workers=2, batch_size=4)


@pytest.fixture(scope="module")
def cases() -> Scene:
    return make_cases(size=Size(width=620, height=540), tile_px=TILE_PX, seed=8, fill=2500)


@pytest.fixture(scope="module")
def path(cases: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cases") / "cases.tif"
    write_slide(path, np.full((*cases.size.shape, 3), 240, np.uint8), mpp=cases.mpp)
    return path


def _model(scene: Scene) -> ImperfectTileModel:
    spec = perfect_spec(scene, task="instance", tile_px=TILE_PX, halo_px=HALO_PX)
    return ImperfectTileModel(scene, spec=spec, noise=NOISE)


@pytest.fixture(scope="module")
def once(path: Path, cases: Scene, tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    """The result that all others are held to."""
    return run_slide(path, _model(cases), out=tmp_path_factory.mktemp("once"), config=RUN)


def _bytes(result: SlideResult) -> dict[str, str]:
    """Hashes of the files that hold what was found."""
    files = [result.folder / name for name in TABLES]
    files += sorted(path for path in result.folder.glob("labels.ome.zarr/**/*") if path.is_file())
    return {
        str(path.relative_to(result.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _assert_same_objects(result: SlideResult, other: SlideResult) -> None:
    """All columns, ids included, and all pixels."""
    one, two = result.objects, other.objects
    assert len(one) > 500
    assert one.geometry.to_wkb().tolist() == two.geometry.to_wkb().tolist()
    plain = [table.drop(columns="geometry") for table in (one, two)]
    assert plain[0].equals(plain[1])
    np.testing.assert_array_equal(result.mask.compute(), other.mask.compute())
    assert result.record.qa.conflicts == other.record.qa.conflicts
    assert result.record.qa.recombined == other.record.qa.recombined


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (4, 7), (3, 100)])
def test_batches_and_workers_change_no_byte(
    path: Path, cases: Scene, once: SlideResult, tmp_path: Path, *, workers: int, batch_size: int
) -> None:
    config = RUN.model_copy(update={"workers": workers, "batch_size": batch_size})
    result = run_slide(path, _model(cases), out=tmp_path, config=config)
    assert _bytes(result) == _bytes(once)


def test_the_order_of_regions_changes_no_byte(
    path: Path,
    cases: Scene,
    once: SlideResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backwards = regions_in(lambda count: list(range(count))[::-1])
    monkeypatch.setattr(run_module, "run_regions", backwards)
    result = run_slide(path, _model(cases), out=tmp_path, config=RUN)
    assert _bytes(result) == _bytes(once)


@pytest.mark.parametrize("region_px", [40, 333, 5000])
def test_regions_change_no_object(
    path: Path, cases: Scene, once: SlideResult, tmp_path: Path, region_px: int
) -> None:
    config = RUN.model_copy(update={"region_px": region_px})
    result = run_slide(path, _model(cases), out=tmp_path, config=config)
    _assert_same_objects(result, once)
    # Chunks of the label image follow the regions; the tables are the same to the byte.
    ours, theirs = _bytes(result), _bytes(once)
    assert [ours[name] for name in TABLES] == [theirs[name] for name in TABLES]


class _KilledError(Exception):
    """Ends a run in its middle."""


class _Killed:
    """A model that stops the run after some tiles."""

    def __init__(self, model: ImperfectTileModel | PerfectTileModel, *, after: int) -> None:
        self.spec = model.spec
        self.asked: list[Box] = []
        self._model, self._after = model, after

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        if len(self.asked) >= self._after:
            raise _KilledError
        self.asked.extend(batch.windows)
        return self._model.predict(batch)


@pytest.mark.parametrize("after", [1, 40, 120])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(
    path: Path, cases: Scene, once: SlideResult, tmp_path: Path, after: int
) -> None:
    killed = _Killed(_model(cases), after=after)
    with pytest.raises(_KilledError):
        run_slide(path, killed, out=tmp_path, config=RUN)
    finished = len(_region_files(tmp_path))
    again = _Killed(_model(cases), after=10**9)
    result = run_slide(path, again, out=tmp_path, config=RUN)
    assert _bytes(result) == _bytes(once)
    # What was finished is not predicted again.
    total = result.record.qa.tiles_predicted
    assert (len(again.asked) < total) == (finished > 0)
    assert set(again.asked) | set(killed.asked) == _windows(once, cases)


@pytest.mark.parametrize("seed", [0, 1])
def test_lost_regions_are_computed_again(
    path: Path, cases: Scene, once: SlideResult, tmp_path: Path, seed: int
) -> None:
    killed = _Killed(_model(cases), after=once.record.qa.tiles_predicted - 8)
    with pytest.raises(_KilledError):
        run_slide(path, killed, out=tmp_path, config=RUN)
    files = _region_files(tmp_path)
    chosen = np.random.default_rng(seed).permutation(len(files))[: len(files) // 2]
    for number in chosen.tolist():
        files[number].unlink()
    result = run_slide(path, _model(cases), out=tmp_path, config=RUN)
    assert _bytes(result) == _bytes(once)


def _region_files(out: Path) -> list[Path]:
    return sorted(out.glob(".work/*/region-*.safetensors"))


def _windows(result: SlideResult, scene: Scene) -> set[Box]:
    """The windows of all tiles of the slide."""
    core = TILE_PX - 2 * HALO_PX
    places = [range(0, side, core) for side in (scene.size.height, scene.size.width)]
    boxes = {
        Box(x0=x, y0=y, x1=x + core, y1=y + core).grow(HALO_PX)
        for y in places[0]
        for x in places[1]
    }
    assert len(boxes) == result.record.qa.tiles
    return boxes


def test_a_finished_result_is_not_computed_again(
    path: Path, cases: Scene, once: SlideResult
) -> None:
    before = _bytes(once)
    result = run_slide(path, _Killed(_model(cases), after=0), out=once.folder, config=RUN)
    assert _bytes(result) == before
