"""DeepLab v2: ResNet-101 and ASPP by hand, its dilations, and the sum of its branches."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slideloom.models.architectures import build_network
from slideloom.models.architectures.deeplab_v2 import DeepLabV2
from slideloom.models.folder import load_model, save_model
from slideloom.models.spec import Architecture, ModelSpec
from tests.makers.network_checks import (
    losses_of_training,
    parameters_of,
    parameters_without_gradient,
    same_in_any_batch,
    shapes_of,
    toy_batch,
)

RESNET_101 = 44_549_160
"""Of torchvision's table of weights, with the classifier of 1000 classes."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(2)


def build(encoder: str = "resnet18", *, classes: int = 2) -> DeepLabV2:
    torch.manual_seed(1)
    return DeepLabV2(encoder, encoder_weights=None, classes=classes)


def test_count_by_hand() -> None:
    # Chen et al., TPAMI 2018, state no count. Section 4.1.2 and the prototxt of ResNet-101: four
    # 3x3 convolutions from 2048 channels to the 21 classes of PASCAL VOC take the classifier's
    # place.
    branches = 4 * (9 * 2048 * 21 + 21)
    classifier = 2048 * 1000 + 1000
    found = parameters_of(partial(build, "resnet101", classes=21))
    assert found == RESNET_101 - classifier + branches == 44_048_532


def test_strides_become_dilation() -> None:
    with torch.device("meta"):
        network = build("resnet101")

    def convolutions(stage: str) -> list[nn.Conv2d]:
        modules = network.encoder.get_submodule(stage).modules()
        return [module for module in modules if isinstance(module, nn.Conv2d)]

    wide = {
        stage: {conv.dilation for conv in convolutions(stage) if conv.kernel_size == (3, 3)}
        for stage in ("layer2", "layer3", "layer4")
    }
    assert wide == {"layer2": {(1, 1)}, "layer3": {(2, 2)}, "layer4": {(4, 4)}}
    assert {conv.stride for conv in [*convolutions("layer3"), *convolutions("layer4")]} == {(1, 1)}
    branches = [branch for branch in network.branches if isinstance(branch, nn.Conv2d)]
    assert [branch.dilation[0] for branch in branches] == [6, 12, 18, 24]
    assert {branch.kernel_size for branch in branches} == {(3, 3)}


def test_shapes() -> None:
    names = [f"branches.{index}" for index in range(4)]
    shapes = shapes_of(build(classes=7), torch.zeros(1, 3, 64, 40), names)
    assert list(shapes.values()) == [(7, 8, 5)] * 4


def test_branches_are_summed() -> None:
    network = build().eval()
    pixels = torch.randn(1, 3, 64, 64)
    seen: list[Tensor] = []
    for branch in network.branches:
        branch.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.inference_mode():
        logits = network(pixels)
        scale = nn.Upsample(scale_factor=8, mode="bilinear")
        torch.testing.assert_close(logits, scale(seen[0] + seen[1] + seen[2] + seen[3]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 8)])
def test_any_size(height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(classes=3).eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 3, height, width)
    assert bool(logits.isfinite().all())


def test_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(build(), torch.randn(2, 3, 48, 48)) == []


def test_evaluation_is_the_same_in_any_batch() -> None:
    assert same_in_any_batch(build(), torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss() -> None:
    losses = losses_of_training(build(), *toy_batch(32), steps=8)
    assert losses[-1] < 0.6 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="DeepLabV2", encoder="tu-resnet10t")
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


def test_encoders_that_cannot_be_dilated_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="dilated"):
        build("vgg11")
