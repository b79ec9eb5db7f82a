"""Work grows with the slide and no faster: counts, not seconds, on slides of 1, 4 and 16 times."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label

from slideloom.postprocess.box_pairs import NearPairs, find_near_pairs
from slideloom.postprocess.objects import Objects
from slideloom.postprocess.stitching import agreement
from slideloom.postprocess.stitching.pieces import Pieces
from slideloom.postprocess.stitching.stitch import stitch_pieces
from slideloom.testing import (
    ImperfectTileModel,
    Scene,
    TileNoise,
    make_scene,
    perfect_spec,
    write_slide,
)
from slideloom.workflows.config import RunConfig
from slideloom.workflows.flows import instance
from slideloom.workflows.run import run_slide
from slideloom.wsi import Box, Size, Slide

TILE_PX, HALO_PX, REGION_PX = 128, 16, 384
CORE_PX = TILE_PX - 2 * HALO_PX
TIMES = (2, 4, 8)
"""How often slides hold the same pattern on a side, of one region: so all borders are alike."""


@dataclass(kw_only=True)
class _Counts:
    """What one run did."""

    side_px: int
    objects: int = 0
    tiles: int = 0
    asked_twice: int = 0
    pixels_read: int = 0
    pairs_compared: int = 0
    waiting_pieces: int = 0

    def between(self, core_px: int) -> int:
        """Length of all borders between cores of that side, in pixels."""
        return 2 * (self.side_px // core_px - 1) * self.side_px


def _repeated(scene: Scene, times: int) -> Scene:
    """The scene `times` x `times`; what touches at the seams is one object."""
    tiled = np.tile(scene.labels, (times, times))
    labels = np.asarray(label(tiled, background=0, connectivity=1), np.int32)
    first = np.unique(labels, return_index=True)[1][1:]
    old = tiled.ravel()[first] - 1
    return replace(scene, labels=labels, class_id=scene.class_id[old], look=scene.look[old])


def _count(
    scene: Scene, folder: Path, monkeypatch: pytest.MonkeyPatch, *, noise: TileNoise
) -> _Counts:
    counts = _Counts(side_px=scene.size.width)
    read = Slide.read_at_mpp

    def read_at_mpp(self: Slide, box: Box, *, mpp: float) -> NDArray[Any]:
        counts.pixels_read += box.width * box.height
        return read(self, box, mpp=mpp)

    def count_pairs(boxes: NDArray[np.float64], tile: NDArray[np.integer]) -> NearPairs:
        near = find_near_pairs(boxes, tile)
        counts.pairs_compared += near.compared
        return near

    def count_pieces(pieces: Pieces, **options: Any) -> Objects:
        counts.waiting_pieces += len(pieces)
        return stitch_pieces(pieces, **options)

    path = folder / "slide.tif"
    write_slide(path, np.full((*scene.size.shape, 3), 240, np.uint8), mpp=scene.mpp)
    spec = perfect_spec(scene, task="instance", tile_px=TILE_PX, halo_px=HALO_PX)
    model = _Counting(ImperfectTileModel(scene, spec=spec, noise=noise))
    config = RunConfig(tissue=False, region_px=REGION_PX, workers=1, formats=())
    with monkeypatch.context() as patch:
        patch.setattr(Slide, "read_at_mpp", read_at_mpp)
        patch.setattr(agreement, "find_near_pairs", count_pairs)
        patch.setattr(instance, "stitch_pieces", count_pieces)
        result = run_slide(path, model, out=folder / "out", config=config)
    counts.objects = len(result.objects)
    counts.tiles = len(set(model.asked))
    counts.asked_twice = len(model.asked) - counts.tiles
    return counts


class _Counting:
    """A model that keeps what it was asked."""

    def __init__(self, model: ImperfectTileModel) -> None:
        self.spec = model.spec
        self.asked: list[Box] = []
        self._model = model

    def predict(self, batch: Any) -> NDArray[Any]:
        self.asked.extend(batch.windows)
        return self._model.predict(batch)


@pytest.fixture(scope="module", params=["perfect", "noisy"])
def counted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[_Counts]:
    noise = TileNoise(jitter_px=2) if request.param == "noisy" else TileNoise()
    size = Size(width=REGION_PX, height=REGION_PX)
    scene = make_scene(
        size=size, mpp=0.5, seed=2, nuclei_per_mm2=6000, large_objects=1, large_object_um=60
    )
    with pytest.MonkeyPatch.context() as patch:
        return [
            _count(_repeated(scene, times), tmp_path_factory.mktemp("counted"), patch, noise=noise)
            for times in TIMES
        ]


def test_each_tile_is_predicted_once(counted: list[_Counts]) -> None:
    for counts in counted:
        assert counts.tiles == (counts.side_px // CORE_PX) ** 2
        assert counts.asked_twice == 0


def test_pixels_are_read_once_but_for_the_overlap_of_regions(counted: list[_Counts]) -> None:
    for counts in counted:
        regions = (counts.side_px // REGION_PX) ** 2
        assert counts.pixels_read == regions * (REGION_PX + 2 * HALO_PX) ** 2


def test_pairs_compared_grow_with_the_borders_of_tiles(counted: list[_Counts]) -> None:
    # What waits at the borders of regions is compared once more.
    borders = [counts.between(CORE_PX) + counts.between(REGION_PX) for counts in counted]
    rates = [counts.pairs_compared / px for counts, px in zip(counted, borders, strict=True)]
    assert counted[0].pairs_compared > 500
    assert max(rates) < 1.1 * min(rates)
    # And 16 times the slide costs little more than 16 times the pairs.
    assert counted[2].pairs_compared < 20 * counted[0].pairs_compared


def test_only_pieces_near_the_borders_of_regions_wait_for_the_whole_slide(
    counted: list[_Counts],
) -> None:
    rates = [counts.waiting_pieces / counts.between(REGION_PX) for counts in counted]
    assert counted[0].waiting_pieces > 50
    assert max(rates) < 1.2 * min(rates)
    for counts in counted:
        assert counts.waiting_pieces < 0.5 * counts.objects


def test_objects_grow_with_the_slide(counted: list[_Counts]) -> None:
    assert counted[0].objects > 500
    for times, counts in zip((4, 16), counted[1:], strict=True):
        assert 0.9 * times < counts.objects / counted[0].objects < 1.1 * times
