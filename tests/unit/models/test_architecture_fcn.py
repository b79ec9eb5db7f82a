"""FCN: torchvision's network, layer by layer, on any encoder."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import segmentation

from slideloom.models.architectures import build_network
from slideloom.models.architectures.fcn import FCN
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


def build(encoder: str = "tu-resnet10t", *, classes: int = 2) -> FCN:
    torch.manual_seed(1)
    return FCN(encoder, encoder_weights=None, classes=classes)


@pytest.mark.parametrize(
    ("encoder", "published"),
    [
        ("resnet50", segmentation.FCN_ResNet50_Weights.DEFAULT.meta["num_params"]),
        ("resnet101", segmentation.FCN_ResNet101_Weights.DEFAULT.meta["num_params"]),
    ],
)
def test_published_counts(encoder: str, published: int) -> None:
    # torchvision's counts are with the auxiliary head, on 1024 channels.
    auxiliary = 9 * 1024 * 256 + 2 * 256 + 256 * 21 + 21
    assert parameters_of(partial(build, encoder, classes=21)) + auxiliary == published


def test_answers_as_torchvision_does() -> None:
    theirs = segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=False
    ).eval()
    # The one difference: it dilates a stage from its second block on.
    for stage, dilation in ((theirs.backbone.layer3, 2), (theirs.backbone.layer4, 4)):
        stage[0].conv2.dilation = stage[0].conv2.padding = (dilation, dilation)
    weights = {
        name.replace("backbone.", "encoder.").replace("classifier.", "decoder."): value
        for name, value in theirs.state_dict().items()
    }
    ours = build("resnet50", classes=3).eval()
    ours.load_state_dict(weights)
    pixels = torch.randn(1, 3, 40, 33)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs(pixels)["out"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("stride", "side"), [(8, 8), (16, 4), (32, 2)])
def test_features_at_each_stride(stride: int, side: int) -> None:
    network = FCN("resnet18", encoder_weights=None, classes=2, encoder_output_stride=stride)  # type: ignore[arg-type]
    names = ["encoder.layer4", "decoder.0", "decoder.4"]
    shapes = shapes_of(network, torch.zeros(1, 3, 64, 64), names)
    assert list(shapes.values()) == [(512, side, side), (128, side, side), (2, side, side)]


def test_encoders_without_dilation_take_the_full_stride() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="not support dilated mode"):
            build("vgg11")
        network = FCN("vgg11", encoder_weights=None, classes=2, encoder_output_stride=32)
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 2, 64, 64)


@pytest.mark.parametrize("encoder", ["tu-resnet10t", "resnet18"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 16), (97, 128)])
def test_any_size(encoder: str, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(encoder, classes=3).eval()(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, height, width)
    assert bool(logits.isfinite().all())


def test_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(build(), torch.randn(2, 3, 48, 40)) == []


def test_evaluation_is_the_same_in_any_batch() -> None:
    assert same_in_any_batch(build(), torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss() -> None:
    losses = losses_of_training(build(), *toy_batch(), steps=10)
    assert losses[-1] < 0.5 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="FCN", encoder="tu-resnet10t")
    spec = spec.model_copy(update={"architecture": architecture})
    network: nn.Module = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)
