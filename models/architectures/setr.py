"""SETR: a vision transformer as encoder, with the three decoders of its paper."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from timm.layers.norm import LayerNorm2d
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from slideloom.models.architectures.sizes import enlarge, pad_to_multiple

__all__ = ["SETRMLA", "SETRPUP", "SETRNaive"]

_CHANNELS = 256
_STREAM_CHANNELS = 128

_STREAMS = 4
"""Layers of the transformer that SETR-MLA reads, at equal distances; the last one is the fourth."""


class _SETR(nn.Module):
    """What the three networks share: a transformer's tokens as maps, and logits at full size.

    Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with
    Transformers", CVPR 2021, arXiv:2012.15840. The paper's encoder is `vit_large_patch16_384`; any
    plain vision transformer of timm serves, with or without the prefix `tu-`.

    Position embeddings are resampled to the grid of the image, so one network takes every size;
    an image whose sides are no multiples of the patch is padded below and to the right, and its
    logits are cropped. The encoder's class token is kept, as its weights were trained with it, and
    dropped before the decoder.

    The auxiliary heads of the paper, which serve training only, are left out. Batch statistics are
    those of one device; Lightning turns them into synchronised ones.
    """

    def __init__(
        self,
        encoder: str,
        *,
        encoder_weights: str | None,
        streams: int,
        decoder: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = _vision_transformer(encoder, pretrained=encoder_weights is not None)
        depth = len(self.encoder.blocks)
        if depth < streams:
            msg = f"encoder {encoder!r} has {depth} layers, and the decoder reads {streams}"
            raise ValueError(msg)
        self.layers = [depth * (stream + 1) // streams - 1 for stream in range(streams)]
        self.decoder = decoder(self.encoder.embed_dim)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels `(n, 3, y, x)` into logits `(n, classes, y, x)`."""
        padded = pad_to_multiple(pixels, self.encoder.patch_embed.patch_size[0])
        maps = self.encoder.forward_intermediates(
            padded, indices=self.layers, norm=True, intermediates_only=True
        )
        return enlarge(self.decoder(*maps), padded=padded, pixels=pixels)


class SETRNaive(_SETR):
    """SETR with the naive decoder: two 1x1 convolutions, and one step up to the full size."""

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: A vision transformer of timm.
            encoder_weights: None for random weights, anything else for timm's default ones.
            classes: Channels of the logits.
        """

        def decoder(features: int) -> nn.Module:
            return nn.Sequential(
                *_convolution(features, _CHANNELS, kernel=1), nn.Conv2d(_CHANNELS, classes, 1)
            )

        super().__init__(encoder, encoder_weights=encoder_weights, streams=1, decoder=decoder)


class SETRPUP(_SETR):
    """SETR with progressive upsampling: four times a 3x3 convolution and a step of 2x.

    The 1x1 convolution to the classes comes before the last step up instead of after it: both are
    linear and the weights of the step sum to one, so the logits are the same at a quarter of the
    work.
    """

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: A vision transformer of timm.
            encoder_weights: None for random weights, anything else for timm's default ones.
            classes: Channels of the logits.
        """

        def decoder(features: int) -> nn.Module:
            steps: list[nn.Module] = []
            for inputs in (features, _CHANNELS, _CHANNELS):
                steps += _convolution(inputs, _CHANNELS, kernel=3)
                steps.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            steps += _convolution(_CHANNELS, _CHANNELS, kernel=3)
            return nn.Sequential(*steps, nn.Conv2d(_CHANNELS, classes, 1))

        super().__init__(encoder, encoder_weights=encoder_weights, streams=1, decoder=decoder)


class SETRMLA(_SETR):
    """SETR with multi-level feature aggregation: four layers of the transformer, from the top.

    The text of the paper halves channels where its published count of parameters has 256 and 128
    of them for every encoder; the count is followed.
    """

    def __init__(self, encoder: str, *, encoder_weights: str | None, classes: int) -> None:
        """Build the network.

        Args:
            encoder: A vision transformer of timm with at least four layers.
            encoder_weights: None for random weights, anything else for timm's default ones.
            classes: Channels of the logits.
        """
        super().__init__(
            encoder,
            encoder_weights=encoder_weights,
            streams=_STREAMS,
            decoder=lambda features: _Aggregation(features, classes),
        )
        # Each stream has a norm of its own.
        self.encoder.norm = nn.Identity()


class _Aggregation(nn.Module):
    """The decoder of SETR-MLA (figure 1c of the paper)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        streams = range(_STREAMS)
        self.reduce = nn.ModuleList(
            nn.Sequential(LayerNorm2d(features), *_convolution(features, _CHANNELS, kernel=1))
            for _ in streams
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(
                *_convolution(_CHANNELS, _CHANNELS, kernel=3),
                *_convolution(_CHANNELS, _STREAM_CHANNELS, kernel=3),
                *_convolution(_STREAM_CHANNELS, _STREAM_CHANNELS, kernel=3),
                nn.Upsample(scale_factor=4, mode="bilinear"),
            )
            for _ in streams
        )
        self.classify = nn.Conv2d(_STREAMS * _STREAM_CHANNELS, classes, 3, padding=1)

    def forward(self, *maps: Tensor) -> Tensor:
        """Turn the maps of the streams, the shallowest first, into logits at 4x their size."""
        reduced = [reduce(features) for reduce, features in zip(self.reduce, maps, strict=True)]
        for deeper in reversed(range(1, _STREAMS)):
            reduced[deeper - 1] = reduced[deeper - 1] + reduced[deeper]
        fused = [smooth(summed) for smooth, summed in zip(self.smooth, reduced, strict=True)]
        return self.classify(torch.cat(fused, dim=1))  # type: ignore[no-any-return]


def _vision_transformer(name: str, *, pretrained: bool) -> VisionTransformer:
    encoder = timm.create_model(
        name.removeprefix("tu-"),
        pretrained=pretrained,
        num_classes=0,
        global_pool="",
        dynamic_img_size=True,
    )
    if not isinstance(encoder, VisionTransformer):
        msg = f"encoder {name!r} is no plain vision transformer of timm (such as vit_*_patch16_*)"
        raise ValueError(msg)
    return encoder


def _convolution(inputs: int, outputs: int, *, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
