"""What a power cut or another program left half-written in a folder is never taken for whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from slideloom.errors import OutputError
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import RECORD_FILE, WORK_FOLDER, load_result
from slideloom.workflows.run import run_slide
from tests.makers.dying_model import DyingModel
from tests.makers.run_files import run_files

CONFIG = RunConfig(tissue=False, region_px=300, workers=1, batch_size=1, formats=("geojson", "csv"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def blank(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def model(scene: Scene) -> PerfectTileModel:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    return PerfectTileModel(scene, spec=spec)


@pytest.mark.parametrize("damage", [cut, empty, blank])
def test_half_written_files_are_written_again(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path, *, damage: Callable[[Path], None]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run_slide(slide_path, model, out=whole, config=CONFIG)
    tiles = model.calls.total()
    with pytest.raises(MemoryError):
        run_slide(slide_path, DyingModel(model, tiles=9), out=out, config=CONFIG)
    regions = sorted(out.glob(f"{WORK_FOLDER}/*/region-*"))
    assert len(regions) > 1
    shutil.copytree(whole, out, dirs_exist_ok=True)
    for path in [*whole.rglob("*")]:
        if path.is_file():
            damage(out / path.relative_to(whole))
    damage(regions[0])
    with pytest.raises(OutputError):
        load_result(out)
    asked = model.calls.total()
    run_slide(slide_path, model, out=out, config=CONFIG)
    # Of the regions that were finished, with at least two tiles each, only one is computed again.
    assert tiles - 9 < model.calls.total() - asked <= tiles - 2 * (len(regions) - 1)
    assert run_files(out) == run_files(whole)


@pytest.mark.parametrize("damage", [cut, empty, blank])
def test_a_half_written_record_vouches_for_nothing(
    slide_path: Path, model: PerfectTileModel, tmp_path: Path, *, damage: Callable[[Path], None]
) -> None:
    first = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    files, asked = run_files(tmp_path), model.calls.total()
    damage(tmp_path / RECORD_FILE)
    with pytest.raises(OutputError, match="no finished result"):
        load_result(tmp_path)
    again = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert model.calls.total() == 2 * asked
    assert again.record.counts == first.record.counts
    assert run_files(tmp_path) == files
