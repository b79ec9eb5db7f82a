"""How much haematoxylin, eosin and blood lies at each pixel of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.testing._noise import PERIODS_PX, NoiseTile, sample
from slideloom.testing._shapes import SHIFT, Look
from slideloom.testing._stain import Discs, Stain
from slideloom.testing.scene import Scene
from slideloom.wsi.geometry import Box

REACH_UM = 10.0
"""How far the amounts at a pixel depend on the objects around it."""

FIBRE_STEP_UM = 0.2

Plane = NDArray[np.floating[Any]]


class Textures:
    """Noise of four grains, and profiles across the fibres of the stroma."""

    def __init__(self, rng: np.random.Generator, *, mpp: float, span_px: int) -> None:
        self.fine, self.grain, self.mid, self.broad = (
            NoiseTile(rng, feature_um=um, mpp=mpp, period_px=px, span_px=span_px)
            for um, px in zip((0.22, 0.42, 1.1, 4.5), PERIODS_PX, strict=True)
        )
        self.thin, self.thick = (_profile(rng, feature_um=feature_um) for feature_um in (0.55, 2.6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter:
    """All that is drawn once for a scene."""

    scene: Scene
    stain: Stain
    textures: Textures


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Stain per pixel, each `(y, x)` float32; 1 is about what dense collagen takes up."""

    haematoxylin: Plane
    eosin: Plane
    blood: Plane


@dataclass(frozen=True, slots=True, kw_only=True)
class _Objects:
    """The objects of a box, each `(y, x)`.

    Attributes:
        box: The place.
        labels: Instance ids.
        nucleus: Whether a nucleus is there.
        gland: Whether a large object is there.
        depth_um: Distance to the edge of the pixel's own instance.
        away_um: Distance to the nearest nucleus.
        border: Whether the nearest nucleus changes here.
    """

    box: Box
    labels: NDArray[np.int32]
    nucleus: NDArray[np.bool_]
    gland: NDArray[np.bool_]
    depth_um: Plane
    away_um: Plane
    border: NDArray[np.bool_]


def amounts(painter: Painter, box: Box) -> Amounts:
    """Stain in a box; right where the box is at least `REACH_UM` from its own edge."""
    stain, textures = painter.stain, painter.textures
    objects = _objects(painter.scene, box)
    tissue = _around(painter, objects)
    grain, mid = textures.grain.at(box), textures.mid.at(box, shift=40)
    labels, inside = objects.labels, objects.nucleus
    chromatin = 1 + stain.clumping[labels] * (0.75 * np.tanh(1.2 * grain) + 0.5 * mid)
    rim = stain.rim[labels] * np.exp(-np.square(objects.depth_um / 0.55))
    nucleoli = _discs(stain.nucleoli, box)
    nuclear = stain.haematoxylin[labels] * chromatin + rim + 0.75 * nucleoli
    blood = _discs(stain.blood, box) * ~(inside | objects.gland) * (0.8 + 0.1 * mid)
    bare = 1 - np.clip(blood, 0, 1)
    return Amounts(
        haematoxylin=np.where(inside, np.maximum(nuclear, 0.2), tissue.haematoxylin * bare),
        eosin=np.where(inside, 0.30 + 0.3 * nucleoli, tissue.eosin * bare),
        blood=blood.astype(np.float32),
    )


def _profile(rng: np.random.Generator, *, feature_um: float) -> Plane:
    white = rng.standard_normal(16384)
    smooth = ndimage.gaussian_filter1d(white, feature_um / FIBRE_STEP_UM, mode="wrap")
    return np.asarray(smooth / smooth.std(), dtype=np.float32)


def _across(profile: Plane, place_um: Plane) -> Plane:
    steps = (place_um * np.float32(1 / FIBRE_STEP_UM)).astype(np.int32)
    return np.asarray(profile[steps % len(profile)])


def _share(distance_um: Plane, *, softness_um: float) -> Plane:
    """1 where the distance is well above 0, 0 where it is well below."""
    steps = np.clip(distance_um * np.float32(-1 / softness_um), -30, 30)
    return np.asarray(1 / (1 + np.exp(steps)), dtype=np.float32)


def _labels_around(scene: Scene, box: Box) -> NDArray[np.int32]:
    """Labels of a box; beyond the slide its outermost pixels go on, as the tissue does."""
    rows = np.clip(np.arange(box.y0, box.y1), 0, scene.size.height - 1)
    cols = np.clip(np.arange(box.x0, box.x1), 0, scene.size.width - 1)
    return np.asarray(scene.labels[rows[:, None], cols])


def _objects(scene: Scene, box: Box) -> _Objects:
    labels = _labels_around(scene, box)
    is_gland = np.concatenate([[False], scene.look == Look.GLAND])
    gland = is_gland[labels]
    nucleus = (labels > 0) & ~gland
    inner = (labels > 0).astype(np.uint8)
    for axis in (0, 1):
        change = np.diff(labels, axis=axis) != 0
        for side in (slice(1, None), slice(None, -1)):
            part = inner[side] if axis == 0 else inner[:, side]
            part[change] = 0
    depth = cv2.distanceTransform(inner, cv2.DIST_L2, 3) * np.float32(scene.mpp)
    depth_um = np.minimum(depth, REACH_UM)
    outside = (~nucleus).astype(np.uint8)
    away, nearest = cv2.distanceTransformWithLabels(
        outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    border = np.zeros(box.shape, dtype=np.bool_)
    border[1:] |= nearest[1:] != nearest[:-1]
    border[:, 1:] |= nearest[:, 1:] != nearest[:, :-1]
    away_um = np.minimum(away * np.float32(scene.mpp), REACH_UM)
    return _Objects(
        box=box,
        labels=labels,
        nucleus=nucleus,
        gland=gland,
        depth_um=depth_um,
        away_um=away_um,
        border=border & ~nucleus & (away_um < 0.9 * REACH_UM),
    )


def _around(painter: Painter, objects: _Objects) -> Amounts:
    """Stain of everything that is not a nucleus."""
    layout, mpp, box = painter.scene.layout, painter.scene.mpp, objects.box
    textures = painter.textures
    mid, broad = textures.mid.at(box, shift=11), textures.broad.at(box, shift=23)
    away = objects.away_um
    epithelium = _share(sample(layout.epithelium, box, mpp=mpp) + mid + 3 * broad, softness_um=0.8)
    lymphoid = _share(sample(layout.lymphoid, box, mpp=mpp) + 4 * broad, softness_um=3.0)
    lymphoid *= 1 - epithelium
    stroma = 1 - epithelium - lymphoid
    cells, loose = _cytoplasm(textures, objects), _loose(textures, objects)
    fibres = _fibres(painter, box)
    white = _share(sample(layout.white, box, mpp=mpp) + 1.2 * mid + 2.0 * broad, softness_um=0.5)
    tissue = 1 - white * _share(away - 1.5 - 0.6 * mid, softness_um=0.35)
    gland = _gland(textures, objects)
    both = [
        np.where(objects.gland, g, (epithelium * c + stroma * f + lymphoid * w) * tissue)
        for g, c, f, w in zip(gland, cells, fibres, loose, strict=True)
    ]
    haematoxylin, eosin = (np.maximum(plane, 0) for plane in both)
    return Amounts(haematoxylin=haematoxylin, eosin=eosin, blood=np.zeros_like(eosin))


def _cytoplasm(textures: Textures, objects: _Objects) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin of epithelial cells: granular, with a faint membrane."""
    box = objects.box
    grain, mid, broad = (
        textures.grain.at(box, shift=5),
        textures.mid.at(box, shift=61),
        textures.broad.at(box, shift=77),
    )
    membrane = 1.6 * _soft(objects.border.astype(np.float32), 1.2)
    haematoxylin = 0.30 + 0.03 * grain + 0.04 * mid + 0.06 * broad
    eosin = 0.42 + 0.05 * grain + 0.07 * mid + 0.08 * broad + 0.3 * membrane
    return haematoxylin, eosin


def _fibres(painter: Painter, box: Box) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin of collagen: wavy bundles along the layout's fibres, with clefts."""
    scene, textures = painter.scene, painter.textures
    grain, mid, broad = (
        textures.grain.at(box, shift=9),
        textures.mid.at(box, shift=31),
        textures.broad.at(box, shift=53),
    )
    place = sample(scene.layout.fibre, box, mpp=scene.mpp) + 0.5 * mid + 2.0 * broad
    thick = _across(textures.thick, place) + 0.5 * textures.broad.at(box, shift=91)
    thin = _across(textures.thin, place)
    cleft = _share(thick + 0.35 * thin + 0.3 * mid - 1.25, softness_um=0.12)
    eosin = (0.62 - 0.17 * thick + 0.15 * thin + 0.05 * grain + 0.05 * mid) * (1 - 0.92 * cleft)
    haematoxylin = (0.14 + 0.02 * mid + 0.04 * broad) * (1 - cleft)
    return haematoxylin, eosin


def _loose(textures: Textures, objects: _Objects) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin between lymphocytes: thin cytoplasm and clear gaps."""
    mid = textures.mid.at(objects.box, shift=83)
    filled = 1 - 0.85 * _share(objects.away_um - 1.6 - 0.9 * mid, softness_um=0.35)
    return (0.27 + 0.04 * mid) * filled, (0.34 + 0.06 * mid) * filled


def _gland(textures: Textures, objects: _Objects) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin of a large object: mauve, vacuolated, with a dense border."""
    mid = textures.mid.at(objects.box, shift=17)
    broad = textures.broad.at(objects.box, shift=29)
    vacuole = _share(broad + 0.25 * mid - 0.75, softness_um=0.12)
    border = np.exp(-np.square(objects.depth_um / 1.6))
    haematoxylin = 0.34 + 0.05 * mid - 0.16 * vacuole + 0.25 * border
    eosin = 0.62 + 0.07 * mid - 0.42 * vacuole + 0.25 * border
    return haematoxylin, eosin


def _discs(discs: Discs, box: Box) -> Plane:
    """Soft discs of strength 1 in a box."""
    near = (
        (discs.x + discs.radius > box.x0)
        & (discs.x - discs.radius < box.x1)
        & (discs.y + discs.radius > box.y0)
        & (discs.y - discs.radius < box.y1)
    )
    out = np.zeros(box.shape, dtype=np.uint8)
    place = np.stack([discs.x - box.x0, discs.y - box.y0, discs.radius], axis=-1)[near]
    for x, y, radius in np.rint(place * (1 << SHIFT)).astype(int).tolist():
        cv2.circle(out, (x, y), radius, 255, thickness=-1, lineType=cv2.LINE_AA, shift=SHIFT)
    return _soft(out.astype(np.float32) * np.float32(1 / 255), 1.0)


def _soft(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px), dtype=np.float32)
