"""Stain densities in a result, against the pixels of the whole slide at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.postprocess.measure.intensity import stain_densities
from slideloom.postprocess.measure.stain_vectors import STANDARD, StainBasis
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows import found as found_module
from slideloom.workflows import stains as stains_module
from slideloom.workflows.cli import run_command
from slideloom.workflows.config import RunConfig
from slideloom.workflows.result import SlideResult
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, open_slide

CONFIG = RunConfig(tissue=False, stains=True, formats=("geojson",))
ROOM_PX = 8
Measure = Callable[[NDArray[np.float64]], float]
STATISTICS: dict[str, Measure] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}


def _run(
    slide_path: Path, scene: Scene, out: Path, *, config: RunConfig, tile_px: int = 512
) -> SlideResult:
    spec = perfect_spec(scene, task="instance", tile_px=tile_px, halo_px=32)
    return run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=out, config=config)


def _densities(slide_path: Path, basis: StainBasis = STANDARD) -> NDArray[np.float32]:
    with open_slide(slide_path) as slide:
        return stain_densities(slide.read(Box.of_size(slide.size)), basis=basis)


def _basis(result: SlideResult) -> StainBasis:
    """From what `result.json` says."""
    record = result.record.stain_vectors
    assert record is not None
    vectors = [record.vectors[name] for name in record.vectors if name != "residual"]
    names = [name for name in record.vectors if name != "residual"]
    return StainBasis.of(names, vectors, background=record.background)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """Pixels of a window of the slide: quicker than a mask of the whole for each object."""

    window: tuple[slice, slice]
    mask: NDArray[np.bool_]


def _own(labels: NDArray[np.int64]) -> list[Pixels]:
    """The pixels of labels 1 to the highest, each in a window that has room for its ring."""
    found = []
    for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
        window = (
            slice(max(0, rows.start - ROOM_PX), rows.stop + ROOM_PX),
            slice(max(0, cols.start - ROOM_PX), cols.stop + ROOM_PX),
        )
        found.append(Pixels(window=window, mask=labels[window] == number))
    return found


def _ring(own: Pixels, occupied: NDArray[np.bool_], *, ring_px: float) -> Pixels:
    near = ndimage.distance_transform_edt(~own.mask) <= ring_px + 1e-6
    return replace(own, mask=near & ~occupied[own.window])


def _assert_columns(
    result: SlideResult, pixels: list[Pixels], *, where: str, basis: StainBasis = STANDARD
) -> None:
    densities = _densities(Path(result.record.slide.path), basis)
    for channel, stain in enumerate(basis.names):
        plane = densities[..., channel].astype(np.float64)
        for name, measure in STATISTICS.items():
            expected = [
                measure(plane[item.window][item.mask]) if item.mask.any() else np.nan
                for item in pixels
            ]
            column = result.objects[f"{stain}_{where}_{name}"]
            np.testing.assert_allclose(column, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cell_px", [100, 1024])
def test_densities_are_those_of_the_objects_pixels(
    slide_path: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cell_px: int
) -> None:
    monkeypatch.setattr(stains_module, "_CELL_PX", cell_px)
    result = _run(slide_path, scene, tmp_path, config=CONFIG, tile_px=256)
    _assert_columns(result, _own(result.mask.compute()), where="od")
    assert (result.objects["haematoxylin_od_mean"] > 0).all()
    assert _basis(result).names == STANDARD.names
    assert not [name for name in result.objects if "ring" in name]


def test_rings_are_free_of_every_object_however_the_run_is_cut(
    slide_path: Path, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"ring_um": 2.5})
    whole = _run(slide_path, scene, tmp_path / "whole", config=config)
    labels = whole.mask.compute()
    rings = [_ring(own, labels != 0, ring_px=5.0) for own in _own(labels)]
    _assert_columns(whole, rings, where="ring_od")
    columns = [name for name in whole.objects if "_od_" in name]
    assert len(columns) == 24
    monkeypatch.setattr(found_module, "OBJECTS_PER_PART", 60)
    cut = config.model_copy(update={"region_px": 400, "workers": 3})
    parts = _run(slide_path, scene, tmp_path / "parts", config=cut, tile_px=256)
    assert parts.objects.geometry.equals(whole.objects.geometry)
    np.testing.assert_array_equal(parts.objects[columns], whole.objects[columns])
    monkeypatch.setattr(stains_module, "_CELL_PX", 310)
    cells = _run(slide_path, scene, tmp_path / "cells", config=config)
    np.testing.assert_allclose(cells.objects[columns], whole.objects[columns], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("overlapping", [False, True])
def test_rings_of_areas_are_free_of_the_classes_that_exclude_theirs(
    slide_path: Path, scene: Scene, tmp_path: Path, *, overlapping: bool
) -> None:
    spec = perfect_spec(scene, task="semantic", tile_px=512, halo_px=32, overlapping=overlapping)
    config = CONFIG.model_copy(update={"ring_um": 0.1})
    model = PerfectTileModel(scene, spec=spec)
    result = run_slide(slide_path, model, out=tmp_path, config=config)
    points = result.objects.representative_point()
    number_of = {item.name: number for number, item in enumerate(spec.classes)}
    layers = [mask.compute() for mask in result.masks.values()]
    owns = [
        _own(ndimage.label(layers[number] if overlapping else layers[0] == number + 1)[0])
        for number in range(len(layers) if overlapping else len(spec.classes))
    ]
    rings = []
    for point, name in zip(points, result.objects["class"], strict=True):
        y, x, number = int(point.y), int(point.x), number_of[name]
        (own,) = (own for own in owns[number] if _holds(own, y, x))
        layer = layers[number if overlapping else 0]
        rings.append(_ring(own, layer != 0, ring_px=1.0))
    assert len(rings) > 100
    _assert_columns(result, rings, where="ring_od")


def _holds(own: Pixels, y: int, x: int) -> bool:
    rows, cols = own.window
    inside = rows.start <= y < rows.stop and cols.start <= x < cols.stop
    height, width = own.mask.shape
    y, x = y - rows.start, x - cols.start
    return bool(inside and y < height and x < width and own.mask[y, x])


def test_vectors_of_a_file_are_used_and_stated(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "stains.json"
    content = {
        "haematoxylin": [1.30, 1.40, 0.58],
        "eosin": [0.2, 0.9, 0.3],
        "background": [245, 243.5, 250],
    }
    path.write_bytes(orjson.dumps(content))
    config = CONFIG.model_copy(update={"stain_vectors": path})
    result = _run(slide_path, scene, tmp_path / "out", config=config)
    vectors = [content["haematoxylin"], content["eosin"]]
    basis = StainBasis.of(("haematoxylin", "eosin"), vectors, background=content["background"])
    found = _basis(result)
    assert (found.names, found.background) == (basis.names, basis.background)
    np.testing.assert_allclose(found.vectors, basis.vectors)
    _assert_columns(result, _own(result.mask.compute()), where="od", basis=basis)
    assert not [name for name in result.objects if name.startswith("dab")]
    # The same name with other vectors in it is another run.
    path.write_bytes(orjson.dumps(content | {"eosin": [0.07, 0.99, 0.11]}))
    again = _run(slide_path, scene, tmp_path / "out", config=config)
    assert _basis(again).vectors[1] != basis.vectors[1]
    assert (again.objects["eosin_od_mean"] != result.objects["eosin_od_mean"]).any()


def test_estimated_vectors_fit_the_slide_and_no_tiles(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"stain_vectors": "estimated", "ring_um": 2.0})
    result = _run(slide_path, scene, tmp_path / "one", config=config)
    record = result.record.stain_vectors
    assert record is not None
    assert record.estimated
    assert list(record.vectors) == ["haematoxylin", "eosin", "residual"]
    objects = result.objects
    assert (objects["haematoxylin_od_mean"] > objects["haematoxylin_ring_od_mean"]).mean() > 0.95
    cut = config.model_copy(update={"region_px": 300, "workers": 1})
    again = _run(slide_path, scene, tmp_path / "two", config=cut, tile_px=256)
    assert again.record.stain_vectors == record


def test_a_result_without_stains_is_not_taken_for_one_with_them(
    slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    plain = _run(slide_path, scene, tmp_path, config=RunConfig(tissue=False))
    assert "eosin_od_mean" not in plain.objects
    assert plain.record.stain_vectors is None
    stained = _run(slide_path, scene, tmp_path, config=CONFIG)
    assert "eosin_od_mean" in stained.objects
    assert plain.objects["id"].tolist() == stained.objects["id"].tolist()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"stains": False, "ring_um": 2.0}, "--ring measures stains around objects: add --stains"),
        ({"stains": False, "stain_vectors": "estimated"}, "add --stains"),
        ({"stain_vectors": Path("nowhere.json")}, "cannot be read from 'nowhere.json'"),
    ],
)
def test_stain_settings_without_sense_are_refused(
    slide_path: Path, scene: Scene, tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        _run(slide_path, scene, tmp_path, config=CONFIG.model_copy(update=changed))


@pytest.mark.parametrize("changed", [{"stains": True}, {"ring_um": 2.0}])
def test_detections_have_no_stains(
    slide_path: Path, scene: Scene, tmp_path: Path, changed: dict[str, object]
) -> None:
    spec = perfect_spec(scene, task="detection", tile_px=512, halo_px=64)
    config = RunConfig(tissue=False).model_copy(update=changed)
    with pytest.raises(SettingsError, match=r"boxes, which own no pixels .* leave out --"):
        run_slide(slide_path, PerfectTileModel(scene, spec=spec), out=tmp_path, config=config)


def test_settings_that_cannot_be_stop_the_command_before_any_slide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(tmp_path / "none.tif"), "--model", "nuclei", "--out", str(tmp_path / "out")]
    (tmp_path / "none.tif").write_bytes(b"no slide")
    assert run_command([*words, "--ring", "2"]) == 2
    assert "add --stains" in capsys.readouterr().err
