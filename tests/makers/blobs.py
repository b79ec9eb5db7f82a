"""Tiles with dark round and pale square blobs: what a tiny detector learns in a minute."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideloom.models.detectors import build_detector, detector_losses
from slideloom.models.spec import (
    Architecture,
    Decode,
    ModelClass,
    ModelSpec,
    Normalisation,
    Task,
)
from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth

BACKGROUND = (235, 225, 235)
COLORS = ((70, 40, 140), (230, 120, 130))
_RATE = 1e-3


def blob_tile(seed: int, *, size_px: int = 96, most: int = 4, margin_px: int = 0) -> TrainingTile:
    """Up to `most` blobs that do not touch: class 0 is a violet disc, class 1 a pink square.

    They have 15 to 25 px. Some sides of a margin are black, as what lies outside a
    slide can be.
    """
    rng = np.random.default_rng(seed)
    shade = rng.normal(0, 6, (size_px, size_px, 3))
    pixels = np.clip(np.array(BACKGROUND) + shade, 0, 255).astype(np.uint8)
    if margin_px:
        for turns in np.flatnonzero(np.random.default_rng(seed).random(4) < 0.5):
            np.rot90(pixels, int(turns))[:margin_px] = 0
    instances = np.zeros((size_px, size_px), np.int32)
    boxes: list[tuple[float, float, float, float]] = []
    classes: list[int] = []
    for _ in range(int(rng.integers(min(1, most), most + 1))):
        radius = int(rng.integers(7, 13))
        x, y = rng.integers(margin_px + radius, size_px - margin_px - radius, 2).tolist()
        kind = int(rng.integers(2))
        inside = _blob(kind, x, y, radius=radius, size_px=size_px)
        if (instances[_blob(1, x, y, radius=radius + 3, size_px=size_px)] != 0).any():
            continue
        boxes.append((x - radius, y - radius, x + radius + 1, y + radius + 1))
        classes.append(kind)
        instances[inside] = len(boxes)
        pixels[inside] = np.clip(COLORS[kind] + shade[inside], 0, 255)
    return TrainingTile(pixels=pixels, truth=_truth(instances, boxes, classes))


def _blob(kind: int, x: int, y: int, *, radius: int, size_px: int) -> NDArray[np.bool_]:
    down, right = np.indices((size_px, size_px))
    if kind == 0:
        return np.hypot(right - x, down - y) <= radius
    return np.maximum(np.abs(right - x), np.abs(down - y)) <= radius


def _truth(
    instances: NDArray[np.int32],
    boxes: list[tuple[float, float, float, float]],
    classes: list[int],
) -> TileTruth:
    class_id = np.array(classes, np.int16)
    owner = np.concatenate([[-1], class_id])[instances]
    masks = np.stack([owner == 0, owner == 1])
    return TileTruth(
        masks=masks,
        instances=instances,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_id=class_id,
        labels=np.array([masks[0].any(), masks[1].any()]),
        known=np.ones(instances.shape, np.bool_),
    )


def blob_spec(name: str, arguments: Mapping[str, Any], *, tile_px: int) -> ModelSpec:
    """A small detector for both classes."""
    task: Task = "instance" if name == "MaskRCNN" else "detection"
    return ModelSpec(
        name="blobs",
        task=task,
        architecture=Architecture(
            name=name, encoder="tu-resnet10t", arguments={"fpn_channels": 64, **arguments}
        ),
        classes=(
            ModelClass(name="disc", color=(70, 40, 140)),
            ModelClass(name="square", color=(230, 120, 130)),
        ),
        mpp=0.5,
        tile_px=tile_px,
        halo_px=tile_px // 4,
        normalisation=Normalisation(mean=(0.8, 0.7, 0.8), std=(0.25, 0.25, 0.25)),
        decode=Decode(name="labels" if task == "instance" else "boxes"),
        licence="CC0",
        training_data="generated",
    )


def blob_batch(spec: ModelSpec, seeds: Iterable[int]) -> tuple[Tensor, list[TileTruth]]:
    """Normalised pixels `(n, 3, y, x)`, and what they show."""
    # Some tiles are empty, and some lie at the slide's edge.
    tiles = [
        blob_tile(
            seed,
            size_px=spec.tile_px,
            most=4 if seed % 5 else 0,
            margin_px=seed % 2 * (seed % 18),
        )
        for seed in seeds
    ]
    norm = spec.normalisation
    pixels = np.stack([tile.pixels for tile in tiles]) / 255
    scaled = ((pixels - norm.mean) / norm.std).astype(np.float32)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2), [tile.truth for tile in tiles]


def learn_blobs(spec: ModelSpec, *, steps: int) -> tuple[nn.Module, list[float]]:
    """A detector after some steps on four tiles each, and its loss at each step."""
    torch.manual_seed(0)
    network = build_detector(spec).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    history = []
    for step in range(steps):
        pixels, truths = blob_batch(spec, range(4 * step, 4 * step + 4))
        loss = torch.stack(list(detector_losses(network, pixels, truths=truths).values())).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        history.append(loss.item())
    return network.eval(), history
