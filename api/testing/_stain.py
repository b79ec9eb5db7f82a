"""How each object of a scene takes the stain, and where its nucleoli and blood cells lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.testing._layout import PITCH_UM
from slideloom.testing._shapes import Look
from slideloom.testing.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Discs:
    """Round things in pixels of the slide, each array `(n,)`."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    radius: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stain:
    """Look of each instance, arrays `(n + 1,)` indexed by its label (0 = no object).

    Attributes:
        haematoxylin: Amount in the nucleus.
        clumping: Contrast of the chromatin.
        rim: Extra haematoxylin at the nuclear membrane.
        nucleoli: Inside tumour nuclei.
        blood: Red blood cells.
        blur_um: Of the optics.
        vectors: `(3, 3)`, optical density of a unit of haematoxylin, eosin and blood in R, G, B.
    """

    haematoxylin: NDArray[np.float32]
    clumping: NDArray[np.float32]
    rim: NDArray[np.float32]
    nucleoli: Discs
    blood: Discs
    blur_um: float
    vectors: NDArray[np.float32]


MOST_BLUR_UM = 0.34

VECTORS = np.array([[0.59, 0.80, 0.43], [0.19, 0.76, 0.40], [0.14, 1.05, 0.80]])

BY_LOOK = {
    "haematoxylin": np.array([1.62, 0.86, 1.15, 0.0]),
    "spread": np.array([0.24, 0.20, 0.25, 0.0]),
    "clumping": np.array([0.26, 0.34, 0.20, 0.0]),
    "rim": np.array([0.15, 0.42, 0.15, 0.0]),
}
"""Typical values in the order of `Look`."""


def draw_stain(rng: np.random.Generator, scene: Scene) -> Stain:
    """Draw the look of every instance of a scene."""
    n = len(scene)
    none = np.zeros(1)
    spread = BY_LOOK["spread"][scene.look] * np.clip(rng.standard_normal(n), -2, 2)
    haematoxylin = BY_LOOK["haematoxylin"][scene.look] + spread
    clumping = BY_LOOK["clumping"][scene.look] * rng.uniform(0.6, 1.4, n)
    rim = BY_LOOK["rim"][scene.look] * rng.uniform(0.5, 1.5, n)
    vectors = VECTORS * rng.normal(1, 0.06, (3, 3)) * rng.uniform(0.82, 1.18, (3, 1))
    return Stain(
        haematoxylin=np.concatenate([none, haematoxylin]).astype(np.float32),
        clumping=np.concatenate([none, clumping]).astype(np.float32),
        rim=np.concatenate([none, rim]).astype(np.float32),
        nucleoli=_nucleoli(rng, scene),
        blood=_blood(rng, scene),
        blur_um=float(rng.uniform(0.17, MOST_BLUR_UM)),
        vectors=vectors.astype(np.float32),
    )


def _nucleoli(rng: np.random.Generator, scene: Scene) -> Discs:
    """Up to three in each tumour nucleus, near its middle."""
    boxes = scene.boxes[scene.look == Look.TUMOUR]
    boxes = np.repeat(boxes, rng.integers(0, 4, len(boxes)), axis=0)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    reach = (boxes[:, 2:] - boxes[:, :2]) * 0.24
    xy = middle + reach * rng.uniform(-1, 1, middle.shape)
    radius = rng.uniform(0.35, 0.85, len(boxes)) / scene.mpp
    return Discs(x=xy[:, 0], y=xy[:, 1], radius=radius)


def _blood(rng: np.random.Generator, scene: Scene) -> Discs:
    """A few clumps of red cells in the stroma, about 7 um wide."""
    height, width = (side * scene.mpp for side in scene.labels.shape)
    clumps = rng.poisson(width * height / 200.0**2)
    centres = rng.uniform(size=(clumps, 2)) * (width, height)
    members = rng.integers(1, 14, clumps)
    spread = 3.2 * np.sqrt(np.repeat(members, members))[:, None]
    xy = np.repeat(centres, members, axis=0) + rng.normal(0, 1, (members.sum(), 2)) * spread
    col = np.clip(xy[:, 0] / PITCH_UM, 0, scene.layout.white.shape[1] - 1).astype(int)
    row = np.clip(xy[:, 1] / PITCH_UM, 0, scene.layout.white.shape[0] - 1).astype(int)
    in_stroma = (scene.layout.epithelium[row, col] < 0) & (scene.layout.white[row, col] < 2)
    xy = xy[in_stroma] / scene.mpp
    radius = rng.uniform(2.6, 3.5, len(xy)) / scene.mpp
    return Discs(x=xy[:, 0], y=xy[:, 1], radius=radius)
