"""Putting objects into a label image so that no two share a pixel."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.testing._layout import PITCH_UM, WALL_UM, Layout
from slideloom.testing._shapes import (
    SHIFT,
    Candidates,
    Look,
    large_outlines,
    largest_piece,
    nucleus_outlines,
    paint,
)
from slideloom.wsi.geometry import Size

OVERSAMPLING = 5
RING_SHARE = 0.4
RING_SPACING_UM = 9.5
GAP_UM = 0.7
MAX_OVERLAP = 0.12
MIN_VISIBLE = 0.25
TOUCHING = {Look.LYMPHOCYTE: 0.45, Look.TUMOUR: 0.25, Look.STROMAL: 0.1}
"""Share of nuclei that may touch, and be dented by, a neighbour."""


def add_large(
    rng: np.random.Generator,
    labels: NDArray[np.int32],
    *,
    layout: Layout,
    label: int,
    radius_um: float,
    mpp: float,
) -> None:
    """Paint one large object where it is free, smaller if it finds no room.

    Half of the lumens are empty glass in `layout`; in the others tissue goes on.

    Raises:
        SettingsError: No room even for a tiny one.
    """
    height, width = labels.shape
    radius_px = radius_um / mpp * float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
    while radius_px >= 4:
        for _ in range(20):
            outer, holes = large_outlines(rng, radius_px=radius_px)
            shift = rng.uniform(size=2) * (width, height)
            outlines = [ring + shift for ring in (outer, *holes)]
            if _paint_if_free(labels, outlines, label=label):
                for hole in outlines[1:]:
                    if rng.uniform() < 0.5:
                        _open_lumen(layout, hole * mpp)
                return
        radius_px *= 0.85
    msg = (
        f"no room for large object {label} on a slide of {width} x {height} px: "
        "ask for fewer large objects or a larger slide"
    )
    raise SettingsError(msg)


def candidates(
    rng: np.random.Generator, layout: Layout, *, size: Size, mpp: float, count: int
) -> Candidates:
    """More nuclei than `count`: those of the gland-like rings first, then all others shuffled."""
    in_rings = _ring_nuclei(rng, layout, most=round(RING_SHARE * count))
    loose = _loose_nuclei(rng, layout, size=size, mpp=mpp, count=OVERSAMPLING * count)
    return Candidates(
        xy_um=np.concatenate([in_rings.xy_um, loose.xy_um]),
        angle=np.concatenate([in_rings.angle, loose.angle]),
        look=np.concatenate([in_rings.look, loose.look]),
    )


def add_nuclei(
    rng: np.random.Generator,
    labels: NDArray[np.int32],
    *,
    nuclei: Candidates,
    mpp: float,
    target: int,
) -> NDArray[np.intp]:
    """Paint candidates in order until `target` are in; the indices of those that found room.

    Labels go on from the largest one in `labels`.
    """
    outlines = nucleus_outlines(rng, nuclei, mpp=mpp)
    share = np.array([TOUCHING[Look.LYMPHOCYTE], TOUCHING[Look.TUMOUR], TOUCHING[Look.STROMAL]])
    may_touch = rng.uniform(size=len(nuclei)) < share[nuclei.look]
    gap_px = max(1, round(GAP_UM / mpp))
    low = np.floor(outlines.min(axis=1)).astype(int) - gap_px - 1
    high = np.ceil(outlines.max(axis=1)).astype(int) + gap_px + 2
    low_seen, high_seen = np.maximum(low, 0), np.minimum(high, labels.shape[::-1])
    fixed = np.rint((outlines - low_seen[:, None, :]) * (1 << SHIFT)).astype(np.int32)
    full = _areas(outlines)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * gap_px + 1, 2 * gap_px + 1))
    kernel = disc.astype(np.uint8)
    label = int(labels.max())
    kept: list[int] = []
    for i in range(len(nuclei)):
        if len(kept) == target:
            break
        (x0, y0), (x1, y1) = low_seen[i], high_seen[i]
        if x0 >= x1 or y0 >= y1:
            continue
        crop = labels[y0:y1, x0:x1]
        mask = np.zeros(crop.shape, np.uint8)
        cv2.fillPoly(mask, [fixed[i]], 1, lineType=cv2.LINE_8, shift=SHIFT)
        piece = _free_piece(mask, crop, gap=None if may_touch[i] else kernel)
        if piece is None or np.count_nonzero(piece) < MIN_VISIBLE * full[i]:
            continue
        label += 1
        crop[piece != 0] = label
        kept.append(i)
    return np.array(kept, dtype=np.intp)


def _free_piece(
    mask: NDArray[np.uint8], crop: NDArray[np.int32], *, gap: NDArray[np.uint8] | None
) -> NDArray[np.uint8] | None:
    """The part of a nucleus that is free, or None where it would cover or crowd others."""
    if not crop.any():
        return largest_piece(mask)
    taken = crop != 0
    if gap is not None:
        return None if np.any(cv2.dilate(mask, gap)[taken]) else largest_piece(mask)
    covered = np.count_nonzero(mask[taken])
    if covered > MAX_OVERLAP * np.count_nonzero(mask):
        return None
    mask[taken] = 0
    return largest_piece(mask)


def _paint_if_free(
    labels: NDArray[np.int32], outlines: list[NDArray[np.float64]], *, label: int
) -> bool:
    low = np.floor(outlines[0].min(axis=0)).astype(int) - 1
    high = np.ceil(outlines[0].max(axis=0)).astype(int) + 2
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, labels.shape[::-1])
    crop = labels[y0:y1, x0:x1]
    mask = paint([ring - (x0, y0) for ring in outlines], shape=crop.shape)
    if np.any(crop[mask != 0]):
        return False
    piece = largest_piece(mask)
    whole = _areas(outlines[0][None])[0] - sum(_areas(hole[None])[0] for hole in outlines[1:])
    if np.count_nonzero(piece) < MIN_VISIBLE * whole or not piece.any():
        return False
    crop[piece != 0] = label
    return True


def _open_lumen(layout: Layout, hole_um: NDArray[np.float64]) -> None:
    rows, cols = layout.white.shape
    inside = paint([hole_um / PITCH_UM], shape=(rows, cols))
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5) * np.float32(PITCH_UM)
    layout.white[inside != 0] = np.maximum(layout.white, away)[inside != 0]


def _areas(outlines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas of rings `(n, points, 2)` by the shoelace formula."""
    x, y = outlines[..., 0], outlines[..., 1]
    cross = x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)
    return np.asarray(np.abs(cross.sum(axis=1)) / 2)


def _ring_nuclei(rng: np.random.Generator, layout: Layout, *, most: int) -> Candidates:
    """Nuclei around each lumen, their long axes pointing outwards; whole rings, at most `most`."""
    xy, angle = [np.zeros((0, 2))], [np.zeros(0)]
    room = most
    for x, y, radius in layout.rings:
        middle = radius + 0.45 * WALL_UM
        count = int(2 * np.pi * middle / RING_SPACING_UM)
        if count > room:
            continue
        room -= count
        turn = 2 * np.pi * (np.arange(count) + rng.uniform(-0.15, 0.15, count)) / count
        away = middle + rng.normal(0, 1.3, count)
        xy.append(np.stack([x + away * np.cos(turn), y + away * np.sin(turn)], axis=-1))
        angle.append(turn + rng.normal(0, 0.2, count))
    angles = np.concatenate(angle)
    look = np.full(len(angles), Look.TUMOUR, dtype=np.uint8)
    return Candidates(xy_um=np.concatenate(xy), angle=angles, look=look)


def _loose_nuclei(
    rng: np.random.Generator, layout: Layout, *, size: Size, mpp: float, count: int
) -> Candidates:
    """Nuclei drawn by the tissue's density; none in empty glass."""
    epithelium, lymphoid = layout.epithelium > 0, layout.lymphoid > 0
    tumour = np.where(epithelium, 1.0, 0.0)
    lymphocyte = np.where(lymphoid, 2.6, np.where(epithelium, 0.06, 0.12))
    stromal = np.where(epithelium | lymphoid, 0.04, 0.28)
    tissue = np.clip(-layout.white / 5.0, 0, 1)
    tissue[int(size.height * mpp / PITCH_UM) + 1 :] = 0
    tissue[:, int(size.width * mpp / PITCH_UM) + 1 :] = 0
    weight = np.stack([lymphocyte, tumour, stromal]) * tissue
    total = np.cumsum(weight)
    if total[-1] == 0:
        count = 0
    drawn = np.searchsorted(total, rng.uniform(0, total[-1], count), side="right")
    look, row, col = np.unravel_index(np.minimum(drawn, weight.size - 1), weight.shape)
    nodes = np.stack([col, row], axis=-1) + rng.uniform(-0.5, 0.5, (count, 2))
    along_fibre = layout.fibre_angle()[row, col] + rng.normal(0, 0.12, count)
    any_way = rng.uniform(0, 2 * np.pi, count)
    angle = np.where(look == Look.STROMAL, along_fibre, any_way)
    return Candidates(xy_um=nodes * PITCH_UM, angle=angle, look=look.astype(np.uint8))
