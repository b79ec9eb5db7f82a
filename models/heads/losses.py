"""The losses of all heads: how far logits are from the targets, over the known pixels alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from slideloom.models.spec import ModelSpec

__all__ = [
    "centre_loss",
    "component_loss",
    "distance_loss",
    "exclusive_label_loss",
    "exclusive_loss",
    "flow_loss",
    "hover_loss",
    "overlapping_label_loss",
    "overlapping_loss",
]

SOFTNESS = 0.1
"""Length of a flow's logits below which its direction pulls less: at 0 it would pull endlessly."""

EASY_POWER, NEAR_POWER = 2, 4
"""Of the focal loss: how fast pixels count less that are right, and that lie near a centre."""


def exclusive_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """Cross-entropy and soft Dice of classes that exclude each other; targets `(n, 1, y, x)`."""
    weight = torch.ones_like(targets[:, 0])
    return _exclusive(logits, targets[:, 0], weight=weight, known=known, spec=spec)


def component_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """`exclusive_loss` with a weight for each pixel; targets `(n, 2, y, x)`."""
    number, weight = targets.unbind(1)
    return _exclusive(logits, number, weight=weight, known=known, spec=spec)


def overlapping_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """Binary cross-entropy and soft Dice of each class on its own; targets `(n, k, y, x)`."""
    del spec
    return _foreground(logits, targets, weight=torch.ones_like(targets[:, 0]), known=known)


def distance_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """The foreground's cross-entropy and Dice, and the cross-entropy of the inner distance.

    The distance counts twice inside objects. Targets `(n, 3, y, x)`: number, distance, weight.
    """
    number, distance, weight = targets.unbind(1)
    parts = _foreground(logits[:, :-1], _one_hot(number, spec), weight=weight, known=known)
    entropy = functional.binary_cross_entropy_with_logits(
        logits[:, -1], distance, weight=weight * (1 + (number > 0)), reduction="none"
    )
    return parts | {"distance": _mean(entropy, known)}


def flow_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """The foreground's cross-entropy and Dice, and 1 - cosine between flows inside objects.

    Between vectors of length 1 that is half the squared distance which Cellpose uses: Stringer et
    al., Nature Methods 18 (2021). Targets `(n, 3, y, x)`: number, dx, dy.
    """
    number, flow = targets[:, 0], targets[:, 1:]
    weight = torch.ones_like(number)
    parts = _foreground(logits[:, :-2], _one_hot(number, spec), weight=weight, known=known)
    given = logits[:, -2:]
    length = torch.sqrt(given.square().sum(dim=1) + SOFTNESS**2)
    cosine = (given * flow).sum(dim=1) / length
    directed = known & (flow.square().sum(dim=1) > 0)
    return parts | {"direction": _mean(1 - cosine, directed)}


def hover_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """The foreground's cross-entropy and Dice, and the error of the maps and of their slopes.

    As in HoVer-Net (Graham et al., Medical Image Analysis 58 (2019)): squares of the maps' error
    everywhere, and of the error of each map's slope along its own axis inside objects. Targets
    `(n, 3, y, x)`: number, then the two maps.
    """
    number, maps = targets[:, 0], targets[:, 1:]
    weight = torch.ones_like(number)
    parts = _foreground(logits[:, :-2], _one_hot(number, spec), weight=weight, known=known)
    # An unknown pixel is taken as right, so that slopes beside it are not charged for it either.
    error = (torch.tanh(logits[:, -2:]) - maps) * known[:, None]
    slopes = torch.stack([_slope(error[:, 0]), _slope(error[:, 1].mT).mT], dim=1)
    return parts | {
        "maps": _mean(error.square().sum(dim=1), known),
        "slopes": _mean(slopes.square().sum(dim=1), known & (number > 0)),
    }


def centre_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """The focal loss of centres with a lower penalty near them, and the absolute error of sizes.

    Zhou et al., "Objects as Points", arXiv 1904.07850 (2019). Both are sums over the batch: the
    first over its number of centres, the second over its pixels with a size. Targets
    `(n, k + 2, y, x)`: heat of each class, then width and height, 0 where no size is asked for.
    """
    count = len(spec.classes)
    heat, size = targets[:, :count], targets[:, count:]
    chance = torch.sigmoid(logits[:, :count])
    centre = heat >= 1
    at_centre = (1 - chance).pow(EASY_POWER) * functional.logsigmoid(logits[:, :count])
    elsewhere = chance.pow(EASY_POWER) * functional.logsigmoid(-logits[:, :count])
    focal = -torch.where(centre, at_centre, (1 - heat).pow(NEAR_POWER) * elsewhere)
    centres = (centre & known[:, None]).sum().clamp(min=1)
    error = (functional.softplus(logits[:, count:]) - size).abs().sum(dim=1)
    return {
        "centres": (focal * known[:, None]).sum() / centres,
        "size": _mean(error, known & (size[:, 0] > 0)),
    }


def exclusive_label_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """Cross-entropy of one class per tile; logits and targets `(n, k, 1, 1)`.

    A tile of several classes asks for equal shares of them; a tile of none counts as unknown.
    """
    del spec
    targets = targets.flatten(1)
    count = targets.sum(dim=1, keepdim=True)
    shares = targets / count.clamp(min=1)
    entropy = functional.cross_entropy(logits.flatten(1), shares, reduction="none")
    return {"cross_entropy": _mean(entropy, known.flatten(1).any(dim=1) & (count[:, 0] > 0))}


def overlapping_label_loss(
    logits: Tensor, targets: Tensor, *, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    """Binary cross-entropy of each class of a tile; logits and targets `(n, k, 1, 1)`."""
    del spec
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return {"cross_entropy": _mean(entropy.flatten(1).mean(dim=1), known.flatten(1).any(dim=1))}


def _exclusive(
    logits: Tensor, number: Tensor, *, weight: Tensor, known: Tensor, spec: ModelSpec
) -> dict[str, Tensor]:
    entropy = functional.cross_entropy(logits, number.long(), reduction="none")
    chance = torch.softmax(logits, dim=1)[:, 1:]
    return {
        "cross_entropy": _mean(entropy * weight, known),
        "dice": _dice(chance, _one_hot(number, spec), known=known),
    }


def _foreground(
    logits: Tensor, truth: Tensor, *, weight: Tensor, known: Tensor
) -> dict[str, Tensor]:
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return {
        "cross_entropy": _mean(entropy.mean(dim=1) * weight, known),
        "dice": _dice(torch.sigmoid(logits), truth, known=known),
    }


def _one_hot(number: Tensor, spec: ModelSpec) -> Tensor:
    """`(n, k, y, x)`, float: 1 where each class is."""
    classes = torch.arange(1, len(spec.classes) + 1, device=number.device)
    return (number[:, None] == classes[:, None, None]).float()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Over the places where it holds; 0 where there are none."""
    return (values * where).sum() / where.sum().clamp(min=1)


def _dice(chance: Tensor, truth: Tensor, *, known: Tensor) -> Tensor:
    """Soft Dice loss: the mean over the classes that the batch shows.

    Milletari et al., "V-Net", 3DV (2016), with sums over the whole batch. A class that is not there
    has no Dice; the cross-entropy says so where it is not.
    """
    chance, truth = chance * known[:, None], truth * known[:, None]
    sums = chance.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    shown = truth.sum(dim=(0, 2, 3)) > 0
    dice = (2 * (chance * truth).sum(dim=(0, 2, 3)) + 1) / (sums + 1)
    return _mean(1 - dice, shown)


def _slope(maps: Tensor) -> Tensor:
    """Sobel's weights across maps `(n, y, x)`; beyond the edge a map goes on level.

    Twice the rise per pixel: so scaled, the slopes' error weighs about as much as the other parts.
    """
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=maps.device) / 4
    framed = functional.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(framed, kernel.view(1, 1, 3, 3).to(maps.dtype))[:, 0]
