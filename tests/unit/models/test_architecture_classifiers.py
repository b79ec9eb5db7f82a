"""Networks for classification: counts, sizes, and the choice of the registry by the task."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import ARCHITECTURES, CLASSIFIERS, build_network
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

ENCODERS = {"PlainCNN": "plaincnn", "Timm": "resnet10t"}
NAMES = tuple(ENCODERS)


def build(name: str, *, encoder: str | None = None, classes: int = 2) -> nn.Module:
    torch.manual_seed(1)
    encoder = ENCODERS[name] if encoder is None else encoder
    return CLASSIFIERS[name](encoder, encoder_weights=None, classes=classes)


def classification(spec: ModelSpec, name: str, encoder: str) -> ModelSpec:
    architecture = Architecture(name=name, encoder=encoder)
    fields = {"task": "classification", "architecture": architecture, "decode": None}
    return spec.model_copy(update=fields)


def test_count_of_the_plain_network() -> None:
    # Two 3x3 convolutions without bias and two batch norms a block, then a linear layer.
    by_hand = 0
    for inputs, outputs in ((3, 32), (32, 64), (64, 128), (128, 256)):
        by_hand += 9 * inputs * outputs + 9 * outputs * outputs + 2 * 2 * outputs
    by_hand += 256 * 6 + 6
    assert parameters_of(partial(build, "PlainCNN", classes=6)) == by_hand == 1_174_758


@pytest.mark.parametrize(
    ("encoder", "published"),
    [
        ("resnet18", 11_689_512),  # torchvision's documentation, ImageNet
        ("resnet50", 25_557_032),
        ("vit_base_patch16_224", 86_567_656),
    ],
)
def test_counts_of_known_backbones(encoder: str, published: int) -> None:
    assert parameters_of(partial(build, "Timm", encoder=encoder, classes=1000)) == published


@pytest.mark.parametrize("encoder", ["resnet10t", "tf_efficientnet_lite0"])
def test_all_classes_begin_about_equal(encoder: str) -> None:
    """timm's own last layer of an EfficientNet begins with logits that differ by more than 1."""
    network = build("Timm", encoder=encoder, classes=6).eval()
    last = network.get_submodule("encoder.fc" if encoder == "resnet10t" else "encoder.classifier")
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        logits = last(torch.rand(16, last.in_features))
    assert 0 < logits.std(dim=1).max() < 0.5


def test_plain_layers() -> None:
    names = [f"encoder.{block}" for block in range(4)]
    shapes = shapes_of(build("PlainCNN"), torch.zeros(1, 3, 50, 64), names)
    assert list(shapes.values()) == [(32, 25, 32), (64, 13, 16), (128, 7, 8), (256, 4, 4)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 16), (97, 128)])
def test_any_size(name: str, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(name, classes=3).eval()(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, 1, 1)
    assert bool(logits.isfinite().all())


def test_transformers_take_other_sizes_by_their_arguments() -> None:
    arguments = {"dynamic_img_size": True, "dynamic_img_pad": True}
    network = CLASSIFIERS["Timm"]("tu-test_vit", encoder_weights=None, classes=3, **arguments)
    with torch.inference_mode():
        assert network.eval()(torch.randn(2, 3, 65, 40)).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str) -> None:
    assert parameters_without_gradient(build(name), torch.randn(2, 3, 48, 40)) == []


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_the_same_in_any_batch(name: str) -> None:
    assert same_in_any_batch(build(name), torch.randn(2, 3, 48, 40))


@pytest.mark.parametrize("name", NAMES)
def test_training_reduces_the_loss(name: str) -> None:
    pixels, _ = toy_batch()
    losses = losses_of_training(build(name), pixels, torch.tensor([[[0]], [[1]]]), steps=10)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_model_folder(name: str, spec: ModelSpec, tmp_path: Path) -> None:
    spec = classification(spec, name, ENCODERS[name])
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        assert loaded.shape == (1, len(spec.classes), 1, 1)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


def test_no_name_is_in_both_registries() -> None:
    assert ARCHITECTURES.keys().isdisjoint(CLASSIFIERS)


def test_the_task_chooses_the_registry(spec: ModelSpec) -> None:
    with pytest.raises(SettingsError, match=r"'Unet' for task 'classification': .* PlainCNN, Timm"):
        build_network(classification(spec, "Unet", "resnet18"))
    architecture = Architecture(name="PlainCNN", encoder="plaincnn")
    with pytest.raises(SettingsError, match=r"'PlainCNN' for task 'instance': .* Unet"):
        build_network(spec.model_copy(update={"architecture": architecture}))


@pytest.mark.parametrize(
    ("name", "encoder", "says"),
    [("PlainCNN", "resnet18", "brings its own encoder"), ("Timm", "resnet-none", "resnet-none")],
)
def test_wrong_encoders(name: str, encoder: str, says: str, spec: ModelSpec) -> None:
    with pytest.raises(SettingsError, match=says):
        build_network(classification(spec, name, encoder))
