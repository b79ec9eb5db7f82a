"""DeepLab v1: the layers of LargeFOV, its published parameters, and its grid."""

from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from slideloom.models.architectures import build_network
from slideloom.models.architectures.deeplab_v1 import DeepLabV1
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


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(2)


def build(encoder: str = "vgg11_bn", *, classes: int = 2) -> DeepLabV1:
    torch.manual_seed(1)
    return DeepLabV1(encoder, encoder_weights=None, classes=classes)


@pytest.fixture(scope="module")
def network() -> DeepLabV1:
    """In evaluation mode; building a VGG takes seconds."""
    return build(classes=3).eval()


def test_published_count() -> None:
    # Chen et al., ICLR 2015, table of fields of view, row LargeFOV (3x3, stride 12): 20.5 M for
    # PASCAL VOC, 21 classes. Below: VGG-16's convolutions, fc6, fc7 and fc8.
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    vgg = sum(9 * a * b + b for a, b in pairwise(widths))
    fully = (9 * 512 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 21
    found = parameters_of(partial(build, "vgg16", classes=21))
    assert found == vgg + fully == 20_505_429
    assert round(found / 1e6, 1) == 20.5


def test_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = build("vgg16")
    pools = [layer for layer in network.encoder if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride) for pool in pools] == [(3, 2)] * 3 + [(3, 1)] * 2
    convolutions = [layer for layer in network.encoder if isinstance(layer, nn.Conv2d)]
    assert [layer.dilation[0] for layer in convolutions] == [1] * 10 + [2] * 3
    assert network.fc6.kernel_size == (3, 3)
    assert network.fc6.dilation == (12, 12)


def test_shapes(network: DeepLabV1) -> None:
    names = ["encoder", "fc6", "fc7", "fc8"]
    shapes = shapes_of(deepcopy(network), torch.zeros(1, 3, 64, 40), names)
    assert list(shapes.values()) == [(512, 8, 5), (1024, 8, 5), (1024, 8, 5), (3, 8, 5)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 8)])
def test_any_size(network: DeepLabV1, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = network(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 3, height, width)
    assert bool(logits.isfinite().all())


def test_odd_sizes_keep_the_grid(network: DeepLabV1) -> None:
    # Where the last pixels repeat, a smaller picture is the same picture.
    pixels = torch.randn(1, 3, 64, 64)
    pixels[..., 61:, :], pixels[..., 59:] = pixels[..., 60:61, :], pixels[..., 58:59]
    with torch.inference_mode():
        whole, odd = network(pixels), network(pixels[..., :61, :59])
    assert torch.equal(whole[..., :61, :59], odd)


def test_gradient_reaches_every_parameter(network: DeepLabV1) -> None:
    assert parameters_without_gradient(deepcopy(network), torch.randn(2, 3, 48, 48)) == []


def test_evaluation_is_the_same_in_any_batch(network: DeepLabV1) -> None:
    assert same_in_any_batch(network, torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss(network: DeepLabV1) -> None:
    losses = losses_of_training(deepcopy(network), *toy_batch(32), steps=8)
    assert losses[-1] < 0.7 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="DeepLabV1", encoder="vgg11")
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-4, rtol=1e-4)


def test_other_encoders_are_refused() -> None:
    with pytest.raises(ValueError, match="choose vgg16"):
        build("resnet18")
