"""Random crops for training: geometry, stain, optics, blood, pen and empty glass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.train_nuclei_data import Picture

CROP_PX = 128
Plane = NDArray[np.float32]
Rgb = NDArray[np.float32]
Rng = np.random.Generator

HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
EOSIN = np.array([0.07, 0.99, 0.11], np.float32)
"""Optical densities of the two stains: Ruifrok and Johnston, Anal Quant Cytol Histol 23 (2001)."""

TISSUE = np.array([0.16, 0.86, 0.45], np.float32)
"""Of eosin in tissue, as seen in the NuCLS images: less pure than in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One training sample.

    Attributes:
        rgb: `(y, x, 3)`, uint8.
        foreground: `(y, x)`, float32, 0 or 1.
        distance: `(y, x)`, float32, inner distance in [0, 1].
        weight: `(y, x)`, float32: above 1 where objects touch.
    """

    rgb: NDArray[np.uint8]
    foreground: Plane
    distance: Plane
    weight: Plane


def random_crop(rng: Rng, picture: Picture) -> Crop:
    """A crop in a random pose and a random look; most one-stain pictures get colours of H&E."""
    at_x, at_y = _pose(rng, picture.labels.shape)
    border = cv2.BORDER_REFLECT_101
    rgb = cv2.remap(picture.rgb, at_x, at_y, cv2.INTER_LINEAR, borderMode=border)
    labels = cv2.remap(picture.labels, at_x, at_y, cv2.INTER_NEAREST, borderMode=border)
    distance = _plane(cv2.remap(picture.distance, at_x, at_y, cv2.INTER_LINEAR, borderMode=border))
    density = _density(rgb.astype(np.float32))
    inside = (labels > 0).astype(np.float32)
    if picture.one_stain and rng.random() < 0.7:
        density = _counterstain(rng, density, inside=inside)
    else:
        density = _restain(rng, density)
    if rng.random() < 0.08:
        density = _add_blood(rng, density, inside=inside)
    if rng.random() < 0.05:
        density = _add_ink(rng, density, inside=inside)
    rgb = _optics(rng, 255 * np.exp(-density))
    if rng.random() < 0.03:
        inside = inside * _add_pen(rng, rgb)
    return Crop(
        rgb=np.clip(rgb, 0, 255).astype(np.uint8),
        foreground=inside,
        distance=distance * inside,
        weight=_touching_weight(labels.astype(np.uint16)),
    )


def empty_crop(rng: Rng) -> Crop:
    """A crop without nuclei: glass, stroma or blood."""
    kind = rng.random()
    nothing = np.zeros((CROP_PX, CROP_PX), np.float32)
    density = np.abs(rng.normal(0.03, 0.03, 3)).astype(np.float32) + np.zeros((1, 1, 3), np.float32)
    density = density + nothing[..., None]
    if kind > 0.25:
        # Keratin and folds are dark and purple without any nucleus.
        dark = rng.random() < 0.5
        blue = np.float32(rng.uniform(0.2, 0.7) if dark else 0)
        stain = blue * HAEMATOXYLIN + (1 - blue) * TISSUE
        amount = _pink(rng) * np.float32(rng.uniform(1, 2.5) if dark else 1)
        density = density + amount[..., None] * _vector(rng, stain, spread=0.1)
    if kind > 0.6:
        density = _add_blood(rng, density, inside=nothing)
    if rng.random() < 0.3:
        density = _add_ink(rng, density, inside=nothing)
    rgb = _optics(rng, 255 * np.exp(-density))
    if rng.random() < 0.15:
        _add_pen(rng, rgb)
    return Crop(
        rgb=np.clip(rgb, 0, 255).astype(np.uint8),
        foreground=nothing,
        distance=nothing,
        weight=np.ones_like(nothing),
    )


def _plane(values: NDArray[Any]) -> Plane:
    return np.asarray(values, np.float32)


def _pose(rng: Rng, shape: tuple[int, ...]) -> tuple[Plane, Plane]:
    """Where in the picture each pixel of the crop comes from."""
    height, width = shape[:2]
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(np.log(0.65), np.log(1.9)))
    stretch = np.exp(rng.normal(0, 0.08, 2))
    axis = (np.arange(CROP_PX, dtype=np.float32) - CROP_PX / 2) / zoom
    x, y = np.meshgrid(axis * stretch[0], axis * stretch[1])
    if rng.random() < 0.5:
        x = -x
    if rng.random() < 0.4:
        x, y = x + _noise(rng, 24) * rng.uniform(0, 3), y + _noise(rng, 24) * rng.uniform(0, 3)
    middle_x, middle_y = rng.uniform(0, width), rng.uniform(0, height)
    cos, sin = np.cos(angle), np.sin(angle)
    at_x = (middle_x + cos * x - sin * y).astype(np.float32)
    at_y = (middle_y + sin * x + cos * y).astype(np.float32)
    return at_x, at_y


def _noise(rng: Rng, feature_px: float) -> Plane:
    """Smooth noise of mean 0 and deviation about 1."""
    side = max(3, int(CROP_PX / feature_px) + 3)
    coarse = rng.normal(0, 1.3, (side, side)).astype(np.float32)
    return _plane(cv2.resize(coarse, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC))


def _density(rgb: Rgb) -> Rgb:
    return -np.log(np.clip(rgb, 2, 255) / 255).astype(np.float32)


def _vector(rng: Rng, stain: NDArray[np.float32], *, spread: float) -> NDArray[np.float32]:
    vector = np.clip(stain + rng.normal(0, spread, 3), 0.02, None).astype(np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _restain(rng: Rng, density: Rgb) -> Rgb:
    """H&E with other amounts and colours of its stains, and another background."""
    if rng.random() < 0.1:
        return density
    rest = np.cross(HAEMATOXYLIN, EOSIN)
    basis = np.stack([HAEMATOXYLIN, EOSIN, rest / np.linalg.norm(rest)])
    amounts = density @ np.linalg.inv(basis)
    gain = np.exp(rng.normal(0, [0.25, 0.3, 0.2])).astype(np.float32)
    shift = rng.normal(0, [0.03, 0.04, 0.02]).astype(np.float32)
    vectors = np.stack(
        [_vector(rng, HAEMATOXYLIN, spread=0.07), _vector(rng, EOSIN, spread=0.07), basis[2]]
    )
    stained = (amounts * gain + shift) @ vectors
    return _plane(np.maximum(stained, 0))


def _counterstain(rng: Rng, density: Rgb, *, inside: Plane) -> Rgb:
    """H&E made of a picture in one stain: its stain as haematoxylin, over made-up eosin."""
    amount = density.mean(axis=2)
    outside = amount[inside == 0]
    floor = float(np.median(outside)) if outside.size else 0.0
    blue = np.maximum(amount - floor, -0.1)
    level = float(np.median(blue[inside > 0])) if inside.any() else 0.5
    blue *= rng.uniform(0.5, 1.5) / max(level, 0.2)
    pink = _pink(rng)
    pink *= 1 - inside * rng.uniform(0.2, 0.8)
    # Cytoplasm around nuclei takes some haematoxylin, so nuclei do not stand out by colour alone.
    wash = np.maximum(_noise(rng, rng.uniform(20, 60)), 0) * rng.uniform(0, 0.25)
    blue = blue + wash * (1 - inside) + rng.uniform(0, 0.08)
    stained = blue[..., None] * _vector(rng, HAEMATOXYLIN, spread=0.07)
    return _plane(np.maximum(stained + pink[..., None] * _vector(rng, TISSUE, spread=0.1), 0))


def _pink(rng: Rng) -> Plane:
    """Amount of eosin: patches of tissue with fibres and holes."""
    base = 0.5 + 0.25 * _noise(rng, 40) + 0.12 * _noise(rng, 10) + 0.08 * _noise(rng, 3)
    if rng.random() < 0.5:
        fibres = rng.normal(0, 1, (CROP_PX, CROP_PX)).astype(np.float32)
        length = int(rng.integers(9, 31))
        kernel = np.zeros((length, length), np.float32)
        end = np.array([np.cos(turn := rng.uniform(0, np.pi)), np.sin(turn)]) * length / 2
        tips = np.round(np.stack([length / 2 - end, length / 2 + end])).astype(int)
        cv2.line(kernel, tips[0].tolist(), tips[1].tolist(), 1.0, 1)
        kernel /= max(float(kernel.sum()) ** 0.5, 1)
        base = base + rng.uniform(0.05, 0.2) * _plane(cv2.filter2D(fibres, -1, kernel))
    if rng.random() < 0.4:
        base = base * (_noise(rng, rng.uniform(15, 50)) > rng.uniform(-1.5, 0))
    return _plane(np.maximum(base * rng.uniform(0.2, 1.4), 0))


def _add_blood(rng: Rng, density: Rgb, *, inside: Plane) -> Rgb:
    """Red cells, about 7 um wide, anywhere but on nuclei."""
    discs = np.zeros((CROP_PX, CROP_PX), np.uint8)
    for _ in range(int(rng.integers(5, 120))):
        at = rng.integers(0, CROP_PX, 2).tolist()
        radii = rng.integers(4, 8, 2).tolist()
        cv2.ellipse(discs, at, radii, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        if rng.random() < 0.3:
            cv2.ellipse(discs, at, radii, float(rng.uniform(0, 180)), 0, 360, 90, 1)
    amount = cv2.GaussianBlur(discs, (0, 0), 0.8).astype(np.float32) / 255 * (1 - inside)
    red = _vector(rng, np.array([0.12, 0.8, 0.6], np.float32), spread=0.12)
    return _plane(density + (amount * rng.uniform(0.5, 1.5))[..., None] * red)


def _add_ink(rng: Rng, density: Rgb, *, inside: Plane) -> Rgb:
    """Grains of surgical ink, in patches, anywhere but on nuclei."""
    patch = _noise(rng, rng.uniform(15, 60)) - rng.uniform(0, 1)
    grain = _noise(rng, rng.uniform(1.5, 4)) + 0.5 * _noise(rng, 1)
    amount = np.clip(2 * patch, 0, 1) * np.clip(grain + rng.uniform(-0.5, 1), 0, 1.5) * (1 - inside)
    colours = ((1.0, 0.35, 0.45), (1.0, 0.6, 0.2), (0.6, 0.6, 0.6), (0.3, 0.8, 1.0))
    colour = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    return _plane(
        density + (amount * rng.uniform(0.4, 1.6))[..., None] * _vector(rng, colour, spread=0.1)
    )


def _add_pen(rng: Rng, rgb: Rgb) -> Plane:
    """Draw an opaque stroke of a marker pen into `rgb`; 0 under it and 1 elsewhere."""
    stroke = np.zeros((CROP_PX, CROP_PX), np.uint8)
    ends = rng.integers(0, CROP_PX, (2, 2)).tolist()
    cv2.line(stroke, ends[0], ends[1], 255, int(rng.integers(10, 50)))
    colours = ((20, 20, 25), (25, 60, 160), (20, 120, 60), (170, 30, 40))
    colour = np.array(colours[int(rng.integers(len(colours)))], np.float32)
    cover = cv2.GaussianBlur(stroke, (0, 0), 1.5).astype(np.float32)[..., None] / 255
    cover = cover * np.float32(rng.uniform(0.75, 1))
    rgb += cover * (colour + rng.normal(0, 8, rgb.shape).astype(np.float32) - rgb)
    return _plane(stroke == 0)


def _optics(rng: Rng, rgb: Rgb) -> Rgb:
    """Focus, light, noise and compression."""
    kind = rng.random()
    if kind < 0.3:
        rgb = _plane(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 1.4)))
    elif kind < 0.5:
        soft = cv2.GaussianBlur(rgb, (0, 0), 1.0)
        rgb = _plane(rgb + rng.uniform(0.2, 1.0) * (rgb - soft))
    light = np.exp(rng.normal(0, 0.06)) * np.exp(rng.normal(0, 0.03, 3))
    rgb = _plane(255 * np.clip(rgb / 255, 0, 1) ** np.exp(rng.normal(0, 0.15)) * light)
    if rng.random() < 0.4:
        rgb = _plane(rgb + rng.normal(0, rng.uniform(1, 7), rgb.shape))
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))]
        _, packed = cv2.imencode(".jpg", np.clip(rgb, 0, 255).astype(np.uint8), quality)
        rgb = _plane(np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR)))
    return rgb


def _touching_weight(labels: NDArray[np.uint16]) -> Plane:
    """3 where two objects come within two pixels of each other, else 1."""
    kernel = np.ones((5, 5), np.uint8)
    highest = cv2.dilate(labels, kernel)
    lowest = 65535 - cv2.dilate(np.where(labels > 0, 65535 - labels, 0).astype(np.uint16), kernel)
    return np.where((highest > 0) & (lowest < highest), 3.0, 1.0).astype(np.float32)
