"""Begin with an encoder that was trained on ImageNet, where its weights can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from slideloom.models.spec import ModelSpec

__all__ = ["load_pretrained"]

_PATIENCE_S = 5.0

_ABSENT = (OSError, KeyError, RuntimeError, ValueError)
"""What the hub's client, timm and segmentation-models-pytorch raise where there are no weights."""


def load_pretrained(network: nn.Module, spec: ModelSpec, *, notice: Callable[[str], None]) -> None:
    """Fill the encoder of `network` with weights from ImageNet; where there are none, say so.

    Weights in the cache of the hub's client are taken without asking the network. A hub that does
    not answer is given up after seconds. Layers of another shape (of a transformer for another size
    of tile, say) keep their random weights.
    """
    encoder = _encoder_of(network)
    if spec.architecture is None or encoder is None:
        return
    name = spec.architecture.encoder
    try:
        trained = _download(name, encoder)
    except _ABSENT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        notice(
            f"encoder {name!r} begins with random weights, because its ImageNet weights cannot be "
            f"had ({reason}): training takes longer and needs more images"
        )
        return
    wanted = encoder.state_dict()
    fitting = {
        key: value
        for key, value in trained.state_dict().items()
        if key in wanted and wanted[key].shape == value.shape
    }
    encoder.load_state_dict(fitting, strict=False)


def _encoder_of(network: nn.Module) -> nn.Module | None:
    """The part that other people have trained; networks of our own have none."""
    for place in ("encoder", "backbone.encoder"):
        try:
            found = network.get_submodule(place)
        except AttributeError:
            continue
        return None if isinstance(found, nn.Sequential) else found
    return None


def _download(name: str, encoder: nn.Module) -> nn.Module:
    try:
        with _offline():
            return _trained(name, encoder)
    except _ABSENT:
        _ask_hub()
    return _trained(name, encoder)


def _trained(name: str, encoder: nn.Module) -> nn.Module:
    if hasattr(encoder, "pretrained_cfg"):
        create: Callable[..., nn.Module] = timm.create_model
        return create(name.removeprefix("tu-"), pretrained=True)
    weights = True if name.startswith("tu-") else "imagenet"
    depth = getattr(encoder, "_depth", 5)
    trained: nn.Module = get_encoder(name, depth=depth, weights=weights)
    return trained


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's client looks into its cache only."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _ask_hub() -> None:
    """Return if the hub answers at all: its client would try for a minute.

    Raises:
        OSError: It does not, or the client may not ask it.
    """
    if constants.HF_HUB_OFFLINE:
        msg = "HF_HUB_OFFLINE is set"
        raise OSError(msg)
    try:
        with urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=_PATIENCE_S):
            return
    except HTTPError:
        return
    except OSError as error:
        msg = f"{constants.ENDPOINT} does not answer"
        raise OSError(msg) from error
