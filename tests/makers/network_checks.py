"""What every network of our own is asked: counts, shapes, gradients, training on a toy picture."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def parameters_of(build: Callable[[], nn.Module]) -> int:
    """How many parameters the network has; nothing is allocated or drawn."""
    with torch.device("meta"):
        return sum(value.numel() for value in build().parameters())


def shapes_of(
    network: nn.Module, pixels: Tensor, modules: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """The shape that each named module gives for `pixels`, without the batch axis."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: found.update({name: tuple(output.shape[1:])})

    for name in modules:
        network.get_submodule(name).register_forward_hook(note(name))
    with torch.inference_mode():
        network.eval()(pixels)
    return found


def parameters_without_gradient(network: nn.Module, pixels: Tensor) -> list[str]:
    """Parameters that a training step would not move; of a bias, only that it has no gradient.

    A bias before a norm has one, but it is zero but for rounding. Norms that end a residual branch
    may start at zero (Goyal et al., 2017), which bars the branch at the first step: they are set
    to one before.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    logits = network.train()(pixels)
    (logits * torch.randn_like(logits)).sum().backward()
    return [
        name
        for name, value in network.named_parameters()
        if value.grad is None or (value.ndim > 1 and not bool(value.grad.any()))
    ]


def toy_batch(side: int = 64) -> tuple[Tensor, Tensor]:
    """Two noisy pictures `(2, 3, y, x)` and their labels `(2, y, x)`: a square is class 1."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.zeros(2, side, side, dtype=torch.long)
    labels[0, : side // 2, : side // 2] = 1
    labels[1, side // 4 :, side // 2 :] = 1
    noise = torch.randn(2, 3, side, side, generator=generator)
    return 2 * labels[:, None].float() - 1 + 0.3 * noise, labels


def losses_of_training(
    network: nn.Module, pixels: Tensor, labels: Tensor, *, steps: int
) -> list[float]:
    """The cross entropy before each of some steps of Adam, on one batch."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        loss = functional.cross_entropy(network(pixels), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def same_in_any_batch(network: nn.Module, pixels: Tensor) -> bool:
    """Whether an evaluation gives the same twice, and for a picture alone as among others."""
    with torch.inference_mode():
        first, again = network.eval()(pixels), network(pixels)
        alone = network(pixels[:1])
    return torch.equal(first, again) and torch.allclose(first[:1], alone, atol=1e-4)
