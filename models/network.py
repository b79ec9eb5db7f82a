"""A network as a tile model: uint8 tiles in, maps out."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideloom.models.detectors import is_detector
from slideloom.models.detectors_output import detect, no_detections
from slideloom.models.device import Precision, choose_device, choose_dtype
from slideloom.models.heads import head_of
from slideloom.models.padding import pad_to_stride
from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.models.weights import read_network

__all__ = ["NetworkModel"]


class NetworkModel:
    """A network that answers for one batch of tiles at a time.

    Statistics are fixed (evaluation mode): a tile's maps do not depend on the other tiles of its
    batch, but for the last bits. One instance may be shared by threads. It pickles; a model that
    came from a folder travels as the folder's path and is read again on the other side, where
    `device` is also chosen again.
    """

    def __init__(
        self,
        spec: ModelSpec,
        source: nn.Module | Path,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Wrap a module, or name the model folder from which to read it at first use.

        Args:
            spec: What the model is.
            source: The module (float32; it is moved to the device and set to evaluation), or the
                model folder.
            device: `auto`, `cpu` or `cuda:N`.
            precision: `auto`, `float32` or `bfloat16`, see `choose_dtype`.

        Raises:
            SettingsError: The device or the precision cannot be used, or the task has no head.
        """
        self._spec = spec
        self._source = source
        self._device_name = device
        self._precision: Precision = precision
        self._prepare()

    def _prepare(self) -> None:
        self._head = None if is_detector(self._spec) else head_of(self._spec)
        self._device = choose_device(self._device_name)
        self._dtype = choose_dtype(self._precision, self._device)
        self._lock = Lock()
        self._ready: nn.Module | None = None
        norm = self._spec.normalisation
        std = torch.tensor(norm.std).view(1, 3, 1, 1)
        mean = torch.tensor(norm.mean).view(1, 3, 1, 1)
        self._scale = (1 / (255 * std)).to(self._device)
        self._shift = (-mean / std).to(self._device)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to another process: no locks, no device memory."""
        return {
            "_spec": self._spec,
            "_source": self._source.cpu() if isinstance(self._source, nn.Module) else self._source,
            "_device_name": self._device_name,
            "_precision": self._precision,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Choose the device of this process; the weights are read at first use."""
        self.__dict__.update(state)
        self._prepare()

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._spec

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which its convolutions run."""
        return self._dtype

    def load(self) -> nn.Module:
        """The module on its device, in evaluation mode; read from its folder at the first call.

        Raises:
            ModelFolderError: The folder is incomplete or damaged.
        """
        with self._lock:
            if self._ready is None:
                source = self._source
                if isinstance(source, Path):
                    source = read_network(self._spec, source)
                module = source.eval().requires_grad_(False)
                self._ready = module.to(self._device).to(memory_format=torch.channels_last)
            return self._ready

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """What `TileModel` says of the task: maps as the head of the task gives them, or boxes.

        Tiles of any size are taken; an empty batch gives empty maps. Detectors run in float32.
        """
        count, height, width, _ = batch.pixels.shape
        if count == 0:
            return self._nothing(height, width)
        module = self.load()
        with torch.inference_mode():
            pixels = self._normalise(self._upload(batch.pixels))
            if self._head is None:
                return detect(module, pixels, spec=self._spec)
            with torch.autocast(
                self._device.type,
                dtype=self._dtype,
                enabled=self._dtype is not torch.float32,
            ):
                logits = module(pad_to_stride(pixels))
            maps = self._head.activate(logits[..., :height, :width].float(), self._spec)
            return maps.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _nothing(self, height: int, width: int) -> NDArray[Any]:
        if self._head is None:
            return no_detections(self._spec, height=height, width=width)
        if self._spec.task == "classification":
            height, width = 1, 1
        return np.zeros((0, height, width, self._head.out_channels(self._spec)), np.float32)

    def _upload(self, pixels: NDArray[np.uint8]) -> Tensor:
        # A read-only array (from a zarr cache, say) cannot be lent to torch.
        tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.permute(0, 3, 1, 2)

    def _normalise(self, pixels: Tensor) -> Tensor:
        return pixels.float().mul_(self._scale).add_(self._shift)
