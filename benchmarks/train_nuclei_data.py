"""Images with nuclei for training and measuring the built-in model, all at 0.5 um/px."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from slideloom.testing.render import render_scene
from slideloom.testing.scene import make_scene
from slideloom.wsi.geometry import Size

MPP = 0.5
"""Of the model, and of every picture here."""

NUCLS_MPP = 0.25
MONUSEG_MPP = 0.25

TYPICAL_AREA_PX = 85
"""Median nucleus of the NuCLS images at 0.5 um/px; DSB images state no mpp and are scaled to it."""

SAME_FIELD_MATCHES = 12
"""Key points that must agree on one shift and turn before two images count as one field."""

SYNTHETIC_TRAIN_SEEDS = tuple(range(100, 112))
SYNTHETIC_TEST_SEEDS = (900, 901, 902)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One annotated image.

    Attributes:
        name: File name without its ending.
        rgb: `(y, x, 3)`, uint8.
        labels: `(y, x)`, uint16 instances, 0 = background.
        distance: `(y, x)`, float32: 0 outside and at an object's border, 1 at its innermost point.
        one_stain: Whether it lacks the pink of H&E.
    """

    name: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    distance: NDArray[np.float32]
    one_stain: bool


def inner_distance(labels: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Distance to the object's border over the object's greatest such distance."""
    inside = labels > 0
    for axis in (0, 1):
        differs = np.diff(labels.astype(np.int32), axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        inside[tuple(before)] &= ~differs
        inside[tuple(after)] &= ~differs
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5).astype(np.float32)
    distance += np.float32(0.5) * (labels > 0)
    greatest = np.full(int(labels.max()) + 1, 1e-6, np.float32)
    np.maximum.at(greatest, labels.ravel(), distance.ravel())
    return distance / greatest[labels]


def _picture(
    name: str,
    rgb: NDArray[np.uint8],
    *,
    labels: NDArray[np.uint16],
    scale: float,
    one_stain: bool = False,
) -> Picture:
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    if scale != 1:
        rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        labels = _shrink(labels, width=width, height=height)
    return Picture(
        name=name,
        rgb=rgb,
        labels=labels,
        distance=inner_distance(labels),
        one_stain=one_stain,
    )


def _shrink(labels: NDArray[np.uint16], *, width: int, height: int) -> NDArray[np.uint16]:
    shrunk = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return shrunk.astype(np.uint16)


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(path)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _read_labels(path: Path) -> NDArray[np.uint16]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise FileNotFoundError(path)
    return image.astype(np.uint16)


def nucls(data: Path, part: str) -> list[Picture]:
    """NuCLS examples, `part` is `train` or `test`: H&E of breast."""
    folder = data / "nucls_examples" / part
    return [
        _picture(
            path.stem,
            _read(path),
            labels=_read_labels(folder / "instances" / path.name),
            scale=NUCLS_MPP / MPP,
        )
        for path in sorted((folder / "images").glob("*.png"))
    ]


def dsb(data: Path) -> list[Picture]:
    """Bright-field images of the Data Science Bowl 2018, in the order of their manifest.

    They state no mpp. Their zoom comes in three steps, which the median nucleus tells apart; each
    step has one scale, so that an image with few nuclei does not choose its own.
    """
    folder = data / "dsb2018_brightfield"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        names = [row["id"][:16] for row in csv.DictReader(file)]
    pictures = []
    for name in names:
        labels = _read_labels(folder / "labels" / f"{name}.png")
        area = float(np.median(np.bincount(labels.ravel())[1:]))
        step = 1100 if area > 550 else 340 if area > 250 else 180
        scale = (TYPICAL_AREA_PX / step) ** 0.5
        rgb = _read(folder / "images" / f"{name}.png")
        red, _, blue = rgb.reshape(-1, 3).mean(axis=0)
        pictures.append(_picture(name, rgb, labels=labels, scale=scale, one_stain=bool(red < blue)))
    return pictures


def split_dsb(
    pictures: list[Picture], *, share: float = 0.2
) -> tuple[list[Picture], list[Picture]]:
    """Training and held-out images; images that show the same field stay together."""
    groups = _same_field(pictures)
    order = np.random.default_rng(2018).permutation(len(groups))
    held_out: list[int] = []
    for index in order:
        if len(held_out) >= share * len(pictures):
            break
        held_out += groups[index]
    train = [picture for index, picture in enumerate(pictures) if index not in set(held_out)]
    return train, [pictures[index] for index in sorted(held_out)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyPoints:
    """Places `(n, 2)` in pixels, and a binary word `(n, 32)` for the look of each."""

    at: NDArray[np.float32]
    words: NDArray[np.uint8]


def _key_points(picture: Picture) -> _KeyPoints:
    finder = cv2.ORB.create(nfeatures=400, fastThreshold=8, edgeThreshold=8, patchSize=15)
    grey = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2GRAY)
    points, words = finder.detectAndCompute(grey, None)
    return _KeyPoints(
        at=np.array([point.pt for point in points], np.float32).reshape(-1, 2),
        words=np.zeros((0, 32), np.uint8) if words is None else words.astype(np.uint8),
    )


def _same_field(pictures: list[Picture]) -> list[list[int]]:
    """Groups of images that share a piece of tissue, told by matching key points."""
    found = [_key_points(picture) for picture in pictures]
    group = list(range(len(pictures)))
    for one in range(len(pictures)):
        for two in range(one):
            if group[one] != group[two] and _overlap(found[one], found[two]):
                old, new = group[one], group[two]
                group = [new if value == old else value for value in group]
    return [[i for i, value in enumerate(group) if value == g] for g in sorted(set(group))]


def _overlap(one: _KeyPoints, two: _KeyPoints) -> bool:
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.words, two.words)
    if len(matches) < SAME_FIELD_MATCHES:
        return False
    source = one.at[[match.queryIdx for match in matches]]
    target = two.at[[match.trainIdx for match in matches]]
    _, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=2.0)
    return inliers is not None and int(inliers.sum()) >= SAME_FIELD_MATCHES


def monuseg(data: Path) -> list[Picture]:
    """MoNuSeg 2018 training images: never trained on here (CC BY-NC-SA), only measured."""
    folder = data / "monuseg_train"
    pictures = []
    for path in sorted((folder / "images").glob("*.png")):
        rgb = _read(path)
        labels = np.zeros(rgb.shape[:2], np.uint16)
        tree = ElementTree.parse(folder / "annotations" / f"{path.stem}.xml")
        for number, region in enumerate(tree.iter("Region"), start=1):
            outline = [(float(v.get("X", 0)), float(v.get("Y", 0))) for v in region.iter("Vertex")]
            if len(outline) >= 3:
                cv2.fillPoly(labels, [np.round(np.array(outline)).astype(np.int32)], number)
        pictures.append(_picture(path.stem, rgb, labels=labels, scale=MONUSEG_MPP / MPP))
    return pictures


def synthetic(seeds: tuple[int, ...], *, side_px: int = 384) -> list[Picture]:
    """Made slides with exact truth; every seed has its own density of nuclei."""
    pictures = []
    for seed in seeds:
        density = float(np.random.default_rng(seed).uniform(1500, 7000))
        scene = make_scene(
            size=Size(width=side_px, height=side_px), mpp=MPP, seed=seed, nuclei_per_mm2=density
        )
        labels = scene.labels.astype(np.uint16)
        pictures.append(_picture(f"seed-{seed}", render_scene(scene), labels=labels, scale=1))
    return pictures
