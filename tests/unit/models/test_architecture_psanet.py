"""PSANet: its parameters by hand, and its attention beside the paper's sums written as loops."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from slideloom.models.architectures import build_network
from slideloom.models.architectures.psanet import PointwiseAttention, PSANet, gather, spread
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

RESNET_50 = 25_557_032
"""Of torchvision's table of weights, with the classifier of 1000 classes."""


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(2)


def build(encoder: str = "resnet18", *, classes: int = 2, mask_size: int = 7) -> PSANet:
    torch.manual_seed(1)
    return PSANet(encoder, encoder_weights=None, classes=classes, mask_size=mask_size)


def test_count_by_hand() -> None:
    # Zhao et al., ECCV 2018, state no count. Sections 3.3 and 3.4 with the sizes of the authors'
    # code: masks of 59 x 59 for crops of 465 px; each norm has two parameters a channel.
    branch = (2048 * 512 + 2 * 512) + (512 * 512 + 2 * 512) + 512 * 59 * 59
    project = 1024 * 2048 + 2 * 2048
    classifier = 9 * 4096 * 512 + 2 * 512 + (512 + 1) * 21
    backbone = RESNET_50 - (2048 * 1000 + 1000)
    found = parameters_of(partial(build, "resnet50", classes=21, mask_size=59))
    assert found == backbone + 2 * branch + project + classifier == 50_685_525


def test_shapes() -> None:
    # At 464 px, the paper's crop but for a pixel: features of 58, and a grid of half of that.
    names = [
        "attention.collect.reduce",
        "attention.collect.predict",
        "attention.distribute.predict",
        "attention.project",
        "attention",
        "classifier",
    ]
    network = build(classes=7, mask_size=57)
    assert list(shapes_of(network, torch.zeros(1, 3, 464, 456), names).values()) == [
        (512, 58, 57),
        (57 * 57, 29, 29),
        (57 * 57, 29, 29),
        (512, 29, 29),
        (512, 58, 57),
        (7, 58, 57),
    ]


def looped(values: Tensor, masks: Tensor, mask_size: int, *, distribute: bool) -> Tensor:
    """Equations 6 to 9 of the paper, place by place, with softmax over the places that count.

    The map of a place holds, row by row, what it says of the place at each offset. Collecting, a
    place asks its own map; distributing, it asks the maps of the others.
    """
    count, channels, rows, columns = values.shape
    places = [(row, column) for row in range(rows) for column in range(columns)]
    out = torch.zeros(count, channels, rows, columns)
    half = mask_size // 2
    for picture in range(count):
        for row, column in places:
            logits, taken = [], []
            for other_row, other_column in places:
                down, right = other_row - row, other_column - column
                asked = (row, column)
                if distribute:
                    down, right, asked = -down, -right, (other_row, other_column)
                if max(abs(down), abs(right)) <= half:
                    channel = (down + half) * mask_size + right + half
                    logits.append(masks[picture, channel, asked[0], asked[1]])
                    taken.append(values[picture, :, other_row, other_column])
            weights = torch.stack(logits).softmax(dim=0)
            out[picture, :, row, column] = (torch.stack(taken, dim=1) * weights).sum(dim=1)
    return out


@pytest.mark.parametrize("distribute", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns", "mask_size"),
    [(3, 4, 7), (4, 4, 7), (3, 2, 9), (4, 5, 3), (1, 1, 3)],
)
def test_attention_is_that_of_the_paper(
    rows: int, columns: int, mask_size: int, distribute: bool
) -> None:
    torch.manual_seed(2)
    values = torch.randn(2, 5, rows, columns)
    masks = torch.randn(2, mask_size**2, rows, columns)
    logits = spread(masks, mask_size)
    found = gather(values, logits.transpose(1, 2) if distribute else logits)
    torch.testing.assert_close(found, looped(values, masks, mask_size, distribute=distribute))


def test_both_directions_reach_the_context() -> None:
    module = PointwiseAttention(8, mask_size=5).eval()
    seen: list[Tensor] = []
    module.project.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    features = torch.randn(1, 8, 5, 5)
    with torch.inference_mode():
        module(features)
        kept, logits = module.collect(features)
        given, masks = module.distribute(features)
    both = torch.cat([gather(kept, logits), gather(given, masks.transpose(1, 2))], dim=1)
    torch.testing.assert_close(seen[0], both)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 8), (120, 16)])
def test_any_size(height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(classes=3).eval()(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 3, height, width)
    assert bool(logits.isfinite().all())


def test_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(build(), torch.randn(2, 3, 64, 48)) == []


def test_evaluation_is_the_same_in_any_batch() -> None:
    assert same_in_any_batch(build(), torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss() -> None:
    losses = losses_of_training(build(), *toy_batch(32), steps=8)
    assert losses[-1] < 0.6 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name="PSANet", encoder="tu-resnet10t", arguments={"mask_size": 7})
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mask_size", [1, 8])
def test_masks_have_a_middle(mask_size: int) -> None:
    with pytest.raises(ValueError, match=f"odd and at least 3, got {mask_size}"):
        build(mask_size=mask_size)
