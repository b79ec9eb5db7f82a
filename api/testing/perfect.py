"""A model that answers each tile with the truth, so that only the weaving can be wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as label_pieces

from slideloom.errors import SettingsError
from slideloom.models.spec import Decode, ModelSpec, Normalisation
from slideloom.models.tile_model import TileBatch
from slideloom.testing.scene import Scene
from slideloom.wsi.geometry import Box


def perfect_spec(
    scene: Scene,
    *,
    task: Literal["semantic", "instance"],
    tile_px: int,
    halo_px: int,
    overlapping: bool = False,
) -> ModelSpec:
    """The spec of a `PerfectTileModel`: the scene's classes and mpp, and no network.

    Raises:
        ValidationError: The halo leaves no core (pydantic's).
    """
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
        decode=Decode(name="labels") if task == "instance" else None,
        licence="Apache-2.0",
        training_data="none: it knows the scene",
    )


class PerfectTileModel:
    """A `TileModel` that returns the truth of whatever window it sees.

    Objects are cut at the window's edge: each 4-connected piece of a cut object gets an id of its
    own. Ids are 1..n in an order that differs between windows, so nothing can lean on them.
    Outside the slide there is nothing. Pixels are not looked at. It pickles; a copy in another
    process counts its own calls.

    Attributes:
        spec: What the model is.

    Raises:
        SettingsError: The spec's mpp or classes are not the scene's, or its task has no masks.

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
        if spec.task not in ("semantic", "instance"):
            msg = (
                f"a perfect model has task semantic or instance, got {spec.task}: choose one of "
                "the two"
            )
            raise SettingsError(msg)
        self.spec = spec
        self._scene = scene
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
        """
        self._asked.extend(batch.windows)
        answer = self._instances if self.spec.task == "instance" else self._probabilities
        if not batch.windows:
            side = self.spec.tile_px
            return answer(Box(x0=0, y0=0, x1=side, y1=side))[None][:0]
        return np.stack([answer(window) for window in batch.windows])

    def _instances(self, window: Box) -> NDArray[np.int32]:
        labels = self._scene.labels_in(window)
        pieces = label_pieces(labels, background=0, connectivity=1)
        place = (window.x0, window.y0, window.x1, window.y1)
        # A seed has to be >= 0, and a window may start left of the slide.
        rng = np.random.default_rng([value % 2**32 for value in place])
        ids = np.concatenate([[0], 1 + rng.permutation(int(pieces.max(initial=0)))])
        return np.stack([ids[pieces], self._scene.classes_in(window)], axis=-1).astype(np.int32)

    def _probabilities(self, window: Box) -> NDArray[np.float32]:
        channels = np.arange(1 if self.spec.overlapping else 0, len(self.spec.classes) + 1)
        at_pixel = self._scene.classes_in(window)[..., None]
        return np.asarray(at_pixel == channels, dtype=np.float32)
