"""Classification of whole slides: tiles, heat map and slide scores are the scene's truth."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import shapely
from numpy.typing import NDArray
from PIL import Image

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation
from slideloom.models.tile_model import TileBatch
from slideloom.testing import (
    PerfectTileModel,
    Scene,
    perfect_spec,
    validate_geojson,
    write_slide,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import PROBABILITIES_FOLDER, SlideResult, load_result
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, Size, open_slide
from tests.makers.html import read_html

CORE_PX = 48
WHOLE = RunConfig(tissue=False, region_px=200, workers=2, formats=("geojson", "csv"))


def _spec(scene: Scene, *, overlapping: bool = False, halo_px: int = 0) -> ModelSpec:
    tile_px = CORE_PX + 2 * halo_px
    spec = perfect_spec(
        scene, task="classification", tile_px=tile_px, halo_px=halo_px, overlapping=overlapping
    )
    return spec.model_copy(update={"threshold": 0.12})


def _run(path: Path, scene: Scene, out: Path, **settings: object) -> SlideResult:
    spec = _spec(scene, overlapping=settings.pop("overlapping", False) is True)
    config = WHOLE.model_copy(update=settings)
    return run_slide(path, PerfectTileModel(scene, spec=spec), out=out, config=config)


def _cores(size: Size) -> list[Box]:
    whole = Box.of_size(size)
    corners = [
        (x, y) for y in range(0, size.height, CORE_PX) for x in range(0, size.width, CORE_PX)
    ]
    return [Box(x0=x, y0=y, x1=x + CORE_PX, y1=y + CORE_PX).intersect(whole) for x, y in corners]


def _truth(scene: Scene, *, overlapping: bool = False) -> NDArray[np.float32]:
    """`(n, k)`, counted pixel by pixel, tiles row by row."""
    rows = []
    for core in _cores(scene.size):
        classes = scene.classes_in(core)
        pixels = [int((classes == number).sum()) for number in (1, 2)]
        if overlapping:
            rows.append([each / CORE_PX**2 for each in pixels])
        else:
            rows.append([(each + 1) / (sum(pixels) + 2) for each in pixels])
    return np.array(rows, np.float32)


def _by_place(result: SlideResult) -> dict[tuple[float, ...], dict[str, float]]:
    """Score by class of each square of the table."""
    found: dict[tuple[float, ...], dict[str, float]] = {}
    table = result.objects
    rows = zip(table.geometry, table["class"], table["score"], strict=True)
    for shape, name, score in rows:
        assert name not in found.setdefault(shape.bounds, {})
        found[shape.bounds][name] = score
    return found


@pytest.mark.parametrize("halo_px", [0, 20])
def test_every_tile_has_its_true_class(
    slide_path: Path, scene: Scene, tmp_path: Path, halo_px: int
) -> None:
    model = PerfectTileModel(scene, spec=_spec(scene, halo_px=halo_px))
    result = run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    truth = _truth(scene)
    names = [item.name for item in scene.classes]
    expected = {
        (core.x0, core.y0, core.x1, core.y1): {names[row.argmax()]: row.max()}
        for core, row in zip(_cores(scene.size), truth, strict=True)
    }
    assert _by_place(result) == expected
    assert len({next(iter(each)) for each in expected.values()}) == 2
    shares = result.objects[[f"probability_{name}" for name in names]].to_numpy()
    assert sorted(shares.tolist()) == sorted(truth.tolist())
    # Every tile was asked for once.
    assert set(model.calls.values()) == {1}
    assert len(model.calls) == len(truth)


def test_a_tile_has_each_class_above_the_threshold(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    result = _run(slide_path, scene, tmp_path, overlapping=True)
    names = [item.name for item in scene.classes]
    truth = _truth(scene, overlapping=True)
    expected = {
        (core.x0, core.y0, core.x1, core.y1): {
            name: each for name, each in zip(names, row, strict=True) if each > 0.12
        }
        for core, row in zip(_cores(scene.size), truth, strict=True)
    }
    assert {len(each) for each in expected.values()} == {0, 1, 2}
    assert _by_place(result) == {place: each for place, each in expected.items() if each}
    assert result.record.counts == {
        name: sum(name in each for each in expected.values()) for name in names
    }
    shares = [score.share for score in result.record.slide_scores.values()]
    assert shares == pytest.approx((truth > 0.12).mean(axis=0), abs=1e-6)


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_heat_map_has_one_pixel_for_each_tile(
    slide_path: Path, scene: Scene, tmp_path: Path, *, overlapping: bool
) -> None:
    result = _run(slide_path, scene, tmp_path, overlapping=overlapping)
    rows, cols = -(-scene.size.height // CORE_PX), -(-scene.size.width // CORE_PX)
    truth = np.rint(255 * _truth(scene, overlapping=overlapping)).T.reshape(2, rows, cols)
    np.testing.assert_array_equal(result.probabilities.compute(), truth)
    with open_slide(tmp_path / PROBABILITIES_FOLDER) as image:
        assert image.channels == tuple(item.name for item in scene.classes)
        assert image.require_mpp() == pytest.approx(CORE_PX * scene.mpp)


def test_slide_scores_and_counts_follow_from_the_tiles(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    result = load_result(_run(slide_path, scene, tmp_path).folder)
    truth = _truth(scene).astype(float)
    top = -(-len(truth) // 20)
    areas = np.array([core.width * core.height for core in _cores(scene.size)]) * scene.mpp**2
    for number, item in enumerate(scene.classes):
        ranked = np.sort(truth[:, number])[::-1]
        has = truth.argmax(axis=1) == number
        score = result.record.slide_scores[item.name]
        assert score.mean == pytest.approx(ranked.mean(), abs=1e-6)
        assert score.top_mean == pytest.approx(ranked[:top].mean(), abs=1e-6)
        assert score.maximum == pytest.approx(ranked[0], abs=1e-6)
        assert score.share == pytest.approx(has.mean(), abs=1e-6)
        (row,) = result.counts[result.counts["class"] == item.name].to_dict("records")
        assert row["count"] == has.sum() == result.record.counts[item.name]
        assert row["area_um2"] == pytest.approx(areas[has].sum())
        assert row["area_percent"] == pytest.approx(100 * areas[has].sum() / areas.sum())
    assert result.counts["area_percent"].sum() == pytest.approx(100)


def test_only_tissue_counts(tmp_path: Path) -> None:
    pixels = np.full((600, 600, 3), 245, np.uint8)
    pixels[100:300, 100:300] = (190, 80, 160)
    write_slide(tmp_path / "spot.tif", pixels, mpp=0.5)
    out = tmp_path / "out"
    result = run_slide(tmp_path / "spot.tif", _Red(), out=out, config=RunConfig())
    predicted = result.record.qa.tiles_predicted
    assert 0 < predicted < result.record.qa.tiles
    assert len(result.objects) == sum(result.record.counts.values()) == predicted
    heat_map = result.probabilities.compute()
    assert (heat_map.sum(axis=0) > 0).sum() == predicted
    assert result.counts["area_percent"].sum() == pytest.approx(100)


def test_rois_hold_the_tiles_whose_centres_they_hold(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    areas = {"left": shapely.box(10, 10, 500, 700), "both": shapely.Point(520, 500).buffer(200)}
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": orjson.loads(shapely.to_geojson(area)),
        }
        for name, area in areas.items()
    ]
    roi = tmp_path / "rois.geojson"
    roi.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
    result = _run(slide_path, scene, tmp_path / "out", roi=roi)
    truth, cores = _truth(scene).argmax(axis=1), _cores(scene.size)
    any_held = np.zeros(len(cores), np.bool_)
    for name, area in areas.items():
        held = [area.contains(shapely.Point((c.x0 + c.x1) / 2, (c.y0 + c.y1) / 2)) for c in cores]
        any_held |= np.array(held)
        rows = result.counts[result.counts["roi"] == name]
        assert rows["count"].tolist() == np.bincount(truth[held], minlength=2).tolist()
        assert rows["area_percent"].sum() == pytest.approx(100)
    assert len(result.objects) == result.record.qa.tiles_predicted == any_held.sum()
    share = result.record.slide_scores[scene.classes[1].name].share
    assert share == pytest.approx(truth[any_held].mean(), abs=1e-6)
    assert result.objects["at_roi_border"].any()


def test_a_slide_without_tiles_has_a_whole_result(tmp_path: Path) -> None:
    write_slide(tmp_path / "glass.tif", np.full((300, 400, 3), 245, np.uint8), mpp=0.5)
    out = tmp_path / "out"
    result = run_slide(tmp_path / "glass.tif", _Red(), out=out, config=RunConfig())
    assert result.record.slide_scores == {}
    assert result.record.counts == {"red": 0, "other": 0}
    assert len(result.objects) == 0
    assert not result.probabilities.compute().any()
    assert validate_geojson(out / "objects.geojson").features == 0
    assert "No tile was predicted" in (out / "report.html").read_text("utf-8")


def test_qupath_gets_tiles_however_many(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    spec = perfect_spec(scene, task="classification", tile_px=24, halo_px=0)
    model = PerfectTileModel(scene, spec=spec)
    result = run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    summary = validate_geojson(tmp_path / "objects.geojson")
    assert summary.features == len(result.objects) > 1000
    features = orjson.loads((tmp_path / "objects.geojson").read_bytes())["features"]
    assert {feature["properties"]["objectType"] for feature in features} == {"tile"}
    measured = features[0]["properties"]["measurements"]
    assert {"Probability nucleus", "Probability gland", "Score"} <= set(measured)


def test_the_page_shows_the_slide_scores(slide_path: Path, scene: Scene, tmp_path: Path) -> None:
    result = _run(slide_path, scene, tmp_path, overlapping=True)
    page = read_html((tmp_path / "report.html").read_text("utf-8"))
    shown = {
        item.attributes["data-source"]: float(item.attributes["value"])
        for item in page.all("data")
        if item.attributes["data-source"].startswith("slide_scores.")
    }
    assert shown == {
        f"slide_scores.{name}.{figure}": value
        for name, score in result.record.slide_scores.items()
        for figure, value in score.model_dump().items()
    }
    text = page.one("main").text
    assert "every class whose probability is above 0.12" in text
    assert "Conflicts" not in text
    for link in page.all("a"):
        assert (tmp_path / link.attributes["href"]).exists()
    assert PROBABILITIES_FOLDER in text


def test_the_picture_is_tinted_where_tiles_are(tmp_path: Path) -> None:
    pixels = np.full((512, 512, 3), 255, np.uint8)
    pixels[:256] = (255, 0, 0)
    write_slide(tmp_path / "half.tif", pixels, mpp=0.5)
    out = tmp_path / "out"
    config = RunConfig(tissue=False)
    run_slide(tmp_path / "half.tif", _Red(), out=out, config=config)
    with Image.open(out / "overlay.png") as picture:
        drawn = np.asarray(picture.convert("RGB"), int)
    # Half of the way to the colours of the classes, green and blue.
    np.testing.assert_allclose(drawn[40, 40], [128, 100, 0], atol=3)
    np.testing.assert_allclose(drawn[400, 40], [128, 128, 228], atol=3)


def test_a_finished_result_is_kept_and_a_lost_heat_map_made_again(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = PerfectTileModel(scene, spec=_spec(scene))
    run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    calls = model.calls.total()
    run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    assert model.calls.total() == calls
    (tmp_path / PROBABILITIES_FOLDER / "zarr.json").unlink()
    (tmp_path / PROBABILITIES_FOLDER).rename(tmp_path / "lost")
    again = run_slide(slide_path, model, out=tmp_path, config=WHOLE)
    assert model.calls.total() == 2 * calls
    assert again.probabilities.compute().any()


def test_pixels_reach_the_model_tile_by_tile(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (170, 230, 3), np.uint8)
    write_slide(tmp_path / "noise.tif", pixels, mpp=0.5)
    out = tmp_path / "out"
    result = run_slide(tmp_path / "noise.tif", _Red(), out=out, config=WHOLE)
    with open_slide(tmp_path / "noise.tif") as slide:
        whole = slide.read_at_mpp(Box(x0=0, y0=0, x1=256, y1=192), mpp=0.5)
    for y in range(0, 170, 64):
        for x in range(0, 230, 64):
            redness = _redness(whole[y : y + 64, x : x + 64])
            assert result.probabilities[0, y // 64, x // 64].compute() == np.rint(255 * redness)


def _redness(tile: NDArray[np.uint8]) -> np.float32:
    values = tile.astype(np.float32) / 255
    return np.float32(np.clip(values[..., 0].mean() - values[..., 1:].mean(), 0, 1))


class _Red:
    """Tells red tiles from others by their mean colour."""

    spec = ModelSpec(
        name="red",
        task="classification",
        architecture=None,
        classes=(
            ModelClass(name="red", color=(0, 200, 0)),
            ModelClass(name="other", color=(0, 0, 200)),
        ),
        mpp=0.5,
        tile_px=64,
        halo_px=0,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        licence="none",
        training_data="none",
    )

    def predict(self, batch: TileBatch) -> NDArray[np.float32]:
        red = np.array([_redness(tile) for tile in batch.pixels], np.float32)
        return np.stack([red, 1 - red], axis=-1).reshape(-1, 1, 1, 2)
