"""Tiles with discs: the simplest thing that a network can learn to find."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.models.training.source import TrainingTile
from slideloom.models.truth import TileTruth


@dataclass(frozen=True, kw_only=True)
class DiscTiles:
    """A `TileSource` of dark discs on light ground, other ones in each epoch."""

    tiles: int
    seed: int
    side_px: int = 64
    discs: int = 4

    def __len__(self) -> int:
        return self.tiles

    def read(self, number: int, *, epoch: int) -> TrainingTile:
        draw = np.random.default_rng([self.seed, epoch, number])
        radius = draw.uniform(4, 9, self.discs)
        centre = draw.uniform(9, self.side_px - 9, (self.discs, 2))
        return disc_tile(centre, radius, side_px=self.side_px, noise=draw)


def disc_tile(
    centre: NDArray[np.float64],
    radius: NDArray[np.float64],
    *,
    side_px: int,
    noise: np.random.Generator,
) -> TrainingTile:
    """Discs at `(n, 2)` centres `x, y`; later ones lie on top. They have one class."""
    y, x = np.mgrid[:side_px, :side_px] + 0.5
    instances = np.zeros((side_px, side_px), np.int32)
    for index, ((x0, y0), size) in enumerate(zip(centre, radius, strict=True)):
        instances[(x - x0) ** 2 + (y - y0) ** 2 < size**2] = index + 1
    inside = instances > 0
    colour = np.where(inside[..., None], (120, 60, 150), (230, 200, 220))
    pixels = colour + noise.normal(0, 8, (side_px, side_px, 3))
    boxes = np.concatenate([centre - radius[:, None], centre + radius[:, None]], axis=1)
    return TrainingTile(
        pixels=pixels.clip(0, 255).astype(np.uint8),
        truth=TileTruth(
            masks=inside[None],
            instances=instances,
            boxes=boxes.clip(0, side_px).astype(np.float32),
            class_id=np.zeros(len(radius), np.int16),
            labels=np.array([inside.any()]),
            known=np.ones((side_px, side_px), np.bool_),
        ),
    )
