from pathlib import Path

import pytest

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.testing import PerfectTileModel, Scene, make_slide, perfect_spec
from slideloom.workflows.config import RunConfig
from slideloom.workflows.export import EXPORTERS, check_formats
from slideloom.workflows.output_size import OUTLINE_BYTES, SIMPLE_BYTES, estimate_output_bytes
from slideloom.workflows.plan import plan_run
from slideloom.workflows.result import LABELS_FOLDER
from slideloom.workflows.run import run_slide
from slideloom.wsi import Size, open_slide

PAGES = 5_000_000
CONFIG = RunConfig(tissue=False, workers=1)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slides") / "made.tif"


@pytest.fixture(scope="module")
def scene(slide: Path) -> Scene:
    return make_slide(slide, size=Size(width=1000, height=800), mpp=0.5, seed=5)


def estimate(slide: Path, spec: ModelSpec, *formats: str, config: RunConfig = CONFIG) -> int:
    with open_slide(slide) as opened:
        return estimate_output_bytes(plan_run(opened, spec, config=config), formats=formats)


def test_every_format_has_its_figures() -> None:
    assert set(OUTLINE_BYTES) == set(EXPORTERS)
    simple = {
        name
        for name, item in EXPORTERS.items()
        if "detection" in getattr(item, "tasks", ("detection",))
    }
    assert set(SIMPLE_BYTES) == simple


@pytest.mark.parametrize("task", ["instance", "detection"])
def test_a_real_result_is_near_the_estimate(
    slide: Path, scene: Scene, tmp_path: Path, task: str
) -> None:
    spec = perfect_spec(
        scene, task="instance" if task == "instance" else "detection", tile_px=256, halo_px=32
    )
    formats = [name for name in EXPORTERS if is_possible(name, spec)]
    config = CONFIG.model_copy(update={"formats": tuple(formats)})
    run_slide(slide, PerfectTileModel(scene, spec=spec), out=tmp_path, config=config)
    table = estimate(slide, spec) - PAGES
    for name in formats:
        item = tmp_path / EXPORTERS[name].file_name
        expected = estimate(slide, spec, name) - PAGES - (0 if name == "parquet" else table)
        if name == "parquet":
            expected = table
            labels = tmp_path / LABELS_FOLDER
            assert 0.4 < (size_of(item) + size_of(labels)) / expected < 2.5, name
        else:
            assert 0.4 < size_of(item) / expected < 2.5, name


def is_possible(name: str, spec: ModelSpec) -> bool:
    try:
        check_formats([name], task=spec.task)
    except SettingsError:
        return False
    return True


def size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_what_makes_a_result_larger(slide: Path, scene: Scene) -> None:
    spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    plain = estimate(slide, spec, "geojson")
    measured = CONFIG.model_copy(update={"stains": True})
    assert plain < estimate(slide, spec, "geojson", config=measured) < 2 * plain
    assert estimate(slide, spec, "geojson", "spatialdata") > plain + 40_000_000
    masks = perfect_spec(scene, task="semantic", tile_px=256, halo_px=32)
    kept = CONFIG.model_copy(update={"probabilities": True})
    more = estimate(slide, masks, config=kept) - estimate(slide, masks)
    assert more == pytest.approx(1000 * 800 * len(masks.classes) * 4 / 3, abs=1)


def test_tiles_of_a_classifier_are_counted(slide: Path, scene: Scene) -> None:
    spec = perfect_spec(scene, task="classification", tile_px=200, halo_px=0)
    assert estimate(slide, spec, "csv") == PAGES + 20 * (95 + 90)
