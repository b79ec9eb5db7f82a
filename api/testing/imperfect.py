"""A model that errs as networks do: each tile moves borders, misses the faint, and rounds anew."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.testing.scene import Scene
from slideloom.wsi.geometry import Box

Labels = NDArray[np.int32]

_WAVE_PX = 12
"""A border keeps moving the same way over about this length."""
_MENDS = 3
_CRUMBS_PX = 4
_SURE, _FAINT = 0.9, 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class TileNoise:
    """How much the answer for one tile differs from the truth; by default not at all.

    Attributes:
        jitter_px: Borders are moved by up to so many pixels; those of an object by no more than
            half the distance from its border to its innermost pixel, and never so that it falls
            apart.
        faint_share: Share of the small objects that are faint.
        faint_px: Objects of up to this area are small.
        drop_chance: Chance that a tile misses a faint object.
        last_bit: Whether probabilities differ in their last bits between any two predictions, also
            of one window.
        seed: Of all noise.
    """

    jitter_px: int = 0
    faint_share: float = 0.0
    faint_px: int = 400
    drop_chance: float = 0.5
    last_bit: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.faint_share, self.drop_chance)
        if self.jitter_px < 0 or self.faint_px < 0 or not all(0 <= one <= 1 for one in shares):
            msg = (
                "tile noise needs jitter_px and faint_px >= 0 and faint_share and drop_chance in "
                f"0..1, got {self}: choose others"
            )
            raise SettingsError(msg)


class ImperfectTileModel:
    """A `TileModel` that knows the truth and tells it with noise.

    The noise of a window depends on the seed and the window alone, not on the order of calls; but
    for the last bits, which depend on how often the window was asked for too. Every 4-connected
    piece of an object that a window shows is one instance with a random number.

    Attributes:
        spec: What the model is; of task `instance`, with the decode `labels` or `distance`.
        noise: What it errs by.

    Raises:
        SettingsError: The spec's mpp, classes, task or decode are others.

    Examples:
        >>> from slideloom.testing import make_scene, perfect_spec
        >>> from slideloom.wsi.geometry import Size
        >>> scene = make_scene(size=Size(width=600, height=400), mpp=0.25, seed=7)
        >>> spec = perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
        >>> model = ImperfectTileModel(scene, spec=spec, noise=TileNoise(jitter_px=2))
        >>> window = Box(x0=-32, y0=-32, x1=224, y1=224)
        >>> pixels = np.zeros((1, 256, 256, 3), dtype=np.uint8)
        >>> model.predict(TileBatch(pixels=pixels, windows=(window,))).shape
        (1, 256, 256, 2)
    """

    def __init__(self, scene: Scene, *, spec: ModelSpec, noise: TileNoise) -> None:
        decode = spec.decode.name if spec.decode else None
        if spec.mpp != scene.mpp or spec.classes != scene.classes or spec.task != "instance":
            msg = (
                f"an imperfect model answers at its scene's mpp {scene.mpp}, in its classes and "
                f"with instances, got a spec with mpp {spec.mpp} and task {spec.task}: build the "
                "spec with perfect_spec"
            )
            raise SettingsError(msg)
        if decode not in ("labels", "distance"):
            msg = f"an imperfect model has the decode labels or distance, got {decode}: choose one"
            raise SettingsError(msg)
        self.spec, self.noise = spec, noise
        self._scene = scene
        depth = border_depths(scene.labels, count=len(scene))
        reach = np.minimum(noise.jitter_px, depth / 2).astype(np.int64)
        self._reach = np.concatenate([np.zeros(1, np.int64), reach])
        chosen = np.random.default_rng([noise.seed, 1]).random(len(scene)) < noise.faint_share
        self._faint = chosen & (scene.areas_px <= noise.faint_px)
        self._asked: list[Box] = []

    @property
    def faint(self) -> NDArray[np.bool_]:
        """Which objects are faint, `(n,)`."""
        return self._faint.copy()

    def misses(self, window: Box) -> NDArray[np.bool_]:
        """Which objects the tile of a window does not see, wherever they lie, `(n,)`."""
        chance = self._rng(window, 2).random(len(self._scene))
        return self._faint & (chance < self.noise.drop_chance)

    def predict(self, batch: TileBatch) -> NDArray[Any]:
        """What each window seems to hold.

        Returns:
            For `labels`: `(n, y, x, 2)` int32, instance id and class id, 0 = no object. For
            `distance`: `(n, y, x, classes + 1)` float32, the classes' probabilities and the inner
            distance.
        """
        answers = [self._answer(window) for window in batch.windows]
        return np.stack(answers)

    def look(self, window: Box) -> Labels:
        """True ids `(y, x)` of the objects where the tile of a window sees them."""
        reach = self.noise.jitter_px
        wide = window.grow(reach)
        truth = self._scene.labels_in(wide)
        truth[np.concatenate([np.zeros(1, np.bool_), self.misses(window)])[truth]] = 0
        plain = truth[window.slices_in(wide)]
        if reach == 0:
            return plain
        seen = window.intersect(Box.of_size(self._scene.size)).slices_in(window)
        moved = np.zeros_like(plain)
        moved[seen] = self._moved(truth, window)[seen]
        return _mended(moved, plain)

    def _rng(self, window: Box, *kind: int) -> np.random.Generator:
        # A seed has to be >= 0, and a window may start left of the slide.
        place = (window.x0 % 2**32, window.y0 % 2**32)
        return np.random.default_rng([self.noise.seed, *place, *kind])

    def _answer(self, window: Box) -> NDArray[Any]:
        times = Counter(self._asked)[window]
        self._asked.append(window)
        ids = self.look(window)
        pieces = np.asarray(label(ids, background=0, connectivity=1))
        classes = np.concatenate([np.zeros(1, np.int16), self._scene.class_id])[ids]
        if self.spec.decode is not None and self.spec.decode.name == "labels":
            count = int(pieces.max(initial=0))
            numbers = np.concatenate([[0], 1 + self._rng(window, 4).permutation(count)])
            return np.stack([numbers[pieces], classes], axis=-1).astype(np.int32)
        faint = np.concatenate([np.zeros(1, np.bool_), self._faint])[ids]
        sure = np.where(faint, _FAINT, _SURE)[..., None]
        channels = np.arange(1, len(self._scene.classes) + 1)
        maps = np.where(classes[..., None] == channels, sure, 0.05)
        inner = _inner_distance(pieces) * _grain(window)
        maps = np.concatenate([maps, inner[..., None]], axis=-1)
        maps = maps.astype(np.float32)
        if self.noise.last_bit:
            noise = self._rng(window, 5, times).integers(-2, 3, maps.shape)
            maps *= (1 + noise * np.finfo(np.float32).eps).astype(np.float32)
        return maps

    def _moved(self, truth: Labels, window: Box) -> Labels:
        """Each object drawn by a wavering displacement; the finest objects lie on top."""
        most, shape = self.noise.jitter_px, window.shape
        rng = self._rng(window, 3)
        coarse = (shape[0] // _WAVE_PX + 2, shape[1] // _WAVE_PX + 2)
        # Beyond the limit on purpose: many borders are moved by all of it.
        waves = rng.uniform(-1.5 * most, 1.5 * most, (2, *coarse)).astype(np.float32)
        down, right = (
            cv2.resize(wave, shape[::-1], interpolation=cv2.INTER_LINEAR) for wave in waves
        )
        y, x = np.indices(shape) + most
        out = np.zeros(shape, np.int32)
        for reach in range(most, -1, -1):
            own = np.where(self._reach[truth] == reach, truth, 0)
            dy, dx = (np.clip(np.rint(way), -reach, reach).astype(int) for way in (down, right))
            part = own[y + dy, x + dx]
            out = np.where(part > 0, part, out)
        return out


def border_depths(labels: Labels, *, count: int) -> NDArray[np.float32]:
    """How deep each object 1 to `count` of a label image is, in pixels; 1 for a single pixel."""
    depth = np.zeros(count + 1, np.float32)
    np.maximum.at(depth, labels.ravel(), _depth(labels).ravel())
    return depth[1:]


def _depth(labels: Labels) -> NDArray[np.float32]:
    """Distance of each pixel from the border of its own area; 1 at the border."""
    height, width = labels.shape
    padded = np.pad(labels, 1)
    edge = np.zeros(labels.shape, np.bool_)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        edge |= padded[dy : dy + height, dx : dx + width] != labels
    away = cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(away + 1, np.float32)


def _grain(window: Box) -> NDArray[np.float32]:
    """Factors near 1, fixed to the slide: no two pixels of an object are equally deep.

    Else what a decode makes of equal depths would hang on the last bit of each.
    """
    grain = np.random.default_rng(0).uniform(0.99, 1, (61, 67)).astype(np.float32)
    y, x = np.arange(window.y0, window.y1) % 61, np.arange(window.x0, window.x1) % 67
    return grain[y[:, None], x]


def _inner_distance(pieces: Labels) -> NDArray[np.float32]:
    """Distance from the border, 1 at each piece's innermost pixel and 0 outside."""
    depth = np.where(pieces > 0, _depth(pieces), 0)
    deepest = np.ones(int(pieces.max(initial=0)) + 1, np.float32)
    np.maximum.at(deepest, pieces.ravel(), depth.ravel())
    return np.asarray(depth / deepest[pieces], np.float32)


def _mended(labels: Labels, truth: Labels) -> Labels:
    """`labels` with every true piece in one piece, without crumbs.

    A piece that fell apart, at a thin place, or vanished gets its true pixels back.
    """
    true = np.asarray(label(truth, background=0, connectivity=1))
    keep, broken = _main_pieces(labels, true, truth=truth)
    for _ in range(_MENDS):
        if not broken.any():
            break
        labels = np.where(broken[true], truth, labels)
        keep, broken = _main_pieces(labels, true, truth=truth)
    return np.where(keep, labels, 0)


def _main_pieces(
    labels: Labels, true: Labels, *, truth: Labels
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels `(y, x)` of each true piece's largest piece, and the pieces that fell apart."""
    pieces = np.asarray(label(labels, background=0, connectivity=1))
    area = np.bincount(pieces.ravel())
    both = (pieces > 0) & (labels == truth)
    width = int(true.max(initial=0)) + 1
    pair, size = np.unique(pieces[both] * np.int64(width) + true[both], return_counts=True)
    piece, of = np.divmod(pair, width)
    # A piece belongs to the true piece that it shares most with.
    order = np.lexsort((-size, piece))
    own = order[np.diff(piece[order], prepend=-1) > 0]
    piece, of = piece[own], of[own]
    order = np.lexsort((-area[piece], of))
    largest = order[np.diff(of[order], prepend=-1) > 0]
    keep = np.zeros(len(area), np.bool_)
    keep[piece[largest]] = True
    most = np.zeros(width)
    most[of[largest]] = area[piece[largest]]
    broken = np.bincount(of, area[piece], minlength=width) > most + _CRUMBS_PX
    broken |= most == 0
    broken[0] = False
    return keep[pieces], broken
