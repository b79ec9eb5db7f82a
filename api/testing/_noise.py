"""Seamless noise and smooth maps, sampled at absolute pixels of a slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.testing._layout import PITCH_UM
from slideloom.wsi.geometry import Box

PERIODS_PX = (509, 613, 761, 1021)
"""Primes, so that the sum of several noises does not repeat in view."""


class NoiseTile:
    """One periodic square of smooth noise, mean 0 and deviation 1 when well sampled."""

    def __init__(
        self, rng: np.random.Generator, *, feature_um: float, mpp: float, period_px: int
    ) -> None:
        white = rng.standard_normal((period_px, period_px), dtype=np.float32)
        sigma_px = feature_um / mpp
        smooth = ndimage.gaussian_filter(white, sigma_px, mode="wrap", truncate=3.0)
        # Features finer than a pixel average out in a real scanner too.
        strength = min(1.0, 1.5 * sigma_px)
        self.values = np.asarray(smooth * (strength / smooth.std()), dtype=np.float32)

    def at(self, box: Box, *, shift: int = 0) -> NDArray[np.float32]:
        """Noise `(y, x)` of a box; another `shift` gives another, unrelated noise."""
        period = len(self.values)
        rows = (np.arange(box.y0, box.y1) + shift) % period
        cols = (np.arange(box.x0, box.x1) + 7 * shift) % period
        return np.asarray(self.values[rows[:, None], cols])


def sample(field: NDArray[np.float32], box: Box, *, mpp: float) -> NDArray[np.float32]:
    """A coarse map of the layout at each pixel of a box, by a cubic B-spline.

    Beyond the map its last value goes on.
    """
    rows, across = _spline(box.y0, box.y1, nodes=field.shape[0], mpp=mpp)
    cols, down = _spline(box.x0, box.x1, nodes=field.shape[1], mpp=mpp)
    return np.asarray(across @ field[np.ix_(rows, cols)] @ down.T)


def _spline(
    start: int, stop: int, *, nodes: int, mpp: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The nodes that pixels `start..stop` need, and each pixel's weights on them."""
    place = (np.arange(start, stop) + 0.5) * (mpp / PITCH_UM)
    first, last = int(np.floor(place[0])) - 1, int(np.floor(place[-1])) + 2
    needed = np.arange(first, last + 1)
    away = np.abs(place[:, None] - needed[None, :])
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    weights = np.where(away < 1, near, far)
    return np.clip(needed, 0, nodes - 1), weights.astype(np.float32)
