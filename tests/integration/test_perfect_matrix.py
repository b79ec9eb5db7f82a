"""Every hard case, under many tilings: with a perfect tile model the result is the truth.

The small matrix runs always, the large one (33,000 objects) with `-m slow`.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.models.spec import ModelSpec
from slideloom.postprocess.stitching.pieces import WITNESS_PX
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    assert_same_instances,
    compare_instances,
    perfect_spec,
    write_slide,
)
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.workflows import run as run_module
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, Size
from tests.makers.cases import make_cases
from tests.makers.orders import regions_in

# Tile, halo, region, workers, batch size.
Setting = tuple[int, int, int, int, int]


def _blank(path: Path, size: Size, *, mpp: float) -> Path:
    """A slide without anything on it: perfect models do not look."""
    write_slide(path, np.full((*size.shape, 3), 240, np.uint8), mpp=mpp)
    return path


@pytest.fixture(scope="module")
def cases() -> Scene:
    return make_cases(size=Size(width=900, height=760), tile_px=64, seed=3, fill=4000)


@pytest.fixture(scope="module")
def cases_path(cases: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _blank(tmp_path_factory.mktemp("cases") / "cases.tif", cases.size, mpp=cases.mpp)


@pytest.fixture(scope="module")
def large() -> Scene:
    return make_cases(size=Size(width=4300, height=4100), tile_px=256, seed=3, fill=45_000)


@pytest.fixture(scope="module")
def large_path(large: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _blank(tmp_path_factory.mktemp("large") / "large.tif", large.size, mpp=large.mpp)


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regions are started in a random order."""

    rng = np.random.default_rng(5)
    order = regions_in(lambda count: rng.permutation(count).tolist())
    monkeypatch.setattr(run_module, "run_regions", order)


def _run(path: Path, scene: Scene, out: Path, setting: Setting) -> tuple[SlideResult, ModelSpec]:
    tile_px, halo_px, region_px, workers, batch_size = setting
    spec = perfect_spec(scene, task="instance", tile_px=tile_px, halo_px=halo_px)
    model = PerfectTileModel(scene, spec=spec)
    config = RunConfig(
        tissue=False, region_px=region_px, workers=workers, batch_size=batch_size, formats=()
    )
    result = run_slide(path, model, out=out, config=config)
    assert set(model.calls.values()) == {1}
    return result, spec


def _assert_true(result: SlideResult, scene: Scene) -> NDArray[np.int64]:
    """Pixels, classes, areas and numbers; returns the label image."""
    found: NDArray[np.int64] = result.mask.compute().astype(np.int64)
    assert_same_instances(found, scene.labels)
    compared = compare_instances(found, scene.labels)
    assert (compared.expected, compared.found) == (len(scene), len(scene))
    assert (compared.split, compared.merged, compared.missed, compared.extra) == (0, 0, 0, 0)
    assert result.record.qa.conflicts == 0
    # Row i of the table is value i + 1 of the mask; each has one class in all pixels.
    first = np.unique(found, return_index=True)[1][1:]
    names = np.array([item.name for item in scene.classes])
    truth = names[scene.class_id[scene.labels.ravel()[first] - 1] - 1]
    assert result.objects["class"].tolist() == truth.tolist()
    areas = np.bincount(found.ravel())[1:] * scene.mpp**2
    np.testing.assert_allclose(result.objects["area_um2"], areas)
    np.testing.assert_allclose(result.objects.geometry.area * scene.mpp**2, areas)
    return found


SMALL: list[Setting] = [
    (64, 8, 100, 1, 1),
    (64, 1, 256, 2, 3),
    (64, 20, 4000, 4, 8),
    (96, 32, 96, 4, 5),
    (128, 16, 300, 2, 2),
    (128, 48, 500, 1, 7),
    (256, 8, 250, 4, 4),
    (1024, 64, 1024, 1, 1),
]


@pytest.mark.usefixtures("shuffled")
@pytest.mark.parametrize("setting", SMALL)
def test_every_case_comes_out_true(
    cases_path: Path, cases: Scene, tmp_path: Path, setting: Setting
) -> None:
    assert len(cases) > 2000
    assert (cases.areas_px <= 9).sum() > 800
    result, _ = _run(cases_path, cases, tmp_path, setting)
    _assert_true(result, cases)


LARGE: list[Setting] = [
    (256, 8, 2048, 2, 4),
    (256, 32, 512, 4, 8),
    (256, 64, 2048, 1, 16),
    (512, 8, 1024, 2, 1),
    (512, 32, 4096, 2, 4),
    (512, 64, 800, 4, 3),
    (1024, 8, 3000, 1, 2),
    (1024, 32, 2048, 4, 4),
    (1024, 128, 1024, 2, 1),
]


@pytest.mark.slow
@pytest.mark.usefixtures("shuffled")
@pytest.mark.parametrize("setting", LARGE)
def test_every_case_of_a_large_slide_comes_out_true(
    large_path: Path, large: Scene, tmp_path: Path, setting: Setting
) -> None:
    assert len(large) >= 20_000
    sides = large.boxes[:, 2:] - large.boxes[:, :2]
    assert sides.max() >= 10 * 256
    result, _ = _run(large_path, large, tmp_path, setting)
    _assert_true(result, large)


@pytest.mark.parametrize("setting", [(64, 8, 100, 1, 1), (128, 24, 400, 2, 4)])
def test_the_flags_of_every_object_are_right(
    cases_path: Path, cases: Scene, tmp_path: Path, setting: Setting
) -> None:
    result, spec = _run(cases_path, cases, tmp_path, setting)
    found = _assert_true(result, cases)
    grid = TileGrid(extent=cases.size, core_px=spec.core_px, halo_px=spec.halo_px, mpp=cases.mpp)
    table = result.objects
    edge = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    at_edge = np.isin(np.arange(1, len(table) + 1), edge)
    assert table["at_slide_border"].tolist() == at_edge.tolist()
    assert not table["at_roi_border"].any()
    slices = ndimage.find_objects(found)
    masks = [found[place] == number for number, place in enumerate(slices, start=1)]
    holes = [_holes(mask) for mask in masks]
    assert table["has_holes"].tolist() == [count > 0 for count in holes]
    assert table["holes"].tolist() == holes
    joined = [
        not _seen_whole(mask, Box(x0=x.start, y0=y.start, x1=x.stop, y1=y.stop), grid=grid)
        for mask, (y, x) in zip(masks, slices, strict=True)
    ]
    assert table["recombined"].tolist() == joined
    assert result.record.qa.recombined == sum(joined) > 10


def _holes(mask: NDArray[np.bool_]) -> int:
    """Areas of background that the object encloses; they hang together over corners too."""
    outside = np.pad(~mask, 1, constant_values=True)
    return int(ndimage.label(outside, np.ones((3, 3)))[1]) - 1


def _seen_whole(mask: NDArray[np.bool_], box: Box, *, grid: TileGrid) -> bool:
    """Whether a tile whose core the object meets, or nearly, sees it clear of its window's edge."""
    margin = min(WITNESS_PX, grid.halo_px // 2)
    for row in range(box.y0 // grid.core_px - 1, box.y1 // grid.core_px + 2):
        for col in range(box.x0 // grid.core_px - 1, box.x1 // grid.core_px + 2):
            if not (0 <= row < grid.rows and 0 <= col < grid.cols):
                continue
            tile = grid[GridIndex(row=row, col=col)]
            near = tile.core.grow(margin).intersect(box)
            if near.is_empty or not mask[near.slices_in(box)].any():
                continue
            seen = tile.window
            if (
                (seen.x0 < max(box.x0, 1))
                and (seen.y0 < max(box.y0, 1))
                and (seen.x1 > box.x1 or seen.x1 >= grid.extent.width)
                and (seen.y1 > box.y1 or seen.y1 >= grid.extent.height)
            ):
                return True
    return False
