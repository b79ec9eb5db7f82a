"""Change tiles of training at random: their place, their stain, their light and their sharpness."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb_from_hed
from torchvision.transforms.v2 import functional

from slideloom.models.training.settings import Augmentation
from slideloom.models.training.source import TrainingTile
from slideloom.models.training.warp import Matrix, about_centre, warp_tile

__all__ = ["augment_tile", "jitter_stain"]

_STAIN_SHIFT = 0.2
"""How much of the change of a stain is the same everywhere, be there stain or not."""


def augment_tile(
    tile: TrainingTile, rules: Augmentation, *, draw: np.random.Generator
) -> TrainingTile:
    """The tile as it might have been cut, stained and scanned too; the same for the same `draw`."""
    moved = warp_tile(tile, _random_map(tile.pixels.shape[:2], rules, draw=draw))
    stained = jitter_stain(moved.pixels, rules.stain, draw=draw)
    return TrainingTile(pixels=_light(stained, rules, draw=draw), truth=moved.truth)


def jitter_stain(
    pixels: NDArray[np.uint8], most: float, *, draw: np.random.Generator
) -> NDArray[np.uint8]:
    """Change the amount of haematoxylin, eosin and a rest, each by its own factor and shift.

    The stains are told apart by their optical densities (A. C. Ruifrok and D. A. Johnston,
    "Quantification of histochemical staining by color deconvolution", 2001) and changed as by D.
    Tellez et al. ("Whole-slide mitosis detection in H&E breast histology using PHH3 as a reference
    to train distilled stain-invariant convolutional networks", 2018).

    Args:
        pixels: `(y, x, 3)`, RGB.
        most: Factors lie within 1 - `most` and 1 + `most`; shifts within a fifth of it, in optical
            density by the natural logarithm. 0 changes nothing.
        draw: Where factors and shifts come from.
    """
    factor = 1 + draw.uniform(-most, most, 3)
    shift = draw.uniform(-most, most, 3) * _STAIN_SHIFT
    if most == 0:
        return pixels
    stains = np.asarray(rgb_from_hed, np.float64)
    # Density to stains, stains changed, stains to density: one map, because each step is linear.
    change = np.linalg.inv(stains) * factor @ stains
    density = _DENSITY[pixels]
    changed = cv2.transform(density, np.column_stack([change.T, shift @ stains]))
    return np.asarray(np.clip(256 * np.exp(-changed) - 1, 0, 255).round(), np.uint8)


_DENSITY: NDArray[np.float32] = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
"""Optical density of each brightness; 1 is added, because none would be infinite."""


def _random_map(
    shape: tuple[int, ...], rules: Augmentation, *, draw: np.random.Generator
) -> Matrix:
    quarter, mirrored = draw.integers(4), draw.integers(2)
    angle, shear, size = draw.uniform(-1, 1, 3) * (rules.rotation_deg, rules.shear_deg, rules.scale)
    height, width = shape
    linear = np.eye(2)
    if rules.turns:
        # Half turns only where a quarter turn would not fit into the tile.
        turn = int(quarter) if height == width else int(quarter) // 2 * 2
        linear = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), turn)
        linear = linear * [1 - 2 * int(mirrored), 1]
    turned = np.deg2rad(angle)
    rotation = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    sheared = np.array([[1, np.tan(np.deg2rad(shear))], [0, 1]])
    if (rules.rotation_deg, rules.shear_deg, rules.scale) != (0, 0, 0):
        linear = rotation @ sheared @ linear * (1 + size)
    return about_centre(linear, height=height, width=width)


def _light(
    pixels: NDArray[np.uint8], rules: Augmentation, *, draw: np.random.Generator
) -> NDArray[np.uint8]:
    brightness, contrast = 1 + draw.uniform(-1, 1, 2) * rules.light
    blurred, sigma = draw.uniform(0, 1, 2)
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    if rules.light > 0:
        image = functional.adjust_brightness(image, float(brightness))
        image = functional.adjust_contrast(image, float(contrast))
    if blurred < rules.blur:
        image = functional.gaussian_blur(image, [5, 5], [max(float(sigma), 0.1)])
    return np.asarray(image.permute(1, 2, 0).contiguous().numpy(), np.uint8)
