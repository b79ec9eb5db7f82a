"""The registry of networks for classification: one logit of each class for an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, cast

import timm
from torch import Tensor, nn

__all__ = ["CLASSIFIERS", "PlainCNN", "Timm"]

_LAST_STD = 0.01
"""Of the first weights of the last layer: all classes begin about equal."""


class PlainCNN(nn.Module):
    """A plain convolutional network, small enough to train from scratch on few images.

    Blocks of two 3x3 convolutions with batch norm (Ioffe and Szegedy, ICML 2015) and ReLU, in the
    manner of VGG (Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556). Each halves the image;
    global average pooling and one linear layer (Lin et al., "Network In Network", ICLR 2014,
    arXiv:1312.4400) take the place of VGG's fully connected layers, so every size of image serves.
    """

    def __init__(
        self,
        encoder: str,
        *,
        encoder_weights: str | None,
        classes: int,
        channels: tuple[int, ...] = (32, 64, 128, 256),
    ) -> None:
        """Build the network.

        Args:
            encoder: `plaincnn`: the network brings its own encoder.
            encoder_weights: None: there are no weights of it.
            classes: How many logits.
            channels: Of each block; there are as many blocks.

        Raises:
            ValueError: Another encoder, or weights for it.
        """
        super().__init__()
        if encoder != "plaincnn" or encoder_weights is not None:
            msg = (
                "PlainCNN brings its own encoder: set encoder to 'plaincnn', without pretrained "
                "weights"
            )
            raise ValueError(msg)
        blocks = [_block(inputs, outputs) for inputs, outputs in pairwise((3, *channels))]
        self.encoder = nn.Sequential(*blocks)
        self.classify = nn.Linear(channels[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels `(n, 3, y, x)` into logits `(n, classes, 1, 1)`."""
        pooled = self.encoder(pixels).mean(dim=(2, 3))
        return self.classify(pooled)[..., None, None]  # type: ignore[no-any-return]


class Timm(nn.Module):
    """Any backbone of timm with its own pooling and a linear layer for our classes.

    Wightman, "PyTorch Image Models", 2019, doi:10.5281/zenodo.4414861; timm's documentation names
    the paper of each backbone.
    """

    def __init__(
        self, encoder: str, *, encoder_weights: str | None, classes: int, **arguments: object
    ) -> None:
        """Build the network.

        Args:
            encoder: Its name in timm, with or without the prefix `tu-`.
            encoder_weights: None for random weights, anything else for timm's default ones.
            classes: How many logits.
            **arguments: For `timm.create_model`; a vision transformer takes tiles of any size with
                `dynamic_img_size` and `dynamic_img_pad`, or of one other size with `img_size`.
        """
        super().__init__()
        # Untyped, because it types what it takes from a model's own arguments by name.
        create: Callable[..., nn.Module] = timm.create_model
        self.encoder = create(
            encoder.removeprefix("tu-"),
            pretrained=encoder_weights is not None,
            num_classes=classes,
            **arguments,
        )
        last = cast("Any", self.encoder).get_classifier()
        if isinstance(last, nn.Linear | nn.Conv2d):
            # timm draws some of them from +-1/sqrt(classes): so much noise on each of a thousand
            # features stays there, and most of all where only this layer is trained.
            nn.init.normal_(last.weight, std=_LAST_STD)
            if last.bias is not None:
                nn.init.zeros_(last.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn normalised pixels `(n, 3, y, x)` into logits `(n, classes, 1, 1)`."""
        return self.encoder(pixels)[..., None, None]  # type: ignore[no-any-return]


CLASSIFIERS: Mapping[str, Callable[..., nn.Module]] = {
    "PlainCNN": PlainCNN,
    "Timm": Timm,
}
"""Every architecture for classification by name.

A builder is called as those of `ARCHITECTURES` are, and its network maps `(n, 3, y, x)` to logits
`(n, classes, 1, 1)`: maps of one pixel, as heads take them.
"""


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        # An odd row or column at the edge is pooled too.
        nn.MaxPool2d(2, ceil_mode=True),
    )
