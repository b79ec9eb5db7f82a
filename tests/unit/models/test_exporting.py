"""Exported files answer as the network of the folder does, in the runtimes of their formats."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from slideloom.errors import ModelNotFoundError, OutputError, SettingsError
from slideloom.models import exporting
from slideloom.models.architectures import build_network
from slideloom.models.exporting import ExportFormat, export_model
from slideloom.models.folder import load_model, save_model
from slideloom.models.spec import Architecture, Decode, ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.wsi.geometry import Box

FORMATS: tuple[ExportFormat, ...] = ("torchscript", "onnx")


def save(folder: Path, spec: ModelSpec) -> ModelSpec:
    torch.manual_seed(1)
    return save_model(folder, spec, module=build_network(spec), card="")


def of_task(spec: ModelSpec, task: str, architecture: Architecture) -> ModelSpec:
    fields = {"task": task, "decode": None, "architecture": architecture}
    return spec.model_copy(update=fields)


def tiles(count: int, height: int, width: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(3)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def wanted(folder: Path, pixels: NDArray[np.uint8]) -> NDArray[Any]:
    model = load_model(folder, device="cpu", precision="float32")
    windows = (Box(x0=0, y0=0, x1=1, y1=1),) * len(pixels)
    return model.predict(TileBatch(pixels=pixels, windows=windows))


def found(path: Path, pixels: NDArray[np.uint8], format: ExportFormat) -> NDArray[Any]:
    rgb = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    if format == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        maps = session.run(["maps"], {"rgb": rgb})[0]
    else:
        maps = loaded(path)(torch.from_numpy(rgb)).numpy()
    return np.asarray(maps.transpose(0, 2, 3, 1))


def loaded(path: Path, files: dict[str, Any] | None = None) -> nn.Module:
    with warnings.catch_warnings():
        # Newer versions of torch warn of what they still read.
        warnings.simplefilter("ignore")
        module: nn.Module = torch.jit.load(path, _extra_files=files)  # type: ignore[no-untyped-call]
    return module


@pytest.mark.parametrize("format", FORMATS)
def test_an_instance_model_for_tiles_of_any_size(
    format: ExportFormat, spec: ModelSpec, tmp_path: Path
) -> None:
    save(tmp_path / "model", spec)
    out = export_model(tmp_path / "model", tmp_path / "file", format=format)
    assert out == tmp_path / "file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model"]
    for pixels in (tiles(1, 64, 64), tiles(3, 33, 70)):
        maps = found(out, pixels, format)
        np.testing.assert_allclose(maps, wanted(tmp_path / "model", pixels), atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_a_classifier(format: ExportFormat, spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="Timm", encoder="resnet10t")
    save(tmp_path / "model", of_task(spec, "classification", architecture))
    out = export_model(tmp_path / "model", tmp_path / "file", format=format)
    pixels = tiles(2, 50, 64)
    maps = found(out, pixels, format)
    assert maps.shape == (2, 1, 1, 1)
    np.testing.assert_allclose(maps, wanted(tmp_path / "model", pixels), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SETRNaive", "SETRMLA", "PSPNet"])
def test_networks_that_onnx_takes_with_fixed_sides(
    name: str, spec: ModelSpec, tmp_path: Path
) -> None:
    encoder = "resnet18" if name == "PSPNet" else "test_vit"
    save(tmp_path / "model", of_task(spec, "semantic", Architecture(name=name, encoder=encoder)))
    out = export_model(tmp_path / "model", tmp_path / "file", format="onnx")
    sides = onnx.load(out).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [0, 3, 64, 64]
    for pixels in (tiles(1, 64, 64), tiles(3, 64, 64)):
        maps = found(out, pixels, "onnx")
        np.testing.assert_allclose(maps, wanted(tmp_path / "model", pixels), atol=1e-4)


def test_setr_as_torchscript(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="SETRNaive", encoder="test_vit")
    save(tmp_path / "model", of_task(spec, "semantic", architecture))
    out = export_model(tmp_path / "model", tmp_path / "file", format="torchscript")
    for pixels in (tiles(1, 64, 64), tiles(2, 40, 96)):
        maps = found(out, pixels, "torchscript")
        np.testing.assert_allclose(maps, wanted(tmp_path / "model", pixels), atol=1e-4)


def test_torchscript_of_a_network_for_one_size_refuses_others(
    spec: ModelSpec, tmp_path: Path
) -> None:
    architecture = Architecture(name="Timm", encoder="test_vit", arguments={"img_size": 64})
    save(tmp_path / "model", of_task(spec, "classification", architecture))
    out = export_model(tmp_path / "model", tmp_path / "file", format="torchscript")
    pixels = tiles(2, 64, 64)
    maps = found(out, pixels, "torchscript")
    np.testing.assert_allclose(maps, wanted(tmp_path / "model", pixels), atol=1e-4)
    with pytest.raises(torch.jit.Error, match="tiles of one size"):
        found(out, tiles(1, 64, 96), "torchscript")


def test_the_spec_travels_inside(spec: ModelSpec, tmp_path: Path) -> None:
    spec = save(tmp_path / "model", spec)
    path = export_model(tmp_path / "model", tmp_path / "file.onnx", format="onnx")
    properties = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert ModelSpec.model_validate_json(properties["model.json"]) == spec
    path = export_model(tmp_path / "model", tmp_path / "file.pt", format="torchscript")
    files: dict[str, Any] = {"model.json": ""}
    loaded(path, files)
    assert json.loads(files["model.json"])["name"] == spec.name


def test_a_file_that_answers_otherwise_is_not_written(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", spec)
    monkeypatch.setattr(exporting, "_agree", lambda *_arguments, **_named: False)
    with pytest.raises(SettingsError, match="'small' gives other maps"):
        export_model(tmp_path / "model", tmp_path / "file", format="torchscript")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_missing_packages_are_named(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", spec)
    monkeypatch.setattr(exporting, "_ONNX_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(SettingsError, match=r"needs no_such_package, .*slideloom\[onnx\]"):
        export_model(tmp_path / "model", tmp_path / "file", format="onnx")


def test_what_cannot_be_exported(spec: ModelSpec, tmp_path: Path) -> None:
    save(tmp_path / "model", spec)
    with pytest.raises(SettingsError, match="'tflite': choose one of torchscript, onnx"):
        export_model(tmp_path / "model", tmp_path / "file", format="tflite")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="cannot be written"):
        export_model(tmp_path / "model", tmp_path / "none" / "file", format="torchscript")
    with pytest.raises(ModelNotFoundError, match="other"):
        export_model(tmp_path / "other", tmp_path / "file", format="torchscript")


def test_detectors_are_refused(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="FCOS", encoder="tu-resnet10t")
    fields = {"task": "detection", "architecture": architecture, "decode": Decode(name="boxes")}
    detector = spec.model_copy(update=fields)
    (tmp_path / "model.json").write_text(detector.model_dump_json(), encoding="utf-8")
    with pytest.raises(SettingsError, match="'small' is a detector"):
        export_model(tmp_path, tmp_path / "file", format="torchscript")
