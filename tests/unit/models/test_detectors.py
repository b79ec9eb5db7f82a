"""torchvision's detectors: how they are built, kept and trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.detectors import (
    DETECTORS,
    DetectorArguments,
    build_detector,
    detector_losses,
    is_detector,
)
from slideloom.models.folder import load_model, save_model
from slideloom.models.spec import Architecture, Decode, ModelClass, ModelSpec
from slideloom.models.truth import TileTruth
from tests.makers.blobs import blob_batch, blob_spec

SMALL = {"fpn_channels": 32}
NAMES = sorted(DETECTORS)


def _truth(
    boxes: list[list[float]], *, class_id: list[int], known: np.ndarray[Any, Any] | None = None
) -> TileTruth:
    """Objects that fill their boxes; later ones lie on top."""
    instances = np.zeros((64, 64), np.int32)
    for number, (x0, y0, x1, y1) in enumerate(np.array(boxes, int).reshape(-1, 4), start=1):
        instances[y0:y1, x0:x1] = number
    return TileTruth(
        masks=np.zeros((2, 64, 64), np.bool_),
        instances=instances,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        class_id=np.array(class_id, np.int16),
        labels=np.zeros(2, np.bool_),
        known=np.ones((64, 64), np.bool_) if known is None else known,
    )


class _Asked(nn.Module):
    """Stands for a detector's forward pass: keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = torch.zeros(0)
        self.targets: list[dict[str, Tensor]] = []
        self.training_mode = False

    def forward(self, pixels: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        self.pixels, self.targets = pixels, targets
        return {"loss": pixels.sum()}


def _asked(name: str, pixels: Tensor, truths: list[TileTruth]) -> _Asked:
    """What `detector_losses` asks of the detector."""
    network, asked = build_detector(blob_spec(name, SMALL, tile_px=64)), _Asked()
    network.forward = asked.forward
    detector_losses(network, pixels, truths=truths)
    return asked


def test_only_networks_of_the_registry_are_detectors(spec: ModelSpec) -> None:
    assert not is_detector(spec)
    assert not is_detector(spec.model_copy(update={"architecture": None}))
    assert all(is_detector(blob_spec(name, {}, tile_px=64)) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_build_network_builds_detectors(name: str) -> None:
    network = build_network(blob_spec(name, SMALL, tile_px=64))
    assert type(network).__name__ == name


@pytest.mark.parametrize("name", ["FasterRCNN", "MaskRCNN"])
def test_parameters_are_as_many_as_torchvision_has(name: str) -> None:
    torchvision = {"FasterRCNN": FasterRCNN, "MaskRCNN": MaskRCNN}[name]
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    wanted = sum(value.numel() for value in torchvision(backbone, 3).parameters())
    spec = blob_spec(name, {"fpn_channels": 256}, tile_px=64)
    assert spec.architecture is not None
    resnet = spec.architecture.model_copy(update={"encoder": "resnet18"})
    network = build_detector(spec.model_copy(update={"architecture": resnet}))
    assert sum(value.numel() for value in network.parameters()) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_can_learn(name: str) -> None:
    network = build_detector(blob_spec(name, {}, tile_px=64))
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_model_folder_gives_the_same_network(name: str, tmp_path: Path) -> None:
    spec = blob_spec(name, SMALL, tile_px=64)
    torch.manual_seed(1)
    network = build_detector(spec).train()
    pixels, truths = blob_batch(spec, range(2))
    detector_losses(network, pixels, truths=truths)
    save_model(tmp_path, spec, module=network, card="# blobs\n")
    again = load_model(tmp_path, device="cpu").load().state_dict()
    wanted = network.state_dict()
    assert list(again) == list(wanted)
    assert all(torch.equal(value, wanted[key]) for key, value in again.items())
    assert any(key.endswith("num_batches_tracked") and value == 1 for key, value in again.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "instance"}, "FCOS is for task 'detection' with decode 'boxes'"),
        ({"decode": Decode(name="centres")}, "'detection' with 'centres'"),
        ({"architecture": None}, "choose one of FCOS, FasterRCNN, MaskRCNN, RetinaNet"),
        ({"encoder": "resnet17"}, "encoder 'resnet17'"),
        ({"encoder": "tu-resnet17"}, "encoder 'tu-resnet17'"),
        ({"arguments": {"depth": 3}}, "depth"),
        ({"arguments": {"finest_px": 5}}, "finest_px must be 4, 8 or 16, got 5"),
        ({"arguments": {"fpn_channels": 48}}, "multiple of 32, got 48"),
        ({"arguments": {"detections": 0}}, "detections >= 1"),
        ({"arguments": {"anchors_px": (16, 32, 64, 128)}}, "FCOS has no anchor boxes"),
    ],
)
def test_what_cannot_be_built_is_refused(change: dict[str, Any], message: str) -> None:
    spec = blob_spec("FCOS", SMALL, tile_px=64)
    of_network = {"encoder", "arguments"} & set(change)
    if of_network:
        assert spec.architecture is not None
        change = {"architecture": spec.architecture.model_copy(update=change)}
    with pytest.raises(SettingsError, match=message):
        build_detector(spec.model_copy(update=change))


def test_anchors_are_one_side_for_each_map() -> None:
    with pytest.raises(ValueError, match=r"a side for each of \(8, 16, 32, 64\)"):
        DetectorArguments(finest_px=8, anchors_px=(16, 32, 64))


@pytest.mark.parametrize("name", NAMES)
def test_truth_becomes_boxes_and_labels_above_the_background(name: str) -> None:
    truth = _truth([[2, 3, 20, 30], [40, 41, 60, 62], [5, 50, 5, 50]], class_id=[1, 0, 0])
    asked = _asked(name, torch.zeros(1, 3, 64, 64), [truth])
    target = asked.targets[0]
    assert target["boxes"].tolist() == [[2, 3, 20, 30], [40, 41, 60, 62]]
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].tolist() == [2, 1]
    assert ("masks" in target) == (name == "MaskRCNN")


def test_masks_are_the_pixels_that_an_object_owns() -> None:
    hidden: list[list[float]] = [
        [10, 10, 20, 20],
        [8, 8, 30, 30],
        [40, 40, 50, 50],
        [45, 40, 60, 50],
    ]
    truth = _truth(hidden, class_id=[0, 1, 0, 1])
    target = _asked("MaskRCNN", torch.zeros(1, 3, 64, 64), [truth]).targets[0]
    assert target["boxes"].tolist() == hidden[1:]
    assert target["labels"].tolist() == [2, 1, 2]
    for mask, number in zip(target["masks"], (2, 3, 4), strict=True):
        np.testing.assert_array_equal(mask.numpy(), truth.instances == number)
    # A detector of boxes sees the hidden object, too.
    assert len(_asked("FCOS", torch.zeros(1, 3, 64, 64), [truth]).targets[0]["boxes"]) == 4


def test_what_is_not_known_is_painted_out() -> None:
    known = np.ones((64, 64), np.bool_)
    known[:, 32:] = False
    truth = _truth([[20, 10, 40, 20], [30, 40, 50, 50]], class_id=[0, 1], known=known)
    asked = _asked("FCOS", torch.ones(1, 3, 64, 64), [truth])
    assert asked.targets[0]["boxes"].tolist() == [[20, 10, 40, 20]]
    seen = known.copy()
    seen[10:20, 20:40] = True
    np.testing.assert_array_equal(asked.pixels[0, 1].numpy(), seen)


@pytest.mark.parametrize("name", NAMES)
def test_a_tile_without_objects_has_losses(name: str) -> None:
    spec = blob_spec(name, SMALL, tile_px=64)
    torch.manual_seed(0)
    network = build_detector(spec).train()
    pixels, truths = blob_batch(spec, range(2))
    empty = _truth([], class_id=[])
    for batch in ([truths[0], empty], [empty, empty]):
        losses = detector_losses(network, pixels, truths=batch)
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(total)
        assert total > 0


@pytest.mark.parametrize("name", ["FCOS", "MaskRCNN"])
def test_validation_changes_nothing_and_repeats(name: str) -> None:
    spec = blob_spec(name, SMALL, tile_px=64)
    network = build_detector(spec).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pixels, truths = blob_batch(spec, range(2))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = detector_losses(network, pixels, truths=truths)
    assert torch.equal(torch.rand(3), wanted)
    second = detector_losses(network, pixels, truths=truths)
    assert first == second
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_sixteen_bits_do_not_reach_the_losses() -> None:
    spec = blob_spec("FCOS", SMALL, tile_px=64)
    network = build_detector(spec).eval()
    pixels, truths = blob_batch(spec, range(2))
    exact = detector_losses(network, pixels, truths=truths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert detector_losses(network, pixels, truths=truths) == exact


def test_sides_need_not_be_multiples_of_the_stride() -> None:
    spec = blob_spec("FasterRCNN", SMALL, tile_px=50)
    pixels, truths = blob_batch(spec, range(2))
    losses = detector_losses(build_detector(spec).train(), pixels, truths=truths)
    assert torch.isfinite(torch.stack(list(losses.values()))).all()


def test_one_label_is_the_background() -> None:
    spec = blob_spec("FCOS", SMALL, tile_px=64)
    one = spec.model_copy(update={"classes": (ModelClass(name="a", color=(0, 0, 0)),)})
    assert isinstance(one.architecture, Architecture)
    heads = [build_detector(each).get_submodule("head") for each in (one, spec)]
    channels = [head.get_submodule("classification_head.cls_logits").out_channels for head in heads]
    assert channels == [2, 3]
