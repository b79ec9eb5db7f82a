"""What heads are trained on is what decodes read: targets, and logits that fit them, come back."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from slideloom.models.heads import HEADS, head_of
from slideloom.models.spec import ModelSpec, Task
from slideloom.models.truth import TileTruth
from slideloom.postprocess.decoding import decode
from slideloom.postprocess.decoding.boxes import decode_boxes
from slideloom.testing import Scene, make_scene
from slideloom.wsi import Size
from tests.makers.tile_truths import discs, head_spec, truth_of

Labels = NDArray[np.int32]
Maps = NDArray[np.float32]

LEAST_IOU = {"components": 0.75, "distance": 0.9, "flows": 1.0, "hover": 0.99}
"""`components` gives a line between objects away, and where two objects meet the watershed of
`distance` may give a pixel of one's border to the other."""

SHARE = {"components": 0.99, "distance": 1.0, "flows": 1.0, "hover": 0.99}
"""Of the objects reach that: a line may cut a thin part off, and `hover` may join two objects that
touch at a corner."""

KINDS = [(task, kind) for task, kinds in HEADS.items() for kind in kinds]


@cache
def scene(seed: int) -> Scene:
    """Crowded nuclei of a tile, and glands of many shapes; some touch, some are cut."""
    return make_scene(
        size=Size(width=400, height=360),
        mpp=0.5,
        seed=seed,
        nuclei_per_mm2=6000,
        large_objects=1,
        large_object_um=70,
    )


def instance_maps(targets: Maps, kind: str, *, classes: int) -> Maps:
    """The maps `(y, x, c)` of a network that is sure and right."""
    number = targets[0]
    first = 0 if kind == "components" else 1
    chance = number[..., None] == np.arange(first, classes + 1)
    rest = {"components": targets[:0], "distance": targets[1:2]}.get(kind, targets[1:])
    return np.concatenate([chance, np.moveaxis(rest, 0, -1)], axis=-1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Match:
    """For each true object the found one that shares most with it (0 where none), and their IoU."""

    number: NDArray[np.int64]
    iou: NDArray[np.float64]


def match(found: Labels, truth: Labels) -> Match:
    shared = np.zeros((int(truth.max()) + 1, int(found.max()) + 1))
    np.add.at(shared, (truth.ravel(), found.ravel()), 1)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0) - shared
    iou = (shared / union)[1:, 1:]
    best = iou.max(axis=1, initial=0)
    return Match(number=np.where(best > 0, iou.argmax(axis=1) + 1, 0), iou=best)


def assert_same(found: Labels, truth: Labels, *, least: float, share: float = 1.0) -> None:
    assert abs(int(found.max()) - int(truth.max())) <= (1 - share) * truth.max()
    assert np.mean(match(found, truth).iou >= least) >= share


@pytest.mark.parametrize("kind", HEADS["instance"])
@pytest.mark.parametrize("seed", range(3))
def test_targets_decode_to_the_objects(kind: str, seed: int) -> None:
    drawn = scene(seed)
    class_id = (drawn.class_id - 1).astype(np.int16)
    truth = truth_of(drawn.labels, class_id, classes=2)
    targets = HEADS["instance"][kind].targets(truth, head_spec("instance", kind, classes=2))
    maps = instance_maps(targets, kind, classes=2)
    found = decode(maps, name=kind, settings={"min_area_px": 1})
    assert len(class_id) > 100
    assert_same(found.labels, drawn.labels, least=LEAST_IOU[kind], share=SHARE[kind])
    number = match(found.labels, drawn.labels).number
    assert np.mean(found.class_id[number - 1] == class_id) >= SHARE[kind]


def small_truth() -> TileTruth:
    """Two classes, touching objects, one in the corner."""
    labels = discs((20, 12), (20, 25), (33, 18), (36, 40), (0, 47))
    return truth_of(labels, np.array([0, 1, 1, 0, 0], np.int16), classes=2)


def fitted_maps(spec: ModelSpec, truth: TileTruth, *, steps: int = 150) -> tuple[Maps, float]:
    """The maps of free logits after some descent, and by what part the loss has fallen."""
    head = head_of(spec)
    targets = torch.from_numpy(head.targets(truth, spec))[None]
    known = torch.from_numpy(truth.known)[None]
    logits = nn.Parameter(torch.zeros(1, head.out_channels(spec), *targets.shape[2:]))
    optimiser = torch.optim.Adam([logits], lr=0.2)
    history: list[float] = []
    for _ in range(steps):
        loss = torch.stack(list(head.loss(logits, targets, known=known, spec=spec).values())).sum()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        history.append(loss.item())
    maps: Tensor = head.activate(logits.detach(), spec)
    return maps[0].permute(1, 2, 0).contiguous().numpy(), history[-1] / max(history[0], 1e-9)


@pytest.mark.parametrize("kind", HEADS["instance"])
def test_descent_finds_the_objects(kind: str) -> None:
    truth = small_truth()
    maps, left = fitted_maps(head_spec("instance", kind, classes=2), truth)
    found = decode(maps, name=kind, settings={"min_area_px": 1})
    assert left < (0.4 if kind == "distance" else 0.1)
    assert_same(found.labels, truth.instances, least=0.85 if kind == "components" else 0.95)
    assert sorted(found.class_id.tolist()) == sorted(truth.class_id.tolist())


def test_descent_finds_the_boxes() -> None:
    truth = small_truth()
    spec = head_spec("detection", "centres", classes=2)
    maps, left = fitted_maps(spec, truth)
    found = decode_boxes(maps, name="centres")
    assert left < 0.1
    assert sorted(found.class_id.tolist()) == sorted(truth.class_id.tolist())
    away = np.abs(found.boxes[:, None] - truth.boxes[None]).max(axis=2)
    # Boxes of even sides lie half a pixel off.
    assert (away.min(axis=0) <= 1.5).all()


@pytest.mark.parametrize("kind", HEADS["semantic"])
def test_descent_finds_the_masks(kind: str) -> None:
    truth = small_truth()
    maps, left = fitted_maps(head_spec("semantic", kind, classes=2), truth)
    masks = truth.masks.transpose(1, 2, 0)
    assert left < 0.1
    if kind == "exclusive":
        np.testing.assert_array_equal(maps.argmax(axis=2), (masks * [1, 2]).sum(axis=2))
    else:
        np.testing.assert_array_equal(maps > 0.5, masks)


@pytest.mark.parametrize(
    ("kind", "class_id", "wanted"),
    [("exclusive", [1], [0, 1]), ("overlapping", [0, 1], [1, 1]), ("overlapping", [0], [1, 0])],
)
def test_descent_finds_the_labels(kind: str, class_id: list[int], wanted: list[int]) -> None:
    labels = discs(*[(20, 12), (20, 40)][: len(class_id)])
    truth = truth_of(labels, np.array(class_id, np.int16), classes=2)
    maps, left = fitted_maps(head_spec("classification", kind, classes=2), truth)
    assert left < 0.1
    np.testing.assert_allclose(maps.ravel(), wanted, atol=0.05)


@pytest.mark.parametrize(("task", "kind"), KINDS)
def test_tiles_without_objects(task: Task, kind: str) -> None:
    truth = truth_of(np.zeros((48, 48), np.int32), np.zeros(0, np.int16), classes=2)
    spec = head_spec(task, kind, classes=2)
    targets = HEADS[task][kind].targets(truth, spec)
    assert targets.dtype == np.float32
    assert np.isfinite(targets).all()
    maps, _ = fitted_maps(spec, truth, steps=60)
    if task == "instance":
        assert len(decode(maps, name=kind).score) == 0
    elif task == "detection":
        assert len(decode_boxes(maps, name=kind).score) == 0
    elif kind == "overlapping":
        assert maps.max() < 0.3
    elif task == "semantic":
        assert not maps.argmax(axis=2).any()
