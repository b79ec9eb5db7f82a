"""Synthetic tissue with exact ground truth: which object owns which pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelClass
from slideloom.testing._layout import Layout, make_layout
from slideloom.testing._placing import add_large, add_nuclei, candidates
from slideloom.testing._shapes import Look
from slideloom.wsi.geometry import Box, Size

NUCLEUS = ModelClass(name="nucleus", color=(74, 58, 167))
GLAND = ModelClass(name="gland", color=(27, 158, 119))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Objects on a slide, known to the pixel.

    Attributes:
        labels: `(y, x)` at level 0: 0 is no object, `i` is instance `i` of 1..n. Each instance is
            one 4-connected piece, and no two share a pixel.
        class_id: `(n,)`, class of instance `i` at `i - 1`; class `c` is `classes[c - 1]`.
        classes: Names and colours.
        mpp: Micrometres per pixel.
        seed: The seed that the scene was drawn from; its picture is drawn from it too.
        look: `(n,)`, what each instance looks like, values of `Look`.
        layout: The tissue around the objects.
    """

    labels: NDArray[np.int32]
    class_id: NDArray[np.int16]
    classes: tuple[ModelClass, ...]
    mpp: float
    seed: int
    look: NDArray[np.uint8]
    layout: Layout

    def __len__(self) -> int:
        return len(self.class_id)

    @property
    def size(self) -> Size:
        """Pixels of the slide."""
        height, width = self.labels.shape
        return Size(width=width, height=height)

    @property
    def boxes(self) -> NDArray[np.int64]:
        """`(n, 4)`, half-open `x0, y0, x1, y1` of each instance; computed on each access."""
        found = ndimage.find_objects(self.labels, max_label=len(self))
        rows = [(x.start, y.start, x.stop, y.stop) for y, x in found]
        return np.array(rows, dtype=np.int64).reshape(-1, 4)

    @property
    def centroids(self) -> NDArray[np.float64]:
        """`(n, 2)`, mean pixel centre `(x, y)` of each instance; computed on each access."""
        flat = np.flatnonzero(self.labels)
        owner = self.labels.ravel()[flat]
        y, x = np.divmod(flat, self.size.width)
        total = np.bincount(owner, minlength=len(self) + 1)[1:]
        sums = [np.bincount(owner, place + 0.5, minlength=len(self) + 1)[1:] for place in (x, y)]
        return np.column_stack(sums) / total[:, None]

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """`(n,)`, pixels of each instance; computed on each access."""
        return np.bincount(self.labels.ravel(), minlength=len(self) + 1)[1:].astype(np.int64)

    @property
    def class_areas_px(self) -> NDArray[np.int64]:
        """`(classes,)`, pixels of each class."""
        total = np.bincount(self.class_id, weights=self.areas_px, minlength=len(self.classes) + 1)
        return total[1:].astype(np.int64)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """`(classes,)`, instances of each class."""
        return np.bincount(self.class_id, minlength=len(self.classes) + 1)[1:].astype(np.int64)

    @property
    def touches_edge(self) -> NDArray[np.bool_]:
        """`(n,)`, whether the slide's edge may have cut the instance."""
        edge = (self.labels[0], self.labels[-1], self.labels[:, 0], self.labels[:, -1])
        touching = np.zeros(len(self) + 1, dtype=np.bool_)
        touching[np.concatenate(edge)] = True
        return touching[1:]

    def labels_in(self, box: Box) -> NDArray[np.int32]:
        """Labels `(y, x)` of a box; 0 outside the slide."""
        out = np.zeros(box.shape, dtype=np.int32)
        seen = box.intersect(Box.of_size(self.size))
        if not seen.is_empty:
            out[seen.slices_in(box)] = self.labels[seen.y0 : seen.y1, seen.x0 : seen.x1]
        return out

    def classes_in(self, box: Box) -> NDArray[np.int16]:
        """Class per pixel `(y, x)` of a box; 0 is no object, and outside the slide."""
        lookup = np.concatenate([np.zeros(1, np.int16), self.class_id])
        return np.asarray(lookup[self.labels_in(box)])


def make_scene(
    *,
    size: Size,
    mpp: float,
    seed: int,
    nuclei_per_mm2: float = 4000.0,
    large_objects: int = 0,
    large_object_um: float = 250.0,
) -> Scene:
    """Draw tissue: nests, gland-like rings, lymphoid clusters, stroma and empty glass.

    The same arguments give the same scene on every machine.

    Args:
        size: Pixels of the slide.
        mpp: Micrometres per pixel.
        seed: Of everything that is drawn.
        nuclei_per_mm2: Nuclei per mm2 of the whole slide; fewer where they find no room.
        large_objects: Number of glands (class 2): lobed blobs, blobs with lumens, C and U shapes.
            With 0 the scene has the class `nucleus` alone.
        large_object_um: Typical diameter of a large object; each is 0.6 to 1.6 times as wide.

    Raises:
        SettingsError: The slide is empty, a number is out of its range, or the large objects find
            no room.

    Examples:
        >>> scene = make_scene(size=Size(width=600, height=400), mpp=0.25, seed=7)
        >>> scene.labels.shape, bool(scene.labels.max() == len(scene))
        ((400, 600), True)
    """
    if size.width < 1 or size.height < 1 or not (mpp > 0 and large_object_um > 0):
        msg = (
            f"a scene needs at least one pixel, mpp > 0 and large_object_um > 0, got {size}, "
            f"mpp {mpp} and large_object_um {large_object_um}: choose larger values"
        )
        raise SettingsError(msg)
    if not nuclei_per_mm2 >= 0 or large_objects < 0:
        msg = (
            f"a scene needs numbers of objects >= 0, got nuclei_per_mm2 {nuclei_per_mm2} and "
            f"large_objects {large_objects}: choose 0 for none"
        )
        raise SettingsError(msg)
    rng = np.random.default_rng(seed)
    layout = make_layout(rng, size=size, mpp=mpp)
    labels = np.zeros(size.shape, dtype=np.int32)
    for label in range(1, large_objects + 1):
        add_large(rng, labels, layout=layout, label=label, radius_um=large_object_um / 2, mpp=mpp)
    target = round(nuclei_per_mm2 * size.width * size.height * (mpp / 1000) ** 2)
    nuclei = candidates(rng, layout, size=size, mpp=mpp, count=target)
    kept = add_nuclei(rng, labels, nuclei=nuclei, mpp=mpp, target=target)
    glands = np.full(large_objects, Look.GLAND, dtype=np.uint8)
    look = np.concatenate([glands, nuclei.look[kept]])
    return Scene(
        labels=labels,
        class_id=np.where(look == Look.GLAND, 2, 1).astype(np.int16),
        classes=(NUCLEUS, GLAND) if large_objects else (NUCLEUS,),
        mpp=mpp,
        seed=seed,
        look=look,
        layout=layout,
    )
