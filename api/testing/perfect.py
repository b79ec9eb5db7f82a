"""A model that answers each tile with the truth, so that only the weaving can be wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label as label_pieces

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec, Normalisation, Task
from slideloom.models.tile_model import TileBatch
from slideloom.testing.scene import Scene
from slideloom.wsi.geometry import Box


def perfect_spec(
    scene: Scene,
    *,
    task: Task,
    tile_px: int,
    halo_px: int,
    overlapping: bool = False,
    points: bool = False,
) -> ModelSpec:
    """The spec of a `PerfectTileModel`: the scene's classes and mpp, and no network.

    Args:
        scene: What the model knows.
        task: What it answers.
        tile_px: Side of a tile.
        halo_px: Context on each side of it.
        overlapping: For `semantic` and `classification`: whether labels may overlap.
        points: For `detection`: centres of objects, not their boxes.

    Raises:
        ValidationError: The halo leaves no core (pydantic's).
    """
    decodes = {
        "instance": Decode(name="labels"),
        "detection": Decode(name="boxes", settings={"points": int(points)}),
    }
    return ModelSpec(
        name="perfect",
        task=task,
        architecture=None,
        classes=scene.classes,
        overlapping=overlapping,
        mpp=scene.mpp,
        tile_px=tile_px,
        halo_px=halo_px,
        normalisation=Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        decode=decodes.get(task),
        licence="Apache-2.0",
        training_data="none: it knows the scene",
    )


class PerfectTileModel:
    """A `TileModel` that returns the truth of whatever window it sees.

    Objects are cut at the window's edge: each 4-connected piece of a cut object gets an id of its
    own. Ids are 1..n in an order that differs between windows, so nothing can lean on them. A
    detector gives the box of each piece, or the centroid of each whole object whose centroid lies
    in the window, in an order that differs too. Outside the slide there is nothing. Pixels are not
    looked at. It pickles; a copy in another process counts its own calls.

    Attributes:
        spec: What the model is.

    Raises:
        SettingsError: The spec's mpp or classes are not the scene's.

    Examples:
        >>> from slideloom.testing import make_scene
        >>> from slideloom.wsi.geometry import Size
        >>> scene = make_scene(size=Size(width=600, height=400), mpp=0.25, seed=7)
        >>> spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
        >>> model = PerfectTileModel(scene, spec=spec)
        >>> window = Box(x0=-32, y0=-32, x1=224, y1=224)
        >>> pixels = np.zeros((1, 256, 256, 3), dtype=np.uint8)
        >>> model.predict(TileBatch(pixels=pixels, windows=(window,))).shape
        (1, 256, 256, 2)
    """

    def __init__(self, scene: Scene, *, spec: ModelSpec) -> None:
        if spec.mpp != scene.mpp or spec.classes != scene.classes:
            msg = (
                f"a perfect model answers at its scene's mpp {scene.mpp} and in its classes, got "
                f"a spec with mpp {spec.mpp} and classes {[item.name for item in spec.classes]}: "
                "build the spec with perfect_spec"
            )
            raise SettingsError(msg)
        self.spec = spec
        self._scene = scene
        decode = spec.decode
        gives_points = decode is not None and decode.settings.get("points") == 1
        self._centroids = scene.centroids if gives_points else None
        # A list's append needs no lock, so threads may share the model and it still pickles.
        self._asked: list[Box] = []

    @property
    def calls(self) -> Counter[Box]:
        """How often each window was asked for, in this process."""
        return Counter(self._asked)

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """The truth of each window.

        Returns:
            For `instance`: `(n, y, x, 2)` int32, instance id and class id, 0 = no object.
            For `semantic`: `(n, y, x, c)` float32 of 0 and 1: background and then the classes, or
            the classes alone where labels may overlap.
            For `detection`: `(n, k, 6)` float32, what the decode `boxes` reads; `k` is that of the
            window with most objects, and rows of class 0 fill the others. A point is a box of no
            size.
            For `classification`: `(n, 1, 1, k)` float32, of the pixels in the window without its
            halo: the share that class `c` covers, where labels may overlap; else how likely `c` is
            by Laplace's rule, `(pixels of c + 1) / (pixels of all classes + k)`.
        """
        self._asked.extend(batch.windows)
        if self.spec.task == "detection":
            return _stack_rows([self._detections(window) for window in batch.windows])
        if self.spec.task == "classification":
            shares = [self._shares(window.grow(-self.spec.halo_px)) for window in batch.windows]
            return np.array(shares, np.float32).reshape(-1, 1, 1, len(self.spec.classes))
        answer = self._instances if self.spec.task == "instance" else self._probabilities
        if not batch.windows:
            side = self.spec.tile_px
            return answer(Box(x0=0, y0=0, x1=side, y1=side))[None][:0]
        return np.stack([answer(window) for window in batch.windows])

    def _instances(self, window: Box) -> NDArray[np.int32]:
        labels = self._scene.labels_in(window)
        pieces = label_pieces(labels, background=0, connectivity=1)
        rng = _shuffler(window)
        ids = np.concatenate([[0], 1 + rng.permutation(int(pieces.max(initial=0)))])
        return np.stack([ids[pieces], self._scene.classes_in(window)], axis=-1).astype(np.int32)

    def _probabilities(self, window: Box) -> NDArray[np.float32]:
        channels = np.arange(1 if self.spec.overlapping else 0, len(self.spec.classes) + 1)
        at_pixel = self._scene.classes_in(window)[..., None]
        return np.asarray(at_pixel == channels, dtype=np.float32)

    def _shares(self, core: Box) -> NDArray[np.float64]:
        """`(k,)`, how much of a tile each class has."""
        count = len(self.spec.classes)
        pixels = np.bincount(self._scene.classes_in(core).ravel(), minlength=count + 1)[1:]
        if self.spec.overlapping:
            return np.asarray(pixels / (core.width * core.height))
        return np.asarray((pixels + 1) / (pixels.sum() + count))

    def _detections(self, window: Box) -> NDArray[np.float32]:
        """Rows `x0, y0, x1, y1, score, class` in pixels of the window, shuffled."""
        corner = np.array([window.x0, window.y0])
        if self._centroids is not None:
            at = self._centroids - corner
            index = np.flatnonzero(((at >= 0) & (at < [window.width, window.height])).all(axis=1))
            boxes, class_id = np.tile(at[index], 2), self._scene.class_id[index]
        else:
            pieces = label_pieces(self._scene.labels_in(window), background=0, connectivity=1)
            found = ndimage.find_objects(pieces)
            edges = [(x.start, y.start, x.stop, y.stop) for y, x in found]
            boxes = np.array(edges, np.float64).reshape(-1, 4)
            numbers, first = np.unique(pieces, return_index=True)
            class_id = self._scene.classes_in(window).ravel()[first[numbers > 0]]
        rows = np.column_stack([boxes, np.ones(len(boxes)), class_id]).astype(np.float32)
        return _shuffler(window).permutation(rows)


def _shuffler(window: Box) -> np.random.Generator:
    """The same for a window at every call."""
    place = (window.x0, window.y0, window.x1, window.y1)
    # A seed has to be >= 0, and a window may start left of the slide.
    return np.random.default_rng([value % 2**32 for value in place])


def _stack_rows(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Rows `(k, 6)` of several windows as `(n, k, 6)`, filled up with zeros."""
    out = np.zeros((len(parts), max(map(len, parts), default=0), 6), np.float32)
    for rows, part in zip(out, parts, strict=True):
        rows[: len(part)] = part
    return out
