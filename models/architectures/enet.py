"""ENet: a small and fast encoder and decoder of bottlenecks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from slideloom.models.architectures.sizes import pad_to_multiple

__all__ = ["ENet"]

STRIDE_PX = 8
REDUCTION = 4
EPSILON = 1e-3
"""Of the batch normalisations, as in the authors' code."""


class ENet(nn.Module):
    """ENet.

    Paszke et al., "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
    arXiv 1606.02147 (2016), table 1 from the initial block to `fullconv`: stages 1 to 3 encode to
    an eighth of the size, stages 4 and 5 decode with the places of the encoder's maxima.

    What the paper leaves open is as in the authors' released code: bottlenecks of the decoder
    narrow to a quarter of their output, nothing stands between the two parts of an asymmetric
    convolution, and `fullconv` is 2x2. Where that code differs from the paper (ReLU and no dropout
    in the decoder), this is the paper.

    It differs from both in two ways. All of it is trained at once, not the encoder first. And
    convolutions before a batch normalisation have no bias, which that would take away again.

    A pixel's logits depend on pixels up to some 600 px away: in practice, on the whole tile.
    """

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: `enet`: the network brings its own encoder.
            encoder_weights: None: there are no weights of it.
            classes: Output channels.

        Raises:
            ValueError: Another encoder, or weights for it.
        """
        super().__init__()
        if encoder != "enet" or encoder_weights is not None:
            msg = "ENet brings its own encoder: set encoder to 'enet', without pretrained weights"
            raise ValueError(msg)
        self.initial = Initial(16)
        self.down1 = Down(16, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, _conv(16), dropout=0.01) for _ in range(4)))
        self.down2 = Down(64, 128, dropout=0.1)
        self.stage2 = _dilated_stage()
        self.stage3 = _dilated_stage()
        self.up4 = Up(128, 64)
        self.stage4 = nn.Sequential(*(Bottleneck(64, _conv(16), dropout=0.1) for _ in range(2)))
        self.up5 = Up(64, 16)
        self.stage5 = Bottleneck(16, _conv(4), dropout=0.1)
        self.fullconv = nn.ConvTranspose2d(16, classes, 2, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels `(n, 3, y, x)` of any size to logits `(n, classes, y, x)`."""
        features = self.initial(pad_to_multiple(pixels, STRIDE_PX))
        features, places1 = self.down1(features)
        features, places2 = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        features = self.stage4(self.up4(features, places2))
        features = self.stage5(self.up5(features, places1))
        logits: Tensor = self.fullconv(features)
        return logits[..., : pixels.shape[-2], : pixels.shape[-1]]


class Initial(nn.Module):
    """A strided convolution beside a pooling of the picture itself, to half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels - 3, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON)
        self.activation = nn.PReLU(channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """`(n, 3, 2 y, 2 x)` to `(n, channels, y, x)`."""
        both = torch.cat([self.conv(pixels), functional.max_pool2d(pixels, 2)], dim=1)
        features: Tensor = self.activation(self.norm(both))
        return features


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, and add to the input; the shape stays."""

    def __init__(self, channels: int, middle: nn.Module, *, dropout: float) -> None:
        super().__init__()
        project = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.extension = _extension(project, middle, outputs=channels, dropout=dropout)
        self.activation = nn.PReLU(channels)

    def forward(self, features: Tensor) -> Tensor:
        """`(n, c, y, x)` to the same shape."""
        changed: Tensor = self.activation(features + self.extension(features))
        return changed


class Down(nn.Module):
    """A bottleneck to half the size; its main branch pools and gains channels of zeros."""

    def __init__(self, inputs: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        inner = outputs // REDUCTION
        project = nn.Conv2d(inputs, inner, 2, stride=2, bias=False)
        self.extension = _extension(project, _conv(inner), outputs=outputs, dropout=dropout)
        self.activation = nn.PReLU(outputs)
        self.extra = outputs - inputs

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, inputs, 2 y, 2 x)` to `(n, outputs, y, x)`, and the places `(n, inputs, y, x)`.

        A place is the index `y * width + x` of the maximum of four pixels.
        """
        pooled, places = functional.max_pool2d(features, 2, return_indices=True)
        main = functional.pad(pooled, (0, 0, 0, 0, 0, self.extra))
        return self.activation(main + self.extension(features)), places


class Up(nn.Module):
    """A bottleneck to twice the size; its main branch puts values where the maxima were."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        inner = outputs // REDUCTION
        middle = nn.ConvTranspose2d(
            inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        project = nn.Conv2d(inputs, inner, 1, bias=False)
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, eps=EPSILON)
        )
        self.extension = _extension(project, middle, outputs=outputs, dropout=0.1)
        self.activation = nn.PReLU(outputs)

    def forward(self, features: Tensor, places: Tensor) -> Tensor:
        """`(n, inputs, y, x)` and places `(n, outputs, y, x)` to `(n, outputs, 2 y, 2 x)`."""
        main = unpool(self.main(features), places)
        changed: Tensor = self.activation(main + self.extension(features))
        return changed


def unpool(values: Tensor, places: Tensor) -> Tensor:
    """Put each value where its maximum was among four pixels, and zeros elsewhere.

    The same as `torch.nn.functional.max_unpool2d`, but deterministic on every device, and made of
    operations that can be exported.
    """
    height, width = 2 * values.shape[-2], 2 * values.shape[-1]
    pixel = torch.arange(height * width, device=values.device).view(height, width)
    return torch.where(_double(places) == pixel, _double(values), 0)


def _double(values: Tensor) -> Tensor:
    count, channels, height, width = values.shape
    blocks = values[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return blocks.reshape(count, channels, 2 * height, 2 * width)


def _extension(
    project: nn.Conv2d, middle: nn.Module, *, outputs: int, dropout: float
) -> nn.Sequential:
    """The convolutional branch of a bottleneck; batch normalisation and PReLU between its parts."""
    inner = project.out_channels
    return nn.Sequential(
        project,
        nn.BatchNorm2d(inner, eps=EPSILON),
        nn.PReLU(inner),
        middle,
        nn.BatchNorm2d(inner, eps=EPSILON),
        nn.PReLU(inner),
        nn.Conv2d(inner, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs, eps=EPSILON),
        nn.Dropout2d(dropout),
    )


def _dilated_stage() -> nn.Sequential:
    """Bottlenecks 1 to 8 of the second and third stage."""
    inner = 128 // REDUCTION
    middles = [
        _conv(inner),
        _conv(inner, dilation=2),
        _asymmetric(inner, 5),
        _conv(inner, dilation=4),
        _conv(inner),
        _conv(inner, dilation=8),
        _asymmetric(inner, 5),
        _conv(inner, dilation=16),
    ]
    return nn.Sequential(*(Bottleneck(128, middle, dropout=0.1) for middle in middles))


def _conv(channels: int, *, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)


def _asymmetric(channels: int, length: int) -> nn.Sequential:
    middle = length // 2
    return nn.Sequential(
        nn.Conv2d(channels, channels, (length, 1), padding=(middle, 0), bias=False),
        nn.Conv2d(channels, channels, (1, length), padding=(0, middle), bias=False),
    )
