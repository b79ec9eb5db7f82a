"""One architecture from its spec to a slide: build, train, save, load and run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.architectures_papers import example_of
from slideloom.models.architectures import ARCHITECTURES, CLASSIFIERS, build_network
from slideloom.models.detectors import DETECTORS
from slideloom.models.folder import load_model, save_model
from slideloom.models.network import NetworkModel
from slideloom.models.spec import (
    Architecture,
    Decode,
    ModelClass,
    ModelSpec,
    Normalisation,
    Task,
)
from slideloom.models.tile_model import TileBatch
from slideloom.models.training.objective import objective_of
from slideloom.models.truth import TileTruth
from slideloom.testing import Scene, make_scene, render_scene, write_slide
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide
from slideloom.wsi.geometry import Box, Size

__all__ = ["NAMES", "Tried", "spec_of", "try_architecture"]

NAMES = (*sorted(ARCHITECTURES), *sorted(CLASSIFIERS), *sorted(DETECTORS))
"""All architectures: for masks, for classification, for detection."""

MPP = 0.5
TILE_PX = 96
HALO_PX = 16
STEPS = 10
_SLIDE = Size(width=240, height=200)
_WHITE = 245


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of one architecture.

    Attributes:
        name: In its registry.
        task: What it was trained for.
        encoder: That it was built with.
        parameters: Of the whole network.
        loss_before: Before the first step of training.
        loss_after: After the last step.
        cpu_s: Processor seconds of all stages, whatever else the machine does.
    """

    name: str
    task: Task
    encoder: str
    parameters: int
    loss_before: float
    loss_after: float
    cpu_s: float


def spec_of(name: str) -> ModelSpec:
    """A small model of the architecture, for the task that its registry is for."""
    task: Task = "classification" if name in CLASSIFIERS else "semantic"
    decode = None
    if name in DETECTORS:
        task, decode = DETECTORS[name].task, Decode(name=DETECTORS[name].decode)
    names = ("tissue", "glass") if task == "classification" else ("object",)
    example = example_of(name)
    return ModelSpec(
        name=name.lower(),
        task=task,
        architecture=Architecture(
            name=name, encoder=example.encoder, arguments=dict(example.arguments or {})
        ),
        classes=tuple(ModelClass(name=item, color=(74, 58, 167)) for item in names),
        mpp=MPP,
        tile_px=TILE_PX,
        halo_px=0 if task == "classification" else HALO_PX,
        normalisation=Normalisation(mean=(0.7, 0.5, 0.6), std=(0.2, 0.2, 0.2)),
        decode=decode,
        licence="none",
        training_data="two generated tiles",
    )


def try_architecture(name: str, folder: Path) -> Tried:
    """Build an architecture, train it on two tiles, save it, load it and run it on a slide.

    Args:
        name: One of `NAMES`.
        folder: Gets the model, the slide and the result.

    Raises:
        RuntimeError: The loss is not finite or did not go down, or the loaded model answers
            otherwise than the trained one.
    """
    start = time.process_time()
    torch.manual_seed(1)
    spec = spec_of(name)
    scene = make_scene(size=_SLIDE, mpp=MPP, seed=3, nuclei_per_mm2=12_000)
    picture = render_scene(scene)
    network = build_network(spec)
    before, after = _train(network, spec, pixels=_tiles(picture), truths=_truths(scene, spec))
    if not (isfinite(after) and after < before):
        msg = f"{name}: the loss went from {before} to {after}"
        raise RuntimeError(msg)
    save_model(folder / "model", spec, module=network, card="")
    _compare(spec, network, folder=folder / "model")
    write_slide(folder / "slide.tif", picture, mpp=MPP)
    config = RunConfig(tissue=False, workers=1, device="cpu")
    run_slide(folder / "slide.tif", folder / "model", out=folder / "result", config=config)
    return Tried(
        name=name,
        task=spec.task,
        encoder=example_of(name).encoder,
        parameters=sum(value.numel() for value in network.parameters()),
        loss_before=before,
        loss_after=after,
        cpu_s=time.process_time() - start,
    )


def _tiles(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A tile of tissue and one of bare glass, `(2, y, x, 3)`."""
    tissue = picture[:TILE_PX, :TILE_PX]
    return np.stack([tissue, np.full_like(tissue, _WHITE)])


def _truths(scene: Scene, spec: ModelSpec) -> list[TileTruth]:
    labels = scene.labels[:TILE_PX, :TILE_PX]
    return [_truth(labels, spec, place=0), _truth(np.zeros_like(labels), spec, place=1)]


def _truth(labels: NDArray[np.int32], spec: ModelSpec, *, place: int) -> TileTruth:
    """What there is to know of the tile; `place` is its class where tiles have one."""
    ids = np.unique(labels[labels > 0])
    instances = np.searchsorted(ids, labels).astype(np.int32) + 1
    instances[labels == 0] = 0
    boxes = []
    for number in range(1, len(ids) + 1):
        rows, columns = np.nonzero(instances == number)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    count = len(spec.classes)
    return TileTruth(
        masks=np.repeat(labels[None] > 0, count, axis=0),
        instances=instances,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_id=np.zeros(len(ids), np.int16),
        labels=np.arange(count) == place,
        known=np.ones(labels.shape, np.bool_),
    )


def _train(
    network: nn.Module,
    spec: ModelSpec,
    *,
    pixels: NDArray[np.uint8],
    truths: list[TileTruth],
) -> tuple[float, float]:
    """The loss before and after some steps of Adam on one batch."""
    objective = objective_of(spec)
    encoded = objective.encode(truths)
    norm = spec.normalisation
    mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in (norm.mean, norm.std))
    batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(STEPS + 1):
        optimizer.zero_grad()
        loss = _sum(objective.losses(network, batch, encoded=encoded))
        losses.append(loss.item())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses[0], losses[-1]


def _sum(parts: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def _compare(spec: ModelSpec, network: nn.Module, *, folder: Path) -> None:
    """Hold the model that is loaded from a folder to the network that was saved there."""
    tiles = np.random.default_rng(5).integers(0, 256, (1, TILE_PX, TILE_PX, 3), np.uint8)
    batch = TileBatch(pixels=tiles, windows=(Box(x0=0, y0=0, x1=TILE_PX, y1=TILE_PX),))
    kept = NetworkModel(spec, network, device="cpu", precision="float32").predict(batch)
    loaded = load_model(folder, device="cpu", precision="float32").predict(batch)
    if kept.shape != loaded.shape or not np.allclose(kept, loaded, atol=1e-4):
        msg = f"{spec.name}: the loaded model answers otherwise than the one that was saved"
        raise RuntimeError(msg)
