"""Where a scene has empty background, epithelium, lymphoid tissue and fibres, on a coarse map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.wsi.geometry import Size

PITCH_UM = 3.0
"""Distance between two nodes of the coarse map."""

WHITE_SHARE = 0.14
EPITHELIUM_SHARE = 0.40
LYMPHOID_SHARE = 0.22
LUMEN_UM = (9.0, 32.0)
WALL_UM = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Coarse maps of a scene's tissue; node (i, j) lies at `(j, i) * PITCH_UM` micrometres.

    The first three are signed: positive inside, and about the distance to the border in um.

    Attributes:
        white: `(y, x)`, empty glass and lumens.
        epithelium: `(y, x)`, tumour nests and gland walls.
        lymphoid: `(y, x)`, clusters of lymphocytes.
        fibre: `(y, x)`, um; fibres of the stroma run along its isolines.
        rings: `(n, 3)`, x, y and lumen radius of each gland-like ring, in um.
    """

    white: NDArray[np.float32]
    epithelium: NDArray[np.float32]
    lymphoid: NDArray[np.float32]
    fibre: NDArray[np.float32]
    rings: NDArray[np.float64]

    def fibre_angle(self) -> NDArray[np.float32]:
        """Direction of the fibres at each node, in radians."""
        along_y, along_x = np.gradient(self.fibre)
        return np.asarray(np.arctan2(along_y, along_x) + np.pi / 2, dtype=np.float32)


def make_layout(rng: np.random.Generator, *, size: Size, mpp: float) -> Layout:
    """Draw the tissue of a slide of `size` pixels at `mpp`.

    Shares of background, epithelium and lymphoid tissue hold on a slide of any size: the
    features shrink with a small slide.
    """
    extent_um = np.array([size.height, size.width]) * mpp
    shape = (int(extent_um[0] / PITCH_UM) + 5, int(extent_um[1] / PITCH_UM) + 5)
    scale = min(1.0, float(extent_um.min()) / 700.0)
    white = _patches(rng, shape, um=90.0 * scale, share=WHITE_SHARE)
    white += 3.0 * _noise(rng, shape, um=6.0)
    epithelium = _patches(rng, shape, um=60.0 * scale, share=EPITHELIUM_SHARE)
    lymphoid = _patches(rng, shape, um=45.0 * scale, share=LYMPHOID_SHARE)
    rings = _rings(rng, epithelium, white=white, extent_um=extent_um)
    y, x = np.mgrid[: shape[0], : shape[1]] * np.float32(PITCH_UM)
    for ring_x, ring_y, radius in rings:
        away = np.hypot(x - ring_x, y - ring_y)
        np.maximum(white, radius - away, out=white)
        np.maximum(epithelium, radius + WALL_UM - away, out=epithelium)
    angle = rng.uniform(0, np.pi)
    fibre = x * np.cos(angle) + y * np.sin(angle)
    fibre += 26.0 * _noise(rng, shape, um=30.0) + 5.0 * _noise(rng, shape, um=9.0)
    return Layout(
        white=white,
        epithelium=epithelium,
        lymphoid=np.asarray(lymphoid - np.maximum(epithelium, 0) / 2, dtype=np.float32),
        fibre=fibre.astype(np.float32),
        rings=rings,
    )


def _noise(rng: np.random.Generator, shape: tuple[int, int], *, um: float) -> NDArray[np.float32]:
    """Smooth noise of mean 0 and deviation 1 with features of about `um`."""
    field = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), um / PITCH_UM, truncate=3.0
    )
    field -= field.mean()
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def _patches(
    rng: np.random.Generator, shape: tuple[int, int], *, um: float, share: float
) -> NDArray[np.float32]:
    field = _noise(rng, shape, um=um)
    return np.asarray((field - np.quantile(field, 1 - share)) * um, dtype=np.float32)


def _rings(
    rng: np.random.Generator,
    epithelium: NDArray[np.float32],
    *,
    white: NDArray[np.float32],
    extent_um: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Rings that keep clear of each other, one try for each (90 um)^2 of epithelium."""
    tries = int(np.prod(extent_um) / 90.0**2 * 3) + 4
    kept: list[tuple[float, float, float]] = []
    for x, y, u in rng.uniform(size=(tries, 3)):
        x_um, y_um = x * extent_um[1], y * extent_um[0]
        radius = LUMEN_UM[0] * (LUMEN_UM[1] / LUMEN_UM[0]) ** u
        radius = min(radius, float(extent_um.min()) / 8)
        node = int(y_um / PITCH_UM), int(x_um / PITCH_UM)
        if radius < 6.0 or epithelium[node] < 0 or white[node] > -radius:
            continue
        others = np.array(kept).reshape(-1, 3)
        away = np.hypot(others[:, 0] - x_um, others[:, 1] - y_um)
        if np.all(away > others[:, 2] + radius + 2 * WALL_UM):
            kept.append((x_um, y_um, radius))
    return np.array(kept, dtype=np.float64).reshape(-1, 3)
