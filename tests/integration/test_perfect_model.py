"""The promise: with a tile model that makes no mistake, the slide's result is the truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.models.tile_model import TileBatch
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    assert_same_instances,
    perfect_spec,
    validate_geojson,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box

WHOLE = RunConfig(tissue=False)


def _labels(result: SlideResult) -> NDArray[np.int32]:
    labels: NDArray[np.int32] = result.mask.compute().astype(np.int32)
    return labels


@pytest.mark.parametrize("region_px", [300, 700, 4000])
@pytest.mark.parametrize(("tile_px", "halo_px"), [(256, 32), (512, 48), (200, 8)])
def test_instances_equal_the_truth(
    slide_path: Path, scene: Scene, tmp_path: Path, *, tile_px: int, halo_px: int, region_px: int
) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=tile_px, halo_px=halo_px)
    model = PerfectTileModel(scene, spec=spec)
    config = RunConfig(tissue=False, region_px=region_px, workers=3, batch_size=3)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    assert_same_instances(_labels(result), scene.labels)
    assert result.record.qa.conflicts == 0
    assert set(model.calls.values()) == {1}
    assert len(model.calls) == result.record.qa.tiles


def test_every_file_tells_the_same_objects(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    result = run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=WHOLE)
    counts = {
        item.name: int(number)
        for item, number in zip(scene.classes, scene.class_counts, strict=True)
    }
    area = {
        item.name: float(pixels)
        for item, pixels in zip(scene.classes, scene.class_areas_px, strict=True)
    }
    exported = validate_geojson(tmp_path / "objects.geojson")
    assert exported.counts == counts == result.record.counts
    assert exported.areas_px == area
    assert result.objects["class"].value_counts().to_dict() == counts
    assert dict(zip(result.counts["class"], result.counts["count"], strict=True)) == counts
    # Row i of the table is value i + 1 of the mask.
    values, pixels = np.unique(_labels(result), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(len(result.objects) + 1))
    np.testing.assert_allclose(result.objects["area_um2"], pixels[1:] * scene.mpp**2)
    assert shapely.is_valid(result.objects.geometry.to_numpy()).all()


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize(("tile_px", "halo_px", "region_px"), [(256, 32, 300), (320, 70, 900)])
def test_masks_equal_the_truth(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    *,
    tile_px: int,
    halo_px: int,
    region_px: int,
    overlapping: bool,
) -> None:
    spec = perfect_spec(
        scene, task="semantic", tile_px=tile_px, halo_px=halo_px, overlapping=overlapping
    )
    config = RunConfig(tissue=False, region_px=region_px)
    model = PerfectTileModel(scene, spec=spec)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    truth = scene.classes_in(Box.of_size(scene.size))
    masks = {name: mask.compute() for name, mask in result.masks.items()}
    if overlapping:
        for number in range(1, len(scene.classes) + 1):
            np.testing.assert_array_equal(masks[f"class-{number}"], truth == number)
    else:
        np.testing.assert_array_equal(masks["classes"], truth)
    assert set(model.calls.values()) == {1}
    areas = result.counts.set_index("class")["area_um2"]
    for item, pixels in zip(scene.classes, scene.class_areas_px, strict=True):
        assert areas[item.name] == pytest.approx(pixels * scene.mpp**2)


class _Blurred:
    """Probabilities that differ between the tiles that see a pixel, so that blending matters."""

    def __init__(self, scene: Scene, *, tile_px: int, halo_px: int) -> None:
        self.spec = perfect_spec(scene, task="semantic", tile_px=tile_px, halo_px=halo_px)
        self._truth = PerfectTileModel(scene, spec=self.spec)

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        maps = self._truth.predict(batch)
        shift = [np.random.default_rng(abs(w.x0) * 7919 + abs(w.y0)) for w in batch.windows]
        noise = np.stack([rng.uniform(0, 1, maps.shape[1:]) for rng in shift])
        return np.asarray(0.5 * maps + 0.5 * noise, np.float32)


def test_blended_masks_do_not_depend_on_regions_batches_or_workers(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = _Blurred(scene, tile_px=256, halo_px=40)
    masks = []
    for number, (region_px, batch_size, workers) in enumerate([(200, 1, 1), (600, 5, 3)]):
        config = RunConfig(
            tissue=False, region_px=region_px, batch_size=batch_size, workers=workers
        )
        result = run_slide(slide_path, model, out=tmp_path / str(number), config=config)
        masks.append(result.mask.compute())
    np.testing.assert_array_equal(*masks)
