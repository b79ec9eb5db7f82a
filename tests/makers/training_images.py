"""Small annotated images to train on: pictures, GeoJSON beside them, and the truth by pixel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from slideloom.models.spec import ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.truth import TileTruth
from slideloom.workflows.training.annotated import AnnotatedImage
from slideloom.workflows.training.config import PALETTE, Split
from slideloom.workflows.training.samples import Sample
from slideloom.wsi.geometry import Box, Size

AnyScalar = TypeVar("AnyScalar", bound=np.generic)


def write_picture(path: Path, *, width: int = 64, height: int = 48, seed: int = 0) -> Path:
    """A PNG or JPEG of noise; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels)
    return path


def write_geojson(path: Path, objects: Sequence[tuple[str, shapely.Geometry]]) -> Path:
    """QuPath annotations, in drawing order; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shape)),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": [200, 0, 0]},
            },
        }
        for name, shape in objects
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def write_text(path: Path, text: str) -> Path:
    """A text file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_sample(name: str, *, case: str | None = None, split: Split | None = None) -> Sample:
    """A sample that no test opens."""
    return Sample(
        image=Path(name),
        annotations=None,
        coco_name=None,
        case=case or name,
        split=split,
        labels=(),
    )


def make_spec(
    task: Task = "semantic",
    *,
    classes: int = 2,
    overlapping: bool = False,
    tile_px: int = 64,
    halo_px: int = 8,
) -> ModelSpec:
    """A spec without a network, of 0.5 um/px."""
    return ModelSpec.model_validate(
        {
            "name": "tiny",
            "task": task,
            "architecture": None,
            "classes": [ModelClass(name=f"c{k}", color=PALETTE[k]) for k in range(classes)],
            "overlapping": overlapping,
            "mpp": 0.5,
            "tile_px": tile_px,
            "halo_px": halo_px,
            "normalisation": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
            "decode": {"name": "any"} if task in ("instance", "detection") else None,
            "licence": "CC0",
            "training_data": "noise",
        }
    )


def make_image(
    objects: Sequence[tuple[int, shapely.Geometry]] = (),
    *,
    path: Path = Path("none.png"),
    size: Size | None = None,
    mpp: float = 0.5,
    labels: Sequence[bool] = (False, False),
    area: shapely.Geometry | None = None,
) -> AnnotatedImage:
    """An image of 200 x 150 px with objects `(class, shape)`, for a model of 0.5 um/px."""
    geometry = np.empty(len(objects), object)
    geometry[:] = [shape for _, shape in objects]
    return AnnotatedImage(
        sample=make_sample(str(path)),
        size=size or Size(width=200, height=150),
        mpp=mpp,
        stated=False,
        read_mpp=0.5,
        geometry=geometry,
        class_id=np.array([class_id for class_id, _ in objects], np.int16),
        labels=np.array(labels, np.bool_),
        area=area,
    )


def blobs(count: int, *, size: Size, seed: int) -> list[tuple[int, shapely.Geometry]]:
    """Wavy outlines of two classes, some with holes, many of which overlap or leave the image."""
    rng = np.random.default_rng(seed)
    made: list[tuple[int, shapely.Geometry]] = []
    for _ in range(count):
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = rng.uniform(3, 25) * (1 + 0.3 * np.sin(3 * angles + rng.uniform(0, 6)))
        middle = rng.uniform(0, [size.width, size.height])
        ring = middle + radius[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        holes = [middle + 0.4 * (ring - middle)] if rng.random() < 0.4 else []
        made.append((int(rng.integers(2)), shapely.Polygon(ring, holes)))
    return made


def slow_masks(
    image: AnnotatedImage, *, overlapping: bool
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Masks `(2, y, x)` and places of owners plus 1 `(y, x)` of a whole image, pixel by pixel."""
    extent = image.extent
    y, x = np.mgrid[0 : extent.height, 0 : extent.width]
    masks = np.zeros((2, *extent.shape), np.bool_)
    owner = np.zeros(extent.shape, np.int32)
    for k, (shape, class_id) in enumerate(zip(image.geometry, image.class_id, strict=True)):
        inside = shapely.contains_xy(shape, (x + 0.5) * image.scale, (y + 0.5) * image.scale)
        if not overlapping:
            masks[:, inside] = False
        masks[class_id, inside] = True
        owner[inside] = k + 1
    return masks, owner


def assert_same_truth(one: TileTruth, other: TileTruth) -> None:
    """Every array is the same."""
    for name in TileTruth.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def cut(array: NDArray[AnyScalar], window: Box) -> NDArray[AnyScalar]:
    """The part of `(..., y, x)` in a window; False or 0 outside."""
    height, width = array.shape[-2:]
    found = np.zeros((*array.shape[:-2], *window.shape), array.dtype)
    inside = window.intersect(Box(x0=0, y0=0, x1=width, y1=height))
    rows, cols = inside.slices_in(window)
    found[..., rows, cols] = array[..., inside.y0 : inside.y1, inside.x0 : inside.x1]
    return found
