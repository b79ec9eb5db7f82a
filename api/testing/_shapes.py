"""Outlines of nuclei and of large objects, and painting them into a label image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT = 4
"""Fractional bits of the coordinates that OpenCV gets: sixteenths of a pixel."""

POINTS = 28


class Look(IntEnum):
    """What an instance looks like under the microscope."""

    LYMPHOCYTE = 0
    TUMOUR = 1
    STROMAL = 2
    GLAND = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Nuclei that may be painted, best first.

    Attributes:
        xy_um: `(n, 2)`, centres.
        angle: `(n,)`, direction of the long axis in radians.
        look: `(n,)`, values of `Look`.
    """

    xy_um: NDArray[np.float64]
    angle: NDArray[np.float64]
    look: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.look)


def nucleus_outlines(
    rng: np.random.Generator, nuclei: Candidates, *, mpp: float
) -> NDArray[np.float64]:
    """Outlines `(n, POINTS, 2)` in pixels: ellipses whose radius wavers a little.

    Diameters: lymphocytes about 6 um, tumour nuclei 8 to 12 um, stromal nuclei about 14 x 3.5 um.
    """
    n = len(nuclei)
    spread = np.clip(rng.standard_normal(n), -2, 2)
    ratio = rng.uniform(0, 1, n)
    long_um = np.choose(nuclei.look, [6.4 + 0.5 * spread, 10.6 + 1.1 * spread, 14 + 2 * spread])
    short_um = long_um * np.choose(
        nuclei.look, [0.84 + 0.15 * ratio, 0.62 + 0.3 * ratio, 0.19 + 0.12 * ratio]
    )
    turn = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    waver = np.ones((n, POINTS))
    for order in (2, 3, 4, 5):
        strength = rng.normal(0, 0.055 / np.sqrt(order - 1), (n, 1))
        waver += strength * np.cos(order * turn + rng.uniform(0, 2 * np.pi, (n, 1)))
    along = waver * np.cos(turn) * long_um[:, None] / 2
    across = waver * np.sin(turn) * short_um[:, None] / 2
    # A stromal nucleus bends with the fibre that it lies on.
    across += np.where(nuclei.look == Look.STROMAL, rng.normal(0, 0.02, n), 0)[:, None] * along**2
    cos, sin = np.cos(nuclei.angle)[:, None], np.sin(nuclei.angle)[:, None]
    outline = np.stack([along * cos - across * sin, along * sin + across * cos], axis=-1)
    return (outline + nuclei.xy_um[:, None, :]) / mpp


def large_outlines(
    rng: np.random.Generator, *, radius_px: float
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Outer ring and holes of one large object around the origin, in pixels.

    One in three is a lobed blob, one a blob with one to three lumens, one a C or U.
    """
    form = rng.integers(3)
    if form == 2:
        return _horseshoe(rng, radius_px=radius_px), []
    outer = _blob(rng, radius_px=radius_px, waver=0.16)
    if form == 0:
        return outer, []
    count = int(rng.integers(1, 4))
    start = rng.uniform(0, 2 * np.pi)
    holes = []
    for k in range(count):
        turn = start + 2 * np.pi * k / count
        away = 0.0 if count == 1 else 0.38 * radius_px
        hole = _blob(rng, radius_px=radius_px * (0.38 if count == 1 else 0.19), waver=0.12)
        holes.append(hole + away * np.array([np.cos(turn), np.sin(turn)]))
    return outer, holes


def paint(outlines: list[NDArray[np.float64]], *, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask `(y, x)` of 0 and 1: the first outline filled, the others cut out of it."""
    mask = np.zeros(shape, np.uint8)
    for value, outline in zip([1] + [0] * (len(outlines) - 1), outlines, strict=True):
        fixed = np.rint(outline * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], value, lineType=cv2.LINE_8, shift=SHIFT)
    return mask


def largest_piece(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest 4-connected piece of a mask; an empty mask comes back empty."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 2:
        return mask
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.asarray(pieces == best, dtype=np.uint8)


def _blob(rng: np.random.Generator, *, radius_px: float, waver: float) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    wave = np.ones_like(turn)
    for order in range(2, 9):
        strength = rng.normal(0, waver / order**0.7)
        wave += strength * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    radius = radius_px * np.clip(wave, 0.55, 1.6)
    stretch = rng.uniform(0.7, 1.0)
    points = np.stack([radius * np.cos(turn), stretch * radius * np.sin(turn)], axis=-1)
    return _turned(points, rng.uniform(0, 2 * np.pi))


def _horseshoe(rng: np.random.Generator, *, radius_px: float) -> NDArray[np.float64]:
    """A thick arc with round ends (C), its arms drawn out in every second one (U)."""
    half = rng.uniform(0.62, 0.82) * np.pi
    turn = np.linspace(-half, half, 120)
    mean = radius_px * rng.uniform(0.17, 0.26)
    width = mean * (1 + 0.15 * np.cos(5 * turn + rng.uniform(0, 2 * np.pi)))
    end = np.clip((half - np.abs(turn)) / 0.3, 0, 1)
    width = width * np.sqrt(np.clip(1 - (1 - end) ** 2, 0.02, 1))
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    middle = 0.72 * radius_px
    outer, inner = arc * (middle + width)[:, None], arc * (middle - width)[:, None]
    points = np.concatenate([outer, inner[::-1]])
    if rng.uniform() < 0.5:
        points[:, 0] *= np.where(points[:, 0] < 0, 1.5, 1.0)
    return _turned(points, rng.uniform(0, 2 * np.pi))


def _turned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))
