"""Every architecture of the registry builds offline and answers at the input's size."""

import pytest
import torch

from slideloom.errors import SettingsError
from slideloom.models.architectures import ARCHITECTURES, build_network
from slideloom.models.spec import Architecture, ModelSpec

# PAN pools what its encoder leaves of the image three times more.
ARGUMENTS: dict[str, dict[str, bool | int]] = {
    "DPT": {"dynamic_img_size": True},
    "PAN": {"encoder_depth": 3},
    "UCTransNet": {"base_channels": 8},
}

ENCODERS = {
    "DPT": "tu-vit_tiny_patch16_224",
    "DeepLabV1": "vgg11",
    "ENet": "enet",
    "SETRMLA": "tu-vit_tiny_patch16_224",
    "SETRNaive": "tu-vit_tiny_patch16_224",
    "SETRPUP": "tu-vit_tiny_patch16_224",
    "UCTransNet": "uctransnet",
}
"""Of the architectures that do not take just any encoder."""


def with_architecture(spec: ModelSpec, architecture: Architecture | None) -> ModelSpec:
    return spec.model_copy(update={"architecture": architecture})


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_builds_and_keeps_the_size(name: str, spec: ModelSpec) -> None:
    encoder = ENCODERS.get(name, "tu-resnet10t")
    architecture = Architecture(name=name, encoder=encoder, arguments=ARGUMENTS.get(name, {}))
    network = build_network(with_architecture(spec, architecture)).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, 128, 96))
    assert logits.shape == (1, 2, 128, 96)


def test_timm_encoders_carry_no_unused_stage(spec: ModelSpec) -> None:
    # The weights of a model folder should hold nothing that its forward pass never reads.
    network = build_network(spec)
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(
    ("architecture", "says"),
    [
        (None, "names no architecture"),
        (Architecture(name="Onet", encoder="resnet18"), "choose one of .*Unet"),
        (Architecture(name="Unet", encoder="resnet-none"), "resnet-none"),
        (Architecture(name="Unet", encoder="resnet18", arguments={"depth": 3}), "depth"),
        (Architecture(name="Unet", encoder="resnet18", arguments={"encoder_depth": 9}), "9"),
    ],
)
def test_wrong_architecture(spec: ModelSpec, architecture: Architecture | None, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        build_network(with_architecture(spec, architecture))
