"""A picture of a scene as haematoxylin and eosin would stain it."""

from __future__ import annotations

from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.testing._stain import MOST_BLUR_UM, draw_stain
from slideloom.testing._tissue import REACH_UM, Painter, Textures, amounts
from slideloom.testing.scene import Scene
from slideloom.wsi.geometry import Box

BLOCK_PX = 512
"""Pictures are made in blocks of this fixed grid, so that a pixel never depends on the box."""

SENSOR_NOISE = 2.0
GLASS = np.array([243.0, 241.0, 243.0], dtype=np.float32)


def render_scene(scene: Scene, *, box: Box | None = None) -> NDArray[np.uint8]:
    """Picture `(y, x, 3)` of a scene, RGB, at the scene's mpp.

    Light is absorbed as in Beer-Lambert: each pixel's amounts of haematoxylin and eosin times
    their optical densities (Ruifrok and Johnston 2001).

    Args:
        scene: What to draw; `scene.seed` also sets stain strength and hue.
        box: Part of the slide to draw, None for all. Pixels do not depend on the box; outside
            the slide is empty glass.

    Examples:
        >>> from slideloom.testing import make_scene
        >>> from slideloom.wsi.geometry import Size
        >>> scene = make_scene(size=Size(width=600, height=400), mpp=0.25, seed=7)
        >>> render_scene(scene, box=Box(x0=100, y0=50, x1=164, y1=82)).shape
        (32, 64, 3)
    """
    box = Box.of_size(scene.size) if box is None else box
    painter = _painter(scene)
    out = np.full((*box.shape, 3), GLASS, dtype=np.uint8)
    seen = box.intersect(Box.of_size(scene.size))
    for row in range(seen.y0 // BLOCK_PX, ceil(seen.y1 / BLOCK_PX)):
        for col in range(seen.x0 // BLOCK_PX, ceil(seen.x1 / BLOCK_PX)):
            x0, y0 = col * BLOCK_PX, row * BLOCK_PX
            block = Box(x0=x0, y0=y0, x1=x0 + BLOCK_PX, y1=y0 + BLOCK_PX)
            part = block.intersect(seen)
            out[part.slices_in(box)] = _block(painter, block)[part.slices_in(block)]
    return out


def _painter(scene: Scene) -> Painter:
    rng = np.random.default_rng((scene.seed, 1))
    textures = Textures(rng, mpp=scene.mpp, span_px=BLOCK_PX + 2 * _margin_px(scene.mpp))
    return Painter(scene=scene, stain=draw_stain(rng, scene), textures=textures)


def _margin_px(mpp: float) -> int:
    return ceil((REACH_UM + 3 * MOST_BLUR_UM) / mpp) + 4


def _block(painter: Painter, box: Box) -> NDArray[np.uint8]:
    """Picture of one block, drawn from a wider window."""
    mpp = painter.scene.mpp
    wide = box.grow(_margin_px(mpp))
    stained = amounts(painter, wide)
    # Below a third of a pixel OpenCV's kernel would be a single 1.
    blur_px = max(painter.stain.blur_um / mpp, 0.3)
    planes = [
        cv2.GaussianBlur(plane, (0, 0), blur_px)[box.slices_in(wide)]
        for plane in (stained.haematoxylin, stained.eosin, stained.blood)
    ]
    light = np.exp(-np.stack(planes, axis=-1) @ painter.stain.vectors) * GLASS
    fine = painter.textures.fine
    noise = np.stack([fine.at(box, shift=shift) for shift in (101, 202, 303)], axis=-1)
    seen = np.clip(np.rint(light + SENSOR_NOISE * noise), 0, 255)
    return np.asarray(seen, dtype=np.uint8)
