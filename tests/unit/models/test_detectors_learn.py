"""Detectors learn generated blobs in seconds, and find them in tiles and on a slide."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from slideloom.models.network import NetworkModel
from slideloom.models.spec import ModelSpec
from slideloom.models.tile_model import TileBatch
from slideloom.models.training.source import TrainingTile
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.decoding.boxes import decode_boxes
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide
from slideloom.wsi.geometry import Box, Mpp, Size
from tests.makers.array_slide import array_slide
from tests.makers.blobs import blob_spec, blob_tile, learn_blobs

TILE_PX = 64
COARSE = {"finest_px": 8, "anchors_px": (16, 32, 64, 128), "detections": 50}


def _learn(spec: ModelSpec, *, steps: int) -> NetworkModel:
    network, history = learn_blobs(spec, steps=steps)
    assert np.mean(history[-5:]) < 0.6 * np.mean(history[:5])
    return NetworkModel(spec, network, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def fcos() -> NetworkModel:
    return _learn(blob_spec("FCOS", {}, tile_px=TILE_PX), steps=100)


@pytest.fixture(scope="module")
def mask_rcnn() -> NetworkModel:
    return _learn(blob_spec("MaskRCNN", COARSE, tile_px=TILE_PX), steps=80)


def _unseen(count: int) -> tuple[list[TrainingTile], TileBatch]:
    tiles = [blob_tile(1_000_000 + seed, size_px=TILE_PX) for seed in range(count)]
    window = Box.of_size(Size(width=TILE_PX, height=TILE_PX))
    stack = np.stack([tile.pixels for tile in tiles])
    return tiles, TileBatch(pixels=stack, windows=(window,) * count)


def _overlap(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of `(n, 4)` and `(m, 4)` boxes."""
    first, second = shapely.box(*one.T)[:, None], shapely.box(*other.T)
    both = shapely.area(shapely.intersection(first, second))
    return np.asarray(both / (shapely.area(first) + shapely.area(second) - both))


def _find_boxes(model: NetworkModel, *, threshold: float) -> Counter[str]:
    """How many blobs are found with their class, and how many boxes show none."""
    figures: Counter[str] = Counter()
    tiles, batch = _unseen(24)
    for tile, rows in zip(tiles, model.predict(batch), strict=True):
        found = decode_boxes(rows, name="boxes", settings={"threshold": threshold})
        same = _overlap(tile.truth.boxes, found.boxes) > 0.5
        same &= tile.truth.class_id[:, None] == found.class_id
        figures["blobs"] += len(tile.truth.boxes)
        figures["found"] += int(same.any(axis=1).sum())
        figures["odd"] += int((~same.any(axis=0)).sum())
    return figures


def _finds_most(figures: Counter[str]) -> bool:
    return figures["found"] >= 0.8 * figures["blobs"] and figures["odd"] <= 0.2 * figures["blobs"]


def test_fcos_finds_blobs_with_their_classes(fcos: NetworkModel) -> None:
    figures = _find_boxes(fcos, threshold=0.3)
    assert figures["blobs"] > 30
    assert _finds_most(figures), figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "threshold"), [("RetinaNet", 150, 0.3), ("FasterRCNN", 100, 0.5)]
)
def test_detectors_with_anchors_find_blobs(name: str, steps: int, threshold: float) -> None:
    spec = blob_spec(name, COARSE, tile_px=TILE_PX)
    figures = _find_boxes(_learn(spec, steps=steps), threshold=threshold)
    assert _finds_most(figures), figures


@pytest.mark.slow
def test_mask_rcnn_finds_the_pixels_of_blobs(mask_rcnn: NetworkModel) -> None:
    figures: Counter[str] = Counter()
    tiles, batch = _unseen(24)
    for tile, maps in zip(tiles, mask_rcnn.predict(batch), strict=True):
        found = decode(maps, name="labels")
        matched = 0
        for number, kind in enumerate(tile.truth.class_id, start=1):
            own = tile.truth.instances == number
            best = np.bincount(found.labels[own]).argmax()
            same = found.labels == best
            agree = best > 0 and (own & same).sum() > 0.6 * (own | same).sum()
            matched += int(agree and found.class_id[best - 1] == kind)
        figures["blobs"] += len(tile.truth.class_id)
        figures["found"] += matched
        figures["odd"] += len(found.class_id) - matched
    assert _finds_most(figures), figures


def _run(model: NetworkModel, folder: Path) -> Counter[str]:
    """Counts per class of a slide of many tiles, and of its truth."""
    scene = blob_tile(7, size_px=256, most=60)
    mpp = Mpp(x=0.5, y=0.5)
    tile = Size(width=128, height=128)
    with array_slide(folder / "blobs.npy", scene.pixels, tile=tile, mpp=mpp) as (slide, _):
        result = run_slide(slide, model, out=folder / "out", config=RunConfig(tissue=False))
    objects = result.objects
    figures = Counter({"blobs": len(scene.truth.boxes)})
    if len(objects):
        bounds = shapely.bounds(objects.geometry.to_numpy())
        same = _overlap(scene.truth.boxes, bounds) > 0.5
        names = np.array([item.name for item in model.spec.classes])[scene.truth.class_id]
        same &= names[:, None] == objects["class"].to_numpy(dtype=object)
        figures["found"] = int(same.any(axis=1).sum())
        # The array slide is black outside, and so short a training leaves boxes on that edge.
        inner = (bounds > 1).all(axis=1) & (bounds < len(scene.pixels) - 1).all(axis=1)
        figures["odd"] = int((inner & ~same.any(axis=0)).sum())
    return figures


def test_a_slide_gives_each_blob_once(fcos: NetworkModel, tmp_path: Path) -> None:
    figures = _run(fcos, tmp_path)
    assert figures["blobs"] >= 15
    assert _finds_most(figures), figures


@pytest.mark.slow
def test_a_slide_gives_each_blob_of_mask_rcnn_once(mask_rcnn: NetworkModel, tmp_path: Path) -> None:
    assert _finds_most(_run(mask_rcnn, tmp_path))
