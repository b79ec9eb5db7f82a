"""Stain densities in a result, against the pixels of the whole slide at once."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from slideloom.postprocess.measure.intensity import stain_densities
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows import stains as stains_module
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide
from slideloom.workflows.stains import STAINS
from slideloom.wsi import Box, open_slide

CONFIG = RunConfig(tissue=False, stains=True, formats=("geojson",))


@pytest.mark.parametrize("cell_px", [100, 1024])
def test_densities_are_those_of_the_objects_pixels(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cell_px: int,
) -> None:
    monkeypatch.setattr(stains_module, "_CELL_PX", cell_px)
    model = PerfectTileModel(
        scene, spec=perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    )
    result = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    labels = result.mask.compute()
    with open_slide(slide_path) as slide:
        densities = stain_densities(slide.read(Box.of_size(slide.size)))
    index = np.arange(1, len(result.objects) + 1)
    statistics = {
        "mean": ndimage.mean,
        "std": ndimage.standard_deviation,
        "min": ndimage.minimum,
        "max": ndimage.maximum,
    }
    for channel, stain in enumerate(STAINS):
        for name, measure in statistics.items():
            expected = measure(densities[..., channel].astype(float), labels, index)
            column = result.objects[f"{stain}_od_{name}"]
            np.testing.assert_allclose(column, expected, rtol=1e-6, atol=1e-9)
    assert (result.objects["haematoxylin_od_mean"] > 0).all()


def test_a_result_without_stains_is_not_taken_for_one_with_them(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = PerfectTileModel(
        scene, spec=perfect_spec(scene, task="instance", tile_px=512, halo_px=32)
    )
    plain = run_slide(slide_path, model, out=tmp_path, config=RunConfig(tissue=False))
    assert "eosin_od_mean" not in plain.objects
    stained = run_slide(slide_path, model, out=tmp_path, config=CONFIG)
    assert "eosin_od_mean" in stained.objects
    assert plain.objects["id"].tolist() == stained.objects["id"].tolist()
