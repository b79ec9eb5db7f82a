"""UCTransNet: a U-Net whose skips pass through a transformer over channels."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from slideloom.models.architectures.sizes import pad_to_multiple

__all__ = ["UCTransNet"]

_SCALES = 4
_GRID = 14
"""Side of the grid of position embeddings: an image of 224 px has 14 x 14 patches of 16 px."""

_DROPOUT = 0.1
_MLP_RATIO = 4


class UCTransNet(nn.Module):
    """U-Net with channel-wise cross fusion (CCT) and channel-wise cross attention (CCA).

    Wang et al., "UCTransNet: Rethinking the Skip Connections in U-Net from a Channel-Wise
    Perspective with Transformer", AAAI 2022, arXiv:2109.04335.

    The encoder halves the image four times. Its first four scales go through the channel
    transformer, in which the channels of one scale attend to the channels of all, and come back as
    residuals of the skips. In the decoder each skip is weighted by channel before it is joined.

    What differs from the paper: position embeddings, which the paper ties to images of 224 px, are
    resampled to the grid of the image, so one network takes every size; and an image whose sides
    are no multiples of 16 is padded below and to the right, and its logits are cropped.
    """

    def __init__(
        self,
        encoder: str,
        *,
        encoder_weights: str | None,
        classes: int,
        base_channels: int = 64,
        layers: int = 4,
        heads: int = 4,
    ) -> None:
        """Build the network.

        Args:
            encoder: `uctransnet`: the network brings its own encoder.
            encoder_weights: None: there are no weights of it.
            classes: Channels of the logits.
            base_channels: Channels at full size; the next three scales double them.
            layers: Layers of the transformer.
            heads: Heads of its attention; each one sees all channels.

        Raises:
            ValueError: Another encoder, or weights for it.
        """
        super().__init__()
        if encoder != "uctransnet" or encoder_weights is not None:
            msg = (
                "UCTransNet brings its own encoder: set encoder to 'uctransnet', without "
                "pretrained weights"
            )
            raise ValueError(msg)
        skips = tuple(base_channels * 2**scale for scale in range(_SCALES))
        widths = (*skips, skips[-1])
        self.stem = nn.Sequential(*_convolution(3, base_channels))
        self.down = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(2), *_double_convolution(finer, coarser))
            for finer, coarser in pairwise(widths)
        )
        self.transformer = _ChannelTransformer(skips, layers=layers, heads=heads)
        outputs = (base_channels, *skips[:-1])
        self.up = nn.ModuleList(
            _Up(skip, output) for skip, output in zip(skips, outputs, strict=True)
        )
        self.classify = nn.Conv2d(base_channels, classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels `(n, 3, y, x)` into logits `(n, classes, y, x)`."""
        height, width = pixels.shape[-2:]
        features = [self.stem(pad_to_multiple(pixels, 2**_SCALES))]
        for down in self.down:
            features.append(down(features[-1]))
        skips = self.transformer(features[:-1])
        decoded = features[-1]
        for up, skip in zip(reversed(self.up), reversed(skips), strict=True):
            decoded = up(decoded, skip)
        return self.classify(decoded)[..., :height, :width]  # type: ignore[no-any-return]


class _ChannelTransformer(nn.Module):
    """CCT: embed the scales on one grid, let their channels attend, and put them back."""

    def __init__(self, channels: tuple[int, ...], *, layers: int, heads: int) -> None:
        super().__init__()
        # A patch covers the same 16 x 16 px of the image at every scale.
        patches = [2 ** (_SCALES - scale) for scale in range(_SCALES)]
        pairs = list(zip(channels, patches, strict=True))
        self.embed = nn.ModuleList(_Embedding(width, patch) for width, patch in pairs)
        self.layers = nn.ModuleList(_Layer(channels, heads) for _ in range(layers))
        self.norm = nn.ModuleList(_token_norm(width) for width in channels)
        self.restore = nn.ModuleList(
            nn.Sequential(nn.Upsample(scale_factor=patch), *_convolution(width, width, kernel=1))
            for width, patch in pairs
        )

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        embedded = [embed(skip) for embed, skip in zip(self.embed, skips, strict=True)]
        rows, columns = embedded[0].shape[-2:]
        tokens = [maps.flatten(2).transpose(1, 2) for maps in embedded]
        for layer in self.layers:
            tokens = layer(tokens)
        fused = []
        for norm, restore, token, skip in zip(self.norm, self.restore, tokens, skips, strict=True):
            maps = norm(token).transpose(1, 2).unflatten(2, (rows, columns))
            fused.append(skip + restore(maps))
        return fused


class _Embedding(nn.Module):
    """Cut one scale into patches, each a token of as many channels, and add where it lies."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, channels, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(1, channels, _GRID, _GRID))
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, maps: Tensor) -> Tensor:
        patches = self.project(maps)
        position: Tensor = self.position
        if patches.shape[-2:] != position.shape[-2:]:
            position = functional.interpolate(position, size=patches.shape[-2:], mode="bilinear")
        return self.dropout(patches + position)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """One layer: attention over channels, then an MLP for each scale, both as residuals."""

    def __init__(self, channels: tuple[int, ...], heads: int) -> None:
        super().__init__()
        self.attention = _ChannelAttention(channels, heads)
        self.mlp = nn.ModuleList(
            nn.Sequential(
                _token_norm(width),
                nn.Linear(width, _MLP_RATIO * width),
                nn.GELU(),
                nn.Dropout(_DROPOUT),
                nn.Linear(_MLP_RATIO * width, width),
                nn.Dropout(_DROPOUT),
            )
            for width in channels
        )

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        tokens = [a + b for a, b in zip(tokens, self.attention(tokens), strict=True)]
        return [token + mlp(token) for mlp, token in zip(self.mlp, tokens, strict=True)]


class _ChannelAttention(nn.Module):
    """The channels of each scale ask the channels of all scales (equations 1 to 3 of the paper).

    The map of similarities is channels by channels: its size does not depend on the image's.
    Its instance norm, over one map at a time, keeps the gradient of the softmax alive.
    """

    def __init__(self, channels: tuple[int, ...], heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.all_channels = sum(channels)
        self.norm = nn.ModuleList(_token_norm(width) for width in channels)
        self.all_norm = _token_norm(self.all_channels)
        self.query = nn.ModuleList(
            nn.Linear(width, heads * width, bias=False) for width in channels
        )
        self.key = nn.Linear(self.all_channels, heads * self.all_channels, bias=False)
        self.value = nn.Linear(self.all_channels, heads * self.all_channels, bias=False)
        self.similarity_norm = nn.InstanceNorm2d(heads)
        self.dropout = nn.Dropout(_DROPOUT)
        self.out = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width, bias=False), nn.Dropout(_DROPOUT))
            for width in channels
        )

    def forward(self, tokens: list[Tensor]) -> list[Tensor]:
        everything = self.all_norm(torch.cat(tokens, dim=2))
        key = self._by_head(self.key(everything))
        value = self._by_head(self.value(everything))
        attended = []
        for norm, query, out, token in zip(self.norm, self.query, self.out, tokens, strict=True):
            asked = self._by_head(query(norm(token)))
            similarity = asked @ key.transpose(2, 3) / self.all_channels**0.5
            weights = torch.softmax(self.similarity_norm(similarity), dim=3)
            answer = (self.dropout(weights) @ value).mean(dim=1)
            attended.append(out(answer.transpose(1, 2)))
        return attended

    def _by_head(self, tokens: Tensor) -> Tensor:
        """`(n, token, head x channel)` as `(n, head, channel, token)`."""
        count, length, _ = tokens.shape
        return tokens.view(count, length, self.heads, -1).permute(0, 2, 3, 1)


class _Up(nn.Module):
    """A step of the decoder: 2x up, CCA on the skip, and two convolutions on both."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.of_skip = nn.Linear(channels, channels)
        self.of_decoded = nn.Linear(channels, channels)
        self.join = nn.Sequential(*_double_convolution(2 * channels, outputs))

    def forward(self, decoded: Tensor, skip: Tensor) -> Tensor:
        decoded = functional.interpolate(decoded, scale_factor=2)
        asked = self.of_skip(skip.mean(dim=(2, 3))) + self.of_decoded(decoded.mean(dim=(2, 3)))
        weights = torch.sigmoid(asked / 2)[..., None, None]
        weighted = functional.relu(skip * weights)
        return self.join(torch.cat([weighted, decoded], dim=1))  # type: ignore[no-any-return]


def _convolution(inputs: int, outputs: int, *, kernel: int = 3) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _double_convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return _convolution(inputs, outputs) + _convolution(outputs, outputs)


def _token_norm(channels: int) -> nn.LayerNorm:
    return nn.LayerNorm(channels, eps=1e-6)
