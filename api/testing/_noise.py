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
        self,
        rng: np.random.Generator,
        *,
        feature_um: float,
        mpp: float,
        period_px: int,
        span_px: int,
    ) -> None:
        white = rng.standard_normal((period_px, period_px), dtype=np.float32)
        sigma_px = feature_um / mpp
        smooth = ndimage.gaussian_filter(white, sigma_px, mode="wrap", truncate=3.0)
        # Features finer than a pixel average out in a real scanner too.
        strength = min(1.0, 1.5 * sigma_px)
        values = np.asarray(smooth * (strength / smooth.std()), dtype=np.float32)
        self.period_px = period_px
        # Repeated so far that every box of up to `span_px` is a plain slice.
        self._values = np.pad(values, (0, span_px), mode="wrap")

    def at(self, box: Box, *, shift: int = 0) -> NDArray[np.float32]:
        """Noise `(y, x)` of a box; another `shift` gives another, unrelated noise."""
        row = (box.y0 + shift) % self.period_px
        col = (box.x0 + 7 * shift) % self.period_px
        return self._values[row : row + box.height, col : col + box.width]


def sample(field: NDArray[np.float32], box: Box, *, mpp: float) -> NDArray[np.float32]:
    """A coarse map of the layout at each pixel of a box, by a cubic B-spline.

    Beyond the map its last value goes on.
    """
    rows, down = _spline(box.y0, box.y1, mpp=mpp)
    cols, across = _spline(box.x0, box.x1, mpp=mpp)
    needed_y = np.clip(np.arange(rows[0], rows[-1] + 4), 0, field.shape[0] - 1)
    needed_x = np.clip(np.arange(cols[0], cols[-1] + 4), 0, field.shape[1] - 1)
    coarse = field[needed_y[:, None], needed_x]
    rows, cols = rows - rows[0], cols - cols[0]
    wide = sum(coarse[:, cols + k] * across[:, k] for k in range(4))
    return np.asarray(sum(wide[rows + k] * down[:, k, None] for k in range(4)))


def _spline(start: int, stop: int, *, mpp: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The first of the four nodes that each pixel needs, and its weights `(n, 4)` on them."""
    place = (np.arange(start, stop) + 0.5) * (mpp / PITCH_UM)
    first = np.floor(place).astype(np.intp) - 1
    away = np.abs(place[:, None] - first[:, None] - np.arange(4))
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    return first, np.where(away < 1, near, far).astype(np.float32)
