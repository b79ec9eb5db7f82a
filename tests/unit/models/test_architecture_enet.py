"""ENet: the layers and shapes of the paper's table 1, its parameters, and the unpooling."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from slideloom.models.architectures import build_network
from slideloom.models.architectures.enet import ENet, unpool
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


def build(*, classes: int = 2) -> ENet:
    torch.manual_seed(1)
    return ENet("enet", encoder_weights=None, classes=classes)


def bottleneck(inputs: int, outputs: int, *, project: int = 1, middle: int = 9) -> int:
    """Parameters of a bottleneck's convolutions, three norms and three PReLUs, from figure 2b."""
    inner = outputs // 4
    convolutions = project * inputs * inner + middle * inner * inner + inner * outputs
    norms = 2 * (inner + inner + outputs)
    return convolutions + norms + inner + inner + outputs


def counted_by_hand(classes: int) -> int:
    """Table 1, line by line."""
    initial = 9 * 3 * 13 + 3 * 16
    stage1 = bottleneck(16, 64, project=4) + 4 * bottleneck(64, 64)
    stage2 = 6 * bottleneck(128, 128) + 2 * bottleneck(128, 128, middle=10)
    main4, main5 = 128 * 64 + 2 * 64, 64 * 16 + 2 * 16
    stage4 = bottleneck(128, 64) + main4 + 2 * bottleneck(64, 64)
    stage5 = bottleneck(64, 16) + main5 + bottleneck(16, 16)
    fullconv = 4 * 16 * classes + classes
    down2 = bottleneck(64, 128, project=4)
    return initial + stage1 + down2 + 2 * stage2 + stage4 + stage5 + fullconv


def test_parameters() -> None:
    # Table 3 gives 0.37 M for the network of Cityscapes (19 classes and one for the rest). The
    # authors' code has 693 biases more before norms, and 336 slopes of PReLU fewer in the decoder:
    # it makes 364 376, so 0.37 is that rounded up, or counted otherwise.
    found = parameters_of(partial(build, classes=20))
    assert found == counted_by_hand(20) == 364_019
    assert found / 1e6 == pytest.approx(0.37, abs=0.01)


def test_shapes_of_the_table() -> None:
    # For 512 x 512, as in the table.
    network = build(classes=7)
    names = ["initial", "stage1", "stage2", "stage3", "up4", "stage4", "up5", "stage5", "fullconv"]
    assert list(shapes_of(network, torch.zeros(1, 3, 512, 512), names).values()) == [
        (16, 256, 256),
        (64, 128, 128),
        (128, 64, 64),
        (128, 64, 64),
        (64, 128, 128),
        (64, 128, 128),
        (16, 256, 256),
        (16, 256, 256),
        (7, 512, 512),
    ]


def test_kinds_of_the_table() -> None:
    network = build()
    for stage in (network.stage2, network.stage3):
        found: list[object] = []
        for block in stage:
            middle = block.get_submodule("extension.3")
            if isinstance(middle, nn.Conv2d):
                found.append(middle.dilation[0])
            else:
                found.append([part.kernel_size for part in middle.children()])
        asymmetric = [(5, 1), (1, 5)]
        assert found == [1, 2, asymmetric, 4, 1, 8, asymmetric, 16]
    assert len(network.stage1) == 4
    assert len(network.stage4) == 2
    drops = [module.p for module in network.modules() if isinstance(module, nn.Dropout2d)]
    assert drops == [0.01] * 5 + [0.1] * (len(drops) - 5)
    assert len(drops) == 5 + 1 + 16 + 3 + 2
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unpool_puts_values_where_the_maxima_were(memory_format: torch.memory_format) -> None:
    features = torch.randn(2, 3, 6, 10).contiguous(memory_format=memory_format)
    pooled, places = functional.max_pool2d(features, 2, return_indices=True)
    expected = functional.max_unpool2d(pooled, places, (2, 2))
    assert torch.equal(unpool(pooled, places), expected)
    assert int((expected != 0).sum()) == pooled.numel()


@pytest.mark.parametrize(("down", "up"), [("down1", "up5"), ("down2", "up4")])
def test_maxima_of_the_encoder_guide_the_decoder(down: str, up: str) -> None:
    network = build().eval()
    given: dict[str, tuple[Tensor, ...]] = {}
    for name in (down, up):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _module, inputs, name=name: given.update({name: inputs})
        )
    with torch.inference_mode():
        network(torch.randn(1, 3, 32, 48))
    _, places = functional.max_pool2d(given[down][0], 2, return_indices=True)
    assert torch.equal(given[up][1], places)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 8), (65, 47)])
def test_any_size(height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(classes=3).eval()(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, height, width)
    assert bool(logits.isfinite().all())


def test_a_pixel_counts_up_to_some_600_px() -> None:
    network = build().eval()
    pixels = torch.randn(1, 3, 8, 1400).requires_grad_()
    network(pixels)[0, 0, 0, 700].backward()
    assert pixels.grad is not None
    seen = pixels.grad.abs().amax(dim=(0, 1, 2)).nonzero()
    assert 550 <= 700 - int(seen.min()) <= 650
    assert 550 <= int(seen.max()) - 700 <= 650


def test_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(build(), torch.randn(2, 3, 64, 48)) == []


def test_evaluation_is_the_same_in_any_batch() -> None:
    assert same_in_any_batch(build(), torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss() -> None:
    losses = losses_of_training(build(), *toy_batch(32), steps=30)
    assert losses[-1] < 0.6 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="ENet", encoder="enet")
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", None), ("enet", "imagenet")])
def test_other_encoders_are_refused(encoder: str, weights: str | None) -> None:
    with pytest.raises(ValueError, match="brings its own encoder"):
        ENet(encoder, encoder_weights=weights, classes=2)
