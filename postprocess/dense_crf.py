"""Sharpen class probabilities along the picture's edges with a dense random field."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from slideloom.errors import SettingsError
from slideloom.wsi.jit import jit

__all__ = ["CrfSettings", "refine_probabilities"]

Plane = NDArray[np.float32]

REACH = 2.0
"""A kernel ends at this many of its standard deviations; it is 14 % of its peak there."""

COLOUR_REACH = 5.0
"""And at this many in colour; it is 4e-6 of its peak there."""

LEAST = 1e-6
"""Probabilities are at least this: the field may change any pixel's mind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrfSettings:
    """Settings of the random field.

    Attributes:
        appearance: Weight of the kernel that joins near pixels of like colour.
        appearance_px: Standard deviation of that kernel in space.
        appearance_rgb: And in colour, in grey levels of 0 to 255.
        smoothness: Weight of the kernel that joins near pixels whatever their colour.
        smoothness_px: Standard deviation of that kernel.
        iterations: Of the mean field; 0 changes nothing but the least probability.

    Raises:
        SettingsError: A standard deviation is not positive, or another value negative.
    """

    appearance: float = 4.0
    appearance_px: float = 8.0
    appearance_rgb: float = 13.0
    smoothness: float = 3.0
    smoothness_px: float = 3.0
    iterations: int = 5

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        deviations = (self.appearance_px, self.appearance_rgb, self.smoothness_px)
        if min(values.values()) < 0 or min(deviations) <= 0:
            msg = (
                "a dense random field needs standard deviations above 0 and nothing below 0, got "
                f"{values}: correct the settings"
            )
            raise SettingsError(msg)

    @property
    def reach_px(self) -> int:
        """How far a pixel's result can depend on the picture: the halo that makes tiles exact.

        One kernel's radius for each iteration, and one for the kernels' norm.
        """
        radius = max(_radius(self.appearance_px), _radius(self.smoothness_px))
        return radius * (self.iterations + 1) if self.iterations else 0


def refine_probabilities(
    probabilities: NDArray[Any], pixels: NDArray[np.uint8], *, settings: CrfSettings
) -> Plane:
    """Mean field of a fully connected random field with Gaussian kernels and Potts penalties.

    Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials", NeurIPS 2011; DeepLab v1 and v2 end with it. Its kernels `k` are an appearance
    kernel over place and colour and a smoothness kernel over place, each normalised from both
    sides, `k(i, j) / sqrt(n(i) n(j))` with `n(i)` the sum of `k(i, j)` over `j`, as the authors'
    released code does. So weights mean the same at every size of the kernels.

    Kernels end at twice their standard deviation in space, in a square, and at five times in
    colour, where nothing is left of them. Within that every pair of pixels counts exactly, so
    there is no lattice and its error, and a result depends on pixels within `settings.reach_px`
    only. In a tile, pixels further than that from the cut are what they would be in the whole
    slide; nearer ones may differ. Time grows with the pixels, the classes, the iterations and the
    square of `appearance_px`.

    Args:
        probabilities: `(y, x, c)` of classes that exclude each other; they sum to 1.
        pixels: `(y, x, 3)`, the RGB picture.
        settings: Of the field.

    Returns:
        `(y, x, c)`, float32, which sum to 1; empty for an empty picture.

    Raises:
        SettingsError: The two do not have the same size, or `pixels` is not RGB of uint8.
    """
    shape = probabilities.shape
    if probabilities.ndim != 3 or pixels.shape != (*shape[:2], 3) or pixels.dtype != np.uint8:
        msg = (
            "a dense random field needs probabilities (y, x, c) and uint8 pixels (y, x, 3) of the "
            f"same size, got {shape} and {pixels.dtype} {pixels.shape}: pass those of one window"
        )
        raise SettingsError(msg)
    unary = np.log(np.maximum(probabilities, LEAST, dtype=np.float32))
    belief = _softmax(unary)
    if belief.size == 0 or settings.iterations == 0:
        return belief
    kernels = (_Appearance(pixels, settings), _Smoothness(shape, settings))
    for _ in range(settings.iterations):
        belief = _softmax(unary + sum(kernel.message(belief) for kernel in kernels))
    return belief


class _Appearance:
    """The weighted and normalised kernel over place and colour."""

    def __init__(self, pixels: NDArray[np.uint8], settings: CrfSettings) -> None:
        self._pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.int32)
        self._weight = np.float32(settings.appearance)
        self._place = _gaussian(settings.appearance_px)
        end = min((COLOUR_REACH * settings.appearance_rgb) ** 2, 3 * 255**2)
        squares = np.arange(ceil(end) + 2, dtype=np.float64)
        self._colour = np.exp(-squares / (2 * settings.appearance_rgb**2)).astype(np.float32)
        self._colour[-1] = 0
        self._scale = _scale(self._gather(np.ones((*pixels.shape[:2], 1), np.float32)))

    def message(self, belief: Plane) -> Plane:
        """What all pixels within reach say to each, `(y, x, c)`."""
        return self._weight * self._scale * self._gather(self._scale * belief)

    def _gather(self, values: Plane) -> Plane:
        planes = np.ascontiguousarray(values.transpose(2, 0, 1))
        out: Plane = np.zeros_like(planes)
        _gather_alike(planes, self._pixels, self._place, self._colour, out)
        return out.transpose(1, 2, 0)


class _Smoothness:
    """The weighted and normalised kernel over place."""

    def __init__(self, shape: tuple[int, ...], settings: CrfSettings) -> None:
        self._weight = np.float32(settings.smoothness)
        self._place = _gaussian(settings.smoothness_px)
        self._scale = _scale(self._gather(np.ones((*shape[:2], 1), np.float32)))

    def message(self, belief: Plane) -> Plane:
        """What all pixels within reach say to each, `(y, x, c)`."""
        return self._weight * self._scale * self._gather(self._scale * belief)

    def _gather(self, values: Plane) -> Plane:
        rows = correlate1d(values, self._place, axis=0, mode="constant")
        # No pixel speaks to itself.
        out: Plane = correlate1d(rows, self._place, axis=1, mode="constant") - values
        return out


@jit
def _gather_alike(
    values: Plane, pixels: NDArray[np.int32], place: Plane, colour: Plane, out: Plane
) -> None:
    """Add to `out` `(c, y, x)` the values of each pixel's neighbours, by place and colour.

    Each pair of pixels is met once, from the upper or left one, and counts for both.
    """
    _, height, width = values.shape
    radius = len(place) // 2
    for down in range(min(radius + 1, height)):
        for right in range(-radius, radius + 1):
            first, last = max(0, -right), min(width, width - right)
            if first >= last or (down == 0 and right <= 0):
                continue
            near = place[radius + down] * place[radius + right]
            weights = np.empty(last - first, np.float32)
            for y in range(height - down):
                here, there = slice(first, last), slice(first + right, last + right)
                _weigh(pixels[:, y, here], pixels[:, y + down, there], colour, weights)
                weights *= near
                _add(weights, values[:, y + down, there], out[:, y, here])
                _add(weights, values[:, y, here], out[:, y + down, there])


@jit
def _weigh(
    some: NDArray[np.int32], others: NDArray[np.int32], colour: Plane, weights: Plane
) -> None:
    last = len(colour) - 1
    for index in range(len(weights)):
        red = some[0, index] - others[0, index]
        green = some[1, index] - others[1, index]
        blue = some[2, index] - others[2, index]
        weights[index] = colour[min(red * red + green * green + blue * blue, last)]


@jit
def _add(weights: Plane, values: Plane, out: Plane) -> None:
    for plane in range(len(values)):
        for index in range(len(weights)):
            out[plane, index] += weights[index] * values[plane, index]


def _radius(deviation: float) -> int:
    return ceil(REACH * deviation)


def _gaussian(deviation: float) -> Plane:
    """The kernel along one axis, 1 in the middle; in a square, the product of two."""
    place = np.arange(-_radius(deviation), _radius(deviation) + 1)
    return np.exp(-(place**2) / (2 * deviation**2)).astype(np.float32)


def _scale(norm: Plane) -> Plane:
    """One over the root of the norm; 0 for a pixel that is like no other."""
    scale: Plane = np.zeros_like(norm)
    np.divide(1, np.sqrt(norm), out=scale, where=norm > 0)
    return scale


def _softmax(energy: Plane) -> Plane:
    powers = np.exp(energy - energy.max(axis=2, keepdims=True))
    result: Plane = powers / powers.sum(axis=2, keepdims=True)
    return result
