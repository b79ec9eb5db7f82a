"""The parts of `benchmarks.pipeline`: that both runs do the same work; never how fast."""

import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from benchmarks import pipeline
from benchmarks.pipeline_model import DarknessModel
from benchmarks.pipeline_report import cost_table, memory_table
from benchmarks.pipeline_run import Cost, run_bare, run_ours
from benchmarks.pipeline_slide import TILE_PX, tissue, write_slide
from benchmarks.reading_slides import MPP
from slideloom.workflows.result import load_result
from slideloom.wsi import Box, open_slide

PICTURE_PX = 4096
SIDE_PX = 1500


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    # A small scene, repeated: the slide's period has to be a multiple of 16 * 256.
    return np.tile(tissue(1024), (4, 4, 1))


@pytest.fixture(scope="module")
def slide(picture: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "slide.tif"
    write_slide(path, picture, side_px=SIDE_PX)
    return path


def test_the_slide_repeats_the_picture_at_every_level(
    picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "slide.tif"
    write_slide(path, picture, side_px=PICTURE_PX + 300)
    with open_slide(path) as slide:
        assert [level.downsample for level in slide.levels] == pytest.approx([1, 4, 16], rel=1e-2)
        assert slide.require_mpp() == pytest.approx(MPP)
        box = Box(x0=0, y0=0, x1=2 * TILE_PX, y1=TILE_PX)
        pixels = slide.read(box).astype(int)
        assert np.abs(pixels - picture[:TILE_PX, : 2 * TILE_PX]).mean() < 6
        again = Box(x0=PICTURE_PX, y0=PICTURE_PX, x1=PICTURE_PX + 300, y1=PICTURE_PX + 200)
        np.testing.assert_array_equal(slide.read(again), pixels[:200, :300])
        coarse = slide.read(Box(x0=0, y0=0, x1=100, y1=100), level=1)
        blocks = picture[:400, :400].reshape(100, 4, 100, 4, 3).mean(axis=(1, 3))
        assert np.abs(coarse - blocks).mean() < 6


def test_both_runs_give_the_same_mask_inside_of_tiles(slide: Path, tmp_path: Path) -> None:
    model = DarknessModel(tile_px=512, halo_px=32, mpp=MPP)
    assert run_bare(slide, model, out=tmp_path / "bare", threads=2) == {}
    stages = run_ours(slide, model, out=tmp_path / "ours", threads=2)
    assert set(stages) == {"predict", "merge", "export"}
    bare = zarr.open_array(tmp_path / "bare", mode="r")
    ours = load_result(tmp_path / "ours").mask.compute()
    assert ours.shape == bare.shape
    # Only one tile sees what lies farther than a halo from all borders of cores.
    place = np.arange(SIDE_PX) % 448
    alone = (place >= 32) & (place < 448 - 32)
    alone[:32] = True
    inside = np.ix_(alone, alone)
    np.testing.assert_array_equal(ours[inside], np.asarray(bare[...])[inside])
    assert 0.1 < ours.mean() < 0.9


def test_the_network_tells_dark_from_bright(picture: NDArray[np.uint8]) -> None:
    from slideloom.models.tile_model import TileBatch

    model = DarknessModel(tile_px=128, halo_px=0, mpp=MPP)
    pixels = np.full((1, 128, 128, 3), 250, np.uint8)
    pixels[:, :, :64] = 30
    box = Box(x0=0, y0=0, x1=128, y1=128)
    maps = model.predict(TileBatch(pixels=pixels, windows=(box,)))
    assert maps.shape == (1, 128, 128, 2)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-6)
    assert (maps[0, :, :32, 1] > 0.9).all()
    assert (maps[0, :, 96:, 1] < 0.1).all()


def test_tables_take_ratios_within_rounds() -> None:
    def cost(wall_s: float, **stages: float) -> Cost:
        return Cost(wall_s=wall_s, cpu_s=2 * wall_s, peak_mb=100 * wall_s, stages=stages)

    # The machine was three times as slow in the second round.
    costs = {"slideloom": [cost(2.0, predict=1.0), cost(6.0, predict=3.0)]}
    costs["bare"] = [cost(1.0), cost(3.0)]
    lines = cost_table(costs).splitlines()
    assert lines[2] == "| slideloom | 4.00 | 8.00 | 400 | 2.00 | 2.00 | predict 2.00 |"
    assert lines[3].startswith("| bare | 2.00 | 4.00 | 200 | 1.00 | 1.00 |")
    memory = memory_table({10: cost(1.0), 40: cost(1.25)}).splitlines()
    assert memory[-1] == "| 40 | 1.25 | 2.50 | 125 | 1.25 |"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--size", "3000", "--memory-sizes", "2000", "--rounds", "1", "--tile-px", "512"]
    pipeline.main([*words, "--json", str(tmp_path / "costs.json"), "--folder", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| slideloom |" in printed
    assert "| bare |" in printed
    assert "| 2000 |" in printed
    assert (tmp_path / "costs.json").exists()
