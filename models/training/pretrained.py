"""Begin with a trained encoder: of a file, or of ImageNet where its weights can be had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants
from safetensors import SafetensorError
from segmentation_models_pytorch.encoders import get_encoder
from timm.models import load_state_dict
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.spec import ModelSpec
from slideloom.models.training.quiet import log_level

__all__ = ["freeze_encoder", "load_encoder_weights", "load_pretrained"]

_PATIENCE_S = 5.0

_ABSENT = (OSError, KeyError, RuntimeError, ValueError)
"""What the hub's client, timm and segmentation-models-pytorch raise where there are no weights."""


def load_pretrained(network: nn.Module, spec: ModelSpec, *, notice: Callable[[str], None]) -> bool:
    """Fill the encoder of `network` with weights from ImageNet; where there are none, say so.

    Weights in the cache of the hub's client are taken without asking the network. A hub that does
    not answer is given up after seconds. Layers of another shape (of a transformer for another size
    of tile, say) keep their random weights.

    Returns:
        Whether there were weights.
    """
    encoder = _encoder_of(network)
    if spec.architecture is None or encoder is None:
        return False
    name = spec.architecture.encoder
    try:
        trained = _download(name, encoder)
    except _ABSENT as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        notice(
            f"encoder {name!r} begins with random weights, because its ImageNet weights cannot be "
            f"had ({reason}): training takes longer and needs more images"
        )
        return False
    _fill(encoder, trained)
    return True


def freeze_encoder(network: nn.Module, spec: ModelSpec) -> nn.Module:
    """Keep the encoder of `network` as it is: only what reads its features is trained.

    Returns:
        The encoder. It has to stay in evaluation mode, so that its batch norms keep their
        statistics too.

    Raises:
        SettingsError: The network has no encoder that others have trained.
    """
    encoder = _encoder_of(network)
    if spec.architecture is None or encoder is None:
        msg = f"model '{spec.name}' has no encoder to freeze: leave out fit.freeze_encoder"
        raise SettingsError(msg)
    # A classifier of timm is one network with its last layer.
    last = str(cast("Any", encoder).pretrained_cfg["classifier"]) if _is_whole(encoder) else None
    for name, weight in encoder.named_parameters():
        if last is None or not name.startswith(last):
            weight.requires_grad_(False)
    return encoder


def _is_whole(encoder: nn.Module) -> bool:
    """Whether it is a network of timm as it is, with its last layer."""
    return hasattr(encoder, "pretrained_cfg")


def load_encoder_weights(network: nn.Module, spec: ModelSpec, *, path: Path) -> None:
    """Fill the encoder of `network` from a file: safetensors, or what `torch.save` wrote.

    Layers have the names that timm gives them (torchvision, for its ResNets), as in the files that
    the hub has of these encoders; a file may hold a whole classifier.

    Raises:
        SettingsError: The network has no encoder that others have trained, or the file cannot be
            read, or is not of this encoder.
    """
    encoder = _encoder_of(network)
    if spec.architecture is None or encoder is None:
        msg = f"the architecture takes no encoder weights, and '{path}' holds some: leave them out"
        raise SettingsError(msg)
    name = spec.architecture.encoder
    if not path.is_file():
        msg = f"there is no file of encoder weights '{path}': check the path"
        raise SettingsError(msg)
    try:
        values = load_state_dict(str(path))
    except (*_ABSENT, UnpicklingError, SafetensorError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        msg = (
            f"encoder weights '{path}' cannot be read ({reason}): give a file of safetensors or of "
            "torch.save"
        )
        raise SettingsError(msg) from error
    lacking = _lacking(name, encoder, values=values)
    if lacking:
        msg = (
            f"'{path}' does not hold the weights of encoder {name!r}: {len(lacking)} of its layers "
            f"are missing or have another shape, such as {lacking[0]!r}; give the file of that "
            "encoder"
        )
        raise SettingsError(msg)
    _fill(encoder, _of_values(name, encoder, values=values))


def _fill(encoder: nn.Module, trained: nn.Module) -> None:
    """Copy every layer of the same name and shape."""
    wanted = encoder.state_dict()
    fitting = {
        key: value
        for key, value in trained.state_dict().items()
        if key in wanted and wanted[key].shape == value.shape
    }
    encoder.load_state_dict(fitting, strict=False)


def _lacking(name: str, encoder: nn.Module, *, values: dict[str, Any]) -> list[str]:
    """Layers of an encoder that a file has not, but for the last one of a classifier."""
    if _is_whole(encoder) or name.startswith("tu-"):
        create: Callable[..., nn.Module] = timm.create_model
        whole = create(name.removeprefix("tu-"))
        last = str(cast("Any", whole).pretrained_cfg["classifier"])
    else:
        whole, last = get_encoder(name, depth=5, weights=None), "fc"
    return [
        key
        for key, parameter in whole.named_parameters()
        if not key.startswith(last) and (key not in values or values[key].shape != parameter.shape)
    ]


def _of_values(name: str, encoder: nn.Module, *, values: dict[str, Any]) -> nn.Module:
    """The encoder with these weights: timm knows how a network's names change when it is cut."""
    depth = getattr(encoder, "_depth", 5)
    if _is_whole(encoder):
        create: Callable[..., nn.Module] = timm.create_model
        trained = create(name.removeprefix("tu-"), num_classes=0)
        trained.load_state_dict(values, strict=False)
        return trained
    if name.startswith("tu-"):
        # timm warns of the layers that a cut network does not have, which is as it should be.
        with log_level("timm.models", logging.ERROR):
            cut: nn.Module = get_encoder(
                name, depth=depth, weights=True, pretrained_cfg_overlay={"state_dict": values}
            )
        return cut
    native: nn.Module = get_encoder(name, depth=depth, weights=None)
    native.load_state_dict(values)
    return native


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
    if _is_whole(encoder):
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
