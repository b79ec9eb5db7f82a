"""A model that errs a little differently in each tile: still every object once, and no other."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.models.spec import Decode, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.testing import (
    ImperfectTileModel,
    Scene,
    TileNoise,
    compare_instances,
    make_scene,
    perfect_spec,
    write_slide,
)
from slideloom.tiling.grid import GridIndex, TileGrid
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size

MIXED = TileNoise(jitter_px=2, faint_share=0.4, faint_px=300, seed=4)


@pytest.fixture(scope="module")
def tissue() -> Scene:
    """Nuclei of 2 to 14 px radius, many of which touch, and glands larger than a tile."""
    size = Size(width=1300, height=1100)
    return make_scene(size=size, mpp=0.5, seed=21, large_objects=4, nuclei_per_mm2=7000)


@pytest.fixture(scope="module")
def tissue_path(tissue: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _blank(tmp_path_factory.mktemp("tissue") / "tissue.tif", tissue)


def _blank(path: Path, scene: Scene) -> Path:
    """A slide without anything on it: the model does not look."""
    write_slide(path, np.full((*scene.size.shape, 3), 240, np.uint8), mpp=scene.mpp)
    return path


def _spec(scene: Scene, *, tile_px: int, halo_px: int, decode: str = "labels") -> ModelSpec:
    spec = perfect_spec(scene, task="instance", tile_px=tile_px, halo_px=halo_px)
    return spec.model_copy(update={"decode": Decode(name=decode)})


def _run(
    path: Path, model: ImperfectTileModel, out: Path, *, region_px: int = 500
) -> tuple[SlideResult, NDArray[np.int64]]:
    config = RunConfig(tissue=False, region_px=region_px, formats=())
    result = run_slide(path, model, out=out, config=config)
    return result, result.mask.compute().astype(np.int64)


def _owners(scene: Scene, grid: TileGrid) -> list[GridIndex]:
    """The tile whose core holds each object's centroid."""
    rows, cols = np.indices(scene.labels.shape)
    flat = scene.labels.ravel()
    sums = [np.bincount(flat, place.ravel())[1:] for place in (rows, cols)]
    y, x = (np.floor(total / scene.areas_px + 0.5).astype(int) for total in sums)
    return [
        GridIndex(row=row, col=col)
        for row, col in zip((y // grid.core_px).tolist(), (x // grid.core_px).tolist(), strict=True)
    ]


def _assert_each_once(found: NDArray[np.int64], scene: Scene, model: ImperfectTileModel) -> None:
    """No object twice, none cut or fused, no other thing; only what its owner missed may lack."""
    spec = model.spec
    grid = TileGrid(extent=scene.size, core_px=spec.core_px, halo_px=spec.halo_px, mpp=spec.mpp)
    missed_by = {tile.index: model.misses(tile.window) for tile in grid}
    lacking = np.array(
        [missed_by[owner][i] for i, owner in enumerate(_owners(scene, grid))], np.bool_
    )
    compared = compare_instances(found, scene.labels)
    assert (compared.split, compared.merged, compared.extra) == (0, 0, 0)
    assert compared.missed <= lacking.sum()
    assert len(scene) - lacking.sum() <= compared.found <= len(scene)
    # Those that may not lack, by themselves.
    sure = np.where(np.concatenate([[True], lacking])[scene.labels], 0, scene.labels)
    compared = compare_instances(found, sure)
    assert (compared.missed, compared.split, compared.merged) == (0, 0, 0)


@pytest.mark.parametrize(("tile_px", "halo_px"), [(128, 16), (256, 32), (320, 96)])
@pytest.mark.parametrize(
    "noise",
    [
        TileNoise(jitter_px=1),
        TileNoise(jitter_px=2),
        TileNoise(faint_share=0.4, faint_px=300),
        MIXED,
    ],
)
def test_each_object_is_found_once(
    tissue_path: Path,
    tissue: Scene,
    tmp_path: Path,
    *,
    tile_px: int,
    halo_px: int,
    noise: TileNoise,
) -> None:
    model = ImperfectTileModel(
        tissue, spec=_spec(tissue, tile_px=tile_px, halo_px=halo_px), noise=noise
    )
    result, found = _run(tissue_path, model, tmp_path)
    _assert_each_once(found, tissue, model)
    if noise.jitter_px:
        assert result.record.qa.conflicts > 0


@pytest.mark.slow
@pytest.mark.parametrize(("tile_px", "halo_px"), [(256, 16), (512, 64)])
def test_each_object_of_a_large_slide_is_found_once(
    tmp_path: Path, *, tile_px: int, halo_px: int
) -> None:
    size = Size(width=4200, height=4000)
    tissue = make_scene(size=size, mpp=0.5, seed=8, large_objects=30, nuclei_per_mm2=7000)
    assert len(tissue) > 20_000
    model = ImperfectTileModel(
        tissue, spec=_spec(tissue, tile_px=tile_px, halo_px=halo_px), noise=MIXED
    )
    path = _blank(tmp_path / "large.tif", tissue)
    _, found = _run(path, model, tmp_path / "out", region_px=2048)
    _assert_each_once(found, tissue, model)


def test_without_noise_it_is_the_perfect_model(
    tissue_path: Path, tissue: Scene, tmp_path: Path
) -> None:
    model = ImperfectTileModel(
        tissue, spec=_spec(tissue, tile_px=256, halo_px=32), noise=TileNoise()
    )
    _, found = _run(tissue_path, model, tmp_path)
    assert compare_instances(found, tissue.labels).is_exact


def test_the_noise_does_what_it_says(tissue: Scene) -> None:
    model = ImperfectTileModel(tissue, spec=_spec(tissue, tile_px=128, halo_px=16), noise=MIXED)
    grid = TileGrid(extent=tissue.size, core_px=96, halo_px=16, mpp=0.5)
    left, right = (grid[GridIndex(row=4, col=col)].window for col in (4, 5))
    assert 0.2 < model.faint.mean() < 0.5
    assert (tissue.areas_px[model.faint] <= 300).all()
    both = left.intersect(right)
    views = [model.look(window)[both.slices_in(window)] for window in (left, right)]
    truth = tissue.labels_in(both)
    assert (views[0] != views[1]).any()
    assert ((views[0] != truth) & (truth > 0)).any()
    # The same in another copy, whatever was asked before.
    again = ImperfectTileModel(tissue, spec=model.spec, noise=MIXED)
    again.look(right)
    np.testing.assert_array_equal(again.look(left), model.look(left))


@pytest.mark.parametrize("region_px", [200, 4000])
def test_the_same_noise_gives_the_same_result_for_all_region_sizes(
    tissue_path: Path, tissue: Scene, tmp_path: Path, region_px: int
) -> None:
    spec = _spec(tissue, tile_px=128, halo_px=16)
    masks = [
        _run(
            tissue_path,
            ImperfectTileModel(tissue, spec=spec, noise=MIXED),
            tmp_path / str(number),
            region_px=size,
        )[1]
        for number, size in enumerate((600, region_px))
    ]
    np.testing.assert_array_equal(masks[0], masks[1])


def test_last_bits_that_differ_change_nothing(
    tissue_path: Path, tissue: Scene, tmp_path: Path
) -> None:
    spec = _spec(tissue, tile_px=256, halo_px=64, decode="distance")
    results = [
        _run(
            tissue_path,
            ImperfectTileModel(tissue, spec=spec, noise=TileNoise(last_bit=last_bit, seed=seed)),
            tmp_path / str(number),
        )
        for number, (last_bit, seed) in enumerate([(False, 0), (True, 1), (True, 2)])
    ]
    counts = [len(result.objects) for result, _ in results]
    assert counts[0] == counts[1] == counts[2] > 500
    for result, found in results[1:]:
        compared = compare_instances(found, results[0][1])
        assert compared.is_exact
        np.testing.assert_allclose(
            result.objects["score"], results[0][0].objects["score"], rtol=1e-5
        )


def test_two_predictions_of_one_window_differ_in_their_last_bits(tissue: Scene) -> None:
    spec = _spec(tissue, tile_px=256, halo_px=64, decode="distance")
    model = ImperfectTileModel(tissue, spec=spec, noise=TileNoise(last_bit=True))
    grid = TileGrid(extent=tissue.size, core_px=128, halo_px=64, mpp=0.5)
    window = grid[GridIndex(row=2, col=2)].window
    batch = TileBatch(pixels=np.zeros((1, 256, 256, 3), np.uint8), windows=(window,))
    one, two = model.predict(batch), model.predict(batch)
    assert (one != two).any()
    np.testing.assert_allclose(one, two, rtol=1e-6)
