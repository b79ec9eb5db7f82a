"""Runs over slides that need care: damaged tiles, fluorescence, other formats of one slide."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from slideloom.models.tile_model import TileBatch
from slideloom.testing import PerfectTileModel, Scene, perfect_spec, render_scene, write_slide
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.plan import plan_run
from slideloom.workflows.result import load_result
from slideloom.workflows.run import run_slide
from slideloom.wsi import open_slide

CONFIG = RunConfig(tissue=False, region_px=300, workers=1, batch_size=1)


@pytest.fixture
def damaged(scene: Scene, tmp_path: Path) -> Path:
    """A slide of which one tile, in row 1 and col 2 of level 0, is nonsense."""
    path = tmp_path / "damaged.tif"
    write_slide(path, render_scene(scene), mpp=scene.mpp, quality=None)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[1 * 5 + 2]
    data = bytearray(path.read_bytes())
    data[start : start + 100] = bytes(100)
    path.write_bytes(data)
    return path


class Dying(PerfectTileModel):
    """A perfect model that stops after some tiles, as a killed process would."""

    left = 20

    def predict(self, batch: TileBatch) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        return super().predict(batch)


def test_a_damaged_tile_fails_its_slide_and_says_what_can_be_done(
    damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(damaged), "--model", "nuclei", "--out", str(tmp_path / "out")]
    assert run_command(words) == 1
    (row,) = pd.read_csv(tmp_path / "out" / "manifest.csv").to_dict("records")
    assert row["status"] == "failed"
    assert "level 0, tile row 1, col 2" in row["error"]
    assert "--on-bad-tile blank" in row["error"]
    capsys.readouterr()
    assert run_command([*words, "--on-bad-tile", "blank"]) == 0
    (row,) = pd.read_csv(tmp_path / "out" / "manifest.csv").to_dict("records")
    assert (row["status"], row["bad_tiles"]) == ("done", 1)
    assert "1 damaged tile was read as blank" in capsys.readouterr().err
    record = load_result(tmp_path / "out" / "damaged").record
    assert record.qa.bad_tiles == 1
    assert record.slide.options.on_bad_tile == "blank"


def test_blank_tiles_are_counted_by_a_run_that_goes_on_later(
    damaged: Path, scene: Scene, tmp_path: Path
) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    with (
        pytest.raises(MemoryError),
        open_slide(damaged, on_bad_tile="blank") as slide,
    ):
        run_slide(slide, Dying(scene, spec=spec), out=tmp_path / "out", config=CONFIG)
    with open_slide(damaged, on_bad_tile="blank") as slide:
        model = PerfectTileModel(scene, spec=spec)
        result = run_slide(slide, model, out=tmp_path / "out", config=CONFIG)
    assert 0 < model.calls.total() < result.record.qa.tiles
    assert result.record.qa.bad_tiles == 1


def test_a_policy_is_part_of_what_a_result_depends_on(slide_path: Path, scene: Scene) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    keys = set()
    for options in ({}, {"on_bad_tile": "blank"}, {"reader": "openslide"}):
        with open_slide(slide_path, **options) as slide:  # type: ignore[arg-type]
            keys.add(plan_run(slide, spec, config=CONFIG).key)
    assert len(keys) == 3


def test_fluorescence_runs_with_its_channels(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = np.moveaxis(render_scene(scene), 2, 0).astype(np.uint16) * 16
    path = tmp_path / "cells.ome.tiff"
    tifffile.imwrite(
        path,
        np.concatenate([stack, stack[:1]]),
        tile=(256, 256),
        compression="zlib",
        photometric="minisblack",
        metadata={
            "axes": "CYX",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
            "Channel": {"Name": ["R", "G", "B", "other"]},
        },
    )
    words = ["run", str(path), "--model", "nuclei", "--no-tissue", "--out", str(tmp_path / "out")]
    assert run_command(words) == 1
    assert "has 4 channels (R, G, B, other): say with --channels" in capsys.readouterr().err
    assert run_command([*words, "--channels", "R,G,B"]) == 1
    assert "pixels are uint16: say with --display-range" in capsys.readouterr().err
    shown = ["--channels", "R,G,B", "--display-range", "0:4080"]
    assert run_command([*words, *shown]) == 0
    truth = tmp_path / "truth.tif"
    write_slide(truth, render_scene(scene), mpp=0.5, quality=None)
    assert run_command(["run", str(truth), *words[2:]]) == 0
    inside = []
    for name in ("cells", "truth"):
        table = load_result(tmp_path / "out" / name).objects
        # Beyond its edge a slide is white where it is a picture of light, black where it glows.
        near = table.centroid_x_px.between(300, 850) & table.centroid_y_px.between(300, 630)
        inside.append(table.geometry[near].reset_index(drop=True))
    assert len(inside[0]) == len(inside[1]) > 100
    assert inside[0].geom_equals(inside[1]).all()
    assert load_result(tmp_path / "out" / "cells").record.slide.options.display is not None


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("ending", ["ome.zarr", "ome.tiff"])
def test_a_converted_slide_gives_the_same_objects(
    data_dir: Path, tmp_path: Path, ending: str
) -> None:
    slide = data_dir / "slides" / "CMU-1-Small-Region.svs"
    copy = tmp_path / f"copy.{ending}"
    assert run_command(["convert", str(slide), str(copy)]) == 0
    words = ["--model", "nuclei", "--out", str(tmp_path / "out")]
    assert run_command(["run", str(slide), str(copy), *words]) == 0
    first, second = (load_result(tmp_path / "out" / name) for name in (slide.stem, "copy"))
    assert second.record.slide.reader == ("zarr" if ending == "ome.zarr" else "tiff")
    assert len(first.objects) == len(second.objects) > 2000
    assert first.objects.geometry.geom_equals(second.objects.geometry).all()
