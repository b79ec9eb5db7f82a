"""Write a model as one file that other programs run: TorchScript or ONNX."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from slideloom.errors import OutputError, SettingsError
from slideloom.models.catalog import SPEC_FILE, model_folder, read_spec
from slideloom.models.detectors import is_detector
from slideloom.models.heads import head_of
from slideloom.models.padding import STRIDE_PX
from slideloom.models.spec import ModelSpec
from slideloom.models.weights import read_network

__all__ = ["ExportFormat", "export_model"]

ExportFormat = Literal["torchscript", "onnx"]
Runner = Callable[[Tensor], Tensor]

TOLERANCE = 1e-3
"""Activated maps of the file and of the network may differ by this; most differ by 1e-6."""

OPSET = 18
"""Version of ONNX' operators: onnxruntime 1.14 and later know it."""

_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_INPUT, _OUTPUT = "rgb", "maps"


def export_model(folder: Path | str, out: Path, *, format: ExportFormat) -> Path:
    """Export a model's network, with all that stands before and behind it.

    The file's graph takes `rgb`, float32 `(n, 3, y, x)` of 0 to 255, and gives `maps`, float32
    `(n, c, y, x)`, as `TileModel.predict` gives them but with the channels first (`(n, c, 1, 1)`
    for classification). Normalisation, padding to what the encoder halves, and the activation are
    inside. `n` is free; so are `y` and `x`, unless the network cannot do that (or ONNX cannot say
    it, as of the pooling of PSPNet and UPerNet and of transformers' position embeddings): then
    both are the model's tile, rounded up to a multiple of 32.

    What the file answers is compared with the network before it is put in its place. `model.json`
    travels inside: in TorchScript as the extra file of that name, in ONNX as metadata.

    Args:
        folder: What `load_model` takes.
        out: File to write; one that stands there is replaced.
        format: `torchscript`, which `torch.jit.load` reads, or `onnx`.

    Returns:
        `out`.

    Raises:
        ModelNotFoundError: There is no such model.
        ModelFolderError: The folder is incomplete or damaged.
        SettingsError: The format is unknown, its packages are not installed, or the model cannot
            be exported.
        OutputError: The file cannot be written.
    """
    if format not in _WRITERS:
        msg = f"there is no export format {format!r}: choose one of {', '.join(_WRITERS)}"
        raise SettingsError(msg)
    if format == "onnx":
        _check_packages()
    source = model_folder(folder)
    spec = read_spec(source)
    if is_detector(spec):
        msg = (
            f"model {spec.name!r} is a detector, whose boxes are no maps: export one whose decode "
            "reads maps, such as 'centres' or 'distance'"
        )
        raise SettingsError(msg)
    network = _Portable(read_network(spec, source), spec).eval().requires_grad_(False)
    try:
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as work:
            path = Path(work) / out.name
            _WRITERS[format](network, path)
            path.replace(out)
    except OSError as error:
        msg = f"{str(out)!r} cannot be written ({error}): choose another file"
        raise OutputError(msg) from error
    return out


def _check_packages() -> None:
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        msg = (
            f"export to ONNX needs {', '.join(missing)}, which is not installed: "
            "pip install 'slideloom[onnx]'"
        )
        raise SettingsError(msg)


class _Portable(nn.Module):
    """A network that takes RGB of 0 to 255 of any size and gives activated maps."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self._head = head_of(spec)
        norm = spec.normalisation
        self.register_buffer("mean", 255 * torch.tensor(norm.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(norm.std).view(1, 3, 1, 1))

    def forward(self, rgb: Tensor) -> Tensor:
        """`(n, 3, y, x)` to `(n, c, y, x)`."""
        pixels = (rgb - self.get_buffer("mean")) / self.get_buffer("std")
        height, width = pixels.shape[-2:]
        # Without a question of whether to pad: tracing would write down the answer for one size.
        below, right = -height % STRIDE_PX, -width % STRIDE_PX
        padded = functional.pad(pixels, (0, right, 0, below), mode="replicate")
        return self._head.activate(self.network(padded)[..., :height, :width], self.spec)

    @property
    def tile(self) -> Tensor:
        """Two tiles of noise, of the size that the network was made for."""
        side = -(-self.spec.tile_px // STRIDE_PX) * STRIDE_PX
        return _noise(2, height=side, width=side)

    @property
    def other(self) -> Tensor:
        """Three tiles of another size, no multiple of anything."""
        return _noise(3, height=self.spec.tile_px + 21, width=self.spec.tile_px + 43)


def _noise(count: int, *, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 255 * torch.rand(count, 3, height, width, generator=generator)


class _OneSize(nn.Module):
    """A traced network that is right for one size of tile only, and says so."""

    def __init__(self, traced: nn.Module, side_px: int) -> None:
        super().__init__()
        self.traced = traced
        self.side_px = side_px

    def forward(self, rgb: Tensor) -> Tensor:
        """As the traced network."""
        if rgb.shape[2] != self.side_px or rgb.shape[3] != self.side_px:
            raise ValueError("this network takes tiles of one size: see tile_px in its model.json")
        return self.traced(rgb)  # type: ignore[no-any-return]


def _write_torchscript(network: _Portable, path: Path) -> None:
    tile = network.tile
    with _quiet():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            network, tile, check_trace=False
        )
        if not _agree(network, traced, pixels=network.other):
            traced = torch.jit.script(_OneSize(traced, tile.shape[-1]))
        torch.jit.save(traced, path, _extra_files={SPEC_FILE: network.spec.model_dump_json()})
        loaded = torch.jit.load(path)  # type: ignore[no-untyped-call]
    _require(network, loaded)


def _write_onnx(network: _Portable, path: Path) -> None:
    if not _write_free_onnx(network, path):
        with _quiet():
            torch.onnx.export(
                network,
                (network.tile,),
                path,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                external_data=False,
                verbose=False,
            )
    _require(network, _onnx_runner(path))
    _add_metadata(path, network.spec)


def _write_free_onnx(network: _Portable, path: Path) -> bool:
    """Write the network for all sizes of tile; whether that can be done.

    Only the exporter that traces does it for most architectures: with free sizes the one through
    `torch.export` fails or goes wrong for a third of them, and it takes ten times as long.
    """
    axes = {0: "n", 2: "y", 3: "x"}
    try:
        with _quiet():
            torch.onnx.export(
                network,
                (network.tile,),
                path,
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={_INPUT: axes, _OUTPUT: axes},
            )
    except torch.onnx.OnnxExporterError:
        return False
    return _agree(network, _onnx_runner(path), pixels=network.other)


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime  # type: ignore[import-untyped]
    from onnxruntime.capi import (  # type: ignore[import-untyped]
        onnxruntime_pybind11_state as errors,
    )

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(rgb: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {_INPUT: rgb.numpy()})[0])
        except (errors.Fail, errors.InvalidArgument, errors.RuntimeException) as error:
            raise RuntimeError(str(error)) from error

    return run


def _add_metadata(path: Path, spec: ModelSpec) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {SPEC_FILE: spec.model_dump_json()})
    onnx.save(model, path)


def _agree(network: _Portable, exported: Runner, *, pixels: Tensor) -> bool:
    try:
        with torch.inference_mode():
            wanted, found = network(pixels), exported(pixels)
    # What timm's transformers, torch and onnxruntime say of a size that they do not take.
    except (AssertionError, RuntimeError, ValueError):
        return False
    return found.shape == wanted.shape and torch.allclose(found, wanted, atol=TOLERANCE, rtol=0)


def _require(network: _Portable, exported: Runner) -> None:
    if not _agree(network, exported, pixels=network.tile[:1]):
        msg = (
            f"model {network.spec.name!r} gives other maps from the exported file than from its "
            "folder: choose another format"
        )
        raise SettingsError(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say, whose C++ prints whole graphs: the result is looked at."""
    sys.stdout.flush()
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        stdout = os.dup(1)
        try:
            os.dup2(nowhere.fileno(), 1)
            yield
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)


_WRITERS: dict[ExportFormat, Callable[[_Portable, Path], None]] = {
    "torchscript": _write_torchscript,
    "onnx": _write_onnx,
}
