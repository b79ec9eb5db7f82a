"""Masks and probabilities of whole runs against one sum over all tiles in one big array."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import zarr
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.postprocess.masks.rasterize import rasterize
from slideloom.postprocess.masks.windows import WINDOWS, WindowName, tile_weights
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.tiling.grid import TileGrid
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import PROBABILITIES_FOLDER, SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, open_slide
from slideloom.wsi.writing.pyramid import halve

FULL = 65535


class _Unsteady:
    """Probabilities that differ between the tiles that see a pixel, so that blending matters."""

    def __init__(self, scene: Scene, spec: ModelSpec) -> None:
        self.spec = spec
        self._truth = PerfectTileModel(scene, spec=spec)

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        maps = self._truth.predict(batch)
        noise = np.stack([_noise(window, maps.shape[1:]) for window in batch.windows])
        return np.asarray(0.3 * maps + 0.7 * noise, np.float32)


def _noise(window: Box, shape: tuple[int, ...]) -> NDArray[np.float64]:
    rng = np.random.default_rng(abs(window.x0) * 7919 + abs(window.y0))
    coarse = rng.uniform(0, 1, (-(-shape[0] // 16), -(-shape[1] // 16), shape[2]))
    smooth = coarse.repeat(16, axis=0).repeat(16, axis=1)[: shape[0], : shape[1]]
    return np.asarray(0.8 * smooth + 0.2 * rng.uniform(0, 1, shape))


def _spec(scene: Scene, tile_px: int, halo_px: int, *, overlapping: bool = False) -> ModelSpec:
    return perfect_spec(
        scene, task="semantic", tile_px=tile_px, halo_px=halo_px, overlapping=overlapping
    )


def _untiled(
    scene: Scene, spec: ModelSpec, window: WindowName
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Masks `(n, y, x)` and probabilities `(c, y, x)`; float64 holds such whole numbers exactly."""
    grid = TileGrid(extent=scene.size, core_px=spec.core_px, halo_px=spec.halo_px, mpp=scene.mpp)
    model = _Unsteady(scene, spec)
    halo, side = spec.halo_px, spec.tile_px
    height, width = grid.rows * grid.core_px + 2 * halo, grid.cols * grid.core_px + 2 * halo
    channels = len(spec.classes) + (not spec.overlapping)
    sums, totals = np.zeros((height, width, channels)), np.zeros((height, width, 1))
    weights = tile_weights(window, tile_px=side, halo_px=halo).values[..., None].astype(np.float64)
    for tile in grid:
        pixels = np.zeros((1, side, side, 3), np.uint8)
        maps = model.predict(TileBatch(pixels=pixels, windows=(tile.window,)))[0]
        y, x = tile.window.y0 + halo, tile.window.x0 + halo
        steps = np.rint(maps * np.float32(FULL)).astype(np.float64)
        sums[y : y + side, x : x + side] += weights * steps
        totals[y : y + side, x : x + side] += weights
    inside = np.s_[halo : halo + scene.size.height, halo : halo + scene.size.width]
    sums, totals = sums[inside], totals[inside]
    if spec.overlapping:
        masks = np.moveaxis(sums > np.rint(spec.threshold * FULL) * totals, -1, 0)
    else:
        masks = sums.argmax(axis=-1)[None]
    means = np.floor(255 * sums / (FULL * totals) + 0.5)
    return masks.astype(np.uint8), np.moveaxis(means, -1, 0).astype(np.uint8)


def _masks(result: SlideResult) -> NDArray[np.uint8]:
    return np.stack([mask.compute() for mask in result.masks.values()])


def _probabilities(result: SlideResult) -> NDArray[np.uint8]:
    level: Any = zarr.open_group(result.folder / PROBABILITIES_FOLDER, mode="r")["0"]
    return np.asarray(level[...])


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("tile_px", "halo_px", "region_px", "workers"),
    [(256, 40, 170, 4), (320, 64, 400, 2), (512, 100, 5000, 1), (200, 0, 400, 2)],
)
def test_masks_and_probabilities_equal_the_untiled_ones(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    *,
    tile_px: int,
    halo_px: int,
    region_px: int,
    workers: int,
    window: WindowName,
    overlapping: bool,
) -> None:
    spec = _spec(scene, tile_px, halo_px, overlapping=overlapping)
    config = RunConfig(
        tissue=False,
        region_px=region_px,
        workers=workers,
        window=window,
        probabilities=True,
        formats=(),
    )
    result = run_slide(slide_path, _Unsteady(scene, spec), out=tmp_path, config=config)
    masks, means = _untiled(scene, spec, window)
    np.testing.assert_array_equal(_masks(result), masks)
    np.testing.assert_array_equal(_probabilities(result), means)


def test_windows_differ_and_the_key_tells_them_apart(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = _Unsteady(scene, _spec(scene, 256, 64))
    results = {
        window: run_slide(
            slide_path,
            model,
            out=tmp_path / window,
            config=RunConfig(tissue=False, window=window, formats=()),
        )
        for window in WINDOWS
    }
    assert len({result.record.key for result in results.values()}) == len(WINDOWS)
    masks = [_masks(result).tobytes() for result in results.values()]
    assert len(set(masks)) == len(WINDOWS)


def _roi_file(folder: Path, areas: list[shapely.Polygon]) -> Path:
    features = [
        {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(area)}
        for area in areas
    ]
    path = folder / "rois.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _odd_areas() -> list[shapely.Polygon]:
    """A ring, a star that reaches beyond the slide's edge, and a thin bent strip."""
    disc, hole = shapely.Point(400, 350).buffer(260), shapely.Point(430, 330).buffer(120)
    ring = shapely.Polygon(disc.exterior, [hole.exterior])
    angles = np.linspace(0, 2 * np.pi, 15)[:-1]
    reach = np.where(np.arange(14) % 2, 60, 230)
    star = shapely.Polygon(
        np.column_stack([1080 + reach * np.cos(angles), 500 + reach * np.sin(angles)])
    )
    strip = shapely.LineString([(10, 900), (500, 700), (720, 905)]).buffer(7)
    return [ring, star, strip]


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("window", ["hann", "centre"])
def test_rois_change_nothing_inside(
    slide_path: Path, scene: Scene, tmp_path: Path, *, window: WindowName, overlapping: bool
) -> None:
    spec = _spec(scene, 200, 30, overlapping=overlapping)
    areas = _odd_areas()
    config = RunConfig(
        tissue=False,
        region_px=300,
        roi=_roi_file(tmp_path, areas),
        window=window,
        probabilities=True,
        formats=(),
    )
    result = run_slide(slide_path, _Unsteady(scene, spec), out=tmp_path / "out", config=config)
    assert result.record.qa.tiles_predicted < result.record.qa.tiles
    inside = rasterize(shapely.union_all(areas), Box.of_size(scene.size))
    masks, means = _untiled(scene, spec, window)
    np.testing.assert_array_equal(_masks(result), masks * inside)
    np.testing.assert_array_equal(_probabilities(result), means * inside)


def _with_holes(result: SlideResult, tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The tissue of a coarse mask at the result's pixels."""
    height, width = result.mask.shape
    rows = (np.arange(height) * tissue.shape[0] // height)[:, None]
    return np.asarray(tissue[rows, np.arange(width) * tissue.shape[1] // width])


@pytest.fixture
def odd_tissue(monkeypatch: pytest.MonkeyPatch) -> NDArray[np.bool_]:
    """Tissue with a hole, an island and a strip; what runs find in place of their own."""
    tissue = np.zeros((93, 115), np.bool_)
    tissue[5:60, 8:70] = True
    tissue[20:50, 25:60] = False
    tissue[32:36, 40:44] = True
    tissue[80, 90:] = True

    def find(slide: Any) -> Any:
        from slideloom.tiling.tissue import TissueMask

        return TissueMask(
            mask=tissue,
            scale_x=slide.size.width / tissue.shape[1],
            scale_y=slide.size.height / tissue.shape[0],
        )

    monkeypatch.setattr("slideloom.workflows.plan.find_tissue", find)
    return tissue


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_tissue_mask_changes_nothing_inside(
    slide_path: Path,
    scene: Scene,
    tmp_path: Path,
    odd_tissue: NDArray[np.bool_],
    *,
    overlapping: bool,
) -> None:
    spec = _spec(scene, 130, 20, overlapping=overlapping)
    config = RunConfig(region_px=200, probabilities=True, formats=())
    result = run_slide(slide_path, _Unsteady(scene, spec), out=tmp_path, config=config)
    assert result.record.qa.tiles_predicted < result.record.qa.tiles
    inside = _with_holes(result, odd_tissue)
    masks, means = _untiled(scene, spec, "hann")
    np.testing.assert_array_equal(_masks(result)[:, inside], masks[:, inside])
    np.testing.assert_array_equal(_probabilities(result)[:, inside], means[:, inside])


def _instances_inside(result: SlideResult, inside: NDArray[np.bool_]) -> set[bytes]:
    """The pixels of each object that lies wholly inside."""
    labels = result.mask.compute()
    cut = set(np.unique(labels[~inside]).tolist())
    whole = [number for number in np.unique(labels[inside]).tolist() if number not in cut]
    return {np.flatnonzero(labels == number).tobytes() for number in whole}


def test_instances_inside_of_tissue_and_rois_are_those_of_the_whole_slide(
    slide_path: Path, scene: Scene, tmp_path: Path, odd_tissue: NDArray[np.bool_]
) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=200, halo_px=24)
    model = PerfectTileModel(scene, spec=spec)
    areas = _odd_areas()
    configs = {
        "whole": RunConfig(tissue=False, formats=()),
        "tissue": RunConfig(region_px=300, formats=()),
        "rois": RunConfig(tissue=False, roi=_roi_file(tmp_path, areas), formats=()),
    }
    results = {
        name: run_slide(slide_path, model, out=tmp_path / name, config=config)
        for name, config in configs.items()
    }
    masks = {
        "tissue": _with_holes(results["whole"], odd_tissue),
        "rois": rasterize(shapely.union_all(areas), Box.of_size(scene.size)),
    }
    for name, inside in masks.items():
        assert results[name].record.qa.tiles_predicted < results[name].record.qa.tiles
        expected = _instances_inside(results["whole"], inside)
        assert len(expected) > 20
        assert _instances_inside(results[name], inside) == expected


def test_probabilities_are_an_image_that_opens_as_a_slide(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    spec = _spec(scene, 256, 40)
    config = RunConfig(tissue=False, region_px=500, probabilities=True, formats=())
    model = _Unsteady(scene, spec)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    _, means = _untiled(scene, spec, "hann")
    with open_slide(tmp_path / PROBABILITIES_FOLDER) as image:
        assert image.channels == ("background", *(item.name for item in scene.classes))
        assert image.dtype == np.uint8
        assert image.size == scene.size
        assert image.require_mpp() == pytest.approx(scene.mpp)
        raw = image.read_raw(Box.of_size(image.size))
        np.testing.assert_array_equal(np.moveaxis(raw, -1, 0), means)
        assert len(image.levels) == 3
        fine = raw
        for level, item in enumerate(image.levels[1:], start=1):
            half = np.empty((*item.size.shape, len(image.channels)), np.uint8)
            halve(fine, half)
            fine = half
            stored = image.read_raw(Box.of_size(item.size), level=level)
            np.testing.assert_array_equal(stored, half)
    meta = json.loads((tmp_path / PROBABILITIES_FOLDER / "zarr.json").read_text())["attributes"]
    colors = [channel["color"] for channel in meta["ome"]["omero"]["channels"]]
    first = scene.classes[0].color
    assert colors[:2] == ["808080", "{:02X}{:02X}{:02X}".format(*first)]
    assert meta["ome"]["version"] == "0.5"
    # Run again without them: another result, which keeps none.
    config = RunConfig(tissue=False, region_px=500, formats=())
    again = run_slide(slide_path, model, out=tmp_path, config=config)
    assert again.record.key != result.record.key
    assert not (tmp_path / PROBABILITIES_FOLDER).exists()


def test_only_masks_have_probabilities_to_keep(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    config = RunConfig(tissue=False, probabilities=True)
    with pytest.raises(SettingsError, match="leave out --probabilities"):
        run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=config)
