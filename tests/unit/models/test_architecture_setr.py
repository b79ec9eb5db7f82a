"""SETR: the published counts, the layers of its three decoders, and any size of image."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from slideloom.models.architectures import ARCHITECTURES, build_network
from slideloom.models.architectures.setr import SETRMLA, SETRPUP
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

NAMES = ("SETRNaive", "SETRPUP", "SETRMLA")
ENCODER = "test_vit"  # 6 layers of 64 channels, patches of 16 px


def build(name: str, *, encoder: str = ENCODER, classes: int = 2) -> nn.Module:
    torch.manual_seed(1)
    return ARCHITECTURES[name](encoder, encoder_weights=None, classes=classes)


def beside_ours(name: str, *, width: int, classes: int) -> int:
    """What the published counts (table 2, images of 512 px, ADE20K) hold and our network does not.

    The paper does not say what it counts; this is the one account that gives all six figures. The
    authors build on mmsegmentation, where every head, auxiliary or not, carries an unused
    classifier of 512 channels. Naive and PUP heads have a layer norm each.
    """
    grid = (32 * 32 - 24 * 24) * width  # the encoder is made for 384 px
    unused = 512 * classes + classes
    classifier = 256 * classes + classes
    kernel = {"SETRNaive": 1, "SETRPUP": 9}.get(name)
    if kernel is None:  # MLA: four auxiliary classifiers right on the features of the streams
        return grid + 4 * classifier + 5 * unused
    auxiliary = {"SETRNaive": 3, "SETRPUP": 4}[name]
    head = kernel * width * 256 + 2 * 256 + classifier + 2 * width
    return grid + auxiliary * head + (auxiliary + 1) * unused


@pytest.mark.parametrize(
    ("name", "encoder", "width", "millions"),
    [
        ("SETRNaive", "vit_base_patch16_384", 768, 87.69),
        ("SETRPUP", "vit_base_patch16_384", 768, 97.64),
        ("SETRMLA", "vit_base_patch16_384", 768, 92.59),
        ("SETRNaive", "vit_large_patch16_384", 1024, 305.67),
        ("SETRPUP", "vit_large_patch16_384", 1024, 318.31),
        ("SETRMLA", "vit_large_patch16_384", 1024, 310.57),
    ],
)
def test_published_counts(name: str, encoder: str, width: int, millions: float) -> None:
    # Zheng et al., CVPR 2021, table 2, column "#Params".
    ours = parameters_of(partial(build, name, encoder=encoder, classes=150))
    published = (ours + beside_ours(name, width=width, classes=150)) / 1e6
    assert round(published, 2) == millions


def test_decoders_layer_by_layer() -> None:
    # Section 3.2 and figure 1; the image is 64 px, so the transformer's grid is 4 x 4.
    pixels = torch.zeros(1, 3, 64, 64)
    naive = shapes_of(build("SETRNaive"), pixels, ["decoder.0", "decoder.3"])
    assert naive == {"decoder.0": (256, 4, 4), "decoder.3": (2, 4, 4)}
    steps = ["decoder.0", "decoder.3", "decoder.4", "decoder.8", "decoder.11", "decoder.12"]
    pup = shapes_of(build("SETRPUP"), pixels, [*steps, "decoder.15"])
    assert list(pup.values()) == [
        (256, 4, 4),
        (256, 8, 8),
        (256, 8, 8),
        (256, 16, 16),
        (256, 32, 32),
        (256, 32, 32),
        (2, 32, 32),
    ]
    names = [f"decoder.{part}" for part in ("reduce.0", "smooth.0.0", "smooth.0.3", "smooth.0.6")]
    mla = shapes_of(build("SETRMLA"), pixels, [*names, "decoder.smooth.0", "decoder.classify"])
    assert list(mla.values()) == [
        (256, 4, 4),
        (256, 4, 4),
        (128, 4, 4),
        (128, 4, 4),
        (128, 16, 16),
        (2, 16, 16),
    ]


@pytest.mark.parametrize(
    ("name", "encoder", "layers"),
    [
        ("SETRNaive", "vit_large_patch16_384", [23]),
        ("SETRPUP", "vit_base_patch16_384", [11]),
        ("SETRMLA", "vit_large_patch16_384", [5, 11, 17, 23]),
        ("SETRMLA", "vit_base_patch16_384", [2, 5, 8, 11]),
    ],
)
def test_layers_that_are_read(name: str, encoder: str, layers: list[int]) -> None:
    # Z^m for m in (6, 12, 18, 24) of the paper, counted from one.
    with torch.device("meta"):
        assert build(name, encoder=encoder).layers == layers


def test_streams_are_summed_from_the_top() -> None:
    # The deepest stream reaches every other one, the shallowest only itself.
    network = SETRMLA(ENCODER, encoder_weights=None, classes=2).eval()
    smooth = network.decoder.get_submodule("smooth")
    seen: list[torch.Tensor] = []
    for stream in smooth.children():
        stream.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    maps = [torch.randn(1, 64, 2, 2) for _ in range(4)]
    other = torch.randn(1, 64, 2, 2)
    with torch.inference_mode():
        network.decoder(*maps)
        network.decoder(*maps[:3], other)
        network.decoder(other, *maps[1:])
    first, deepest, shallowest = seen[:4], seen[4:8], seen[8:]
    assert not any(torch.equal(a, b) for a, b in zip(first, deepest, strict=True))
    kept = [torch.equal(a, b) for a, b in zip(first, shallowest, strict=True)]
    assert kept == [False, True, True, True]


def test_each_stream_has_one_norm() -> None:
    network = SETRMLA(ENCODER, encoder_weights=None, classes=2)
    assert not [name for name, _ in network.named_parameters() if name.startswith("encoder.norm.")]
    norms = [name for name, _ in network.decoder.named_parameters() if ".0.weight" in name]
    assert norms[:4] == [f"reduce.{stream}.0.weight" for stream in range(4)]


def test_classes_before_the_last_step_up_are_those_after_it() -> None:
    # The paper's order, on the maps before our last convolution.
    decoder = SETRPUP(ENCODER, encoder_weights=None, classes=3).eval().decoder
    assert isinstance(decoder, nn.Sequential)
    with torch.inference_mode():
        maps = decoder[:-1](torch.randn(1, 64, 3, 2))
        paper = decoder[-1](functional.interpolate(maps, scale_factor=2, mode="bilinear"))
        ours = functional.interpolate(decoder[-1](maps), scale_factor=2, mode="bilinear")
    torch.testing.assert_close(ours, paper, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (33, 50), (64, 16), (160, 160), (176, 65)])
def test_any_size(name: str, height: int, width: int) -> None:
    with torch.inference_mode():
        logits = build(name, classes=3).eval()(torch.randn(2, 3, height, width))
    assert logits.shape == (2, 3, height, width)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_position_embeddings_are_resampled(name: str) -> None:
    # 160 px is what the encoder is made for: other grids must see other, but smooth, positions.
    network = build(name).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, 96, 96))
        network.encoder.pos_embed.zero_()  # type: ignore[operator, union-attr]
        assert not torch.equal(network(torch.zeros(1, 3, 96, 96)), logits)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name: str) -> None:
    assert parameters_without_gradient(build(name), torch.randn(2, 3, 48, 48)) == []


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_the_same_in_any_batch(name: str) -> None:
    assert same_in_any_batch(build(name), torch.randn(2, 3, 48, 40))


@pytest.mark.parametrize("name", NAMES)
def test_training_reduces_the_loss(name: str) -> None:
    losses = losses_of_training(build(name), *toy_batch(), steps=10)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_model_folder(name: str, spec: ModelSpec, tmp_path: Path) -> None:
    architecture = Architecture(name=name, encoder=f"tu-{ENCODER}")
    spec = spec.model_copy(update={"architecture": architecture})
    network = build_network(spec).eval()
    save_model(tmp_path, spec, module=network, card="")
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        loaded = load_model(tmp_path, device="cpu").load()(pixels)
        torch.testing.assert_close(loaded, network(pixels), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "encoder", "says"),
    [
        ("SETRNaive", "resnet18", "resnet18|dynamic_img_size"),
        ("SETRPUP", "swin_tiny_patch4_window7_224", "dynamic_img_size|vision transformer"),
        ("SETRNaive", "vit_none", "vit_none"),
    ],
)
def test_wrong_encoders(name: str, encoder: str, says: str) -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError), match=says):
        build(name, encoder=encoder)
