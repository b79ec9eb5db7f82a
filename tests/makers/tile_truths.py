"""Annotations of a tile, made of labels or boxes."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.models.spec import Architecture, Decode, ModelClass, ModelSpec, Normalisation, Task
from slideloom.models.truth import TileTruth

Labels = NDArray[np.int32]


def truth_of(
    instances: Labels, class_id: NDArray[np.int16], *, classes: int, known: float = 1.0
) -> TileTruth:
    """All that is known of labelled objects; of the tile's right, only the left part is known."""
    number = np.concatenate([[0], class_id + 1])[instances]
    masks = number == np.arange(1, classes + 1)[:, None, None]
    found = ndimage.find_objects(instances, max_label=len(class_id))
    rows = [(0, 0, 0, 0) if at is None else _box(at) for at in found]
    seen = np.arange(instances.shape[1]) < known * instances.shape[1]
    return TileTruth(
        masks=masks,
        instances=instances,
        boxes=np.array(rows, np.float32).reshape(-1, 4),
        class_id=class_id,
        labels=masks.any(axis=(1, 2)),
        known=np.broadcast_to(seen, instances.shape).copy(),
    )


def _box(at: tuple[slice, slice]) -> tuple[int, int, int, int]:
    y, x = at
    return (x.start, y.start, x.stop, y.stop)


def discs(
    *centres: tuple[int, int], radius: float = 7, shape: tuple[int, int] = (48, 48)
) -> Labels:
    """Objects at centres `(y, x)`; where they meet, each pixel belongs to the nearest."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    away = np.stack([np.hypot(y - at_y, x - at_x) for at_y, at_x in centres])
    return np.where(away.min(axis=0) <= radius, away.argmin(axis=0) + 1, 0).astype(np.int32)


def head_spec(task: Task, kind: str, *, classes: int = 1, tile_px: int = 64) -> ModelSpec:
    """A spec whose head is the one of a task and kind."""
    reads = task in ("instance", "detection")
    return ModelSpec(
        name="small",
        task=task,
        architecture=Architecture(name="Unet", encoder="resnet18"),
        classes=tuple(ModelClass(name=f"c{i}", color=(i, 0, 0)) for i in range(classes)),
        overlapping=kind == "overlapping",
        mpp=0.5,
        tile_px=tile_px,
        halo_px=8,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=Decode(name=kind) if reads else None,
        licence="CC0",
        training_data="none",
    )
