"""Stain vectors of colour deconvolution: fixed ones, ones of one's own, ones that fit a slide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError

Rgb = tuple[float, float, float]
"""A figure for each of red, green and blue."""

RESIDUAL = "residual"
"""Name of what two stains do not explain."""

_LEAST_VOLUME = 0.02
"""Of the box that three unit vectors span; below, a little noise becomes a lot of stain."""

_LEAST_DENSITY = 0.15
_EXTREME_PERCENT = 1.0
_LEAST_PX = 1000
_LEAST_ANGLE_DEG = 5.0


WHITE: Rgb = (255.0, 255.0, 255.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StainBasis:
    """Three stains into which colours are split.

    Attributes:
        names: Of the stains; the last is `RESIDUAL` where there are but two.
        vectors: The optical density of red, green and blue for one unit of each stain.
        background: What is seen where no stain is, above 0 and 255 at most.
    """

    names: tuple[str, str, str]
    vectors: tuple[Rgb, Rgb, Rgb]
    background: Rgb = WHITE

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        vectors: NDArray[np.floating] | Sequence[Sequence[float]],
        *,
        background: Sequence[float] = WHITE,
    ) -> StainBasis:
        """Vectors brought to length 1; the third of two is at right angles to both.

        The third is their cross product, as in Ruifrok and Johnston (2001) and in QuPath, so its
        density has either sign.

        Args:
            names: Of two or three stains.
            vectors: `(2 or 3, 3)`, red, green and blue of each.
            background: Red, green and blue where no stain is.

        Raises:
            SettingsError: A figure is not finite, a vector has no length, the vectors lie in a
                plane or nearly so, or the background is not above 0 and 255 at most.
        """
        matrix = np.asarray(vectors, np.float64)
        lengths = np.linalg.norm(matrix, axis=1)
        if not (np.isfinite(lengths).all() and lengths.all()):
            msg = f"stain vectors need finite figures that are not all 0, got {matrix.tolist()}"
            raise SettingsError(msg)
        if not all(0 < value <= 255 for value in background):
            msg = f"the background of stains is above 0 and 255 at most, got {list(background)}"
            raise SettingsError(msg)
        matrix = matrix / lengths[:, None]
        if len(matrix) == 2:
            names = [*names, RESIDUAL]
            across = np.cross(matrix[0], matrix[1])
            matrix = np.vstack([matrix, across / max(np.linalg.norm(across), _LEAST_VOLUME)])
        if abs(np.linalg.det(matrix)) < _LEAST_VOLUME:
            msg = f"the vectors of {', '.join(names)} are too alike to tell these stains apart"
            raise SettingsError(msg)
        one, two, three = matrix
        return cls(
            names=(names[0], names[1], names[2]),
            vectors=(_rgb(one), _rgb(two), _rgb(three)),
            background=_rgb(background),
        )

    @property
    def shares(self) -> NDArray[np.float32]:
        """What each value of a channel adds to the density of each stain, `(3, 256, 3)`.

        The axes are channel, value and stain. The density of a channel is
        `-log10(value / background)`, where 0 counts as 1; a pixel brighter than the background has
        density 0.
        """
        solve = np.linalg.inv(np.array(self.vectors))
        value = np.maximum(np.arange(256), 1)
        density = np.maximum(-np.log10(value / np.array(self.background)[:, None]), 0)
        shares: NDArray[np.float32] = (solve[:, None] * density[:, :, None]).astype(np.float32)
        return shares

    @property
    def floors(self) -> NDArray[np.float32]:
        """The lowest density of each stain, `(3,)`: 0, and none for the residual."""
        floors = [-np.inf if name == RESIDUAL else 0.0 for name in self.names]
        return np.array(floors, np.float32)


def _rgb(figures: Iterable[float]) -> Rgb:
    red, green, blue = figures
    return float(red), float(green), float(blue)


STANDARD = StainBasis(
    names=("haematoxylin", "eosin", "dab"),
    vectors=((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)),
)
"""As Ruifrok and Johnston measured them ("Quantification of histochemical staining by color
deconvolution", Anal. Quant. Cytol. Histol. 23, 2001)."""


def estimate_stains(rgb: NDArray[np.uint8]) -> StainBasis | None:
    """The vectors of haematoxylin and eosin that fit the pixels of one slide.

    The method is that of Macenko et al. ("A method for normalizing histology slides for
    quantitative analysis", ISBI 2009). The optical densities of stained pixels lie between the two
    stains in a plane through 0, which the two first singular vectors span; in that plane the 1st
    and the 99th percentile of the angle are the stains. A pixel is stained where the length of its
    density is at least 0.15: asking this of each channel, as some programs do, leaves out pure
    eosin, which takes little red. The stain nearer to the standard haematoxylin is haematoxylin.

    Args:
        rgb: `(..., 3)` pixels of tissue, fine enough to show nuclei (1 um per pixel, say): coarse
            pixels mix the stains, and the vectors move together.

    Returns:
        None where fewer than 1000 pixels are stained, or the two stains differ by less than
        5 degrees.
    """
    density = -np.log10(np.maximum(rgb.reshape(-1, 3), 1) / 255)
    density = density[np.linalg.norm(density, axis=1) >= _LEAST_DENSITY]
    if len(density) < _LEAST_PX:
        return None
    _, directions = np.linalg.eigh(density.T @ density)
    plane = directions[:, :0:-1]
    # A singular vector has no sign of its own; densities are positive.
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    along, across = (density @ plane).T
    low, high = np.percentile(np.arctan2(across, along), [_EXTREME_PERCENT, 100 - _EXTREME_PERCENT])
    if high - low < np.radians(_LEAST_ANGLE_DEG):
        return None
    ends = np.array([[np.cos(angle), np.sin(angle)] for angle in (low, high)]) @ plane.T
    order = np.argsort(ends @ np.array(STANDARD.vectors[0]))[::-1]
    return StainBasis.of(STANDARD.names[:2], ends[order])
