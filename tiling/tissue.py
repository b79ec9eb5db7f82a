"""Where on a slide there is tissue, found on a small picture of it.

Bright-field: stain is colour, so the measure is the spread of the colour channels against
the glass, split by Otsu's method (IEEE Trans. SMC 9(1), 1979), plus what is much darker than the
glass. Dark field (fluorescence): the measure is the brightness above the background. Both lean
towards keeping: a tile without tissue costs a moment, a lost tile costs a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.wsi.geometry import Box
from slideloom.wsi.slide import Slide

_TARGET_MPP = 8.0
_SMALLEST_PX, _LARGEST_PX = 512, 2048
_DARK, _BRIGHT, _NEUTRAL = 60, 180, 30
"""Darker than the first may be a dark background; glass is brighter than the second and grey."""
_GLASS_TINT = 12
"""Colour spread that glass and lamp can have; anything above is stain."""
_STAIN_LOW, _STAIN_HIGH = 8, 20
"""Bounds of the stain threshold: below is compression noise, above is tissue in any case."""
_SHADE = 0.75
"""Pixels darker than this part of the glass are tissue, coloured or not (pigment, pale nuclei)."""
_UNSCANNED = 8
"""Pixels darker than this in a bright-field slide were not scanned."""
_GLOW = 5
"""Grey values above a dark background from which on there is tissue."""
_SPECK_PX = 25
_HOLE_SHARE = 0.01
_MARGIN_PX = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TissueMask:
    """Tissue on a coarse raster over the whole slide.

    Attributes:
        mask: `(y, x)`, True where there is tissue.
        scale_x: Level-0 pixels per mask pixel along x.
        scale_y: Level-0 pixels per mask pixel along y.
    """

    mask: NDArray[np.bool_]
    scale_x: float
    scale_y: float

    @property
    def fraction(self) -> float:
        """Part of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean()) if self.mask.size else 0.0

    def touches(self, box: Box) -> bool:
        """Whether a box of level-0 pixels holds any tissue; False for an empty box."""
        if box.is_empty:
            return False
        rows = slice(max(0, floor(box.y0 / self.scale_y)), max(0, ceil(box.y1 / self.scale_y)))
        cols = slice(max(0, floor(box.x0 / self.scale_x)), max(0, ceil(box.x1 / self.scale_x)))
        return bool(self.mask[rows, cols].any())


def find_tissue(slide: Slide) -> TissueMask:
    """The tissue of a slide, from a picture of about 8 um per pixel (2048 pixels at most).

    A blank slide gives an empty mask. Where the slide states no mpp, the picture has up to
    2048 pixels on its longer side.
    """
    picture = slide.thumbnail(_picture_px(slide), sharp=True)
    mask = tissue_of(picture)
    return TissueMask(
        mask=mask,
        scale_x=slide.size.width / mask.shape[1],
        scale_y=slide.size.height / mask.shape[0],
    )


def tissue_of(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`(y, x)` tissue of a small RGB picture `(y, x, 3)`; see `find_tissue`."""
    smooth = np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), dtype=np.uint8)
    return _tidy(_glowing(smooth) if _has_dark_background(smooth) else _stained(smooth))


def _picture_px(slide: Slide) -> int:
    if slide.mpp is None:
        return _LARGEST_PX
    side_um = max(slide.size.width * slide.mpp.x, slide.size.height * slide.mpp.y)
    return int(np.clip(side_um / _TARGET_MPP, _SMALLEST_PX, _LARGEST_PX))


def _has_dark_background(picture: NDArray[np.uint8]) -> bool:
    """Whether there is more darkness than glass.

    A bright-field slide with wide black margins counts as dark, and all that is not black is kept;
    the other mistake, fluorescence taken for stain, would lose tissue.
    """
    light, dim = picture.max(axis=2), picture.min(axis=2)
    glass = (light >= _BRIGHT) & (light - dim < _NEUTRAL)
    return bool((light < _DARK).sum() > glass.sum())


def _stained(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    light = picture.max(axis=2)
    glass = _glass(picture, light)
    balanced = picture if glass is None else np.clip(picture * (255 / glass), 0, 255)
    spread = (balanced.max(axis=2) - balanced.min(axis=2)).astype(np.uint8)
    # Without glass there is but one kind of pixel, and Otsu's method would split its noise.
    threshold = _STAIN_LOW if glass is None else np.clip(_otsu(spread), _STAIN_LOW, _STAIN_HIGH)
    dark = balanced.mean(axis=2) < _SHADE * 255
    found: NDArray[np.bool_] = ((spread > threshold) | dark) & (light >= _UNSCANNED)
    return found


def _glass(picture: NDArray[np.uint8], light: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Colour of the empty slide: the brightest pixels; None where these are themselves stained."""
    brightest = light >= np.percentile(light, 95)
    glass = np.median(picture[brightest], axis=0)
    if glass.max() - glass.min() > _GLASS_TINT:
        return None
    return np.asarray(glass, dtype=np.float64)


def _glowing(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    light = cv2.GaussianBlur(picture.max(axis=2), (0, 0), 1.5)
    found: NDArray[np.bool_] = light > float(np.percentile(light, 5)) + _GLOW
    return found


def _otsu(values: NDArray[np.uint8]) -> float:
    threshold, _ = cv2.threshold(values, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold)


def _tidy(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop specks, fill holes of at most 1 % of the picture, and add a margin."""
    speck_px = min(_SPECK_PX, found.size // 1000)
    kept = found & ~_small_pieces(found, speck_px)
    filled: NDArray[np.bool_] = kept | _small_pieces(~kept, int(_HOLE_SHARE * kept.size))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _MARGIN_PX + 1, 2 * _MARGIN_PX + 1))
    grown: NDArray[np.bool_] = cv2.dilate(filled.astype(np.uint8), kernel).astype(np.bool_)
    return grown


def _small_pieces(mask: NDArray[np.bool_], area_px: int) -> NDArray[np.bool_]:
    """The connected pieces of at most `area_px` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= area_px
    small[0] = False
    picked: NDArray[np.bool_] = small[labels]
    return picked
