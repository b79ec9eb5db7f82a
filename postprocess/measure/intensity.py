"""Intensities of objects: mean, spread and range of an image's channels over sets of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import RegionError
from slideloom.postprocess.measure.stain_vectors import STANDARD, StainBasis
from slideloom.postprocess.pixels import PixelSets
from slideloom.postprocess.run_loops import Longs, Runs
from slideloom.wsi.geometry import Box
from slideloom.wsi.jit import jit

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensities:
    """Statistics of each channel over each set, `(n, c)` float64; NaN for an empty set.

    Attributes:
        mean: Arithmetic mean.
        std: Standard deviation of the set's pixels, divided by their number (not one less).
        min: Lowest value.
        max: Highest value.
    """

    mean: Floats
    std: Floats
    min: Floats
    max: Floats


def measure_intensities(pixels: PixelSets, image: NDArray[Any], *, frame: Box) -> Intensities:
    """Statistics of an image over sets of pixels.

    Args:
        pixels: In model pixels.
        image: `(y, x, c)`, any number type; it covers `frame`.
        frame: Where the image lies, in model pixels.

    Raises:
        RegionError: The image's shape is not that of `frame`, or an object reaches out of it: a
            part of an object would pass for the whole.
    """
    if image.ndim != 3 or image.shape[:2] != frame.shape:
        msg = (
            f"intensities need an image (y, x, c) that covers {frame}, got one of shape "
            f"{image.shape}: cut it to the frame"
        )
        raise RegionError(msg)
    boxes = pixels.boxes[np.diff(pixels.offsets) > 0]
    outside = (boxes[:, :2] < (frame.x0, frame.y0)) | (boxes[:, 2:] > (frame.x1, frame.y1))
    if outside.any():
        x0, y0, x1, y1 = boxes[outside.any(axis=1)][0].tolist()
        msg = (
            f"an object at x {x0}..{x1} and y {y0}..{y1} reaches out of the image at {frame}: "
            f"read an image that holds all of it"
        )
        raise RegionError(msg)
    mean, std, low, high = _measure(pixels.offsets, pixels.runs, image, frame.x0, frame.y0)
    return Intensities(mean=mean, std=std, min=low, max=high)


def stain_densities(rgb: NDArray[np.uint8], *, basis: StainBasis = STANDARD) -> NDArray[np.float32]:
    """Optical density of three stains in each pixel, by colour deconvolution.

    The density of a colour channel is `-log10(value / background)`, where 0 counts as 1: for a
    white background from 0 for white to 2.4. The three channels are solved for the three stains
    (Ruifrok and Johnston 2001). The same basis gives equal pixels equal densities wherever they
    lie. Densities below 0, which no mixture of the stains explains, become 0; but not those of the
    residual, which has either sign.

    scikit-image's `rgb2hed` takes the logarithm to the base of 1e-6 and not of 0.1, so its figures
    are a sixth of these.

    Args:
        rgb: `(..., 3)`.
        basis: The stains; haematoxylin, eosin and DAB unless said otherwise.

    Returns:
        `(..., 3)`: one for each of `basis.names`.
    """
    flat = np.ascontiguousarray(rgb).reshape(-1, 3)
    return _separate(flat, basis.shares, basis.floors).reshape(rgb.shape)


@jit
def _separate(
    rgb: NDArray[np.uint8], shares: NDArray[np.float32], floors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Densities `(n, 3)` of colours `(n, 3)`, each not below its floor."""
    out = np.empty(rgb.shape, np.float32)
    for i in range(len(rgb)):
        # Taken one by one: unpacking a row takes ten times as long as all the rest.
        red, green, blue = rgb[i, 0], rgb[i, 1], rgb[i, 2]
        for stain in range(3):
            density = shares[0, red, stain] + shares[1, green, stain] + shares[2, blue, stain]
            out[i, stain] = max(density, floors[stain])
    return out


@jit
def _measure(
    offsets: Longs, runs: Runs, image: NDArray[Any], x0: int, y0: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, standard deviation, minimum and maximum; two passes, so that nothing cancels."""
    shape = (len(offsets) - 1, image.shape[2])
    mean, std = np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for i in range(shape[0]):
        area = 0
        for k in range(offsets[i], offsets[i + 1]):
            row = image[runs[k, 0] - y0, runs[k, 1] - x0 : runs[k, 2] - x0]
            area += len(row)
            for x in range(len(row)):
                for c in range(shape[1]):
                    value = np.float64(row[x, c])
                    mean[i, c] += value
                    low[i, c] = min(low[i, c], value)
                    high[i, c] = max(high[i, c], value)
        if area == 0:
            mean[i], std[i], low[i], high[i] = np.nan, np.nan, np.nan, np.nan
            continue
        mean[i] /= area
        for k in range(offsets[i], offsets[i + 1]):
            row = image[runs[k, 0] - y0, runs[k, 1] - x0 : runs[k, 2] - x0]
            for x in range(len(row)):
                for c in range(shape[1]):
                    std[i, c] += (np.float64(row[x, c]) - mean[i, c]) ** 2
        std[i] = np.sqrt(std[i] / area)
    return mean, std, low, high


class IntensityTally:
    """Statistics of objects that are measured piece by piece, image by image.

    Pieces are put together by the formulas of Chan, Golub and LeVeque ("Updating formulae and a
    pairwise algorithm for computing sample variances", COMPSTAT 1982).

    Args:
        count: Number of objects.
        channels: Number of channels.
    """

    def __init__(self, count: int, channels: int) -> None:
        self._area = np.zeros(count)
        self._mean = np.zeros((count, channels))
        self._squares = np.zeros((count, channels))
        self._min = np.full((count, channels), np.inf)
        self._max = np.full((count, channels), -np.inf)

    def add(self, index: NDArray[np.integer], pieces: PixelSets, *, measured: Intensities) -> None:
        """Add one piece of each of some objects.

        Args:
            index: `(n,)`, to which object each piece belongs; no object twice.
            pieces: What was measured; an empty one changes nothing.
            measured: Of these pieces.
        """
        filled = np.flatnonzero(np.diff(pieces.offsets))
        index, area = index[filled], pieces.areas[filled].astype(np.float64)[:, None]
        before = self._area[index][:, None]
        total = before + area
        step = measured.mean[filled] - self._mean[index]
        self._mean[index] += step * area / total
        self._squares[index] += measured.std[filled] ** 2 * area + step**2 * before * area / total
        self._min[index] = np.minimum(self._min[index], measured.min[filled])
        self._max[index] = np.maximum(self._max[index], measured.max[filled])
        self._area[index] = total[:, 0]

    @property
    def intensities(self) -> Intensities:
        """Of all objects so far; NaN for one without a pixel."""
        empty = self._area == 0
        area = np.where(empty, 1, self._area)[:, None]
        parts = (self._mean, np.sqrt(self._squares / area), self._min, self._max)
        mean, std, low, high = (np.where(empty[:, None], np.nan, part) for part in parts)
        return Intensities(mean=mean, std=std, min=low, max=high)
