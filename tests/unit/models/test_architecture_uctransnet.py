"""UCTransNet: its parameters by hand, its layers, and its attention against a slow twin."""

from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from slideloom.models.architectures import build_network
from slideloom.models.architectures.uctransnet import UCTransNet, _ChannelAttention, _Up
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


def build(*, classes: int = 2, base_channels: int = 4, layers: int = 2) -> UCTransNet:
    torch.manual_seed(1)
    return UCTransNet(
        "uctransnet",
        encoder_weights=None,
        classes=classes,
        base_channels=base_channels,
        layers=layers,
    )


def convolution(inputs: int, outputs: int, kernel: int = 3) -> int:
    return kernel**2 * inputs * outputs + outputs + 2 * outputs  # weights, bias, batch norm


def count_by_hand(classes: int) -> int:
    """Sections 3.1 and 3.2 and figure 2: 64 channels, 4 scales, 4 layers, 4 heads."""
    skips = (64, 128, 256, 512)
    total = sum(skips)
    widths = (*skips, 512)
    count = convolution(3, 64) + 64 * classes + classes
    for finer, coarser in pairwise(widths):
        count += convolution(finer, coarser) + convolution(coarser, coarser)
    for skip, output in zip(skips, (64, 64, 128, 256), strict=True):
        count += convolution(2 * skip, output) + convolution(output, output)
        count += 2 * (skip * skip + skip)  # CCA
    for skip, patch in zip(skips, (16, 8, 4, 2), strict=True):
        count += patch**2 * skip * skip + skip + 14 * 14 * skip  # embedding of 224 px
        count += 2 * skip + convolution(skip, skip, 1)  # last norm, and back to the skip's size
    layer = 2 * 4 * total * total + 2 * total  # keys and values of 4 heads, norm
    for skip in skips:
        layer += 4 * skip * skip + skip * skip + 2 * skip  # queries of 4 heads, output, norm
        layer += 2 * skip + 2 * 4 * skip * skip + 4 * skip + skip  # norm and MLP
    return count + 4 * layer


def test_count_by_hand() -> None:
    count = parameters_of(partial(build, classes=1, base_channels=64, layers=4))
    assert count == count_by_hand(classes=1)
    assert round(count / 1e6, 1) == 66.4


def test_layers_of_an_image_of_the_paper() -> None:
    names = ["stem", *(f"down.{scale}" for scale in range(4))]
    names += [f"transformer.embed.{scale}" for scale in range(4)]
    names += [f"transformer.restore.{scale}" for scale in range(4)]
    names += [f"up.{scale}" for scale in (3, 2, 1, 0)]
    shapes = shapes_of(build(base_channels=8, layers=1), torch.zeros(1, 3, 224, 224), names)
    assert list(shapes.values()) == [
        (8, 224, 224),
        (16, 112, 112),
        (32, 56, 56),
        (64, 28, 28),
        (64, 14, 14),
        (8, 14, 14),
        (16, 14, 14),
        (32, 14, 14),
        (64, 14, 14),
        (8, 224, 224),
        (16, 112, 112),
        (32, 56, 56),
        (64, 28, 28),
        (32, 28, 28),
        (16, 56, 56),
        (8, 112, 112),
        (8, 224, 224),
    ]


def attend_slowly(attention: _ChannelAttention, tokens: list[Tensor]) -> list[Tensor]:
    """Equations 1 to 3 of the paper, one picture, scale and head at a time."""
    heads, total = attention.heads, attention.all_channels
    answers = []
    for scale, maps in enumerate(tokens):
        width = maps.shape[2]
        norm = attention.norm.get_submodule(str(scale))
        query = attention.query.get_parameter(f"{scale}.weight")
        out = attention.out.get_parameter(f"{scale}.0.weight")
        rows = []
        for picture in range(len(tokens[0])):
            own = norm(maps[picture])
            everything = attention.all_norm(torch.cat([each[picture] for each in tokens], dim=1))
            mean = torch.zeros(width, len(own))
            for head in range(heads):
                q = own @ query[head * width : (head + 1) * width].T
                k = everything @ attention.key.weight[head * total : (head + 1) * total].T
                v = everything @ attention.value.weight[head * total : (head + 1) * total].T
                similarity = q.T @ k / total**0.5
                variance = similarity.var(unbiased=False) + attention.similarity_norm.eps
                normed = (similarity - similarity.mean()) / variance.sqrt()
                mean += torch.softmax(normed, dim=1) @ v.T / heads
            rows.append(mean.T @ out.T)
        answers.append(torch.stack(rows))
    return answers


def test_attention_is_over_channels() -> None:
    torch.manual_seed(2)
    attention = _ChannelAttention((3, 5), heads=2).eval()
    tokens = [torch.randn(2, 7, 3), torch.randn(2, 7, 5)]
    with torch.inference_mode():
        for fast, slow in zip(attention(tokens), attend_slowly(attention, tokens), strict=True):
            torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)


def test_what_is_fused_is_a_residual_of_the_skip() -> None:
    transformer = build().eval().transformer
    skips = [torch.randn(1, 4 * 2**scale, 32 >> scale, 16 >> scale) for scale in range(4)]
    with torch.inference_mode():
        assert not any(torch.equal(a, b) for a, b in zip(transformer(skips), skips, strict=True))
        for restore in transformer.restore.children():
            nn.init.zeros_(restore.get_parameter("2.weight"))
        assert all(torch.equal(a, b) for a, b in zip(transformer(skips), skips, strict=True))


def test_a_skip_is_weighted_by_channel() -> None:
    torch.manual_seed(2)
    up = _Up(3, 2).eval()
    up.join = nn.Identity()  # type: ignore[assignment]
    skip, decoded = torch.randn(1, 3, 4, 6), torch.randn(1, 3, 2, 3)
    with torch.inference_mode():
        joined = up(decoded, skip)
        of_skip = functional.adaptive_avg_pool2d(skip, 1).flatten()
        of_decoded = functional.adaptive_avg_pool2d(decoded, 1).flatten()
        weights = torch.sigmoid((up.of_skip(of_skip) + up.of_decoded(of_decoded)) / 2)
    for channel in range(3):
        wanted = (weights[channel] * skip[0, channel]).clamp(min=0)
        torch.testing.assert_close(joined[0, channel], wanted)
        assert torch.equal(joined[0, 3 + channel, ::2, 1::2], decoded[0, channel])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 32), (33, 50), (100, 64)])
def test_any_size(height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(classes=3).eval()(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, height, width)
    assert bool(logits.isfinite().all())


def test_gradient_reaches_every_parameter() -> None:
    assert parameters_without_gradient(build(), torch.randn(2, 3, 40, 48)) == []


def test_evaluation_is_the_same_in_any_batch() -> None:
    assert same_in_any_batch(build(), torch.randn(2, 3, 48, 40))


def test_training_reduces_the_loss() -> None:
    losses = losses_of_training(build(base_channels=8), *toy_batch(), steps=20)
    assert losses[-1] < 0.7 * losses[0]


def test_model_folder(spec: ModelSpec, tmp_path: Path) -> None:
    arguments = {"base_channels": 4, "layers": 1, "heads": 2}
    architecture = Architecture(name="UCTransNet", encoder="uctransnet", arguments=arguments)
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", None), ("uctransnet", "imagenet")])
def test_brings_its_own_encoder(encoder: str, weights: str | None) -> None:
    with pytest.raises(ValueError, match="brings its own encoder"):
        UCTransNet(encoder, encoder_weights=weights, classes=2)
